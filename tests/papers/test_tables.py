"""The papers' numbers in the data files: complete, consistent, and equal to the papers' text."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from kronreid.evaluation.protocols import PROTOCOLS
from kronreid.papers import Paper, Table, TableRow, papers
from kronreid.papers.tables import COSTS, METRICS

from .printed import DIFFERENCES, TABLES

EVERY = [(paper, table, row) for paper in papers().values() for table in paper.tables for row in table.rows]


def test_all_tables_are_there() -> None:
    names = {key: [table.name for table in paper.tables] for key, paper in papers().items()}
    assert names["horeid"] == ["Table I", "Table II", "Table III", "Fig. 7", "Fig. 8"]
    assert names["kpm"] == ["Table 1", "Tables 2–4", "Table 5", "Table 6"]


@pytest.mark.parametrize(("paper", "table", "row"), EVERY, ids=lambda each: getattr(each, "name", ""))
def test_values_are_of_known_kinds(paper: Paper, table: Table, row: TableRow) -> None:
    assert set(row.cost) <= set(COSTS)
    metrics = {column.key: set(column.metrics) for column in table.columns}
    for column, values in row.results.items():
        assert set(values) <= metrics[column] <= set(METRICS)
        assert all(0 < value < 100 for value in values.values())


@pytest.mark.parametrize("paper", papers().values(), ids=lambda paper: paper.key)
def test_a_row_has_the_same_numbers_in_every_table_but_the_known_slip(paper: Paper) -> None:
    known: dict[tuple[str, str, str], set[float]] = {}
    for table in paper.tables:
        for row in table.rows:
            for column, values in row.results.items():
                for metric, value in values.items():
                    known.setdefault((row.name, column, metric), set()).add(value)
    slips = {key: values for key, values in known.items() if len(values) > 1}
    expected = {("kpm-rsa-hg", "cuhk03", "rank1"): {91.1, 93.4}} if paper.key == "kpm" else {}
    assert slips == expected


@pytest.mark.parametrize("paper", papers().values(), ids=lambda paper: paper.key)
def test_baselines_are_rows_of_their_tables(paper: Paper) -> None:
    for table in paper.tables:
        assert table.baseline is None or table.baseline in {row.name for row in table.rows}


def test_derived_numbers_are_what_the_text_subtracts() -> None:
    derived = 0
    for (key, name, more, less), differences in DIFFERENCES.items():
        rows = {row.name: row for table in papers()[key].tables if table.name == name for row in table.rows}
        for column, difference in differences.items():
            numbers = [rows[row].results[column]["mAP"] for row in (more, less)]
            assert numbers[0] - numbers[1] == pytest.approx(difference)
            assert re.search(rf"\b{difference:g}0?\b", rows[less].derived[column]["mAP"])
            derived += 1
    marked = [metric for *_, row in EVERY for each in row.derived.values() for metric in each]
    assert len(marked) == derived, "nothing else is marked as computed"


def as_printed(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{column}.{metric}": value for column, each in values.items() for metric, value in each.items()}


def is_derived(row: TableRow, name: str) -> bool:
    column, _, metric = name.partition(".")
    return metric in row.derived.get(column, {})


def test_every_figure_is_the_printed_one() -> None:
    """The data files hold exactly the numbers of the papers' tables: no other, none less, none twice."""
    for key, paper in papers().items():
        for table in paper.tables:
            names = ["Table 2", "Table 3", "Table 4"] if table.name == "Tables 2–4" else [table.name]
            printed: dict[str, dict[str, float]] = {}
            for name in names:
                rows = TABLES[key, name].numbers() if (key, name) in TABLES else {}
                for title, values in rows.items():
                    printed[title] = printed.get(title, {}) | values
            here = {row.name: row.cost | as_printed(row.results) for row in table.rows if row.results}
            for row in table.rows:
                if row.name in here:
                    here[row.name] = {n: v for n, v in here[row.name].items() if not is_derived(row, n)}
            here |= {each.title: as_printed(each.results) for each in table.others}
            if table.name.startswith("Fig."):
                whole = TABLES[key, "Table II"].numbers()
                costs = ("parameters", "multiply_adds", "fps", "milliseconds")
                printed = {
                    name: {n: v for n, v in whole[name].items() if n not in costs}
                    for name in here
                    if name in whole
                }
                printed |= {name: {} for name, values in here.items() if not values}
            assert here == printed, table.name


def test_the_paper_prints_pictures_per_second_and_milliseconds_of_one_another() -> None:
    for values in TABLES["horeid", "Table II"].numbers().values():
        assert values["milliseconds"] == pytest.approx(1000 / values["fps"], abs=0.01)


@pytest.mark.parametrize(("paper", "table", "row"), EVERY, ids=lambda each: getattr(each, "name", ""))
def test_protocols_are_known(paper: Paper, table: Table, row: TableRow) -> None:
    assert {column.protocol_of(m) for column in table.columns for m in column.metrics} <= set(PROTOCOLS)


NUMBER = re.compile(r"\d+\.\d+")
#: The papers' order of columns; a row of the file must stand in one line of the text in this order.
ORDER = {
    "Table I": [("market1501", "market1501-mq", "dukemtmc", "msmt17"), ("rank1", "mAP")],
    "Table II": [("market1501", "dukemtmc", "msmt17"), ("rank1", "mAP")],
    "Table III": [("market1501", "market1501-mq", "cuhk03", "dukemtmc", "msmt17"), ("rank1", "rank5", "mAP")],
    "Table 1": [("market1501", "cuhk03", "dukemtmc"), ("mAP", "rank1")],
    "Table 5": [("market1501", "cuhk03", "dukemtmc"), ("mAP", "rank1")],
    "Table 6": [("cuhk03",), ("mAP", "rank1")],
}


def lines_of(text: str) -> list[list[float]]:
    return [[float(number) for number in NUMBER.findall(line)] for line in text.splitlines()]


def stands_in(wanted: list[float], lines: list[list[float]]) -> bool:
    count = len(wanted)
    return any(wanted == line[i : i + count] for line in lines for i in range(len(line) - count + 1))


def test_the_numbers_are_those_of_the_papers_text(shared: Path) -> None:
    checked = 0
    for key, paper in papers().items():
        lines = lines_of((shared / "papers" / f"{key}.txt").read_text())
        for table in paper.tables:
            for row in table.rows:
                if table.name == "Tables 2–4":
                    metrics = ("mAP", "rank1", "rank5", "rank10")
                    sequences = [[values[m] for m in metrics] for values in row.results.values()]
                elif table.name in ORDER and row.name != "baseline-absolute":  # one number is cut off there
                    columns, metrics = ORDER[table.name]
                    results = [row.results.get(column, {}) for column in columns]
                    sequences = [[values[m] for values in results for m in metrics if m in values]]
                    sequences += [list(row.cost.values())] if row.cost else []
                else:
                    continue
                for sequence in sequences:
                    assert stands_in(sequence, lines), (key, table.name, row.name, sequence)
                    checked += 1
    assert checked > 50
