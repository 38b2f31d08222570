"""What a gallery knows about a picture, and how a file's name is kept as text."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

from kronreid.errors import InputError

#: Left, top, width, height in pixels of the upright picture.
Box: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Entry:
    """One picture of a gallery.

    Attributes:
        path: The file, absolute.
        box: The part of the file that shows the person; None for all of it.
        camera: Name or number of the camera; None where unknown.
        time: When it was taken, in seconds since 1970 (UTC); None where unknown.
        identity: Who it shows; None where unknown.
        source: Where it came from: a recording, a delivery, a data set.
        attributes: Anything else, as JSON values by name.
        id: SHA-256 of the file's content (and of the box), hexadecimal; empty before the file has been read.
    """

    path: Path
    box: Box | None = None
    camera: str | None = None
    time: float | None = None
    identity: str | None = None
    source: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    id: str = ""

    def to_row(self) -> dict[str, Any]:
        """The entry as a row of the database, without its vector; what is unknown is empty text or null."""
        return {
            "id": self.id,
            "path": path_to_text(self.path),
            "box": format_box(self.box),
            "camera": self.camera or "",
            "time": self.time,
            "identity": self.identity or "",
            "source": self.source or "",
            "attributes": self.attributes,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Entry":
        """The reverse of `to_row`."""
        return cls(
            path=text_to_path(row["path"]),
            box=parse_box(row["box"]),
            camera=row["camera"] or None,
            time=row["time"],
            identity=row["identity"] or None,
            source=row["source"] or None,
            attributes=row["attributes"] or {},
            id=row["id"],
        )


def path_to_text(path: Path) -> str:
    """A path as valid Unicode, reversibly: a name whose bytes are no UTF-8 becomes a ``file://`` address."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:  # the lone surrogates that stand for such bytes
        return path.as_uri()
    return text


def text_to_path(text: str) -> Path:
    """The reverse of `path_to_text`; absolute paths cannot be mistaken for an address."""
    if text.startswith("file:///"):
        return Path(os.fsdecode(unquote_to_bytes(text.removeprefix("file://"))))
    return Path(text)


def format_box(box: Box | None) -> str:
    """``x,y,width,height``; empty for none."""
    return ",".join(map(str, box)) if box else ""


def parse_box(text: str) -> Box | None:
    """The reverse of `format_box`.

    Raises:
        InputError: Not four whole numbers, or no area.
    """
    if not text:
        return None
    try:
        left, top, width, height = (round(float(part)) for part in text.split(","))
    except (ValueError, OverflowError):
        raise InputError(
            f"box {text!r}: four numbers expected, like 10,20,64,128 (x,y,width,height)"
        ) from None
    if width <= 0 or height <= 0:
        raise InputError(f"box {text!r}: width and height must be positive")
    return left, top, width, height
