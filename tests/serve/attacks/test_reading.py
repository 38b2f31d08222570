"""Files that were exchanged after they were indexed: for others, pipes, devices, links."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kronreid.data.plain import read_below, read_plain
from kronreid.gallery import Entry

from ..conftest import Home, Server, Start, encoded, noise


def pipe(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def remove(path: Path) -> None:
    """Removes whatever is there, if anything is."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def link_to_pipe(path: Path, secret: Path) -> None:
    os.mkfifo(secret.with_name("pipe"))
    path.symlink_to(secret.with_name("pipe"))


PLANTED: dict[str, Callable[[Path, Path], Any]] = {
    "another picture": lambda path, secret: path.write_bytes(secret.read_bytes()),
    "no picture": lambda path, secret: path.write_bytes(b"hello"),
    "nothing": lambda path, secret: None,
    "an empty file": lambda path, secret: path.touch(),
    "a folder": lambda path, secret: path.mkdir(),
    "a pipe": pipe,
    "a link to another": lambda path, secret: path.symlink_to(secret),
    "a link to a pipe": link_to_pipe,
    "a link to itself": lambda path, secret: path.symlink_to(path),
    "endless zeros": lambda path, secret: path.symlink_to("/dev/zero"),
    "a terminal": lambda path, secret: path.symlink_to("/dev/tty"),
    "a file of the kernel": lambda path, secret: path.symlink_to("/proc/self/environ"),
}


@pytest.fixture
def server(start: Start, home: Home, tmp_path: Path) -> Server:
    """A server with one picture more, which its matcher reads for each search."""
    return with_one_more(start(matcher=home.matcher), tmp_path)


def with_one_more(server: Server, folder: Path) -> Server:
    """The server with ``mine.png`` of a folder in its gallery."""
    mine = folder / "mine.png"
    mine.write_bytes(encoded(noise(1), "PNG"))
    with server.service.gallery.changing() as gallery:
        gallery.add([Entry(mine)], progress=False)
    return server


@pytest.mark.parametrize("limited", [False, True], ids=["noted", "--sources"])
def test_a_row_that_leads_out_of_the_gallery_s_folders_is_not_opened(
    start: Start, home: Home, tmp_path: Path, limited: bool
) -> None:
    # The content is the one that was added, so only the place gives it away.
    folder, secret = tmp_path / "sources", tmp_path / "secret" / "x.png"
    folder.mkdir()
    secret.parent.mkdir()
    options = {"sources": (folder,)} if limited else {}
    server = with_one_more(start(matcher=home.matcher, **options), folder)
    entries = server.service.gallery.current.entries()
    (entry,) = [entry for entry in entries if entry.path == folder / "mine.png"]
    secret.write_bytes(entry.path.read_bytes())
    server.service.gallery.current._store.update([replace(entry, path=secret)])
    for size in ("thumb", "full"):
        assert server.client.get(f"/api/pictures/{entry.id}", params={"size": size}).status_code == 409
    found = server.client.post("/api/search", files=[("pictures", ("a.png", secret.read_bytes()))])
    assert str(tmp_path) not in found.text
    hits = {hit["id"]: hit["probability"] for hit in found.json()["hits"]}
    assert hits[entry.id] is None
    assert server.client.post("/api/search", data={"item": entry.id}).status_code == 409
    assert server.client.get("/api/gallery").json()["total"] == 13


@pytest.mark.parametrize("case", PLANTED)
def test_an_exchanged_picture_is_neither_scored_nor_shown(server: Server, tmp_path: Path, case: str) -> None:
    mine, secret = tmp_path / "mine.png", tmp_path / "secret.png"
    secret.write_bytes(encoded(noise(2), "PNG"))
    (id,) = [entry.id for entry in server.service.gallery.current.entries() if entry.path == mine]
    mine.unlink()
    PLANTED[case](mine, secret)
    found = server.client.post("/api/search", files=[("pictures", ("a.png", secret.read_bytes()))]).json()
    (hit,) = [hit for hit in found["hits"] if hit["id"] == id]
    others = [hit for hit in found["hits"] if hit["id"] != id]
    assert hit["probability"] is None
    assert all(hit["probability"] is not None for hit in others)
    assert (hit["width"], hit["height"]) == (None, None)
    assert len(found["unreadable"]) == 1
    assert str(tmp_path) not in str(found)
    for size in ("thumb", "full"):
        assert server.client.get(f"/api/pictures/{id}", params={"size": size}).status_code == 409
    assert server.client.get("/api/gallery").json()["total"] == 13
    for address, data in (("/api/search", {"item": id}), ("/api/match", {"a_item": id, "b_item": id})):
        assert server.client.post(address, data=data).status_code == 409
    # With its content back in place, it is scored: nothing of the other was remembered.
    remove(mine)
    mine.write_bytes(encoded(noise(1), "PNG"))
    again = server.client.post("/api/search", data={"item": id, "matcher_weight": "0"}).json()["hits"]
    assert again[0]["id"] == id
    assert again[0]["probability"] is not None


def test_stored_places_are_those_of_the_content(start: Start, home: Home, tmp_path: Path) -> None:
    """Places lie in the gallery beside the vector, so what is exchanged on the disk changes no score."""
    server = with_one_more(start(embedder=home.placed, matcher=None), tmp_path)
    mine, secret = tmp_path / "mine.png", tmp_path / "secret.png"
    secret.write_bytes(encoded(noise(2), "PNG"))

    def scores() -> dict[str, tuple[float, float]]:
        files = [("pictures", ("a.png", secret.read_bytes()))]
        hits = server.client.post("/api/search", files=files).json()["hits"]
        return {hit["id"]: (hit["similarity"], hit["probability"]) for hit in hits}

    before = scores()
    for case, plant in PLANTED.items():
        remove(mine)
        plant(mine, secret)
        assert scores() == before, case


def test_a_path_that_no_file_can_have_spoils_nothing(server: Server) -> None:
    store = server.service.gallery.current._store
    damaged = next(server.service.gallery.current.entries())
    for odd in (Entry(Path("/a\0b"), id="a" * 64), Entry(Path(), id="b" * 64, box=damaged.box)):
        with pytest.raises(OSError, match="no"):
            read_plain(odd.path)
    assert store.count() == 13


@pytest.mark.parametrize(
    "name", ["link.html", "folder/other.html", "run/link.html", "pipe.html", "../secret", ""]
)
def test_reports_are_read_without_following_any_link(tmp_path: Path, name: str) -> None:
    """The listing follows none either; this is what happens if one is planted between listing and reading."""
    root = tmp_path / "reports"
    (root / "run").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for place in ("secret", "elsewhere/other.html"):
        (tmp_path / place).write_text("secret")
    (root / "link.html").symlink_to(tmp_path / "secret")
    (root / "run" / "link.html").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(root / "pipe.html")
    (root / "run" / "fine.html").write_text("fine")
    with pytest.raises(OSError, match=r"no |No |Not |links"):
        read_below(root, name)
    assert read_below(root, "run/fine.html")[0] == b"fine"


def test_no_more_bytes_are_read_than_expected(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(10**12)  # it takes no room on the disk
    with pytest.raises(OSError, match="more than 1,000 bytes"):
        read_plain(path, 1000)
