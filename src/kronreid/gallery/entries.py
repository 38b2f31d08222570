"""What a gallery knows about a picture, and how a file's name is kept as text."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from kronreid.data.records import Box, format_box, parse_box

#: What the database holds where the time of a picture is unknown: long before anything. (A null would do, but
#: servers before Milvus 2.5 have none.)
UNKNOWN_TIME = -1e18


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
        """The entry as a row of the database, without its vector; empty or `UNKNOWN_TIME` where unknown."""
        return {
            "id": self.id,
            "path": path_to_text(self.path),
            "box": format_box(self.box),
            "camera": self.camera or "",
            "time": UNKNOWN_TIME if self.time is None else self.time,
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
            time=None if row["time"] in (None, UNKNOWN_TIME) else row["time"],
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
