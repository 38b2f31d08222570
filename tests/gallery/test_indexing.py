import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kronreid.data.images import MAX_PIXELS
from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.indexing import ENOUGH_PIXELS, crop, decode, entries_of, identified, metadata_from_name

from .conftest import paint


def as_bytes(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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
        ("caf\udce9/7_0001.jpg", "7", r"caf\xe9"),
        ("monday/anna/7_0001.jpg", "7", None),
    ],
)
def test_names_tell_camera_and_identity(name, camera, identity):
    entry = metadata_from_name(Path("/crops", name), Path("/crops"))
    assert (entry.camera, entry.identity) == (camera, identity)


def test_files_folders_and_patterns(crops):
    everything, skipped = entries_of(crops)
    assert skipped == []
    assert len(everything) == 20
    assert entries_of([f"{crops}/*_c2*.png"]) == ([e for e in everything if e.camera == "2"], [])
    assert entries_of(everything[0].path) == (everything[:1], [])


def test_nothing_found_is_said(tmp_path):
    with pytest.raises(InputError, match="no file fits"):
        entries_of(f"{tmp_path}/*.jpg")
    with pytest.raises(InputError, match="no pictures"):
        entries_of(tmp_path)


def test_identifiers_are_of_content_and_box():
    a, b, c = identified([Entry(Path("/a")), Entry(Path("/b")), Entry(Path("/a"), box=(0, 0, 4, 4))], b"x")
    assert a.id == b.id != c.id
    assert identified([a], b"y")[0].id != a.id


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("CMYK", "JPEG"), ("L", "JPEG"), ("1", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("I;16", "PNG")],
)
def test_every_mode_becomes_rgb(mode, kind):
    grey = Image.fromarray(np.full((32, 16), 200, np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.full((32, 16), 200 * 256, np.uint16))
    else:
        image = grey.convert("RGB").convert(mode) if mode != "P" else grey.quantize()
    decoded = decode(as_bytes(image, kind), Path("/x"))
    assert decoded.mode == "RGB"
    assert decoded.size == (16, 32)
    if mode != "1":
        assert np.abs(np.asarray(decoded).astype(int) - 200).max() <= 4


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (16, 32), colour) for colour in ("red", "blue")]
    content = as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(content, Path("/x")).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("damage", ["half", "text", "noise", "huge"])
def test_what_is_no_picture_is_named(damage, crops):
    whole = as_bytes(
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 32, 3), np.uint8)), "JPEG"
    )
    content = {
        "half": whole[: len(whole) // 2],
        "text": b"not a picture",
        "noise": whole[:200] + bytes(range(256)) * 4,
        "huge": b"P6 %d 8000 255\n" % (MAX_PIXELS // 8000 + 1),  # a header is enough: it is not decoded
    }[damage]
    with pytest.raises(InputError, match=r"bad\.jpg"):
        decode(content, Path("/x/bad.jpg"))


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
