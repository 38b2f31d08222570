"""Opening pictures: every kind becomes upright RGB, every other thing one line that names it."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kronreid.data.images import MAX_PIXELS, as_list, open_rgb
from kronreid.errors import InputError

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 6, 3), dtype=np.uint8)
ORIENTATION = 274  # EXIF


def refusal(image: object) -> str:
    """The one line with which `open_rgb` refuses."""
    with pytest.raises(InputError) as caught:
        open_rgb(image)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def test_path_string_image_and_array_are_the_same(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS))
    for given_as in (path, str(path), Image.open(path), COLOURS):
        opened = open_rgb(given_as)
        assert opened.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(opened), COLOURS)


def test_grey(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS[..., 0]))
    np.testing.assert_array_equal(np.asarray(open_rgb(path)), np.repeat(COLOURS[..., :1], 3, axis=2))


def test_sixteen_bits_keep_the_high_ones(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (12, 6)).astype(np.uint16)
    path = save(tmp_path / "a.png", Image.fromarray(values))
    assert Image.open(path).mode.startswith("I")
    np.testing.assert_array_equal(np.asarray(open_rgb(path))[..., 1], values >> 8)


def test_cmyk(tmp_path: Path) -> None:
    """Cyan, magenta, yellow and black are what is taken away from white."""
    patches = np.zeros((8, 32, 4), np.uint8)
    patches[:, 8:16, 0] = patches[:, 16:24, 1] = patches[:, 24:, 3] = 255
    path = save(tmp_path / "a.jpg", Image.fromarray(patches, "CMYK"), quality=100, subsampling=0)
    opened = np.asarray(open_rgb(path)).astype(int)[4]
    expected = [(255, 255, 255), (0, 255, 255), (255, 0, 255), (0, 0, 0)]
    for column, colour in zip((4, 12, 20, 28), expected):
        assert np.abs(opened[column] - colour).max() <= 12


def test_transparent_places_become_white(tmp_path: Path) -> None:
    palette = Image.new("P", (6, 12), 1)
    palette.putpalette([200, 0, 0, 0, 90, 0])
    palette.paste(0, (0, 0, 3, 12))
    path = save(tmp_path / "a.png", palette, transparency=0)
    assert Image.open(path).mode == "P"
    opened = np.asarray(open_rgb(path))
    assert (opened[:, :3] == 255).all()
    assert (opened[:, 3:] == (0, 90, 0)).all()
    half = np.dstack([COLOURS, np.full((12, 6), 128, np.uint8)])
    blended = np.asarray(open_rgb(Image.fromarray(half, "RGBA"))).astype(int)
    assert np.abs(blended - (COLOURS.astype(int) * 128 + 255 * 127) / 255).max() <= 1


@pytest.mark.parametrize(("orientation", "turned"), [(3, 2), (6, 3), (8, 1)])
def test_turned_upright(tmp_path: Path, orientation: int, turned: int) -> None:
    """EXIF says how the camera was held: 6 and 8 are a quarter turn to the right and to the left."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS), exif=exif)
    np.testing.assert_array_equal(np.asarray(open_rgb(path)), np.rot90(COLOURS, turned))


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_truncated(tmp_path: Path, ending: str) -> None:
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (128, 64, 3), dtype=np.uint8))
    path = save(tmp_path / f"half.{ending}", picture)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(path) in refusal(path)
    # PIL opens lazily: such a picture only turns out to be damaged when it is decoded.
    assert str(path) in refusal(Image.open(path))
    assert "damaged" in refusal(Image.open(io.BytesIO(path.read_bytes())))


def test_no_picture(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.touch()
    text.write_text("not a picture")
    assert str(empty) in refusal(empty)
    assert str(text) in refusal(text)
    assert f"{tmp_path}: is a folder" in refusal(tmp_path)
    assert f"{tmp_path / 'none.jpg'}: no such file" in refusal(tmp_path / "none.jpg")
    assert "none.jpg" in refusal(str(text / "none.jpg"))


def test_too_many_pixels_are_refused_by_the_header_alone(tmp_path: Path) -> None:
    """The file says how large it is and holds nothing of it, so decoding it would fail otherwise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width = 10_000
    height = MAX_PIXELS // width + 1
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    for image in (path, Image.open(path)):
        assert f"{path}: {width} × {height} pixels" in refusal(image)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_other_arrays(array: np.ndarray) -> None:
    message = refusal(array)
    assert str(array.dtype) in message
    assert str(array.shape) in message


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(COLOURS).save(buffer, kind, exif=exif)
    return buffer.getvalue()


FILES = {kind: encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF")}


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 5000),
)
def test_damaged_files_open_or_are_refused(
    kind: str, changes: list[tuple[int, int]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(FILES[kind])
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(data[: cut % (4 * len(data))])
    refused = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd metadata
        try:
            opened = open_rgb(path)
        except InputError as error:
            refused = str(error)
    assert str(path) in refused if refused else opened.mode == "RGB"


def test_as_list(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS)
    one: list[str | os.PathLike[str] | Image.Image] = ["a.jpg", tmp_path, image]
    for single in one:
        assert as_list(single) == [single]
    (array,) = as_list(COLOURS)
    assert array is COLOURS
    assert len(as_list(np.stack([COLOURS, COLOURS]))) == 2
    assert as_list(("a.jpg", image)) == ["a.jpg", image]
    assert as_list([]) == []
