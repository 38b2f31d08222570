"""The data file of the papers' numbers: whole, of one mind with itself, the configs and the papers' text."""

import re
from pathlib import Path

import pytest

from kronreid.evaluation.protocols import PROTOCOLS
from kronreid.papers import Paper, Table, TableRow, papers
from kronreid.papers.tables import COSTS, METRICS

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
    tables = {table.name: table for table in papers()["horeid"].tables}
    full = {row.name: row for row in tables["Table II"].rows}
    for name, start, end, differences in (
        ("Fig. 7", "ghp-n1", "ghp-n3", (6.27, 8.40, 10.01)),
        ("Fig. 8", "horeid-p8", "horeid", (2.14, 3.47, 3.33)),
    ):
        row = next(each for each in tables[name].rows if each.name == start)
        for column, difference in zip(("market1501", "dukemtmc", "msmt17"), differences):
            assert str(difference) in row.derived or f"{difference:.2f}" in row.derived
            assert full[end].results[column]["mAP"] - row.results[column]["mAP"] == pytest.approx(difference)


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
