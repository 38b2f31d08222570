from pathlib import Path

import pytest
from PIL import Image

from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.indexing import ENOUGH_PIXELS, crop, entries_of, identified, metadata_from_name

from .conftest import paint


@pytest.mark.parametrize(
    ("name", "camera", "identity"),
    [
        ("0002_c1s1_000451_03.jpg", "1", "2"),
        ("0000_c4s1_000451_03.jpg", "4", None),
        ("-1_c3s2_000451_03.jpg", "3", None),
        ("anna/7_0001.jpg", "7", "anna"),
        ("anna/cam7_0001.jpg", "7", "anna"),
        ("0012/7_0001.jpg", "7", "12"),
        ("7_0001.jpg", "7", None),
        ("photo.jpg", None, None),
        ("monday/photo.jpg", None, None),
        ("monday/anna/7_0001.jpg", "7", None),
    ],
)
def test_names_tell_camera_and_identity(name, camera, identity):
    entry = metadata_from_name(Path("/crops", name), Path("/crops"))
    assert (entry.camera, entry.identity) == (camera, identity)


def test_files_folders_and_patterns(crops):
    everything = entries_of(crops)
    assert len(everything) == 20
    assert entries_of([f"{crops}/*_c2*.png"]) == [e for e in everything if e.camera == "2"]
    assert entries_of(everything[0].path) == everything[:1]


def test_nothing_found_is_said(tmp_path):
    with pytest.raises(InputError, match="no file fits"):
        entries_of(f"{tmp_path}/*.jpg")
    with pytest.raises(InputError, match="no pictures"):
        entries_of(tmp_path)


def test_identifiers_are_of_content_and_box():
    a, b, c = identified([Entry(Path("/a")), Entry(Path("/b")), Entry(Path("/a"), box=(0, 0, 4, 4))], b"x")
    assert a.id == b.id != c.id
    assert identified([a], b"y")[0].id != a.id


def test_boxes_are_cut_at_the_edge_and_refused_outside():
    frame = Image.new("RGB", (100, 50))
    assert crop(frame, Entry(Path("/x"), box=(-10, 10, 30, 100))).size == (20, 40)
    with pytest.raises(InputError, match="outside"):
        crop(frame, Entry(Path("/x"), box=(100, 0, 10, 10)))


def test_large_pictures_shrink(tmp_path):
    image = Image.new("RGB", (3000, 4000))
    small = crop(image, Entry(Path("/x")))
    assert small.width * small.height <= ENOUGH_PIXELS < 4 * small.width * small.height
    assert small.size == (1500, 2000)


def test_paint_is_deterministic(tmp_path):
    assert paint(tmp_path / "a.png", 1).read_bytes() == paint(tmp_path / "b.png", 1).read_bytes()
