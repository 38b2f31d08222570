"""Opening pictures: every kind becomes upright RGB, every other thing one line that names it."""

import io
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from kronreid.data.files import find_pictures
from kronreid.data.images import (
    COMMON_FORMATS,
    MAX_PIXELS,
    OTHER_FORMATS,
    as_list,
    format_and_pixels,
    open_rgb,
    read_rgb,
    upright_size,
)
from kronreid.errors import InputError

from .odd import tiff

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
        assert f"{path}: has {width} × {height} pixels" in refusal(image)


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


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[ORIENTATION] = 6
ALL = COMMON_FORMATS | OTHER_FORMATS
FILES = {kind: encoded(kind) for kind in ALL}
FILES |= {f"{kind} with EXIF": encoded(kind, exif=EXIF) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")}
FILES["compressed TIFF"] = encoded("TIFF", compression="tiff_lzw")
FILES["MPO"] = encoded("MPO", save_all=True, append_images=[Image.fromarray(COLOURS)])
FILES["APNG"] = encoded("PNG", save_all=True, append_images=[Image.fromarray(COLOURS[::-1])])


@pytest.mark.parametrize("kind", COMMON_FORMATS)
def test_every_format_is_read_under_each_of_its_endings(kind: str, tmp_path: Path) -> None:
    for suffix in COMMON_FORMATS[kind]:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(FILES[kind])
        assert find_pictures(tmp_path) == [path]
        assert open_rgb(path).size == (6, 12)
        assert format_and_pixels(path, path) == (kind, 72)
        path.unlink()


def test_the_documentation_names_every_format() -> None:
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    (table,) = re.findall(r"\| format \| endings \|\n\| --- \| --- \|\n((?:\|.*\n)+)", page)
    endings = [re.findall(r"`(\.\w+)`", row) for row in table.splitlines()]
    assert endings == [list(suffixes) for suffixes in ALL.values()]


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PCX", *OTHER_FORMATS])
def test_no_other_format_is_read(kind: str, tmp_path: Path) -> None:
    """Some of Pillow's decoders start programs, and few of them are looked after well."""
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(kind))
    assert "JPEG, PNG" in refusal(path)


def test_other_formats_are_read_when_the_environment_names_them(tmp_path: Path) -> None:
    code = "from kronreid.data.images import FORMATS; print(*FORMATS)"
    environment = os.environ | {"KRONREID_FORMATS": "avif, PPM,EPS"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.split() == [*COMMON_FORMATS, "AVIF", "PPM"]
    for kind in OTHER_FORMATS:
        assert read_rgb(FILES[kind], "a", ALL).size == (6, 12)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("CMYK", "JPEG"), ("L", "JPEG"), ("1", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("I;16", "PNG")],
)
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    grey = Image.new("L", (16, 32), 200)
    image = Image.fromarray(np.full((32, 16), 200 * 256, np.uint16))
    if mode != "I;16":
        image = grey.quantize() if mode == "P" else grey.convert("RGB").convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    opened = read_rgb(buffer.getvalue(), "a")
    assert (opened.mode, opened.size) == ("RGB", (16, 32))
    if mode != "1":
        assert np.abs(np.asarray(opened).astype(int) - 200).max() <= 4


def test_an_animation_is_its_first_picture() -> None:
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        lossless = {"lossless": True} if kind == "WEBP" else {}
        grey = Image.fromarray(COLOURS).convert("L")
        buffer = io.BytesIO()
        grey.save(buffer, kind, save_all=True, append_images=[Image.new("L", grey.size, 7)], **lossless)
        np.testing.assert_array_equal(np.asarray(read_rgb(buffer.getvalue(), "a"))[..., 0], np.asarray(grey))


@settings(max_examples=250, derandomize=True)
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
    content = bytes(data[: cut % (4 * len(data))])
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(content)

    def by_pillow() -> Image.Image | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image = Image.open(path)
            except Exception:  # Pillow's own affair: the picture never comes to us
                return None
        with image:
            return open_rgb(image)

    for way in (lambda: open_rgb(path), lambda: read_rgb(content, path, ALL), by_pillow):
        opened, refused = None, ""
        try:
            opened = way()
        except InputError as error:
            refused = str(error)
        assert opened is None or opened.mode == "RGB"
        assert not refused or (refused.startswith(f"{path}: ") and "\n" not in refused)
    with suppress(InputError):
        upright_size(content, path, ALL)


ANY_ERROR = (OSError, SyntaxError, struct.error, ZeroDivisionError, KeyError, IndexError, AssertionError)


@pytest.mark.parametrize("error", [*ANY_ERROR, MemoryError, RecursionError, RuntimeError, zlib.error])
@pytest.mark.parametrize("where", ["open", "load"])
def test_whatever_pillow_raises_is_one_line(
    error: type[Exception], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS))
    opened = Image.open(path)

    def fail(*arguments: object, **options: object) -> None:
        raise error("two\nlines")

    monkeypatch.setattr(*((Image, "open") if where == "open" else (PngImageFile, "load")), fail)
    said = [refusal(path)]
    if where == "load":
        said.append(refusal(opened))
    for message in said:
        assert message.startswith(f"{path}: ")
        assert ("memory" if error is MemoryError else "damaged (") in message


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, NotADirectoryError])
def test_trouble_with_a_file_is_no_damage(
    error: type[OSError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error(1, "the reason")

    monkeypatch.setattr(Image, "open", fail)
    assert "damaged" not in refusal(tmp_path / "a.jpg")


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(TypeError):
        open_rgb(5)  # type: ignore[arg-type]


def test_the_filters_of_warnings_are_those_of_before(tmp_path: Path) -> None:
    """Several threads open pictures whose tags Pillow warns of; the last one restores the filters."""
    path = tmp_path / "a.tif"
    path.write_bytes(tiff([(0x010F, 2, 2**32 - 1, bytes(4))]))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(open_rgb, [path] * 100))
        assert warnings.filters == before
        assert [one for one in heard if "PIL" in one.filename] == []
        with Image.open(path):
            assert [one for one in heard if "PIL" in one.filename] != [], "Pillow does warn"


def test_sizes_of_upright_pictures(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        path = tmp_path / "a"
        path.write_bytes(FILES[f"{kind} with EXIF"])
        assert upright_size(path, path, ALL) == read_rgb(path, path, ALL).size == (12, 6)
        path.write_bytes(FILES[kind])
        assert upright_size(path, path, ALL) == read_rgb(path, path, ALL).size == (6, 12)


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
