"""The comparison with the papers as text, as Markdown, and as plain values for JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kronreid.papers.compare import Cell, Comparison, Elsewhere, Measured, compare, without_row
from kronreid.papers.tables import COSTS, METRICS, Column, Paper, Table

NONE = "–"


def to_text(
    papers: Sequence[Paper], runs: Sequence[Measured], markdown: bool = False, others: bool = False
) -> str:
    """The tables of the papers with the measured runs, as text.

    Args:
        papers: The papers to show.
        runs: The measured runs.
        markdown: Write Markdown instead of aligned columns.
        others: Show the tables' methods of other authors, too.
    """
    parts = []
    for paper in papers:
        parts.append(_heading(paper.title, 1, markdown) + f"\n{paper.authors}. Per cent.")
        shown: set[str] = set()
        for comparison in compare(paper, runs):
            table = comparison.table
            parts.append(_heading(f"{table.name}: {table.title}", 2, markdown))
            parts.append(_grid(*_main(paper, comparison), markdown))
            if notes := _notes(comparison):
                parts.append(_listed(notes, markdown))
            if others and table.others:
                parts.append("Methods of other authors, as the paper quotes them.")
                parts.append(_grid(*_other_methods(paper, table), markdown))
                parts.append(_listed(table.others_notes, markdown))
            apart = comparison.elsewhere
            # A single row that was already shown below another table is not repeated.
            if len({each.row.name for each in apart}) > 1 or any(
                each.run.folder not in shown for each in apart
            ):
                shown |= {each.run.folder for each in apart}
                parts.append(
                    "These runs differ from the paper's columns: other pictures, another protocol, or a "
                    "changed config. Configs for other data have their own recipe."
                )
                parts.append(_grid(*_others(paper, comparison), markdown))
    if rest := without_row(papers, _of(papers, runs)):
        parts.append(_heading("Runs that belong to no row of the papers", 2, markdown))
        parts.append(
            _grid(["run", "config", "data", "protocol", "rank-1", "mAP", "remarks"], _rest(rest), markdown)
        )
    return "\n\n".join(parts) + "\n"


def to_values(papers: Sequence[Paper], runs: Sequence[Measured]) -> dict[str, Any]:
    """The same as plain values for JSON, in per cent like the papers.

    Args:
        papers: The papers to include.
        runs: The measured runs.
    """
    return {
        "papers": {
            paper.key: {
                "title": paper.title,
                "tables": [_table_values(comparison) for comparison in compare(paper, runs)],
            }
            for paper in papers
        },
        "without_row": [_run_values(run) for run in without_row(papers, _of(papers, runs))],
    }


def _of(papers: Sequence[Paper], runs: Sequence[Measured]) -> list[Measured]:
    """The runs without those of papers that are not shown."""
    keys = {paper.key for paper in papers}
    return [run for run in runs if run.paper is None or run.paper in keys or len(keys) > 1]


def _main(paper: Paper, comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    table = comparison.table
    costs = [kind for kind in COSTS if any(kind in row.cost for row in table.rows)]
    measured = {key for line in comparison.cells for key, cell in line.items() if cell.runs}
    header = ["row", "", *(COSTS[kind] for kind in costs)]
    for column in table.columns:
        metrics = " / ".join(METRICS[metric] for metric in column.metrics)
        header.append(f"{column.title} {metrics}")
        header += [f"measured here ({column.title})"] if column.key in measured else []
    rows = []
    for row, line in zip(table.rows, comparison.cells):
        values = [f"{row.cost[kind]:.2f}" if kind in row.cost else NONE for kind in costs]
        for column in table.columns:
            cell = line[column.key]
            values.append(_metrics(cell.paper, column, paper.digits, row.derived.get(column.key, {})))
            values += [_here(cell, column, paper.digits)] if column.key in measured else []
        rows.append([row.name, row.title, *values])
    return header, rows


def _metrics(values: Mapping[str, float], column: Column, digits: int, derived: Collection[str] = ()) -> str:
    """The metrics of a column; a tilde marks those that the paper does not print."""
    if not values:
        return NONE
    return " / ".join(
        f"{'~' if m in derived else ''}{values[m]:.{digits}f}" if m in values else NONE
        for m in column.metrics
    )


def _here(cell: Cell, column: Column, digits: int) -> str:
    if not cell.runs:
        return NONE
    splits = f"{cell.splits} of {column.splits} splits"
    if not cell.here:
        return splits
    spread = [f"{cell.spread[m]:.{digits}f}" for m in column.metrics if m in cell.spread]
    count = splits if column.splits > 1 else f"{len(cell.runs)} runs"
    runs = f" (± {' / '.join(spread)}, {count})" if spread else ""
    return _metrics(cell.here, column, digits) + runs + (f" [{cell.way}]" if cell.way else "")


def _notes(comparison: Comparison) -> list[str]:
    every = [how for row in comparison.table.rows for each in row.derived.values() for how in each.values()]
    derived = dict.fromkeys(every)
    return [*(f"~ computed: {how}." for how in derived), *comparison.table.notes]


def _other_methods(paper: Paper, table: Table) -> tuple[list[str], list[list[str]]]:
    """The table's methods of other authors."""
    header = [""]
    header += [f"{column.title} {' / '.join(METRICS[m] for m in column.metrics)}" for column in table.columns]
    rows = [
        [each.title, *(_metrics(each.results.get(c.key, {}), c, paper.digits) for c in table.columns)]
        for each in table.others
    ]
    return header, rows


def _others(paper: Paper, comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    baseline = comparison.table.baseline
    gains = any(each.gain is not None for each in comparison.elsewhere)
    header = ["config", "data", "protocol", "rank-1", "mAP"]
    if gains:
        header += [f"mAP over {baseline}", f"paper ({comparison.table.columns[0].title})"]
    rows = []
    for each in comparison.elsewhere:
        values = [each.run.config or NONE, each.run.data, each.protocol or "not evaluated"]
        values += [number(each.here.get(metric), paper.digits) for metric in ("rank1", "mAP")]
        if gains:
            values += [number(gain, paper.digits, signed=True) for gain in (each.gain, each.paper_gain)]
        rows.append([*values, "; ".join(each.run.unlike_its_row), each.run.folder])
    return [*header, "remarks", "run"], rows


def _rest(runs: Sequence[Measured]) -> list[list[str]]:
    rows = []
    for run in runs:
        for protocol, metrics in (run.results or {"not evaluated": {}}).items():
            values = [number(100 * metrics[m] if m in metrics else None, 1) for m in ("rank1", "mAP")]
            remarks = "; ".join(run.unlike_its_row)
            rows.append([run.folder, run.config or NONE, run.data, protocol, *values, remarks])
    return rows


def number(value: float | None, digits: int, signed: bool = False) -> str:
    """A number as text for tables, with a real minus sign; None becomes a dash."""
    return NONE if value is None else f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _table_values(comparison: Comparison) -> dict[str, Any]:
    table = comparison.table
    return {
        "name": table.name,
        "title": table.title,
        "baseline": table.baseline,
        "notes": list(table.notes),
        "rows": [
            {
                "row": row.name,
                "title": row.title,
                "cost": row.cost,
                "derived": row.derived or None,
                "columns": {
                    column.key: {
                        **asdict(line[column.key]),
                        "protocols": {metric: column.protocol_of(metric) for metric in column.metrics},
                    }
                    for column in table.columns
                },
            }
            for row, line in zip(table.rows, comparison.cells)
        ],
        "others": [asdict(each) for each in table.others],
        "others_notes": list(table.others_notes),
        "elsewhere": [_elsewhere_values(each) for each in comparison.elsewhere],
    }


def _elsewhere_values(each: Elsewhere) -> dict[str, Any]:
    return {
        "row": each.row.name,
        "run": _run_values(each.run),
        "protocol": each.protocol or None,
        "here": each.here,
        "gain": each.gain,
        "paper_gain": each.paper_gain,
    }


def _run_values(run: Measured) -> dict[str, Any]:
    return {**asdict(run), "modified": bool(run.changed)}


def _listed(notes: Sequence[str], markdown: bool) -> str:
    return "\n".join(f"{'-' if markdown else '*'} {note}" for note in notes)


def _heading(text: str, level: int, markdown: bool) -> str:
    if markdown:
        return f"{'#' * level} {text}"
    return f"{text}\n{('=' if level == 1 else '-') * len(text)}"


def _grid(header: list[str], rows: list[list[str]], markdown: bool) -> str:
    """Format a table. Empty columns are left out, and columns of numbers are right-aligned."""
    kept = [i for i, name in enumerate(header) if name or any(row[i] for row in rows)]
    kept = [i for i in kept if header[i] != "remarks" or any(row[i] for row in rows)]
    header, rows = [header[i] for i in kept], [[row[i] for i in kept] for row in rows]
    right = [all(_numeric(row[i]) for row in rows) for i in range(len(header))]
    if markdown:
        lines = [header, ["--:" if each else "---" for each in right], *rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]

    def laid(line: list[str]) -> str:
        cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right))
        return "  ".join(cells).rstrip()

    return "\n".join([laid(header), "  ".join("-" * width for width in widths), *map(laid, rows)])


def _numeric(text: str) -> bool:
    return re.fullmatch(r"[\d.,/~+−–±()\s]*( runs\)| of \d+ splits\)?)?( \[.*\])?", text) is not None
