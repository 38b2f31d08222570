"""Uploaded pictures: checked before they are decoded, and remembered for a while."""

import base64
import hashlib
import io
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache
from PIL import Image

from kronreid.data.decoding import decode
from kronreid.data.plain import read_plain
from kronreid.errors import InputError
from kronreid.gallery.entries import Entry, parse_box
from kronreid.gallery.indexing import identified
from kronreid.serve.files import write_once

#: The formats that are accepted, with the endings of stored files.
FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "GIF": ".gif"}
#: Bytes of decoded uploads that are remembered; one has at most 3 * `ENOUGH_PIXELS` of them.
RECENT_BYTES = 64_000_000
#: The most pixels of a thumbnail's height: twice what is shown, so that it is sharp on fine screens. It may
#: be twice as wide.
THUMBNAIL_HEIGHT = 320
QUALITY = 85
#: The longest side of a JPEG.
JPEG_SIDE = 65_500


@dataclass(frozen=True)
class Upload:
    """An uploaded picture.

    Attributes:
        name: The sender's name for it; only for messages.
        content: Its bytes.
        suffix: The file ending of its format.
        entry: Its box and identifier, as in a gallery; the path is only its name.
        image: The person, upright RGB.
    """

    name: str
    content: bytes
    suffix: str
    entry: Entry
    image: Image.Image


def read_upload(name: str, content: bytes, box: str, most_pixels: int) -> Upload:
    """Decode an uploaded picture, if it is harmless.

    Args:
        name: The sender's name for it.
        content: Its bytes.
        box: ``x,y,width,height`` of the person in the upright picture; empty for all of it.
        most_pixels: Larger pictures are refused. Their header tells, before anything is decoded.

    Raises:
        InputError: It is not a picture of an accepted format, damaged or too large, or the box is impossible.
    """
    name = printable_name(name)
    known = Entry(Path(name), box=parse_box(box))
    decoded = decode(content, name, [known.box], FORMATS, most_pixels)
    (picture,) = decoded.crops
    if isinstance(picture, InputError):
        raise picture
    suffix = FORMATS.get(decoded.kind, ".jpg")  # a camera's MPO file is a JPEG followed by more data
    return Upload(name, content, suffix, identified([known], content)[0], picture)


def printable_name(name: str) -> str:
    """A sender's file name as a message shows it: short, on one line, without folders."""
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(c if c.isprintable() else "?" for c in last).strip()
    return shown[:80] or "picture"


def jpeg(image: Image.Image, quality: int = QUALITY) -> bytes:
    """A picture as JPEG."""
    buffer = io.BytesIO()
    if max(image.size) > JPEG_SIDE:
        image = image.copy()
        image.thumbnail((JPEG_SIDE, JPEG_SIDE))
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def thumbnail(image: Image.Image) -> Image.Image:
    """A small copy for lists."""
    small = image.copy()
    small.thumbnail((2 * THUMBNAIL_HEIGHT, THUMBNAIL_HEIGHT))
    return small


def data_address(content: bytes, kind: str) -> str:
    """Bytes as a ``data:`` address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def file_of(folder: Path, upload: Upload) -> Path:
    """Where an upload is stored: under the hash of its content."""
    return folder / (hashlib.sha256(upload.content).hexdigest() + upload.suffix)


def keep(path: Path, upload: Upload) -> Path:
    """Store an upload's bytes, once; returns the file. A file that has another content is replaced.

    Raises:
        OSError: It cannot be stored.
    """
    with suppress(OSError):
        if read_plain(path, follow=False) != upload.content:
            path.unlink()
    return write_once(path, upload.content)


class Recent:
    """The pictures that were uploaded last, by identifier: a later request need not send them again.

    The identifiers do not follow from the pictures, so that nobody can ask whether a picture was uploaded.
    """

    def __init__(self, most_bytes: int = RECENT_BYTES) -> None:
        self._images: LRUCache[str, Image.Image] = LRUCache(
            most_bytes, getsizeof=lambda image: 3 * image.width * image.height
        )
        self._lock = threading.Lock()

    def put(self, id: str, image: Image.Image) -> None:
        """Remember a picture, upright RGB. The pictures that were used least recently are forgotten."""
        with self._lock:
            self._images[id] = image

    def get(self, id: str) -> Image.Image | None:
        """Its picture, upright RGB; None if it is forgotten."""
        with self._lock:
            return self._images.get(id)
