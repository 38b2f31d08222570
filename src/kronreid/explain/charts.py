"""Charts: training curves and evaluation results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kronreid.explain.style import ACCENT, INK, PALETTE, RIGHT, WRONG, inline_svg, style

if TYPE_CHECKING:
    from kronreid.evaluation import Result

#: How each kind of score is shown: (label, sign, offset). The shown value is offset + sign * score.
SCORES = {
    "cosine": ("cosine distance", -1, 1),
    "euclidean": ("squared Euclidean distance", -1, 0),
    "k-reciprocal": ("k-reciprocal distance", -1, 0),
    "distance": ("distance", -1, 0),
    "score": ("score", 1, 0),
    "logit": ("logit of the pair model", 1, 0),
}


@dataclass(frozen=True)
class Chart:
    """Curves of one quantity.

    Attributes:
        title: A few words.
        xlabel: The quantity on x ("pictures seen").
        ylabel: The quantity on y with its unit ("mAP, %"). Values are not converted.
        curves: Maps a name to (x, y) of equal length. Values that are not finite are left out.
        caption: One sentence that explains the chart.
    """

    title: str
    xlabel: str
    ylabel: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    caption: str = ""


def panels(width: float, height: float, count: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes side by side; sizes are in inches. Draw into it inside `style`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, **options)[0])


def chart_svg(
    draw: Callable[[Axes, Any], None], shown: Any, spoken: str, width: float = 3.0, height: float = 2.0
) -> Markup:
    """The chart that `draw` makes of `shown`, as an <svg> element.

    Args:
        draw: Draws into the given axes.
        shown: The data, which `draw` takes.
        spoken: Text for screen readers.
        width: Width in inches. A page scales the chart, so fewer inches give larger letters.
        height: Height in inches.
    """
    with style():
        figure, (axes,) = panels(width, height)
        draw(axes, shown)
    return inline_svg(figure, spoken)


def draw_curves(axes: Axes, chart: Chart) -> None:
    """Draw the curves with a mark at the end of each. The legend above shows their last values."""
    labels = []
    for name, curve in chart.curves.items():
        points = np.array(curve, dtype=float).reshape(2, -1)
        x, y = points[:, np.isfinite(points).all(axis=0)]
        last = [f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}" for value in y[-1:]]
        labels.append("  ".join([name, *last]))
        axes.plot(x, y, label=labels[-1], markevery=slice(-1, None), clip_on=False)
    axes.set(xlabel=chart.xlabel, ylabel=chart.ylabel)
    plain(axes)
    if np.isfinite(axes.dataLim.get_points()).all():  # the ticks enclose all values and 0
        across = MaxNLocator(6).tick_values(*axes.dataLim.intervalx)
        up = MaxNLocator(6).tick_values(min(0, axes.dataLim.y0), max(0, axes.dataLim.y1))
        axes.set(xticks=across, yticks=up, xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
    columns = len(labels) if sum(map(len, labels)) + 8 * len(labels) < 60 else 1
    axes.figure.legend(loc="outside upper left", ncols=max(1, columns))


def draw_cmc(axes: Axes, result: Result) -> None:
    """Draw the CMC curve."""
    ranks = np.arange(1, len(result.cmc) + 1)
    axes.plot(ranks, 100 * result.cmc, marker="o" if len(ranks) < 20 else "")
    axes.set(xlabel="rank", ylabel="queries matched, %", ylim=(0, 102))
    plain(axes)


def draw_precision(axes: Axes, result: Result) -> None:
    """Draw a histogram of the queries' average precision."""
    values = result.average_precision[~np.isnan(result.average_precision)]
    axes.hist(100 * values, bins=20, range=(0, 100), histtype="stepfilled", color=ACCENT, alpha=0.75)
    mean = 100 * result.mAP
    axes.axvline(mean, color=INK, marker="", linestyle="--", linewidth=1, label=f"mAP {mean:.1f} %")
    axes.set(xlabel="average precision, %", ylabel="queries")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    plain(axes)
    _legend_above(axes)


def draw_pairs(axes: Axes, result: Result) -> None:
    """Draw the distributions of the scores of pairs of the same person and of different people."""
    label, sign, offset = SCORES[result.score_kind]
    same, others = offset + sign * result.positive_scores, offset + sign * result.negative_scores
    together = np.concatenate([same, others])
    bins = np.linspace(together.min(), together.max() + 1e-6, 61).tolist()
    axes.hist(same, bins, density=True, histtype="stepfilled", color=RIGHT, alpha=0.6, label="same person")
    axes.hist(others, bins, density=True, histtype="step", linestyle="-", color=WRONG, label="another person")
    axes.set(xlabel=label, ylabel="density")
    plain(axes)
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    """Make room above the data and put the legend there."""
    entries = len(axes.get_legend_handles_labels()[1])
    axes.set_ylim(top=axes.get_ylim()[1] * (1 + 0.15 * entries))
    axes.legend(loc="upper left")


#: The charts of an evaluation, by title.
EVALUATION: dict[str, Callable[[Axes, Result], None]] = {
    "CMC": draw_cmc,
    "Average precision": draw_precision,
    "Pairs": draw_pairs,
}


def plain(axes: Axes, across: Literal["x", "y"] = "y") -> None:
    """Replace frame and ticks by grid lines of the axis `across`, and format numbers with separators."""
    axes.grid(axis=across)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.6g}")


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Turn y into an axis of named rows, from top to bottom, with alternating bands."""
    plain(axes, "x")
    axes.set_yticks(range(len(names)), names)
    for place in range(0, len(names), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=PALETTE["code"][0], zorder=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
