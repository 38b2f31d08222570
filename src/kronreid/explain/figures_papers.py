"""HOReID's Figures 7 and 8 as charts: mAP by the order n and by the number of parts P, from runs.

The paper's figures have no numbers that can be read. Their charts here show the runs, and as hollow marks the
few points that the paper's text and tables give.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kronreid.explain.charts import panels, plain
from kronreid.explain.style import INK, MUTED, WIDTH, style
from kronreid.papers import Comparison

#: A point of a figure, like "GHP + LHP, n = 3" or "P = 8".
_POINT = re.compile(r"(?:(?P<series>.+), )?(?P<axis>[nP]) = (?P<x>\d+)")
#: Colour, dashes and mark of each curve, in the table's order.
_LOOKS = (("C0", "-", "o"), ("C1", "--", "s"), ("C2", ":", "^"), ("C3", "-.", "v"))
_AXES = {"n": "order n", "P": "sampled parts P"}


@dataclass
class Series:
    """One curve: mAP in per cent by n or P.

    Attributes:
        here: What the runs reached, the mean where there are several.
        paper: What the paper gives.
        derived: The points of `paper` that were computed from the text.
    """

    here: dict[int, float] = field(default_factory=dict)
    paper: dict[int, float] = field(default_factory=dict)
    derived: set[int] = field(default_factory=set)


@dataclass
class Panel:
    """The curves of one data set.

    Attributes:
        title: The data set, and how its runs differ from the paper's if they do.
        axis: ``n`` or ``P``.
        series: The curves by name; the name is empty for a single one.
        level: mAP of average pooling (GAP): what the runs reached, else what the paper gives, else None.
    """

    title: str
    axis: str
    series: dict[str, Series] = field(default_factory=dict)
    level: float | None = None


def panels_of(comparison: Comparison) -> list[Panel]:
    """The panels of Figure 7 or 8: the paper's data sets, and the data sets of other runs of its rows.

    Args:
        comparison: The figure's table with the runs. Changed and unfinished runs are left out.
    """
    found = [_published(comparison, column.key, column.title) for column in comparison.table.columns]
    return [*found, *_elsewhere(comparison)]


def _empty(comparison: Comparison) -> dict[str, Series]:
    """The table's curves without points, in its order, so that each looks the same in every panel."""
    matches = [_POINT.fullmatch(row.title) for row in comparison.table.rows]
    return {match["series"] or "": Series() for match in matches if match}


def _published(comparison: Comparison, key: str, title: str) -> Panel:
    panel = Panel(title, "n", _empty(comparison))
    for row, line in zip(comparison.table.rows, comparison.cells):
        cell = line[key]
        here, paper = cell.here.get("mAP"), cell.paper.get("mAP")
        match = _POINT.fullmatch(row.title)
        if match is None:
            panel.level = paper if here is None else here
            continue
        panel.axis = match["axis"]
        series, x = panel.series[match["series"] or ""], int(match["x"])
        if here is not None:
            series.here[x] = here
        if paper is not None:
            series.paper[x] = paper
            series.derived |= {x} if "mAP" in row.derived.get(key, {}) else set()
    return panel


def _elsewhere(comparison: Comparison) -> Iterator[Panel]:
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    for each in comparison.elsewhere:
        if "mAP" in each.here and not each.run.unlike_its_row:
            group = groups.setdefault((each.run.data, each.protocol), {})
            group.setdefault(each.row.title, []).append(each.here["mAP"])
    for (data, protocol), rows in groups.items():
        panel = Panel(f"{data.partition(':')[0]}\n{protocol}", "n", _empty(comparison))
        for title, values in rows.items():
            match = _POINT.fullmatch(title)
            if match is None:
                panel.level = fmean(values)
                continue
            panel.axis = match["axis"]
            series = panel.series[match["series"] or ""]
            series.here[int(match["x"])] = fmean(values)
        if any(series.here for series in panel.series.values()):
            yield panel


def points_figure(shown: Sequence[Panel]) -> Figure:
    """Draw the panels side by side, four in a row at most."""
    with style():
        figure, axes = panels(WIDTH, 2.6, len(shown))
        for each, panel in zip(axes, shown):
            _draw(each, panel)
        handles: dict[str, Any] = {}
        for each in axes:
            handles |= dict(zip(*reversed(each.get_legend_handles_labels())))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    xs = sorted({x for series in panel.series.values() for x in (*series.here, *series.paper)})
    place = {x: number for number, x in enumerate(xs)}  # P doubles from point to point
    if panel.level is not None:
        axes.axhline(panel.level, color=MUTED, linestyle=":", marker="", linewidth=1, label="GAP")
    for (name, series), (colour, dashes, mark) in zip(panel.series.items(), _LOOKS):
        if series.here:
            points = sorted(series.here.items())
            label = name or "measured here"
            look: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": mark}
            axes.plot([place[x] for x, _ in points], [y for _, y in points], label=label, **look)
        for derived, marker, words in ((False, "o", "paper"), (True, "D", "paper, computed from its text")):
            points = [(x, y) for x, y in sorted(series.paper.items()) if (x in series.derived) == derived]
            if points:
                axes.plot(
                    [place[x] for x, _ in points],
                    [y for _, y in points],
                    marker,
                    color=colour,
                    markerfacecolor="none",
                    linestyle="none",
                    markersize=5,
                    label=f"{name}, {words}" if name else words,
                )
    axes.set(xlabel=_AXES[panel.axis], ylabel="mAP, %")
    axes.set_title(panel.title, color=INK)
    plain(axes)
    axes.set_xticks(range(len(xs)), [str(x) for x in xs])
