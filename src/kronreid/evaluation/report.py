"""Results of an evaluation or a calibration as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kronreid.evaluation.evaluate import Result
from kronreid.models.calibration import RATES, Calibration


def table(results: Result | Mapping[str, Result]) -> str:
    """Format results as a text table, one line per result, with rates in per cent.

    Args:
        results: One result, or several by name.
    """
    if isinstance(results, Result):
        first = results.first_stage
        before = {} if first is None else {f"{first.protocol}, first stage": first}
        results = before | {results.protocol: results}
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
    text = aligned(lines)
    for name, result in results.items():
        if result.queries_without_match:
            text.append(
                f"{name}: {result.queries_without_match} of {result.queries} queries have no match in the "
                "gallery; the rates are over the others"
            )
    return "\n".join(text)


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        ).rstrip()
        for line in lines
    ]


def _cells(result: Result) -> list[str]:
    rates = [result.rank1, result.rank5, result.rank10, result.mAP, result.mAP_trapezoid, result.mINP]
    counts = [f"{result.queries:,}", f"{result.gallery:,}", f"{result.seconds:.1f}"]
    return [*(f"{100 * rate:.2f}" for rate in rates), *counts]


def calibration_table(calibration: Calibration) -> str:
    """Thresholds for `RATES` of false alarms, a line for each score, and how scores become probabilities."""
    scores = [
        (name, score)
        for name, score in (("similarity", calibration.similarity), ("logit", calibration.logit))
        if score is not None
    ]
    searches = len(scores[0][1].strangers)
    lines = [["one false alarm in", "score", "threshold", "95 % interval", "found"]]
    for rate in RATES:
        said = f"{1 / rate:,.0f} searches"
        for name, score in scores:
            for point in (point for point in score.points if point.rate == rate):
                interval = f"{point.low:.4f} to {point.high:.4f}"
                lines.append([said, name, f"{point.threshold:.4f}", interval, f"{100 * point.found:.1f} %"])
                said = ""
    text = [
        f"{searches:,} searches for {calibration.people:,} people, in {calibration.gallery:,} pictures "
        f"({calibration.folder}, {calibration.protocol})",
        *(aligned(lines) if len(lines) > 1 else []),
    ]
    known = {point.rate for _, score in scores for point in score.points}
    text += [
        f"one false alarm in {1 / rate:,.0f} searches needs at least {1 / rate:,.0f} searches; there are "
        f"{searches:,}"
        for rate in RATES
        if rate not in known
    ]
    text.append(
        f"probability of one person, where {100 * calibration.same_share:g} % of the compared pairs show one:"
    )
    text += [
        f"  1 / (1 + exp(-({score.slope:.4g} * {name} {'-' if score.offset < 0 else '+'} "
        f"{abs(score.offset):.4g})))"
        for name, score in scores
    ]
    return "\n".join(text)
