"""The metadata of picture files: only their orientation is read.

Some cameras and editors write faulty metadata: text instead of a number, fractions with a zero denominator,
truncated blocks. Pillow reads, and even rewrites, whole EXIF blocks before it decodes the pixels, and fails
on some. This module therefore reads the orientation itself, and `bare` removes all other metadata if Pillow
fails.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from PIL import Image

#: EXIF's tag for the orientation. Its values are 1 (upright) to 8.
ORIENTATION = 0x0112

#: The `struct` format of each integer type that a tag may have, by TIFF's number of the type.
_INTEGERS = {3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}

_IN_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([0-9])""")

#: The marker of a JPEG segment, after bytes that decoders skip.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])")
#: The application segments that JPEG decoders read (JFIF and Adobe), with their minimum lengths.
_JPEG_NEEDS = {0xE0: 14, 0xEE: 12}
_PNG = b"\x89PNG\r\n\x1a\n"
#: TIFF's tag for XMP.
_XMP = 700
#: Tags of a TIFF file without which its pixels cannot be decoded.
_TIFF_NEEDS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, ORIENTATION, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 336, 338, 339, 347, *range(512, 522), 529, 530, 531, 532),
}


def orientation(image: Image.Image) -> int:
    """The orientation of a stored picture, 1 to 8 in EXIF's numbering.

    EXIF takes precedence over XMP, as in Pillow. Unreadable metadata count as absent.

    Args:
        image: An opened image of Pillow. A PNG image must be loaded, because metadata may follow its pixels.

    Returns:
        The orientation; 1 (upright) if there is none.
    """
    told: Any = None
    block = image.info.get("exif")
    if isinstance(block, bytes):
        told = in_exif(block)
    elif "Raw profile type exif" in image.info:  # written by ImageMagick
        with suppress(Exception):
            told = in_exif(bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:])))
    else:
        with suppress(Exception):  # parsing damaged tags may raise any exception
            told = image.getexif().get(ORIENTATION)
    if told is None:
        told = _in_xmp(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"))
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def in_exif(block: bytes) -> int | None:
    """The orientation in an EXIF block, or None. Other tags are not read."""
    block = re.sub(rb"^(Exif\0\0){1,2}", b"", block)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or sorted(block[2:4]) != [0, 42]:
        return None
    for place in _entries(block, order):
        tag, kind, count = struct.unpack_from(order + "HHL", block, place)
        code = _INTEGERS.get(kind)
        if tag == ORIENTATION and code is not None and 1 <= count <= 4 // struct.calcsize(order + code):
            return struct.unpack_from(order + code, block, place + 8)[0]
    return None


def _entries(content: bytes | bytearray, order: str) -> Iterator[int]:
    """The offsets of the complete entries in a TIFF structure's first directory."""
    with suppress(struct.error):  # the structure is truncated
        (start,) = struct.unpack_from(order + "L", content, 4)
        (count,) = struct.unpack_from(order + "H", content, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            struct.unpack_from("12x", content, place)
            yield place


def _in_xmp(text: Any) -> int | None:
    if isinstance(text, str):
        text = text.encode()
    found = _IN_XMP.search(text) if isinstance(text, bytes) else None
    return int(found[1]) if found else None


def bare(content: bytes) -> bytes | None:
    """A picture file with the same pixels and the same orientation, but without other metadata.

    Args:
        content: The content of the file.

    Returns:
        The new content; None if the format is not JPEG, PNG, TIFF or AVIF.
    """
    if content.startswith(b"\xff\xd8"):
        return _bare_jpeg(content)
    if content.startswith(_PNG):
        return _bare_png(content)
    if content[:4] in (b"II*\0", b"MM\0*") and len(content) >= 8:
        return _bare_tiff(content)
    if content[4:8] == b"ftyp":
        # AVIF stores its rotation elsewhere. This renames the EXIF item, so that decoders do not find it.
        return re.sub(rb"(infe\x02.{3}.{4})Exif", rb"\1none", content, flags=re.DOTALL)
    return None


def _bare_jpeg(content: bytes) -> bytes:
    parts, exif, xmp = [], b"", b""
    place = 2
    while found := _JPEG_MARKER.search(content, place):
        kind = found[1][0]
        size = content[found.end() : found.end() + 2]
        if kind in (0x01, 0xDA) or 0xD0 <= kind <= 0xD9 or len(size) < 2:
            break  # here the pixels begin, or data that only a decoder understands
        place = found.end() + int.from_bytes(size, "big")
        body = content[found.end() + 2 : place]
        if kind == 0xE1:
            exif, xmp = (exif + body[6:], xmp) if body.startswith(b"Exif\0\0") else (exif, xmp + body)
        metadata = 0xE0 <= kind <= 0xEF or kind == 0xFE
        if not metadata or (kind in _JPEG_NEEDS and len(body) >= _JPEG_NEEDS[kind]):
            parts.append(content[found.start() : place])
    block = _exif(exif, xmp)
    told = b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block
    return b"".join([content[:2], told, *parts, content[place:]])


def _bare_png(content: bytes) -> bytes:
    parts, exif, xmp = [], b"", b""
    place = len(_PNG)
    while len(head := content[place : place + 8]) == 8:
        chunk = content[place : place + 12 + int.from_bytes(head[:4], "big")]
        place += len(chunk)
        kind = head[4:]
        if kind == b"eXIf":
            exif = chunk[8:-4]
        elif kind == b"iTXt":
            xmp += chunk
        if kind[:1].isupper() or kind == b"tRNS":  # a capital letter marks chunks that decoders need
            parts.append(chunk)
    block = b"eXIf" + _exif(exif, xmp).removeprefix(b"Exif\0\0")
    told = struct.pack(">L", len(block) - 4) + block + struct.pack(">L", zlib.crc32(block))
    return b"".join([_PNG, *parts[:1], told, *parts[1:]])


def _bare_tiff(content: bytes) -> bytes:
    """Overwrite the first page's directory with a smaller one, so that the pixels stay where they are."""
    order = "<" if content.startswith(b"II") else ">"
    kept, xmp, turned = [], b"", False
    for place in _entries(content, order):
        tag, _, count, value = struct.unpack_from(order + "HHLL", content, place)
        turned |= tag == ORIENTATION
        if tag == _XMP:
            xmp = content[value : value + count]
        elif tag in _TIFF_NEEDS:
            kept.append((tag, content[place : place + 12]))
    told = _in_xmp(xmp)
    if told is not None and not turned:
        kept.append((ORIENTATION, struct.pack(order + "HHLHH", ORIENTATION, 3, 1, told, 0)))
    entries = b"".join(entry for _, entry in sorted(kept))
    directory = struct.pack(order + "H", len(kept)) + entries + bytes(4)  # the zeros mean: no further page
    (start,) = struct.unpack_from(order + "L", content, 4)
    return content[:start] + directory + content[start + len(directory) :]


def _exif(exif: bytes, xmp: bytes) -> bytes:
    """A valid EXIF block that holds only the orientation of the given metadata."""
    told = in_exif(exif)
    told = _in_xmp(xmp) if told is None else told
    block = Image.Exif()
    block[ORIENTATION] = told if told is not None and 1 <= told <= 8 else 1
    return block.tobytes()
