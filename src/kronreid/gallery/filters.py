"""Which entries are meant: conditions given as values, never as text of an expression.

The database takes one expression in a small language. It is put together here and nowhere else, from
literals that `quote` wrote, so that no value can end its literal and become part of the expression.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from kronreid.data.values import LARGEST, Time, attribute, attribute_name, label, moment, picture_path
from kronreid.errors import InputError
from kronreid.gallery.entries import UNKNOWN_LABELS, UNKNOWN_TIME, known_label, path_to_text

Scalar: TypeAlias = str | int | float | bool

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


#: What `Selection.where` may name besides attributes.
_FIELDS = ("id", "path", "camera", "identity", "source")
#: What it may not name, and what to do instead.
_NO_CONDITIONS = {
    "time": "is asked for by since and until (--since, --until)",
    "box": "cannot be asked for",
    "attributes": "name the attribute itself",
}


@dataclass(frozen=True)
class Selection:
    """Conditions that must all hold; without any, every entry is meant.

    A value means what is stored for it: see `kronreid.data.values`. An empty value ("" or NaN, also None in a
    list or in `where`) means entries of which it is not known, and so does a camera or identity of −1.

    Attributes:
        path: A file, or a folder and everything below it.
        camera: A camera, or several of which one must fit.
        identity: A person, or several.
        source: A source, or several.
        since: Taken at this time or later: seconds since 1970, an ISO date or time, or a datetime. An entry
            without a time meets no condition on time.
        until: Taken at this time or earlier; a date without a time of day means its end.
        where: Attributes, or any of id, path, camera, identity and source, and the values they must have.
        id: An identifier, or several.
    """

    path: str | PathLike[str] | None = None
    camera: Scalar | Sequence[Scalar | None] | None = None
    identity: Scalar | Sequence[Scalar | None] | None = None
    source: Scalar | Sequence[Scalar | None] | None = None
    since: Time | None = None
    until: Time | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    id: str | Sequence[str] | None = None

    def expression(self) -> str:
        """The conditions in the database's language; empty without any.

        Raises:
            InputError: A value that cannot be a condition: a time, or an attribute that is no scalar.
        """
        parts = [_field(name, getattr(self, name)) for name in _FIELDS if getattr(self, name) is not None]
        if self.since is not None or self.until is not None:
            parts.append(f"time > {quote(UNKNOWN_TIME)}")
        if self.since is not None:
            parts.append(f"time >= {quote(_moment('since', self.since))}")
        if self.until is not None:
            parts.append(f"time <= {quote(_moment('until', self.until))}")
        for key, value in self.where.items():
            if key in _NO_CONDITIONS:
                raise InputError(f"where {key}", _NO_CONDITIONS[key])
            parts.append(_field(key, value) if key in _FIELDS else _attribute(key, value))
        return " and ".join(f"({part})" for part in parts)


def _field(name: str, wanted: Any) -> str:
    """One of the columns of text."""
    if name == "path":
        return _below(picture_path(wanted).absolute())
    one = isinstance(wanted, str | bytes | Mapping) or not isinstance(wanted, Iterable)
    several = [wanted] if one else list(wanted)
    if not several:
        raise InputError(name, "an empty list; leave it out to mean everything")
    texts: set[str] = set()
    for value in several:
        text = label(value, name) or ""
        if name in ("camera", "identity") and known_label(text) is None:
            texts.update(UNKNOWN_LABELS)
        else:  # as it is, too: older versions stored what they were given
            texts.update([text, value] if isinstance(value, str) else [text])
    return f"{name} in [{', '.join(quote(text) for text in sorted(texts))}]"


def _attribute(key: str, value: Any) -> str:
    """An attribute, by every form in which it may be stored."""
    place = f"attributes[{quote(attribute_name(key))}]"
    wanted = attribute(value, f"where {key}")
    if wanted is None:
        return f'(not (exists {place})) or {place} == ""'
    if not isinstance(wanted, Scalar):
        raise InputError(f"where {key}", f"text, a number or true/false expected, got {type(value).__name__}")
    # Older versions stored numbers of a CSV file as the text that they were, and Parquet may have the number
    # 1.1 where CSV has the text 1.10.
    forms = [quote(wanted), quote(label(value) or "")]
    if isinstance(value, str):
        forms += [quote(value), *map(quote, _number(value))]
    return " or ".join(f"{place} == {form}" for form in dict.fromkeys(forms))


def _moment(name: str, value: Time) -> float:
    found = moment(value, end_of_day=name == "until")
    if found is None:
        raise InputError(f"{name} {value!r}", "a time expected")
    return found


def _number(text: str) -> list[Scalar]:
    """The finite number that the text may also mean, however it is written."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) > LARGEST):
        return []
    return [value] if isinstance(value, int | float) and math.isfinite(value) else []


def quote(value: Scalar) -> str:
    """A value as a literal of the database's language.

    Raises:
        InputError: Not a finite number, or text that is no valid Unicode.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if not (abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)):
            raise InputError(value, "a finite number expected in a filter, of 64 bits where it is whole")
        return repr(value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{value!r}", "not valid Unicode, cannot be filtered by") from None
    return f'"{value.translate(_ESCAPES)}"'


def _below(path: Path) -> str:
    """The path itself or anything below it: "/" is followed by "0", so two comparisons find a folder's
    content, and no pattern needs escaping. Names that are no UTF-8 are stored otherwise: see `path_to_text`.
    """
    forms = {path_to_text(path), path.as_uri()}
    found = []
    for form in sorted(forms):
        stem = form.rstrip("/")
        found += [f"path == {quote(form)}", f"path >= {quote(stem + '/')} and path < {quote(stem + '0')}"]
    return " or ".join(f"({part})" for part in found)


def format_time(seconds: float | None) -> str:
    """ISO 8601 in UTC; empty for None."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat() if seconds is not None else ""
