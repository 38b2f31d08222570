"""The folders that a gallery's pictures lie in."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.gallery import Entry, Gallery, Selection
from kronreid.gallery.indexing import Changed, picture_of
from kronreid.gallery.sources import EVERYWHERE, Sources
from kronreid.gallery.store import SOURCES, open_store

from .conftest import ColourEmbedder, ColourMatcher, paint

NAMES = st.sampled_from(["a", "b", "ab"])
FOLDERS = st.lists(NAMES, max_size=3).map(lambda parts: Path("/", *parts))


def noted(uri: Path) -> list[str]:
    return json.loads((uri / SOURCES).read_text())


@pytest.fixture
def uri(tmp_path: Path) -> Path:
    return tmp_path / "people.gallery"


@given(st.lists(FOLDERS, min_size=1, max_size=5), FOLDERS)
def test_a_picture_is_allowed_if_it_lies_below_one_of_the_folders(folders: list[Path], folder: Path) -> None:
    picture = folder / "x.jpg"
    expected = any(str(picture).startswith(str(one).rstrip("/") + "/") for one in folders)
    assert Sources(folders=folders).allow(picture) == expected
    assert not Sources(folders=[Path("/a")]).allow(Path("/a/../b/x.jpg"))


@given(st.lists(FOLDERS, min_size=1, max_size=8))
def test_what_was_noted_allows_every_picture_and_names_no_folder_twice(folders: list[Path]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / SOURCES
        for folder in folders:
            Sources(file).add([folder / "x.jpg"])
        again = Sources(file)
        assert all(again.allow(folder / "y.jpg") for folder in folders)
        listed = [Path(one) for one in json.loads(file.read_text())]
        assert not any(one in other.parents for one in listed for other in listed)
        again.forget([folders[0] / "x.jpg"])
        assert Sources(file).allow(folders[0] / "x.jpg")
        assert len(json.loads(file.read_text())) == 1


def test_a_gallery_notes_the_folders_it_was_filled_from(uri: Path, crops: Path, tmp_path: Path) -> None:
    alone = paint(tmp_path / "one" / "x.png", 30)
    with Gallery(uri, ColourEmbedder()) as gallery:
        gallery.add([crops, alone], progress=False)
        assert noted(uri) == sorted([str(crops), str(alone.parent)])
        gallery.delete(Selection(path=str(alone)))
        assert noted(uri) == [str(crops)]
        gallery.update(Selection(path=str(next(gallery.entries()).path)), path=tmp_path / "moved" / "y.png")
        assert noted(uri) == sorted([str(crops), str(tmp_path / "moved")])
    with Gallery(uri) as gallery:  # the file does not stop it from being opened
        assert gallery.count == 20


def test_paths_are_read_only_where_a_folder_may_be_forgotten(
    uri: Path, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = paint(tmp_path / "elsewhere" / "x.png", 30)
    with Gallery(uri, ColourEmbedder()) as gallery:
        gallery.add([crops, alone], progress=False)
        read: list[bool] = []
        paths = gallery._paths
        monkeypatch.setattr(gallery, "_paths", lambda: (read.append(True), paths())[1])
        gallery.delete(Selection(identity=3))
        assert not read
        gallery.delete(Selection(path=alone))
        assert read
        assert noted(uri) == [str(crops)]


def planted(uri: Path, path: Path) -> str:
    """Let a row of the table lead to another file with the same content; returns its identifier."""
    store = open_store(str(uri), "people")
    (entry, *_) = store.page(0, 1)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(entry.path.read_bytes())
    store.update([replace(entry, path=path)])
    store.close()
    return entry.id


def test_a_row_that_leads_elsewhere_is_not_opened(uri: Path, crops: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "x.png"
    with Gallery(uri, ColourEmbedder(), ColourMatcher()) as gallery:
        gallery.add(crops, progress=False)
        id = planted(uri, outside)
        entry = gallery.entry(id)
        assert entry is not None
        assert entry.path == outside
        with pytest.raises(Changed, match="lies outside"):
            picture_of(entry, gallery.sources)
        assert picture_of(entry, EVERYWHERE).size == (16, 32)
        found = gallery.search(outside)
        assert [hit.probability is None for hit in found.hits] == [hit.id == id for hit in found.hits]
        assert [reason for reason in found.unreadable if "lies outside" in reason] == found.unreadable != []
        assert gallery.verify().elsewhere == [outside]
        gallery.delete(Selection(path=str(outside)))
        assert gallery.entry(id) is None
    with Gallery(uri, ColourEmbedder(), sources=[outside.parent]) as gallery:
        assert gallery.sources.allow(outside)
        assert not gallery.sources.allow(crops / "x.png")
        gallery.add(paint(tmp_path / "later" / "y.png", 50), progress=False)
        assert not gallery.sources.allow(tmp_path / "later" / "y.png")
    with Gallery(uri) as gallery:  # what was added meanwhile is noted for those who name no folders
        assert gallery.sources.allow(tmp_path / "later" / "y.png")


def test_a_gallery_without_the_file_opens_everything_until_pictures_are_added(
    uri: Path, crops: Path, tmp_path: Path
) -> None:
    with Gallery(uri, ColourEmbedder()) as gallery:
        gallery.add(crops, progress=False)
    (uri / SOURCES).unlink()
    with Gallery(uri, ColourEmbedder()) as gallery:
        assert gallery.sources.allow(tmp_path / "anywhere.png")
        gallery.add([Entry(paint(tmp_path / "more" / "x.png", 40))], progress=False)
    assert noted(uri) == sorted([str(crops), str(tmp_path / "more")])


@pytest.mark.parametrize("text", ["", "{", "3", "[3]", '{"a": 1}', '"text"'])
def test_a_damaged_file_opens_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / SOURCES
    file.write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        Sources(file).allow(Path("/x.jpg"))


def test_without_a_file_the_pictures_are_not_even_read() -> None:
    def read() -> Iterator[Path]:
        raise AssertionError
        yield

    Sources().add(read())
    assert not Sources().unnoted
