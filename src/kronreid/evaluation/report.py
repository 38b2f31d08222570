"""Evaluation results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from kronreid.evaluation.evaluate import Result


def table(results: Result | Mapping[str, Result]) -> str:
    """Format results as a text table, one line per result, with rates in per cent.

    Args:
        results: One result, or several by name.
    """
    if isinstance(results, Result):
        results = {results.protocol: results}
    head = [
        "",
        "rank-1",
        "rank-5",
        "rank-10",
        "mAP",
        "mAP trapezoid",
        "mINP",
        "queries",
        "gallery",
        "seconds",
    ]
    lines = [head, *([name, *_cells(result)] for name, result in results.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        )
        for line in lines
    ]
    for name, result in results.items():
        if result.queries_without_match:
            text.append(
                f"{name}: {result.queries_without_match} of {result.queries} queries have no match in the "
                "gallery; the rates are over the others"
            )
    return "\n".join(line.rstrip() for line in text)


def _cells(result: Result) -> list[str]:
    rates = [result.rank1, result.rank5, result.rank10, result.mAP, result.mAP_trapezoid, result.mINP]
    counts = [f"{result.queries:,}", f"{result.gallery:,}", f"{result.seconds:.1f}"]
    return [*(f"{100 * rate:.2f}" for rate in rates), *counts]
