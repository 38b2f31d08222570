"""The rows that can be trained by name, like ``horeid/market1501/ghp-n2``, and their options.

Rows are data. `horeid.yaml` and `kpm.yaml` hold the rows of the papers' tables, `market1501-split.yaml` holds
kronreid's own. A name is ``<paper>/<data set>/<row>``.
"""

from __future__ import annotations

import copy
import difflib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from kronreid.errors import InputError
from kronreid.papers.tables import PAPERS, Paper, content, papers

#: kronreid's own rows for both papers' models.
OWN = "market1501-split"
#: Keys of a row's entry that are not options.
_NOT_OPTIONS = ("base", "data_sets")


@functools.cache
def row_names() -> tuple[str, ...]:
    """The names of all rows, paper by paper and data set by data set."""
    return tuple(_rows())


def row_options(name: str) -> dict[str, Any]:
    """The options of a row that differ from the defaults, by section.

    Args:
        name: The name of the row.

    Raises:
        InputError: There is no such row; the message suggests similar names.
    """
    if name not in row_names():
        near = difflib.get_close_matches(name, row_names(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(name, f"is neither a config file nor a row listed by kronreid papers --rows{hint}")
    paper, data, row = name.split("/")
    if data == OWN:
        own = content(OWN)
        return copy.deepcopy(merge(own["recipe"], _chain(own[paper], row)))
    values = content(paper)
    options = merge(values["recipe"], _chain(values["rows"], row))
    changes = values.get("data", {}).get(data, {})
    column = next(column for column in _columns(papers()[paper]) if column.data == data)
    usual = {"data": {"usual_layout": column.layout, "usual_protocol": column.protocol}}
    options = merge(options, changes.get("rows", {}).get(row, changes.get("options", {})))
    return copy.deepcopy(merge(options, usual))


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Override the values of `below` by those of `above`, section by section."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = merge(below[key], value) if both else value
    return merged


def _rows() -> Iterator[str]:
    for key in PAPERS:
        paper, rows = papers()[key], content(key)["rows"]
        for data in dict.fromkeys(column.data for column in _columns(paper)):
            for row, entry in rows.items():
                if data in entry.get("data_sets", _data_of(paper, row)):
                    yield f"{key}/{data}/{row}"
        yield from (f"{key}/{OWN}/{row}" for row in content(OWN)[key])


def _columns(paper: Paper) -> Iterator[Any]:
    return (column for table in paper.tables for column in table.columns)


def _data_of(paper: Paper, row: str) -> set[str]:
    """The data sets of the tables that contain a row."""
    tables = [table for table in paper.tables if any(each.name == row for each in table.rows)]
    return {column.data for table in tables for column in table.columns}


def _chain(rows: Mapping[str, dict[str, Any]], row: str) -> dict[str, Any]:
    """A row's options, which override those of its base, and so on."""
    entry = rows[row]
    options = {key: value for key, value in entry.items() if key not in _NOT_OPTIONS}
    return merge(_chain(rows, entry["base"]), options) if "base" in entry else options
