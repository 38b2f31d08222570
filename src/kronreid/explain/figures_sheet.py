"""Sheets of pictures for print: tiles in a grid below headings, axes placed in inches, PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from kronreid.explain.canvas import BOX, INK, MUTED, RULE

WIDTH = 7.2  # inches: two columns of a paper
MARGIN = 0.04
GAP = 0.03  # between tiles
SMALL, TEXT = 6.5, 7.5  # points


@dataclass
class Tile:
    """One picture of a grid.

    Attributes:
        image: uint8 (H, W, 3).
        text: A few words below it.
        boxes: (left, top, right, bottom) of red rectangles, as fractions of the picture; numbered from 1 if
            there are several.
        blocks: Keep its pixels as blocks: it is a map of few places, not a picture.
    """

    image: np.ndarray
    text: str = ""
    boxes: Sequence[tuple[float, float, float, float]] = ()
    blocks: bool = False


@dataclass
class TileGroup:
    """Neighbouring columns of a grid below a common heading.

    Attributes:
        heading: What they show.
        columns: The name of each column; a group without any is a wider gap.
    """

    heading: str
    columns: list[str] = field(default_factory=list)


def tile_figure(
    rows: Sequence[Sequence[Tile]],
    groups: Sequence[TileGroup],
    bands: Sequence[tuple[str, int]] = (),
    bar: tuple[str, str, str] | None = None,
) -> Figure:
    """Pictures in a grid, at most `WIDTH` inches wide.

    Args:
        rows: Tiles, as many in each row as all groups have columns; all get the shape of the very first.
        groups: The columns.
        bands: Names and numbers of rows of the blocks that the rows fall into; none for one block.
        bar: The colour scale's name, its low and its high end.
    """
    columns = sum(len(group.columns) for group in groups)
    between, top, band_height = 0.11, 0.36, 0.2
    gaps = 2 * MARGIN + GAP * (columns - len(groups)) + between * (len(groups) - 1)
    width = min(1.0, (WIDTH - gaps) / columns)
    first = rows[0][0].image
    height = width * first.shape[0] / first.shape[1]
    step = height + GAP + (0.13 if any(tile.text for line in rows for tile in line) else 0.0)
    tall = top + len(rows) * step + len(bands) * band_height + (0.27 if bar else 0.03)
    figure = new_figure(columns * width + gaps, tall)

    lefts, x = [], MARGIN
    for group in groups:
        start = x
        for name in group.columns:
            lefts.append(x)
            write(figure, x + width / 2, tall - 0.25, name, SMALL, MUTED)
            x += width + GAP
        end = x - GAP
        if group.heading:
            write(figure, (start + end) / 2, tall - 0.1, group.heading, TEXT, INK, bold=True)
            _rule(figure, start, end, tall - 0.175)
        x = end + between

    starts = np.cumsum([0, *(count for _, count in bands)])
    y = tall - top
    for number, line in enumerate(rows):
        for (name, _), start_row in zip(bands, starts):
            if start_row == number:
                write(figure, MARGIN, y - 0.08, name, TEXT, INK, "left", bold=True)
                y -= band_height
        for x, tile in zip(lefts, line):
            draw_tile(figure, tile, x, y - height, width, height)
            if tile.text:
                write(figure, x + width / 2, y - height - 0.075, tile.text, 5.5, MUTED)
        y -= step
    if bar:
        _bar(figure, bar, y)
    return figure


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem`.png (300 dots per inch) and `stem`.svg; the same figure has the same bytes."""
    # No date and no random names inside: what has not changed makes no difference in version control.
    with matplotlib.rc_context({"svg.hashsalt": "kronreid", "svg.fonttype": "path"}):
        figure.savefig(stem.with_name(f"{stem.name}.png"), dpi=300, metadata={"Software": None})
        figure.savefig(stem.with_name(f"{stem.name}.svg"), dpi=300, metadata={"Date": None})


def new_figure(width: float, height: float) -> Figure:
    """An empty sheet, in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / high, width / wide, height / high))


def write(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    size: float,
    colour: tuple[int, ...],
    align: str = "center",
    bold: bool = False,
) -> None:
    """One line of text whose middle height is at y inches, aligned to x inches."""
    wide, high = figure.get_size_inches()
    weight = "bold" if bold else "normal"
    figure.text(
        x / wide, y / high, text, fontsize=size, color=rgb(colour), ha=align, va="center", fontweight=weight
    )


def rgb(colour: tuple[int, ...]) -> tuple[float, ...]:
    """A colour of the canvas as matplotlib takes it."""
    return tuple(value / 255 for value in colour)


def draw_tile(figure: Figure, tile: Tile, left: float, bottom: float, width: float, height: float) -> None:
    """A picture with its red rectangles at a place given in inches."""
    axes = axes_at(figure, left, bottom, width, height)
    smoothing = "nearest" if tile.blocks else "antialiased"
    axes.imshow(tile.image, extent=(0, 1, 1, 0), aspect="auto", interpolation=smoothing)
    axes.set_axis_off()
    badge = {"boxstyle": "circle,pad=0.12", "facecolor": rgb(BOX), "edgecolor": "white", "linewidth": 0.5}
    for number, (x0, y0, x1, y1) in enumerate(tile.boxes, start=1):
        for colour, line in (("white", 2.4), (rgb(BOX), 1.3)):
            axes.add_patch(
                Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=line)
            )
        if len(tile.boxes) > 1:
            room = x1 < 0.8  # the number stands on the side that has room
            axes.text(
                x1 + 0.05 if room else x0 - 0.05,
                (y0 + y1) / 2,
                str(number),
                fontsize=5,
                fontweight="bold",
                color="white",
                ha="left" if room else "right",
                va="center",
                bbox=badge,
            )


def _rule(figure: Figure, left: float, right: float, y: float) -> None:
    wide, high = figure.get_size_inches()
    ends = ([left / wide, right / wide], [y / high] * 2)
    figure.add_artist(Line2D(*ends, color=rgb(RULE), linewidth=0.8, transform=figure.transFigure))


def _bar(figure: Figure, bar: tuple[str, str, str], y: float) -> None:
    """The colour scale below a grid, to the right: its name, low end, ramp and high end."""
    name, low, high = bar
    ramp = 1.2
    left = figure.get_figwidth() - MARGIN - 0.44 - ramp
    axes = axes_at(figure, left, y - 0.15, ramp, 0.07)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap="viridis", aspect="auto")
    axes.set_axis_off()
    write(figure, left - 0.06, y - 0.115, f"{name}:   {low}", SMALL, MUTED, "right")
    write(figure, left + ramp + 0.06, y - 0.115, high, SMALL, MUTED, "left")
