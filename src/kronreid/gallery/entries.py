"""What a gallery knows about a picture, and how it is kept."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from kronreid.data.records import Box, format_box, parse_box
from kronreid.data.values import NOBODY, attributes, label, moment, pairs, picture_path, read_box
from kronreid.errors import InputError

#: What the database holds where the time of a picture is unknown: long before anything. (A null would do, but
#: servers before Milvus 2.5 have none.)
UNKNOWN_TIME = -1e18
#: The columns of the database, but for the vector.
FIELDS = ["id", "path", "box", "camera", "time", "identity", "source", "attributes"]
#: The fields that `values_of` tells from attributes.
_SAID = ("camera", "time", "identity", "source")
#: What the database holds where the identity or the camera is not known; older versions stored −1.
UNKNOWN_LABELS = ("", NOBODY)
#: The most bytes that a text (a path or a label) may have, and the attributes of a picture as JSON. These are
#: the limits of a Milvus server. Milvus Lite would take more, but both have to take the same pictures.
LONGEST_TEXT, LONGEST_ATTRIBUTES = 65_535, 65_536


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
            camera=known_label(row["camera"]),
            time=None if row["time"] in (None, UNKNOWN_TIME) else row["time"],
            identity=known_label(row["identity"]),
            source=row["source"] or None,
            attributes=row["attributes"] or {},
            id=row["id"],
        )


def known_label(text: str) -> str | None:
    """A camera or an identity of the database; None where it is not known."""
    return None if text in UNKNOWN_LABELS else text


def known(**given: Any) -> dict[str, Any]:
    """What is said of pictures, as an `Entry` has it.

    Args:
        given: Any of ``path``, ``camera``, ``time``, ``identity``, ``source`` and ``attributes``.

    Returns:
        The same fields, with None for what is empty: "" and NaN, and −1 for a camera or an identity.

    Raises:
        InputError: A value that cannot be stored, or a field that does not exist.
    """
    return {name: _known(name, value) for name, value in given.items()}


def values_of(texts: Iterable[str], option: str) -> dict[str, Any]:
    """What ``key=value`` texts say of pictures, as `known`, `Gallery.add` and `Gallery.update` take it.

    Args:
        texts: Each names a field (camera, time, identity or source) or any attribute.
        option: Where they come from; messages begin with it.

    Raises:
        InputError: One is not ``key=value``, or a key stands twice.
    """
    given = pairs(texts, option)
    fields: dict[str, Any] = {key: given.pop(key) for key in _SAID if key in given}
    return fields | ({"attributes": given} if given else {})


def _known(name: str, value: Any) -> Any:
    if name == "path":
        return picture_path(value).absolute()
    if name == "time":
        return moment(value)
    if name == "attributes":
        found = attributes(value)
        taken = sorted(found.keys() & set(FIELDS))
        if taken:
            raise InputError("attributes", f"{taken[0]} is the name of a field; choose another name")
        return found
    if name == "source":
        return label(value, name)
    if name in ("camera", "identity"):
        return known_label(label(value, name) or "")
    raise InputError(name, "no such field; one of path, camera, time, identity, source, attributes")


def checked(entry: Entry, changes: Mapping[str, Any]) -> Entry:
    """An entry with changes in place, if all that it says can be stored.

    Args:
        entry: Of whatever origin.
        changes: Fields as `known` gives them; attributes are added to the entry's, or taken away by None.

    Raises:
        InputError: A value of the entry cannot be stored, or is too long.
    """
    more = ("path", "camera", "time", "identity", "source")
    own = known(**{name: getattr(entry, name) for name in more if name not in changes})
    merged = attributes(entry.attributes) | changes.get("attributes", {})
    kept = {name: value for name, value in merged.items() if value is not None}
    found = replace(entry, box=read_box(entry.box), **{**own, **changes, "attributes": kept})
    for name, value in found.to_row().items():
        length = len(value.encode()) if isinstance(value, str) else 0
        if length > LONGEST_TEXT:
            raise InputError(name, f"{length:,} bytes are more than the {LONGEST_TEXT:,} allowed")
    size = _size(kept)
    if size > LONGEST_ATTRIBUTES:
        largest = max(kept, key=lambda name: _size(kept[name]))
        raise InputError(
            "attributes",
            f"{size:,} bytes are more than the {LONGEST_ATTRIBUTES:,} allowed for a picture; "
            f"{largest} is the largest",
        )
    return found


def _size(value: Any) -> int:
    """Of a value as JSON, in bytes."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


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
