"""Odd metadata never make a sound picture unreadable, nor hide its orientation."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kronreid.data.images import open_rgb, read_rgb, upright_size
from kronreid.data.metadata import bare, in_exif, orientation
from kronreid.errors import InputError

from . import odd
from .odd import Entry, chunk, exif, is_upright, jpeg, png, segment, tiff, turned, webp

XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
XMP_IN_JPEG = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP.encode())
MINUS_ONE_OVER_ZERO = struct.pack("<ll", -1, 0)


def turned_block(*entries: Entry, said: int | None = None, pool: bytes = b"") -> bytes:
    """Orientation 6 among other entries."""
    return exif("<", [*entries, turned("<", 6)], said, pool)


def place(entries: int) -> bytes:
    """Where the pool of an EXIF block with so many entries begins, as an entry's value."""
    return struct.pack("<L", 8 + 2 + 12 * entries + 4)


#: EXIF blocks with orientation 6 and something odd beside it.
ODD_EXIF = {
    "a fraction over zero": turned_block((0x011A, 10, 1, place(2)), pool=MINUS_ONE_OVER_ZERO),
    "a resolution as text": turned_block((0x011A, 2, 4, b"72 \0"), (0x0128, 3, 1, b"\2\0\0\0")),
    "a resolution without text": turned_block((0x011A, 2, 1, bytes(4)), (0x0128, 3, 1, b"\2\0\0\0")),
    "a resolution without a number": turned_block((0x011A, 5, 0, bytes(4)), (0x0128, 3, 1, b"\2\0\0\0")),
    "an unknown type": turned_block((0x010F, 77, 1, bytes(4))),
    "a value that lies outside": turned_block((0x010F, 2, 100, b"\xff\xff\xff\x7f")),
    "a value without end": turned_block((0x010F, 2, 2**32 - 1, bytes(4))),
    "a directory that is none": turned_block((0x8769, 4, 1, b"\xff\xff\0\0"), (0x8825, 2, 4, b"abc\0")),
    "a directory within itself": turned_block((0x8769, 4, 1, b"\x08\0\0\0")),
    "too many entries": turned_block(said=500),
    "negative numbers": turned_block((0x0100, 9, 1, b"\xff\xff\xff\xff"), (0x0103, 8, 1, b"\xff\xff\0\0")),
    "the orientation as a long number": exif(">", [(0x010E, 2, 4, b"abc\0"), turned(">", 6, kind=4)]),
    "the header twice": b"Exif\0\0" + turned_block(),
}


def every_way(content: bytes, path: Path) -> list[Image.Image]:
    """A picture by its content, by its path, and as Pillow opens it if it can."""
    path.write_bytes(content)
    opened = [read_rgb(content, "picture"), open_rgb(path)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            by_pillow = Image.open(path)
        except OSError:
            return opened
    with by_pillow:
        return [*opened, open_rgb(by_pillow), open_rgb(by_pillow)]


@pytest.mark.parametrize("block", ODD_EXIF.values(), ids=list(ODD_EXIF))
@pytest.mark.parametrize(
    "file",
    [
        lambda block: jpeg(segment(0xE1, block)),
        lambda block: png(before=chunk(b"eXIf", block[6:])),
        lambda block: png(behind=chunk(b"eXIf", block[6:])),
        webp,
    ],
    ids=["JPEG", "PNG", "PNG behind its pixels", "WebP"],
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_one_odd_tag_changes_nothing(file: Callable[[bytes], bytes], block: bytes, tmp_path: Path) -> None:
    for image in every_way(file(block), tmp_path / "a"):
        assert is_upright(image, 6)
    assert upright_size(tmp_path / "a", "a") == (24, 16)


@pytest.mark.parametrize("plain", ["TIFF", "LZW"])
@pytest.mark.parametrize(
    "entry",
    [
        (0x011A, 2, 4, b"72 \0"),
        (0x011A, 10, 1, b"\0\0\0\0"),
        (0x010F, 2, 2**32 - 1, bytes(4)),
        (0x02BC, 2, 4, b"abc\0"),
        (0x02BC, 3, 2, bytes(4)),
        (0x8769, 4, 1, b"\xff\xff\0\0"),
        (0x8825, 2, 4, b"abc\0"),
        (0x8773, 12, 2, b"\xff\xff\0\0"),
    ],
    ids=lambda entry: f"{entry[0]:#06x} {entry[1]} {entry[2]}",
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_odd_tags_of_a_tiff(
    plain: str, entry: Entry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    centimetres = (0x0128, 3, 1, b"\3\0\0\0")
    content = tiff([entry, centimetres, turned("<", 6)], plain)
    for image in every_way(content, tmp_path / "a"):
        assert is_upright(image, 6)
    assert upright_size(tmp_path / "a", "a") == (24, 16)
    assert capfd.readouterr() == ("", ""), "libtiff complains by itself"


#: Damaged segments and chunks of other kinds, in pictures with and without an orientation.
ODD_PARTS = {
    "a colour profile in pieces": (jpeg(segment(0xE2, b"ICC_PROFILE\0\x05\x07abc")), 1),
    "a colour profile of nothing": (jpeg(segment(0xE2, b"ICC_PROFILE\0"), XMP_IN_JPEG), 6),
    "an index of more pictures": (
        jpeg(segment(0xE2, b"MPF\0II*\0\x08\0\0\0\1\0"), segment(0xE1, turned_block())),
        6,
    ),
    "a short JFIF": (jpeg(segment(0xE0, b"JFIF\0"), segment(0xE1, turned_block())), 6),
    "a short Adobe": (jpeg(segment(0xEE, b"Adobe"), segment(0xE1, turned_block())), 6),
    "a Photoshop block": (jpeg(segment(0xED, b"Photoshop 3.0\0008BIM\x03\xed"), XMP_IN_JPEG), 6),
    "a profile of a PNG": (png(before=chunk(b"iCCP", b"x\0\7damaged")), 1),
    "a profile that is too large": (
        png(before=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2_000_000)))),
        1,
    ),
    "a short gamma": (png(before=chunk(b"gAMA", b"\0"), behind=chunk(b"eXIf", turned_block()[6:])), 6),
    "a wrong checksum": (png(before=chunk(b"eXIf", turned_block()[6:]) + chunk(b"tEXt", b"a\0b", 1)), 6),
    "a short density behind": (png(chunk(b"eXIf", turned_block()[6:]), behind=chunk(b"pHYs", b"\0")), 6),
    "a text called transparency": (png(before=chunk(b"tEXt", b"transparency\0much")), 1),
    "a text called interlace": (png(before=chunk(b"tEXt", b"interlace\0001")), 1),
}


@pytest.mark.parametrize(("content", "stored"), ODD_PARTS.values(), ids=list(ODD_PARTS))
@pytest.mark.filterwarnings("error::UserWarning")
def test_damaged_metadata_of_other_kinds(content: bytes, stored: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    for image in (read_rgb(content, "picture"), open_rgb(path)):
        assert is_upright(image, stored)
    assert upright_size(path, path) == ((24, 16) if stored == 6 else (16, 24))


@pytest.mark.parametrize("written", ['="6"', "='6'", ">6<"])
def test_xmp_counts_where_exif_is_silent(written: str, tmp_path: Path) -> None:
    xmp = XMP.replace('="6"', written).encode()
    in_jpeg = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    in_png = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    in_tiff = tiff([(0x02BC, 7, len(xmp), bytes(4))], pool=xmp)
    at = odd.place_of_pool(in_tiff, xmp)
    files = {
        "JPEG": jpeg(in_jpeg),
        "JPEG with a broken block": jpeg(segment(0xE1, b"Exif\0\0II*"), in_jpeg),
        "PNG": png(before=in_png),
        "WebP": odd.encoded("WEBP", xmp=xmp),
        "TIFF": tiff([(0x02BC, 7, len(xmp), at)], pool=xmp),
    }
    for name, content in files.items():
        for image in every_way(content, tmp_path / "a"):
            assert is_upright(image, 6), name
    both = jpeg(in_jpeg, segment(0xE1, exif("<", [turned("<", 3)])))
    assert is_upright(read_rgb(both, "picture"), 3)


def test_what_is_broken_is_upright_as_stored(tmp_path: Path) -> None:
    whole = turned_block()
    for length in range(len(whole) - 4):
        block = whole[:length]
        told = 6 if length >= 6 + 8 + 2 + 12 else 1
        for content in (jpeg(segment(0xE1, block)), png(before=chunk(b"eXIf", block[6:]))):
            assert is_upright(read_rgb(content, "picture"), told), length
    for value in (0, 9, 65535):
        content = jpeg(segment(0xE1, exif("<", [turned("<", value)])))
        assert is_upright(read_rgb(content, "picture"), 1)


def test_an_orientation_set_in_memory() -> None:
    image = Image.fromarray(odd.PATCHES)
    image.getexif()[odd.ORIENTATION] = 6
    upright = open_rgb(image)
    assert is_upright(upright, 6)
    assert is_upright(open_rgb(upright), 6), "what is upright is not turned again"


numbers = st.sampled_from([0, 1, 2, 3, 4, 8, 100, 2**31, 2**32 - 1])
tags = st.one_of(
    st.sampled_from([0x010F, 0x011A, 0x011B, 0x0128, 0x02BC, 0x8769, 0x8773, 0x8825, 0xA005, 0x927C]),
    st.integers(0x8000, 0xFFFF),
)
values = st.one_of(st.binary(min_size=4, max_size=4), st.integers(0, 200).map(lambda n: struct.pack("<L", n)))
kinds = st.one_of(st.integers(0, 19), st.just(65535))
entries = st.lists(st.tuples(tags, kinds, numbers, values), max_size=5)


@settings(max_examples=100, derandomize=True)
@given(
    file=st.sampled_from(["JPEG", "PNG", "PNG behind", "WEBP", "TIFF", "LZW"]),
    order=st.sampled_from("<>"),
    entries=entries,
    where=st.integers(0, 5),
    stored=st.integers(1, 8),
    more=st.integers(0, 3),
    pool=st.binary(max_size=40),
)
def test_any_tags_beside_the_orientation(
    file: str,
    order: str,
    entries: list[Entry],
    where: int,
    stored: int,
    more: int,
    pool: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if file in ("TIFF", "LZW"):
        content = tiff([*entries, turned("<", stored)], file, pool)
    else:
        told = [*entries[:where], turned(order, stored), *entries[where:]]
        block = exif(order, told, len(told) + more, pool)
        content = {
            "JPEG": lambda: jpeg(segment(0xE1, block)),
            "PNG": lambda: png(before=chunk(b"eXIf", block[6:])),
            "PNG behind": lambda: png(behind=chunk(b"eXIf", block[6:])),
            "WEBP": lambda: webp(block),
        }[file]()
    path = tmp_path_factory.getbasetemp() / "any tags"
    for image in every_way(content, path):
        assert is_upright(image, stored)
    assert upright_size(path, path) == Image.fromarray(odd.UPRIGHT[stored](odd.PATCHES)).size
    rest = bare(content)
    if rest is not None:
        assert is_upright(read_rgb(rest, "picture"), stored)


@settings(max_examples=100, derandomize=True)
@given(
    markers=st.lists(
        st.tuples(
            st.sampled_from([0xE0, 0xE1, 0xE2, 0xE3, 0xED, 0xEE, 0xEF, 0xFE]),
            st.sampled_from(
                [b"JFIF\0", b"ICC_PROFILE\0", b"MPF\0II*\0\x08\0\0\0", b"Photoshop 3.0\x008BIM", b""]
            ),
            st.binary(max_size=30),
        ),
        max_size=4,
    ),
    chunks=st.lists(
        st.tuples(
            st.sampled_from(
                [b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"pHYs", b"acTL", b"fcTL", b"prVt"]
            ),
            st.binary(max_size=30),
            st.booleans(),
            st.booleans(),
        ),
        max_size=4,
    ),
)
def test_any_other_metadata(
    markers: list[tuple[int, bytes, bytes]], chunks: list[tuple[bytes, bytes, bool, bool]]
) -> None:
    told = turned_block()
    content = jpeg(segment(0xE1, told), *(segment(marker, head + rest) for marker, head, rest in markers))
    assert is_upright(read_rgb(content, "picture"), 6)
    before, behind = b"", b""
    for kind, body, sound, early in chunks:
        more = chunk(kind, body, None if sound else 7)
        before, behind = (before + more, behind) if early else (before, behind + more)
    assert is_upright(read_rgb(png(chunk(b"eXIf", told[6:]) + before, behind), "picture"), 6)


@settings(max_examples=100, derandomize=True)
@given(block=st.binary(max_size=60))
def test_any_bytes_for_an_exif_block(block: bytes) -> None:
    for head in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        told = in_exif(b"Exif\0\0" + head + block)
        assert told is None or isinstance(told, int)
        assert read_rgb(jpeg(segment(0xE1, b"Exif\0\0" + head + block)), "picture").mode == "RGB"


def test_bare_files_keep_pixels_transparency_and_nothing_else() -> None:
    clear = np.dstack([odd.PATCHES, np.full((24, 16), 100, np.uint8)])
    palette = Image.fromarray(odd.PATCHES).quantize(4)
    files = [
        (Image.fromarray(odd.PATCHES), "JPEG", {"comment": b"secret", "icc_profile": b"secret"}),
        (Image.fromarray(odd.PATCHES).convert("CMYK"), "JPEG", {"comment": b"secret"}),
        (Image.fromarray(clear, "RGBA"), "PNG", {"icc_profile": b"secret"}),
        (palette, "PNG", {"transparency": 1, "dpi": (30, 30)}),
        (Image.fromarray(odd.PATCHES), "TIFF", {"software": "secret", "compression": "jpeg"}),
        (
            Image.fromarray(odd.PATCHES),
            "AVIF",
            {"exif": exif("<", [(0x010E, 2, 4, b"abc\0"), turned("<", 6)])},
        ),
    ]
    for image, kind, options in files:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        content = buffer.getvalue()
        rest = bare(content)
        assert rest is not None
        np.testing.assert_array_equal(
            np.asarray(read_rgb(rest, "a", [kind])), np.asarray(read_rgb(content, "a", [kind]))
        )
        if kind != "TIFF":  # there the bytes stay, but nothing refers to them
            assert b"secret" not in rest
    for content in (b"", b"P6 1 1 255\n123", b"GIF89a", b"RIFF"):
        assert bare(content) is None


@settings(max_examples=150, derandomize=True)
@given(
    kind=st.sampled_from(sorted(odd.PLAIN)),
    cut=st.integers(0, 3000),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=4),
)
def test_damaged_files_are_survived(kind: str, cut: int, changes: list[tuple[int, int]]) -> None:
    content = bytearray(odd.PLAIN[kind])
    for where, value in changes:
        content[where % len(content)] = value
    rest = bare(bytes(content[: cut % (2 * len(content))]))
    with suppress(InputError):
        assert read_rgb(rest or b"", "picture").mode == "RGB"


def test_orientation_of_images_that_say_nothing() -> None:
    assert orientation(Image.new("RGB", (2, 2))) == 1
    strange = Image.new("RGB", (2, 2))
    strange.info.update({"exif": "text", "xmp": (1, 2), "Raw profile type exif": "no hexadecimal\n\n\nzz"})
    assert orientation(strange) == 1
    told = exif("<", [turned("<", 8)])
    strange.info = {"Raw profile type exif": f"\nexif\n{len(told)}\n{told.hex()}\n"}
    assert orientation(strange) == 8
