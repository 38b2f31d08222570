"""Learning curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

Curve = tuple[Sequence[float], Sequence[float]]

# Okabe and Ito's colours that show on white; with the dashes and markers they tell curves apart in grey, too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MARKERS = "osD^vP"


def curves_figure(curves: Mapping[str, Curve], xlabel: str, ylabel: str, title: str) -> Image.Image:
    """Named curves (x, y) in one diagram, RGB 960 × 600; values that are not finite leave a gap."""
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, (name, (x, y)) in enumerate(curves.items()):
        style = index % len(_COLOURS)
        axes.plot(
            np.asarray(x, dtype=float),
            np.asarray(y, dtype=float),
            color=_COLOURS[style],
            linestyle=_DASHES[style],
            marker=_MARKERS[style],
            markevery=max(1, len(x) // 8),
            markersize=4.5,
            linewidth=1.8,
            label=_plain(name),
        )
    axes.set_title(_plain(title), loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(_plain(xlabel))
    axes.set_ylabel(_plain(ylabel))
    axes.grid(axis="y", color="#d0d5db", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if curves:
        axes.legend(frameon=False, fontsize=9)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _plain(text: str) -> str:
    """Dollar signs kept as they are: matplotlib would read a formula between two."""
    return text.replace("$", r"\$")
