"""Selections in the SQL of LanceDB, and what the table keeps of attributes so that they can be asked for.

Attributes are kept as JSON text. SQL cannot look into that, so three columns say the same once more:
``terms`` holds the name of each attribute and its name with its value, ``names`` and ``numbers`` the
attributes that are numbers.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from kronreid.errors import InputError
from kronreid.gallery.filters import (
    Below,
    Compared,
    Condition,
    OneOf,
    Scalar,
    Selection,
    Taken,
    must_be_unicode,
)

#: A longer value of an attribute is told by its hash.
_LONGEST_TERM = 200
#: JSON as the table keeps it; `json.dumps` would make an encoder for each value.
encoded = json.JSONEncoder(ensure_ascii=False).encode


def terms_of(attributes: Mapping[str, Any]) -> list[str]:
    """What the column ``terms`` holds for a picture with these attributes."""
    terms = []
    for name, value in attributes.items():
        if value is not None:
            terms.append(_name(name))
            if isinstance(value, Scalar):
                terms.append(_term(name, value))
    return terms


def numbers_of(attributes: Mapping[str, Any]) -> dict[str, float]:
    """The attributes that can be compared with a number."""
    return {
        name: float(value)
        for name, value in attributes.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def sql(selection: Selection) -> str:
    """A selection as a condition in SQL; empty without conditions.

    Values enter only as literals that `quote` writes, so no value can end its literal and become part of the
    condition.

    Raises:
        InputError: A value cannot be a condition.
    """
    return " AND ".join(f"({_rendered(condition)})" for condition in selection.conditions())


def one_of(field: str, texts: list[str]) -> str:
    """The condition that a field holds one of these texts."""
    return f"`{field}` IN ({', '.join(map(quote, texts))})"


def _rendered(condition: Condition) -> str:
    if isinstance(condition, OneOf):
        return one_of(condition.field, list(condition.texts))
    if isinstance(condition, Taken):
        return " AND ".join(f"`time` {sign} {quote(bound)}" for sign, bound in condition.bounds)
    if isinstance(condition, Below):
        return " OR ".join(
            f"(`path` = {quote(path)} OR (`path` >= {quote(low)} AND `path` < {quote(high)}))"
            for path, low, high in condition.ranges
        )
    if isinstance(condition, Compared):
        place = f"CAST(array_position(names, {quote(condition.name)}) AS BIGINT)"
        return f"array_element(numbers, {place}) {condition.sign} {quote(float(condition.number))}"
    if condition.values:
        terms = dict.fromkeys(_term(condition.name, value) for value in condition.values)
        return f"array_has_any(terms, [{', '.join(map(quote, terms))}])"
    empty = quote(_term(condition.name, ""))
    return f"NOT array_has(terms, {quote(_name(condition.name))}) OR array_has(terms, {empty})"


@lru_cache(1024)
def _name(name: str) -> str:
    return encoded(name)


def _term(name: str, value: Scalar) -> str:
    """A name with its value; numbers that are equal give equal terms."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    text = encoded(value)
    if len(text) > _LONGEST_TERM:
        text = hashlib.sha256(text.encode()).hexdigest()
    return f"{_name(name)}:{text}"


def quote(value: str | float) -> str:
    """A value as a literal of SQL.

    Raises:
        InputError: Not a finite number, or text that is not valid Unicode.
    """
    if not isinstance(value, str):
        if not math.isfinite(value):
            raise InputError(value, "a filter takes finite numbers")
        return f"CAST({value!r} AS DOUBLE)" if "e" in repr(value) else repr(value)
    must_be_unicode(value)
    return "'" + value.replace("'", "''") + "'"
