"""What a gallery knows about a picture, and how that is stored."""

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

#: Stored for an unknown time: a time before all others. (Milvus has null only since 2.5.)
UNKNOWN_TIME = -1e18
#: The columns of the database, without the vector.
FIELDS = ["id", "path", "box", "camera", "time", "identity", "source", "attributes"]
#: What `values_of` takes for fields; anything else is an attribute.
_SAID = ("camera", "time", "identity", "source")
#: Stored for an unknown identity or camera; −1 by older versions.
UNKNOWN_LABELS = ("", NOBODY)
#: The most bytes of a text (a path or a label), and of a picture's attributes as JSON. These are the limits
#: of a Milvus server. Milvus Lite takes more, but every gallery accepts the same pictures.
LONGEST_TEXT, LONGEST_ATTRIBUTES = 65_535, 65_536


@dataclass(frozen=True)
class Entry:
    """One picture of a gallery.

    Attributes:
        path: The file, absolute.
        box: The part of the picture that shows the person; None for all of it.
        camera: Name or number of the camera; None if unknown.
        time: When it was taken, in seconds since 1970 (UTC); None if unknown.
        identity: Whom it shows; None if unknown.
        source: Where it comes from: a recording, a delivery, a data set.
        attributes: Anything else, as JSON values by name.
        id: SHA-256 of the file's content (and of the box), hexadecimal; empty until the file has been read.
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
        """The entry as a row of the database, without its vector. Unknown values are "" or `UNKNOWN_TIME`."""
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
            box=_stored_box(row["box"]),
            camera=known_label(row["camera"]),
            time=None if row["time"] in (None, UNKNOWN_TIME) else row["time"],
            identity=known_label(row["identity"]),
            source=row["source"] or None,
            attributes=row["attributes"] if isinstance(row["attributes"], dict) else {},
            id=row["id"],
        )


def _stored_box(text: str) -> Box | None:
    """A stored box. A damaged one counts as none, so that one row cannot spoil a whole answer.

    Its picture is not opened then, because the identifier does not belong to the whole picture.
    """
    try:
        return parse_box(text)
    except InputError:
        return None


def known_label(text: str) -> str | None:
    """A stored camera or identity; None if it is unknown."""
    return None if text in UNKNOWN_LABELS else text


def known(**given: Any) -> dict[str, Any]:
    """Values that describe pictures, in the form of an `Entry`.

    Args:
        given: Any of ``path``, ``camera``, ``time``, ``identity``, ``source`` and ``attributes``.

    Returns:
        The same fields, with None for what is empty: "" and NaN, and −1 for a camera or an identity.

    Raises:
        InputError: A value that cannot be stored, or a field that does not exist.
    """
    return {name: _known(name, value) for name, value in given.items()}


def values_of(texts: Iterable[str], option: str) -> dict[str, Any]:
    """Read ``key=value`` texts that describe pictures, for `known`, `Gallery.add` and `Gallery.update`.

    Args:
        texts: Each names a field (camera, time, identity or source) or any attribute.
        option: Where they come from; messages begin with it.

    Raises:
        InputError: A text is not ``key=value``, or a key is given twice.
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
    """An entry with changes, if all its values can be stored.

    Args:
        entry: The entry.
        changes: Fields as `known` gives them. Attributes are added to the entry's; None removes one.

    Raises:
        InputError: A value cannot be stored, or is too long.
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
    """Bytes of a value as JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def path_to_text(path: Path) -> str:
    """A path as valid Unicode, reversibly: a name that is not valid UTF-8 becomes a ``file://`` address."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates stand for bytes that are not UTF-8
        return path.as_uri()
    return text


def text_to_path(text: str) -> Path:
    """The reverse of `path_to_text`. An absolute path never looks like an address."""
    if text.startswith("file:///"):
        return Path(os.fsdecode(unquote_to_bytes(text.removeprefix("file://"))))
    return Path(text)
