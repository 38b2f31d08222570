"""Files below a folder, through links."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.data.files import find_pictures, is_picture, matching, passed_over, pictures_below, some, walk
from kronreid.errors import InputError

from .miniatures import tree


def below(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in pictures_below(root)]


def test_find_pictures(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    names = ("b/2.PNG", "b/1.jpg", "a.jpeg", ".hidden.jpg", ".cache/x.jpg", "notes.txt", "c/d/e.webp", "jpg")
    tree(tmp_path, *names, "folder.jpg/")
    expected = ("a.jpeg", "b/1.jpg", "b/2.PNG", "c/d/e.webp")
    assert find_pictures(tmp_path) == [tmp_path / name for name in expected]
    assert said() == [f"{tmp_path}: 2 files are not pictures, by their suffixes: .txt (1), no suffix (1)"]


def test_find_pictures_refuses(tmp_path: Path) -> None:
    tree(tmp_path, "notes.txt")
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=f"^{folder}: (no|has no) ") as caught:
            find_pictures(folder)
        assert "\n" not in str(caught.value)
        assert pictures_below(folder) == []


def test_links_are_followed_once(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    store = tree(tmp_path / "store", "x/1.jpg", "x/deep/2.jpg", "y.jpg")
    root = tree(tmp_path / "root", "own/3.jpg")
    (root / "anna").symlink_to(store / "x")
    (root / "file.jpg").symlink_to(store / "y.jpg")
    assert below(root) == ["anna/1.jpg", "anna/deep/2.jpg", "file.jpg", "own/3.jpg"]
    assert said() == []
    (root / "again").symlink_to(root / "own")  # before "own" by name, but its own place comes first
    (root / "later").symlink_to(store / "x")
    assert below(root) == ["anna/1.jpg", "anna/deep/2.jpg", "file.jpg", "own/3.jpg"]
    (line,) = said()
    assert line.startswith(f"{root}: left out 2 links to folders that were already read")
    assert "(again, later)" in line
    link = tmp_path / "link"
    link.symlink_to(root)
    assert below(link) == below(root)


def test_loops_end(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    root = tree(tmp_path / "outside/root", "a/1.jpg", "b/2.jpg", "../other/3.jpg")
    for name, target in (
        ("a/loop", root / "a"),
        ("a/up", root),
        ("b/above", tmp_path / "outside"),
        ("b/cross", root / "a"),
        ("self", root / "self"),
        ("self.jpg", root / "self.jpg"),
        ("ping", root / "pong"),
        ("pong", root / "ping"),
        ("nothing", root / "none"),
        ("nothing.jpg", root / "none.jpg"),
        ("other", tmp_path / "outside/other"),
    ):
        (root / name).symlink_to(target)
    (tmp_path / "outside/other/back").symlink_to(root)
    assert below(root) == ["a/1.jpg", "b/2.jpg", "nothing.jpg", "other/3.jpg", "self.jpg"]
    (line,) = said()
    for part in (
        "5 links to folders that were already read",
        "4 broken links (nothing, ping, pong, self)",
    ):
        assert part in line


@settings(max_examples=60, deadline=None)
@given(
    folders=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    links=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=8),
)
def test_whatever_the_links_every_picture_is_found_once(
    folders: list[int], links: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A tree in which folder n lies in an earlier one, and links between any of them."""
    root = tmp_path_factory.mktemp("tree")
    places = [root]
    for number, parent in enumerate(folders):
        places.append(places[parent % len(places)] / f"f{number}")
        tree(places[-1], f"{number}.jpg")
    for number, (at, to) in enumerate(links):
        (places[at % len(places)] / f"a-link{number}").symlink_to(places[to % len(places)])
    assert sorted(below(root)) == sorted(
        (place / f"{number}.jpg").relative_to(root).as_posix() for number, place in enumerate(places[1:])
    )


def test_walk_gives_every_folder_its_files(tmp_path: Path) -> None:
    tree(tmp_path, "a/2.txt", "a/1.jpg", "a/b/", "c.yaml", ".d/e.txt")
    assert list(walk(tmp_path)) == [
        (tmp_path, ["c.yaml"]),
        (tmp_path / "a", ["1.jpg", "2.txt"]),
        (tmp_path / "a" / "b", []),
    ]


def test_patterns(tmp_path: Path) -> None:
    tree(tmp_path / "store", "x/1.jpg", "x/deep/2.jpg")
    root = tree(tmp_path / "root", "day1/3.jpg", "day1/in[1]/4.jpg", "day2/5.png", "6.jpg")
    (root / "day1" / "linked").symlink_to(tmp_path / "store")

    def found(pattern: str) -> list[str]:
        return [path.relative_to(root).as_posix() for path in matching(root / pattern)]

    everything = [
        "6.jpg",
        "day1/3.jpg",
        "day1/in[1]/4.jpg",
        "day1/linked/x/1.jpg",
        "day1/linked/x/deep/2.jpg",
    ]
    assert found("**/*.jpg") == everything
    assert found("day?/*") == ["day1/3.jpg", "day1/in[1]", "day1/linked", "day2/5.png"]
    assert found("d**1/*.jpg") == ["day1/3.jpg"]
    assert found("day1/**/deep/*.jpg") == ["day1/linked/x/deep/2.jpg"]
    assert found("**/x/**/*.jpg") == everything[3:]
    assert found("day1/**") == ["day1"]
    assert found("day[12]/*.png") == ["day2/5.png"]
    assert found("none/**/*.jpg") == []


def test_names_in_messages() -> None:
    paths = [Path("/a/b/c.jpg"), Path("/a/d.jpg")]
    assert some(paths) == "c.jpg, d.jpg"
    assert some(paths, below=Path("/a")) == "b/c.jpg, d.jpg"
    assert some(paths, 1) == "c.jpg, …"
    assert [is_picture(name) for name in ("a.JPG", "a.jpg.txt", "a")] == [True, False, False]


def test_files_that_are_passed_over_are_counted(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    names = ["a.jpg", ".hidden.txt", "b.TXT", "c.txt", "film.mp4", "README", "d.tar.gz"]
    counted = "5 files are not pictures, by their suffixes: .txt (2), .gz (1), .mp4 (1), no suffix (1)"
    assert passed_over(names) == counted
    assert passed_over(["a.txt"]) == "1 file is not a picture, by its suffix: .txt (1)"
    assert passed_over(["a.jpg", ".hidden"]) == passed_over([]) == ""
    many = [f"{number}.{ending}" for ending in "abcdefg" for number in range(600)]
    assert passed_over(many).startswith("4,200 files are not pictures, by their suffixes: .a (600), ")
    assert passed_over(many).endswith("and 2 other suffixes")
    tree(tmp_path, *names)
    assert find_pictures(tmp_path) == [tmp_path / "a.jpg"]
    assert said() == [f"{tmp_path}: {counted}"]
