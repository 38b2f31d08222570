"""Which entries of a gallery are meant: one type for the command line, the web API, the page and Python.

A `Selection` holds values as the user gave them. `Selection.conditions` reads them into a few plain types,
which each database renders in its own query language.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from os import PathLike
from typing import Any, Literal, TypeAlias, cast

from kronreid.data.values import LARGEST, Time, attribute, attribute_name, label, moment, picture_path
from kronreid.errors import InputError
from kronreid.gallery.entries import UNKNOWN_LABELS, UNKNOWN_TIME, known_label, path_to_text

Scalar: TypeAlias = str | int | float | bool

#: What `Selection.where` may name besides attributes.
_FIELDS = ("id", "path", "camera", "identity", "source")
#: What it may not name, and what to do instead.
_NO_CONDITIONS = {
    "time": "is asked for by since and until (--since, --until)",
    "box": "cannot be asked for",
    "attributes": "name the attribute itself",
}


@dataclass(frozen=True)
class OneOf:
    """The field (id, camera, identity or source) holds one of these texts."""

    field: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Below:
    """The path is one of these texts, or lies below one of them."""

    paths: tuple[str, ...]

    @property
    def ranges(self) -> list[tuple[str, str, str]]:
        """Each path itself, and the bounds (included, not included) of what lies below it.

        "/" is followed by "0", so two comparisons find what is in a folder, and no pattern needs escaping.
        """
        stems = [path.rstrip("/") for path in self.paths]
        return [(path, stem + "/", stem + "0") for path, stem in zip(self.paths, stems)]


@dataclass(frozen=True)
class Taken:
    """The time is known and lies between these bounds, both included; None is no bound."""

    since: float | None
    until: float | None

    @property
    def bounds(self) -> list[tuple[str, float]]:
        """The comparisons that the stored time must meet: ``time sign number``."""
        given = [(">=", self.since), ("<=", self.until)]
        return [(">", UNKNOWN_TIME), *((sign, bound) for sign, bound in given if bound is not None)]


@dataclass(frozen=True)
class HasValue:
    """The attribute has one of these values; without values: it is missing or empty."""

    name: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Compared:
    """The attribute is a number for which ``attribute sign number`` holds."""

    name: str
    sign: Literal["<", "<=", ">", ">="]
    number: int | float


Condition: TypeAlias = OneOf | Below | Taken | HasValue | Compared

#: ``key sign value``, as `conditions_of` reads it. The first sign of the text counts.
_CONDITION = re.compile(r"(?P<key>[^<>=]*)(?P<sign><=|>=|<|>|=)(?P<value>.*)", re.DOTALL)
_COMPARISON = re.compile(r"(?P<name>.*?)\s*(?P<sign><=|>=|<|>)", re.DOTALL)


@dataclass(frozen=True)
class Selection:
    """Conditions that must all hold. A selection without conditions means every entry.

    Values are compared as they are stored: see `kronreid.data.values`. An empty value ("" or NaN; in a list
    or in `where` also None) finds the entries whose value is unknown. For a camera or an identity, −1 does
    too.

    Attributes:
        path: A file, or a folder and everything below it.
        camera: One camera, or several of which one must match.
        identity: One person, or several.
        source: One source, or several.
        since: Taken at this time or later: seconds since 1970, an ISO date or time, or a datetime. An entry
            without a time meets no condition on time.
        until: Taken at this time or earlier. A date without a time of day includes the whole day.
        where: Attributes, or any of id, path, camera, identity and source, and the values they must have. A
            name that ends in <, <=, > or >= compares an attribute with a number: ``{"track>=": 10}``. An
            attribute that is not a number meets no comparison.
        id: One identifier, or several.
    """

    path: str | PathLike[str] | None = None
    camera: Scalar | Sequence[Scalar | None] | None = None
    identity: Scalar | Sequence[Scalar | None] | None = None
    source: Scalar | Sequence[Scalar | None] | None = None
    since: Time | None = None
    until: Time | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    id: str | Sequence[str] | None = None

    def conditions(self) -> list[Condition]:
        """The conditions, with their values as they are stored; an empty list means every entry.

        Raises:
            InputError: A value cannot be a condition, such as a time that is none.
        """
        found = [_field(name, getattr(self, name)) for name in _FIELDS if getattr(self, name) is not None]
        if self.since is not None or self.until is not None:
            found.append(Taken(_moment("since", self.since), _moment("until", self.until)))
        for key, value in self.where.items():
            compared = _COMPARISON.fullmatch(key) if isinstance(key, str) else None
            name = compared["name"] if compared else key
            if name in _NO_CONDITIONS:
                raise InputError(f"where {name}", _NO_CONDITIONS[name])
            if compared:
                found.append(_comparison(name, compared["sign"], value))
            else:
                found.append(_field(key, value) if key in _FIELDS else _attribute(key, value))
        return found


def conditions_of(texts: Iterable[str], option: str) -> dict[str, str]:
    """Read ``key=value``, ``key>=value`` and the like, as `Selection.where` takes them.

    Args:
        texts: The texts. The key ends at the first ``=``, ``<`` or ``>``.
        option: Where they come from; messages begin with it.

    Raises:
        InputError: A text has another form, or a key is given twice with the same sign.
    """
    found: dict[str, str] = {}
    for text in texts:
        parts = _CONDITION.fullmatch(text)
        if parts is None or not parts["key"].strip():
            raise InputError(f"{option} {text!r}", "must be key=value, or key>=value with <, <=, > or >=")
        key = parts["key"].strip() + ("" if parts["sign"] == "=" else parts["sign"])
        if key in found:
            raise InputError(f"{option} {key}", "is given twice")
        found[key] = parts["value"]
    return found


def must_be_unicode(text: str) -> None:
    """Check a text of a condition, before an engine writes it as a literal.

    Raises:
        InputError: It is not valid Unicode, like a file's name that is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{text!r}", "is not valid Unicode; no filter can contain it") from None


#: Every entry.
EVERYTHING = Selection()


def _field(name: str, wanted: Any) -> Condition:
    """A condition on one of `_FIELDS`."""
    if name == "path":
        path = picture_path(wanted).absolute()
        return Below(tuple(sorted({path_to_text(path), path.as_uri()})))
    one = isinstance(wanted, str | bytes | Mapping) or not isinstance(wanted, Iterable)
    several = [wanted] if one else list(wanted)
    if not several:
        raise InputError(name, "an empty list; leave it out to mean everything")
    texts: set[str] = set()
    for value in several:
        text = label(value, name) or ""
        if name in ("camera", "identity") and known_label(text) is None:
            texts.update(UNKNOWN_LABELS)
        else:  # the text as given as well: older versions stored it like that
            texts.update([text, value] if isinstance(value, str) else [text])
    return OneOf(name, tuple(sorted(texts)))


def _attribute(key: str, value: Any) -> Condition:
    """A condition on an attribute, with every form in which the value may be stored."""
    name = attribute_name(key)
    wanted = attribute(value, f"where {key}")
    if wanted is None:
        return HasValue(name, ())
    if not isinstance(wanted, Scalar):
        raise InputError(f"where {key}", f"text, a number or true/false expected, got {type(value).__name__}")
    # Older versions stored a CSV file's numbers as text, and Parquet may have the number 1.1 where CSV has
    # the text 1.10.
    forms: list[Scalar] = [wanted, label(value) or ""]
    if isinstance(value, str):
        forms += [value, *_number(value)]
    return HasValue(name, tuple(forms))


def _comparison(key: str, sign: str, value: Any) -> Compared:
    """A condition that compares an attribute with a number."""
    what = f"where {key}{sign}"
    if key in _FIELDS:
        raise InputError(what, f"{key} is text; only attributes that are numbers can be compared")
    number = attribute(value, what)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InputError(f"{what}{value}", "only numbers can be compared")
    return Compared(attribute_name(key), cast(Any, sign), number)


def _moment(name: str, value: Time | None) -> float | None:
    found = moment(value, end_of_day=name == "until")
    if found is None and value is not None:
        raise InputError(f"{name} {value!r}", "a time expected")
    return found


def _number(text: str) -> list[Scalar]:
    """The finite number that the text stands for, if any, however it is written."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) > LARGEST):
        return []
    return [value] if isinstance(value, int | float) and math.isfinite(value) else []


def format_time(seconds: float | None) -> str:
    """ISO 8601 in UTC; empty for None."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat() if seconds is not None else ""
