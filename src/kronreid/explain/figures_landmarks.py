"""HOReID's Figure 5: similarities of the features at 16 landmarks of two pictures of one person, by order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kronreid.explain.figures import Orders
from kronreid.explain.landmarks import LANDMARKS, landmark_similarities
from kronreid.explain.sheet import GAP, MARGIN, Block, Tile, axes_at, below, draw_tile, sheet, write
from kronreid.explain.style import BOX, INK, TEXT, WIDTH


def landmark_figure(orders: Orders, pictures: np.ndarray, landmarks: Sequence[np.ndarray]) -> Figure:
    """One row for each pair: both pictures with their landmarks, and a matrix of cosines for each order.

    Args:
        orders: Ĝ of each order. Pictures 2i and 2i+1 are a pair.
        pictures: uint8 (N, H, W, 3) in RGB.
        landmarks: (16, 2) of each picture, see `landmarks_of`.
    """
    return sheet(below([_pair(orders, pictures, landmarks, i) for i in range(0, len(pictures) - 1, 2)], 0.1))


def _pair(orders: Orders, pictures: np.ndarray, landmarks: Sequence[np.ndarray], first: int) -> Block:
    wide = min(0.48, pictures.shape[2] / pictures.shape[1])
    tall = wide * pictures.shape[1] / pictures.shape[2]
    spacing, names = 0.42, 0.75
    left = MARGIN + 2 * wide + GAP + names
    side = min(1.55, (WIDTH - left - 0.1) / len(orders) - spacing)

    def draw(axes: Axes, x: float, y: float) -> None:
        top = y + 0.22
        for number, name in enumerate("ab"):
            at = x + MARGIN + number * (wide + GAP)
            draw_tile(axes, Tile(pictures[first + number]), at, top, wide, tall)
            found = landmarks[first + number]
            found = found[np.isfinite(found[:, 0])]
            axes.plot(at + wide * found[:, 0], top + tall * found[:, 1], ".", color=BOX, markersize=3)
            write(axes, at + wide / 2, top - 0.09, name, TEXT, INK)
        for number, (name, maps) in enumerate(orders):
            at = x + left + number * (side + spacing)
            values = landmark_similarities(
                maps[first], maps[first + 1], landmarks[first], landmarks[first + 1]
            )
            _draw_matrix(axes_at(axes, at, top, side, side), values, named=number == 0)
            write(axes, at + side / 2, top - 0.09, name, TEXT, INK, bold=True)

    return Block(left + len(orders) * (side + spacing), max(side, tall) + 0.85, draw)


def _draw_matrix(axes: Axes, values: np.ndarray, named: bool) -> None:
    """Draw the cosines with their own colour scale. Landmarks that were not found stay grey."""
    axes.set_facecolor("0.85")
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
    image = axes.imshow(values, aspect="auto", interpolation="nearest", vmin=low, vmax=high)
    ticks = range(len(LANDMARKS))
    axes.set_xticks(ticks, LANDMARKS, rotation=90)
    axes.set_yticks(ticks, LANDMARKS if named else [])
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.05, 1)))
    for each in (axes, bar.ax):
        each.tick_params(labelsize=4.5, length=1.5, pad=1)
    axes.spines[:].set_visible(True)
