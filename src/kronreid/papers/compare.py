"""Comparing measured runs with the papers: which run belongs to which row and column of a table.

A run belongs to a column of a paper only if it used the row's unchanged config, was trained to its end on the
whole published data set (by count), and was evaluated by the column's protocol. All other runs of the row are
listed separately, with their data, protocol and changes.

How a pair model's numbers were made counts as well: with all candidates scored or only the best 75, and with
maps in fp32 or bf16. Numbers that were made in different ways are never averaged. A cell shows those of one
way.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kronreid.papers.tables import Column, Paper, Table, TableRow


@dataclass(frozen=True)
class Measured:
    """A finished or unfinished run, as its folder describes it.

    Attributes:
        folder: Its folder.
        config: The row's config, like ``horeid/market1501/gap``; None for a run that belongs to no row.
        layout: Layout of its data; None if it was not recorded.
        data: Description of its data.
        official: Whether its data are the complete published data set, by count.
        changed: Options that differ from the row's, each with the row's value and the run's.
        remaining: Number of iterations left.
        results: Metrics as fractions, by `label`: the protocol, and how the candidates were scored.
        split: Which division of the data set, for one with several.
    """

    folder: str
    config: str | None
    layout: str | None
    data: str
    official: bool
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    remaining: int = 0
    results: dict[str, dict[str, float]] = field(default_factory=dict)
    split: int = 0

    @property
    def paper(self) -> str | None:
        """``horeid`` or ``kpm``."""
        return self.config.split("/")[0] if self.config else None

    @property
    def row(self) -> str | None:
        """The row's name."""
        return self.config.split("/")[-1] if self.config else None

    @property
    def unlike_its_row(self) -> list[str]:
        """The reasons why the run does not reproduce its row: changed options or missing iterations."""
        reasons = []
        if self.changed:
            options = ", ".join(f"{key} {old} → {new}" for key, (old, new) in self.changed.items())
            reasons.append(f"modified: {options}")
        if self.remaining:
            reasons.append(f"unfinished: {self.remaining:,} iterations left")
        return reasons


@dataclass(frozen=True)
class Cell:
    """A row's result in a column.

    Attributes:
        config: The row's config.
        paper: The paper's numbers in per cent, by metric; empty if it has none.
        here: The mean of the runs in per cent, by metric; empty without runs.
        spread: Sample standard deviation over the runs in per cent, by metric; empty with fewer than two
            runs.
        runs: The folders of the runs.
        way: How a pair model scored the candidates, see `way`; empty for vectors.
        splits: How many of the column's divisions have runs. With fewer than the column's, `here` is empty.
    """

    config: str
    paper: dict[str, float]
    here: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    way: str = ""
    splits: int = 0


@dataclass(frozen=True)
class Elsewhere:
    """A run of a row that does not measure a column of the paper.

    Attributes:
        row: The row.
        run: The run.
        protocol: The protocol of its evaluation; empty if it was not evaluated.
        here: Metrics in per cent.
        gain: mAP gain over the table's baseline on the same data by the same protocol, if both are
            unmodified.
        paper_gain: The same gain in the paper, in the table's first column that has both numbers.
    """

    row: TableRow
    run: Measured
    protocol: str
    here: dict[str, float]
    gain: float | None
    paper_gain: float | None


@dataclass(frozen=True)
class Comparison:
    """A table of a paper with the measured results.

    Attributes:
        table: The paper's table.
        cells: For each row, in order, the cells by column key.
        elsewhere: Runs of its rows that belong to no column, in the rows' order.
    """

    table: Table
    cells: tuple[dict[str, Cell], ...]
    elsewhere: tuple[Elsewhere, ...]


def compare(paper: Paper, runs: Sequence[Measured]) -> list[Comparison]:
    """Compare all tables of a paper with the runs."""
    own = [run for run in runs if run.paper == paper.key]
    return [_compare_table(paper, table, own) for table in paper.tables]


def without_row(papers: Sequence[Paper], runs: Sequence[Measured]) -> list[Measured]:
    """The runs that belong to no row of the papers."""
    names = {(paper.key, row.name) for paper in papers for table in paper.tables for row in table.rows}
    return [run for run in runs if (run.paper, run.row) not in names]


#: The way of a pair model's first ranking, by pooled features. It is not the model's own.
POOLED = "pooled features alone"


def way(depth: int | str, precision: str = "fp32") -> str:
    """How a pair model scored the candidates, in words.

    Args:
        depth: How many of each query's candidates it scored: a number, ``all``, or 0.
        precision: As ``kronreid evaluate --precision`` takes it.
    """
    words = POOLED if depth == 0 else "all scored" if depth == "all" else f"best {depth} re-scored"
    return words if precision == "fp32" else f"{words}, {precision}"


def label(protocol: str, way: str = "") -> str:
    """The key of `Measured.results` for a protocol and a `way`."""
    return f"{protocol}, {way}" if way else protocol


def fits(run: Measured, paper: Paper, row: TableRow, column: Column) -> bool:
    """Whether a run measures this row in this column."""
    return (
        run.config == f"{paper.key}/{column.data}/{row.name}"
        and run.layout == column.layout
        and run.split < column.splits
        and run.official
        and not run.unlike_its_row
        and bool(_ways(run, column))
    )


def _ways(run: Measured, column: Column) -> list[str]:
    """The ways in which a run was measured by the column's protocols; `POOLED` is none."""
    protocols = {column.protocol_of(metric) for metric in column.metrics}
    split = [name.partition(", ") for name in run.results]
    found = {way for protocol, _, way in split if protocol in protocols and not way.startswith(POOLED)}
    return [way for way in found if _in_column(run, column, way)]


def _in_column(run: Measured, column: Column, way: str) -> dict[str, float]:
    """A run's metrics, each by the protocol that the column uses for it."""
    found = {
        metric: run.results.get(label(column.protocol_of(metric), way), {}).get(metric)
        for metric in column.metrics
    }
    return {metric: value for metric, value in found.items() if value is not None}


def _preferred(ways: set[str]) -> str:
    """The way that a cell shows: all candidates as in the papers if there are such runs, then fp32."""
    return min(ways, key=lambda way: (not way.startswith("all"), "," in way, way), default="")


def _compare_table(paper: Paper, table: Table, runs: list[Measured]) -> Comparison:
    cells = []
    placed: set[tuple[str, str]] = set()  # folder and label
    for row in table.rows:
        line = {}
        for column in table.columns:
            fitting = [run for run in runs if fits(run, paper, row, column)]
            cell = line[column.key] = _cell(paper, row, column, fitting)
            labels = {label(column.protocol_of(metric), cell.way) for metric in column.metrics}
            placed |= {(folder, name) for folder in cell.runs for name in labels if cell.here}
        cells.append(line)
    elsewhere = [
        _elsewhere(table, row, run, protocol, runs)
        for row in table.rows
        for run in runs
        if run.row == row.name
        for protocol in (run.results or {"": {}})
        if (run.folder, protocol) not in placed
    ]
    return Comparison(table, tuple(cells), tuple(elsewhere))


def _cell(paper: Paper, row: TableRow, column: Column, runs: list[Measured]) -> Cell:
    way = _preferred({way for run in runs for way in _ways(run, column)})
    runs = [run for run in runs if _in_column(run, column, way)]
    by_split: dict[int, list[dict[str, float]]] = {}
    for run in runs:
        by_split.setdefault(run.split, []).append(_in_column(run, column, way))
    every = [one for each in by_split.values() for one in each]
    metrics = [metric for metric in column.metrics if every and all(metric in one for one in every)]
    values: dict[str, list[float]] = {}
    if len(by_split) == column.splits:
        # A mean over divisions has each of them once, however many seeds it has.
        groups = [[one] for one in every] if column.splits == 1 else list(by_split.values())
        for metric in metrics:
            values[metric] = [100 * statistics.fmean(one[metric] for one in group) for group in groups]
    return Cell(
        f"{paper.key}/{column.data}/{row.name}",
        row.results.get(column.key, {}),
        {metric: statistics.fmean(numbers) for metric, numbers in values.items()},
        {metric: statistics.stdev(numbers) for metric, numbers in values.items() if len(numbers) > 1},
        tuple(run.folder for run in runs),
        way,
        len(by_split),
    )


def _elsewhere(table: Table, row: TableRow, run: Measured, protocol: str, runs: list[Measured]) -> Elsewhere:
    here = {metric: 100 * value for metric, value in run.results.get(protocol, {}).items()}
    gain = paper_gain = None
    if table.baseline is not None and row.name != table.baseline:
        gain = _gain(table.baseline, run, protocol, runs)
        paper_gain = _paper_gain(table, row)
    return Elsewhere(row, run, protocol, here, gain, paper_gain)


def _gain(baseline: str, run: Measured, protocol: str, runs: list[Measured]) -> float | None:
    """The mAP gain of a run over the baseline's runs with the same paper, data set and protocol."""
    if run.unlike_its_row or "mAP" not in run.results.get(protocol, {}):
        return None
    config = f"{str(run.config).rpartition('/')[0]}/{baseline}"
    others = [
        other.results[protocol]["mAP"]
        for other in runs
        if other.config == config
        and other.data == run.data
        and not other.unlike_its_row
        and "mAP" in other.results.get(protocol, {})
    ]
    return 100 * (run.results[protocol]["mAP"] - statistics.fmean(others)) if others else None


def _paper_gain(table: Table, row: TableRow) -> float | None:
    start = next(each for each in table.rows if each.name == table.baseline)
    for column in table.columns:
        both = [each.results.get(column.key, {}).get("mAP") for each in (row, start)]
        if both[0] is not None and both[1] is not None:
            return both[0] - both[1]
    return None
