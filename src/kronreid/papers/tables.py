"""The papers' tables, read from `horeid.yaml` and `kpm.yaml`, the only place for the papers' numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PAPERS = ("horeid", "kpm")

#: The metrics, in per cent, and the costs with their units.
METRICS = {"rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "mAP": "mAP"}
COSTS = {"parameters": "M params", "multiply_adds": "G mult-adds", "fps": "pictures/s", "milliseconds": "ms"}


@dataclass(frozen=True)
class Column:
    """A column of a table: a data set and the protocol that the paper used on it.

    Attributes:
        key: Its name in the data file.
        title: Its title.
        data: The data set's name in the names of rows.
        layout: The layout of its pictures.
        protocol: The evaluation protocol (docs/protocols.md).
        rank_protocol: The protocol of rank-k, if it differs.
        metrics: The reported metrics, in order.
        splits: Number of the data set's divisions whose mean the paper gives; 1 for division 0 alone.
    """

    key: str
    title: str
    data: str
    layout: str
    protocol: str
    rank_protocol: str | None = None
    metrics: tuple[str, ...] = ("rank1", "mAP")
    splits: int = 1

    def protocol_of(self, metric: str) -> str:
        """The protocol by which a metric was measured."""
        return self.rank_protocol or self.protocol if metric.startswith("rank") else self.protocol


@dataclass(frozen=True)
class TableRow:
    """A row of a table, or a point of a figure.

    Attributes:
        name: Its name, the same on every data set.
        title: Its title in the paper, or close to it.
        results: Metrics in per cent, by column and metric; empty if the paper has no numbers.
        cost: Costs by kind, see `COSTS`.
        derived: By column and metric, how a result was computed that the paper does not print.
    """

    name: str
    title: str
    results: dict[str, dict[str, float]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    derived: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class OtherMethod:
    """A method of other authors in a table.

    Attributes:
        title: Its name and the number of its reference, as the paper prints them.
        results: Metrics in per cent, by column and metric.
    """

    title: str
    results: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Table:
    """A table or a figure of a paper.

    Attributes:
        name: Its number, like "Table I".
        title: What it compares.
        columns: Its columns.
        rows: Its rows, in the paper's order.
        baseline: The row to which gains are relative, if any.
        notes: Notes that are needed to read it, including errors of the paper.
        others: Its methods of other authors.
        others_notes: Notes that are needed to read those.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    baseline: str | None = None
    notes: tuple[str, ...] = ()
    others: tuple[OtherMethod, ...] = ()
    others_notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paper:
    """A paper.

    Attributes:
        key: Its name in the names of rows.
        title: Its title.
        authors: Its authors.
        digits: Number of decimals of its numbers.
        tables: Its tables, in the paper's order.
    """

    key: str
    title: str
    authors: str
    digits: int
    tables: tuple[Table, ...]


@functools.cache
def papers() -> dict[str, Paper]:
    """Both papers by key, ``horeid`` and ``kpm``."""
    return {key: _paper(key, content(key)) for key in PAPERS}


@functools.cache
def content(name: str) -> dict[str, Any]:
    """The content of the data file ``<name>.yaml`` in this folder."""
    text = Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # libyaml is 8 times as fast


def _paper(key: str, values: dict[str, Any]) -> Paper:
    columns = {
        name: Column(name, **{**each, "metrics": tuple(each.get("metrics", Column.metrics))})
        for name, each in values["columns"].items()
    }
    tables = tuple(_table(each, columns) for each in values["tables"])
    return Paper(key, values["title"], values["authors"], values["digits"], tables)


def _table(values: dict[str, Any], columns: dict[str, Column]) -> Table:
    chosen = [columns[name] for name in values["columns"]]
    if metrics := values.get("metrics"):
        chosen = [Column(**{**vars(column), "metrics": tuple(metrics)}) for column in chosen]
    return Table(
        name=values["name"],
        title=values["title"],
        columns=tuple(chosen),
        rows=tuple(_row(each, values["columns"]) for each in values["rows"]),
        baseline=values.get("baseline"),
        notes=tuple(values.get("notes", ())),
        others=tuple(
            OtherMethod(title, dict(results)) for title, results in values.get("others", {}).items()
        ),
        others_notes=tuple(values.get("others_notes", ())),
    )


def _row(values: dict[str, Any], columns: list[str]) -> TableRow:
    values = dict(values)
    results = {name: values.pop(name) for name in columns if name in values}
    return TableRow(values.pop("row"), values.pop("title"), results, **values)
