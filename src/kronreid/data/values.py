"""Normalising values from all sources: CSV and Parquet lists, COCO, options, requests and Python.

CSV and the command line have only text. Parquet and Python have types. pandas writes 1.0 for 1 in a column
with gaps. The same thing must become the same value everywhere; otherwise filters do not find it. `label`
reads cameras, identities and sources, `moment` reads times, and `attribute` reads everything else.
docs/gallery.md has the table.
"""

import math
import os
import re
import reprlib
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from os import PathLike
from pathlib import Path, PurePath
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np

from kronreid.data.records import Box, parse_box
from kronreid.errors import InputError

Time: TypeAlias = float | str | date | datetime

#: The largest integer that a database stores (64 bits).
LARGEST = 2**63 - 1
#: Maximum nesting of lists and objects: more than needed, but less than a JSON parser can read.
DEEPEST = 64
#: The label of an unknown identity or camera in lists of data sets.
NOBODY = "-1"

#: JSON writes true, Python and pandas write True, and spreadsheets write TRUE. pyarrow writes -0.0 as -0.
_WORDS: dict[str, bool | int] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    "-0": 0,
}
#: The sides of a box. The names w and h may also be width and height.
SIDES = {"x": "x", "y": "y", "w": "width", "h": "height", "width": "width", "height": "height"}
_LONGEST_DECIMAL = 400
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60

#: The most characters of a person's name.
LONGEST_NAME = 200


def label(value: Any, name: str = "label") -> str | None:
    """A camera, an identity or a source as text: 7, 7.0, Decimal("7") and "7.0" all become "7".

    Args:
        value: Text, a number, a boolean, a date or a time, or bytes of UTF-8 text.
        name: Name of the value in error messages.

    Returns:
        The text without surrounding white space; None for empty values: None, "", NaN and NaT.

    Raises:
        InputError: The value is something else, such as a list or infinity.
    """
    found = attribute(value, name)
    if isinstance(found, list | dict):
        raise InputError(f"{name} {shown(value)}", "must be text or a number")
    if isinstance(found, bool):
        return "true" if found else "false"
    return found if found is None or isinstance(found, str) else repr(found)


def attribute(value: Any, name: str = "attribute") -> Any:
    """Convert a value to a JSON value.

    Text that is the usual spelling of a number or a boolean becomes one: "7", "7.0", "0.5" and "True", but
    not "007", "1.10" or "1e3". Whole floats become integers. Dates and times become ISO 8601 text. Durations
    become seconds.

    Args:
        value: Anything that `label` takes, or lists, arrays and mappings of such values. Text inside them is
            not converted.
        name: Name of the value in error messages.

    Returns:
        Text, a number, a boolean, a list, a dict, or None for empty values: None, "", NaN and NaT. Integers
        beyond 64 bits become text.

    Raises:
        InputError: The value is infinite, is not valid Unicode, or has another type.
    """
    plain = _plain(value, name)
    return _read(plain.strip()) if isinstance(plain, str) else plain


def attributes(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes by name, each converted by `attribute`.

    Raises:
        InputError: A value cannot be stored, or a name is empty, has control characters or occurs twice.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"attributes {shown(given)}", "must be names with values")
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = attribute_name(key)
        if name in found:
            raise InputError("attributes", f"{name} is given twice")
        found[name] = attribute(value, f"attributes: {name}")
    return found


def attribute_name(key: Any) -> str:
    """The name of an attribute without surrounding white space.

    Raises:
        InputError: The name is empty, or has characters that database queries cannot contain.
    """
    name = (_text(key, "attributes:") if isinstance(key, str) else label(key, "attributes:") or "").strip()
    if not name:
        raise InputError("attributes", "a name is empty")
    if any(sign < " " and sign not in "\t\n\r" for sign in name):
        raise InputError("attributes", f"{shown(name)} has control characters in its name")
    return name


def moment(value: Any, end_of_day: bool = False) -> float | None:
    """Convert a time to seconds since 1970 (UTC).

    Args:
        value: Seconds, ISO 8601 text, a date, or a datetime of Python, pandas or numpy. A datetime without a
            time zone is UTC.
        end_of_day: A date without a time of day means its last moment instead of its first.

    Returns:
        The seconds; None for empty values: None, "", NaN and NaT.

    Raises:
        InputError: The value is something else, or a time outside the years 1 to 9999.
    """
    if isinstance(value, np.datetime64):
        value = _calendar(value, "time")
    if isinstance(value, timedelta | np.timedelta64) and value == value:  # other than NaT
        raise InputError(f"time {shown(value)}", "is a duration; give a date and a time")
    if not isinstance(value, date):
        value = attribute(value, "time")
        if isinstance(value, str):
            value = _time_of(value)
    if value is None or value != value:  # NaT is a datetime that does not equal itself
        return None
    if isinstance(value, date):
        if not isinstance(value, datetime):
            value = datetime.combine(value, time.max if end_of_day else time.min)
        seconds = (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
        if _reads_as_date(seconds):
            text = f"{seconds:.0f}"
            raise InputError(f"time {text}", f"looks like a date; write {text[:4]}-{text[4:6]}-{text[6:]}")
    else:
        raise InputError(f"time {shown(value)}", "must be a date and a time, or seconds since 1970")
    try:
        datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise InputError(
            f"time {shown(value)}",
            "lies outside the years 1 to 9999; give seconds since 1970, not milliseconds",
        ) from None
    return seconds


def picture_path(value: Any) -> Path:
    """The path of a picture, from text, bytes or a path. Bytes that are not UTF-8 are kept (surrogateescape).

    Raises:
        InputError: The value is empty or something else, or no file can have this name.
    """
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    if is_absent(value):
        raise InputError("path", "is empty")
    if not isinstance(value, str | PathLike):
        raise InputError(f"path {shown(value)}", "must be text")
    path = Path(value)
    with suppress(UnicodeEncodeError):  # a surrogate that does not stand for a byte
        if b"\0" not in os.fsencode(path):
            return path
    raise InputError(f"path {shown(value)}", "no file can have this name")


def read_box(value: Any) -> Box | None:
    """Read a box.

    Args:
        value: Text (``x,y,width,height``), four numbers, or a mapping with the names of `SIDES`; in pixels.

    Returns:
        The box; None for empty values.

    Raises:
        InputError: The value is not four numbers, or the box has no area.
    """
    plain = _plain(value, "box")
    if isinstance(plain, dict):
        given = {SIDES[name]: side for name, side in plain.items() if name in SIDES and side != ""}
        missing = [side for side in ("x", "y", "width", "height") if side not in given]
        if given and missing:
            raise InputError("box", f"has {', '.join(given)}, but not {', '.join(missing)}")
        plain = [given[side] for side in ("x", "y", "width", "height")] if given else None
    if plain is None or plain == "":
        return None
    if isinstance(plain, list):
        if len(plain) != 4:
            raise InputError(f"box {shown(value)}", "must be four numbers (x, y, width, height)")
        plain = ",".join(map(str, plain))
    return parse_box(str(plain))


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """Parse ``key=value`` texts.

    Args:
        texts: The texts.
        option: Name of the option in error messages.

    Returns:
        The values by key.

    Raises:
        InputError: A text has another form, or a key occurs twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not key or not equals:
            raise InputError(f"{option} {text!r}", "must be key=value")
        if key in found:
            raise InputError(f"{option} {key}", "is given twice")
        found[key] = value
    return found


def is_absent(value: Any) -> bool:
    """Whether a value is empty: None, "", NaN or NaT."""
    if isinstance(value, float | date | timedelta | np.generic):
        return bool(value != value)
    return value is None or (isinstance(value, str | bytes) and not value) or _is_na(value)


def shown(value: object) -> str:
    """A value as text for a message: on one line and shortened."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except ValueError:  # Python refuses to print a number of thousands of digits
        return f"of type {type(value).__name__}"


def _is_na(value: Any) -> bool:
    """Whether a value is pandas' NA, which only exists if pandas is imported."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and value is getattr(pandas, "NA", pandas)


def _plain(value: Any, name: str, depth: int = 0) -> Any:
    """A value in JSON's types; text stays text. None for NaN, NaT and NA."""
    if value is None or _is_na(value):
        return None
    if isinstance(value, str | bytes | bytearray | memoryview):
        return _text(value, name)
    if isinstance(value, np.timedelta64):  # a subclass of numpy's integers, so test it first
        return _number(_seconds(value, name), name)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return _whole(int(value), name)
    if isinstance(value, float):
        return _number(float(value), name)
    if isinstance(value, np.floating):  # by way of its text, so that a 32-bit 0.1 becomes 0.1
        return _number(float(str(value)), name)
    if isinstance(value, Decimal):
        return _decimal(value, name)
    if isinstance(value, np.datetime64):
        value = _calendar(value, name)
    if is_absent(value):
        return None
    if isinstance(value, datetime):
        return datetime.isoformat(value)  # pandas' own isoformat would add nanoseconds
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _number(value.total_seconds(), name)
    if isinstance(value, UUID | PurePath):
        return _text(str(value), name)
    if depth == DEEPEST:
        raise InputError(name, f"lists and objects are nested deeper than {DEEPEST} levels")
    if isinstance(value, Mapping):
        return _object(value, name, depth + 1)
    if isinstance(value, np.ndarray) and not value.ndim:
        return _plain(value[()], name, depth + 1)
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one, name, depth + 1) for one in value]
    raise InputError(
        f"{name} {shown(value)}", "must be text, a number, true/false, a date, a time, a list or an object"
    )


def _object(given: Mapping[Any, Any], name: str, depth: int) -> dict[str, Any]:
    """A mapping as a JSON object, without empty values, since Parquet has every field in every row."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        text = _text(key, name) if isinstance(key, str) else label(key, name) or ""
        if text in found:
            raise InputError(name, f"{shown(text)} is given twice")
        plain = _plain(value, name, depth)
        if plain is not None:
            found[text] = plain
    return found


def _text(value: str | bytes | bytearray | memoryview, name: str) -> str:
    try:
        text = str.__str__(value) if isinstance(value, str) else bytes(value).decode()
        text.encode()
    except UnicodeError:
        raise InputError(f"{name} {shown(value)}", "is not valid Unicode (UTF-8)") from None
    return text


def _read(text: str) -> str | int | float | None:
    """The number or boolean that a text spells, otherwise the text; None for empty text."""
    if not text:
        return None
    if text in _WORDS:
        return _WORDS[text]
    if not (text[0] in "-0123456789" and text[-1].isdecimal()):
        return text
    with suppress(ValueError):
        whole = text.removesuffix(".0")
        if str(int(whole)) == whole and abs(int(whole)) <= LARGEST:
            return int(whole)
    with suppress(ValueError):
        number = float(text)
        if math.isfinite(number) and text in _written(number):
            return _number(number, "")
    return text


def _written(number: float) -> tuple[str, ...]:
    """The spellings of a number by Python, numpy and pyarrow."""
    digits = Decimal(repr(number)).normalize()
    plain, scientific = f"{digits:f}", f"{digits:e}"
    padded = re.sub(r"(?<=e[+-])(\d)$", r"0\1", scientific)
    return repr(number), plain if "." in plain else f"{plain}.0", scientific, padded


def _whole(value: int, name: str) -> int | str:
    if abs(value) <= LARGEST:
        return value
    try:
        return str(value)
    except ValueError:  # Python refuses to print a number of thousands of digits
        raise InputError(name, "has too many digits to be stored") from None


def _number(value: float, name: str) -> int | float | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise InputError(f"{name} {value}", "infinity cannot be stored")
    return int(value) if value.is_integer() and abs(value) <= LARGEST else value


def _decimal(value: Decimal, name: str) -> int | float | str | None:
    if value.is_nan():
        return None
    if value.is_infinite() or value.adjusted() > _LONGEST_DECIMAL:
        return _number(math.inf, name)
    whole = value.to_integral_value()
    return _whole(int(whole), name) if value == whole else _number(float(value), name)


def _calendar(value: np.datetime64, name: str) -> date | None:
    """A numpy time as a date if its unit is whole days, otherwise as a datetime."""
    if np.isnat(value):
        return None
    if np.datetime_data(value.dtype)[0] in ("ns", "ps", "fs", "as"):
        value = value.astype("datetime64[us]")
    found = value.item()
    if not isinstance(found, date):
        raise InputError(f"{name} {value}", "lies outside the years 1 to 9999")
    return found


def _seconds(value: np.timedelta64, name: str) -> float:
    try:
        return float(value / np.timedelta64(1, "s"))
    except TypeError:
        raise InputError(f"{name} {shown(value)}", "months and years have no fixed length") from None


def _time_of(text: str) -> float | date:
    """Parse text as seconds, or as an ISO 8601 date or datetime."""
    with suppress(ValueError):
        if not math.isnan(float(text)):
            return float(text)
    with suppress(ValueError):
        return date.fromisoformat(text)
    try:
        return datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    except ValueError:
        raise InputError(
            f"time {shown(text)}", "write 2024-05-01, 2024-05-01T13:45:00+02:00 or seconds since 1970"
        ) from None


def _reads_as_date(seconds: float) -> bool:
    """Whether a number looks like 20240501. As seconds it would be a day in 1970, which nobody means."""
    if not (seconds.is_integer() and 1900_01_01 <= seconds <= 2100_12_31):
        return False
    try:
        date(int(seconds) // 10000, int(seconds) // 100 % 100, int(seconds) % 100)
    except ValueError:
        return False
    return True
