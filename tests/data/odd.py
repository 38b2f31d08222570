"""Sound pictures with odd metadata, put together byte by byte, since no encoder writes them."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

ORIENTATION = 274

#: Four patches of colour, which tell the eight orientations apart even after a lossy codec.
PATCHES = np.repeat(
    np.repeat(np.array([[[220, 0, 0], [0, 220, 0]], [[0, 0, 220], [220, 220, 0]]], np.uint8), 12, 0), 8, 1
)
#: By orientation: what turns the stored picture upright, as NumPy does it.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, 3),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored),
}

#: An entry of an EXIF directory: tag, type, count, and four bytes of value or place.
Entry = tuple[int, int, int, bytes]


def turned(order: str, orientation: int, kind: int = 3) -> Entry:
    """The entry of the orientation; `order` is ``<`` or ``>``."""
    value = struct.pack(order + {3: "Hxx", 4: "L"}[kind], orientation)
    return ORIENTATION, kind, 1, value


def exif(order: str, entries: Sequence[Entry], said: int | None = None, pool: bytes = b"") -> bytes:
    """An EXIF block. `said` is the number of entries that it claims to have; `pool` follows the directory."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "LH", 8, said or len(entries))
    body = b"".join(struct.pack(order + "HHL", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0" + head + body + bytes(4) + pool


def encoded(kind: str, **options: object) -> bytes:
    """The patches in one of Pillow's formats, without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(PATCHES).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


PLAIN = {kind: encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF")}
PLAIN["LZW"] = encoded("TIFF", compression="tiff_lzw")


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg(*segments: bytes) -> bytes:
    """A JPEG with these segments before all others."""
    return PLAIN["JPEG"][:2] + b"".join(segments) + PLAIN["JPEG"][2:]


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    """A chunk of a PNG."""
    right = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", right)


def png(before: bytes = b"", behind: bytes = b"") -> bytes:
    """A PNG with these chunks before or behind its pixels."""
    content, end = PLAIN["PNG"], PLAIN["PNG"].index(b"IEND") - 4
    return content[:33] + before + content[33:end] + behind + content[end:]


def webp(block: bytes) -> bytes:
    """A WebP with an EXIF block."""
    return encoded("WEBP", exif=block)


def tiff(entries: Sequence[Entry], plain: str = "TIFF", pool: bytes = b"") -> bytes:
    """A TIFF with further tags; its directory stands behind the pixels, and `pool` behind that."""
    content = PLAIN[plain]
    (start,) = struct.unpack_from("<L", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    own = [content[place : place + 12] for place in range(start + 2, start + 2 + 12 * count, 12)]
    more = [struct.pack("<HHL", *entry[:3]) + entry[3] for entry in entries]
    all_of_them = sorted(own + more, key=lambda entry: struct.unpack("<H", entry[:2]))
    directory = struct.pack("<H", len(all_of_them)) + b"".join(all_of_them) + bytes(4)
    return content[:4] + struct.pack("<L", len(content)) + content[8:] + directory + pool


def place_of_pool(content: bytes, pool: bytes) -> bytes:
    """Where a TIFF's pool begins, as the value of an entry."""
    return struct.pack("<L", len(content) - len(pool))


def is_upright(image: Image.Image, orientation: int) -> bool:
    """Whether an image shows the patches, stored with this orientation, as they should be seen."""
    expected = UPRIGHT[orientation](PATCHES)
    shown = np.asarray(image)
    return shown.shape == expected.shape and float(np.abs(shown.astype(int) - expected).mean()) < 30
