"""Which entries are meant: conditions given as values, never as text of an expression.

The database takes one expression in a small language. It is put together here and nowhere else, from
literals that `quote` wrote, so that no value can end its literal and become part of the expression.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from kronreid.errors import InputError
from kronreid.gallery.entries import UNKNOWN_TIME, path_to_text

Time: TypeAlias = float | str | datetime
Scalar: TypeAlias = str | int | float | bool

#: Whole numbers of the database have 64 bits.
LARGEST = 2**63 - 1

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


@dataclass(frozen=True)
class Selection:
    """Conditions that must all hold; without any, every entry is meant.

    Attributes:
        id: An identifier, or several.
        path: A file, or a folder and everything below it.
        camera: A camera, or several of which one must fit.
        identity: A person, or several.
        source: A source, or several.
        since: Taken at this time or later: seconds since 1970, an ISO date or time, or a datetime. An entry
            without a time meets no condition on time.
        until: Taken at this time or earlier; a date without a time of day means its end.
        where: Attributes and the values they must have. Text that reads as a number or as true or false also
            meets that value: a command line has nothing but text.
    """

    path: str | PathLike[str] | None = None
    camera: Scalar | Sequence[Scalar] | None = None
    identity: Scalar | Sequence[Scalar] | None = None
    source: Scalar | Sequence[Scalar] | None = None
    since: Time | None = None
    until: Time | None = None
    where: Mapping[str, Scalar] = field(default_factory=dict)
    id: str | Sequence[str] | None = None

    def expression(self) -> str:
        """The conditions in the database's language; empty without any.

        Raises:
            InputError: A value that cannot be a condition: a time, or an attribute that is no scalar.
        """
        parts = []
        if self.path is not None:
            parts.append(_below(Path(self.path).absolute()))
        for name in ("id", "camera", "identity", "source"):
            wanted = getattr(self, name)
            if wanted is not None:
                several = [wanted] if isinstance(wanted, Scalar) else wanted
                parts.append(f"{name} in [{', '.join(quote(str(value)) for value in several)}]")
        if self.since is not None or self.until is not None:
            parts.append(f"time > {quote(UNKNOWN_TIME)}")
        if self.since is not None:
            parts.append(f"time >= {quote(parse_time(self.since))}")
        if self.until is not None:
            parts.append(f"time <= {quote(parse_time(self.until, end_of_day=True))}")
        for key, value in self.where.items():
            if not isinstance(value, Scalar):
                raise InputError(
                    f"where {key}: text, a number or true/false expected, got {type(value).__name__}"
                )
            wanted = [value, *_read(value)] if isinstance(value, str) else [value]
            parts.append(" or ".join(f"attributes[{quote(key)}] == {quote(one)}" for one in wanted))
        return " and ".join(f"({part})" for part in parts)


def selection_of(where: Mapping[str, Scalar] | None = None, **conditions: Any) -> Selection:
    """A selection whose `where` may also name the fields identity and source."""
    where = dict(where or {})
    for name in ("identity", "source"):
        if name in where:
            conditions[name] = where.pop(name)
    return Selection(where=where, **conditions)


def _read(text: str) -> list[Scalar]:
    """What else the text may mean: a finite number, true or false."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if isinstance(value, int) and abs(value) > LARGEST:
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
            raise InputError(f"{value}: a finite number expected in a filter, of 64 bits where it is whole")
        return repr(value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{value!r}: not valid Unicode, cannot be filtered by") from None
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


def parse_time(value: Time, end_of_day: bool = False) -> float:
    """Seconds since 1970.

    Args:
        value: Seconds, ISO 8601 text or a datetime; without a zone it is taken as UTC.
        end_of_day: A date without a time of day means its last moment instead of its first.

    Raises:
        InputError: Text that is neither.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            try:
                return parse_time(float(value))
            except ValueError:
                raise InputError(
                    f"time {value!r}: 2024-05-01, 2024-05-01T13:45:00+02:00 or seconds since 1970 expected"
                ) from None
        if end_of_day and len(value.strip()) == len("2024-05-01"):
            moment = moment.replace(hour=23, minute=59, second=59, microsecond=999999)
        return parse_time(moment)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    try:
        datetime.fromtimestamp(value, timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise InputError(
            f"time {value}: seconds since 1970 in the years 1 to 9999 expected; milliseconds are too many"
        ) from None
    return float(value)


def format_time(seconds: float | None) -> str:
    """ISO 8601 in UTC; empty for None."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat() if seconds is not None else ""
