"""Sheets of pictures for print and screen: blocks in rows and columns, and grids of tiles with headings.

A sheet is one matplotlib axes into which the blocks draw. Its unit is the inch, its origin is the upper left
corner, and y points down.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from kronreid.explain.style import (
    ACCENT,
    BOX,
    CARD,
    INK,
    MUTED,
    RIGHT,
    RULE,
    SMALL,
    TEXT,
    WIDTH,
    WRONG,
    style,
)

MARGIN = 0.04
GAP = 0.03  # between tiles


@dataclass(frozen=True)
class Block:
    """A part of a sheet.

    Attributes:
        width: Width in inches.
        height: Height in inches.
        draw: Draws the block into the axes, with its upper left corner at (x, y) in inches.
    """

    width: float
    height: float
    draw: Callable[[Axes, float, float], None]


def sheet(block: Block, margin: float = MARGIN) -> Figure:
    """A figure of the block's size with the block; `margin` in inches."""
    width, height = block.width + 2 * margin, block.height + 2 * margin
    with style():
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        axes.set_axis_off()
        block.draw(axes, margin, margin)
    return figure


def beside(blocks: Sequence[Block], gap: float) -> Block:
    """Blocks in a row with aligned tops; `gap` in inches."""

    def draw(axes: Axes, x: float, y: float) -> None:
        for block in blocks:
            block.draw(axes, x, y)
            x += block.width + gap

    width = sum(block.width for block in blocks) + gap * (len(blocks) - 1)
    return Block(width, max(block.height for block in blocks), draw)


def below(blocks: Sequence[Block], gap: float) -> Block:
    """Blocks in a column with aligned left sides; `gap` in inches."""

    def draw(axes: Axes, x: float, y: float) -> None:
        for block in blocks:
            block.draw(axes, x, y)
            y += block.height + gap

    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    return Block(max(block.width for block in blocks), height, draw)


def titled(sections: Sequence[tuple[Block, str, str]], gap: float = 0.25) -> Block:
    """Blocks in a row, each with a title and a sentence above it; `gap` in inches."""
    # The mean width of a letter of DejaVu Sans is half its height.
    lines = [
        textwrap.wrap(text, max(8, int(block.width / (0.52 * SMALL / 72)))) for block, _, text in sections
    ]
    top = 0.2 + 0.13 * max(map(len, lines))

    def draw(axes: Axes, x: float, y: float) -> None:
        for (block, title, _), words in zip(sections, lines):
            write(axes, x, y + 0.06, title, TEXT + 1, INK, "left", bold=True)
            for number, line in enumerate(words):
                write(axes, x, y + 0.22 + 0.13 * number, line, SMALL, MUTED, "left")
            block.draw(axes, x, y + top)
            x += block.width + gap

    width = sum(block.width for block, _, _ in sections) + gap * (len(sections) - 1)
    return Block(width, top + max(block.height for block, _, _ in sections), draw)


@dataclass
class Tile:
    """One picture of a grid.

    Attributes:
        image: uint8 (H, W, 3).
        text: One or two lines below it.
        boxes: (left, top, right, bottom) of red rectangles, as fractions of the picture. Several rectangles
            are numbered from 1.
        blocks: Draw its pixels as blocks without smoothing, for a map of few places.
        part: Its part in a ranked list: "query", "right", "wrong", or "" for none. It gets a frame, and a hit
            also gets a sign.
    """

    image: np.ndarray
    text: str = ""
    boxes: Sequence[tuple[float, float, float, float]] = ()
    blocks: bool = False
    part: str = ""


@dataclass
class TileGroup:
    """Neighbouring columns of a grid with a common heading.

    Attributes:
        heading: The heading.
        columns: The name of each column. A group without columns is a wider gap.
    """

    heading: str
    columns: list[str] = field(default_factory=list)


def tile_block(
    rows: Sequence[Sequence[Tile]],
    groups: Sequence[TileGroup],
    bands: Sequence[tuple[str, int]] = (),
    bar: tuple[str, str, str] | None = None,
    widest: float = 1.0,
) -> Block:
    """A grid of pictures, at most as wide as a sheet.

    Args:
        rows: The tiles of each row, at most as many as there are columns. All are drawn with the aspect ratio
            of the first.
        groups: The columns.
        bands: Name and number of rows of each section; none if the rows form a single section.
        bar: Name of the colour scale, and the labels of its low and its high end.
        widest: Maximum width of a tile in inches.
    """
    columns = sum(len(group.columns) for group in groups)
    between, band_height = 0.11, 0.2
    top = 0.32 if any(group.heading for group in groups) else 0.16
    gaps = GAP * (columns - len(groups)) + between * (len(groups) - 1)
    width = min(widest, (WIDTH - 2 * MARGIN - gaps) / columns)
    first = rows[0][0].image
    height = width * first.shape[0] / first.shape[1]
    lines = max((tile.text.count("\n") + 1 for row in rows for tile in row if tile.text), default=0)
    step = height + GAP + (0.04 + 0.09 * lines if lines else 0)

    def draw(axes: Axes, left: float, y: float) -> None:
        lefts, x = [], left
        for group in groups:
            start = x
            for name in group.columns:
                lefts.append(x)
                write(axes, x + width / 2, y + top - 0.11, name, SMALL, MUTED)
                x += width + GAP
            if group.heading:
                write(axes, (start + x - GAP) / 2, y + 0.06, group.heading, TEXT, INK, bold=True)
                axes.plot([start, x - GAP], [y + 0.135] * 2, "-", color=RULE, linewidth=0.8)
            x += between - GAP
        y += top
        names = dict(zip(np.cumsum([0, *(count for _, count in bands)]).tolist(), bands))
        for number, row in enumerate(rows):
            if number in names:
                write(axes, left, y + 0.08, names[number][0], TEXT, INK, "left", bold=True)
                y += band_height
            for x, tile in zip(lefts, row):
                draw_tile(axes, tile, x, y, width, height)
                for line, words in enumerate(tile.text.split("\n")):
                    write(axes, x + width / 2, y + height + 0.075 + 0.09 * line, words, 5.5, MUTED)
            y += step
        if bar:
            _draw_bar(axes, bar, left + columns * width + gaps, y)

    tall = top + len(rows) * step + len(bands) * band_height + (0.2 if bar else -GAP)
    return Block(columns * width + gaps, tall, draw)


def axes_at(axes: Axes, left: float, top: float, width: float, height: float) -> Axes:
    """New axes at a position of a sheet; position and size in inches."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str,
    align: str = "center",
    bold: bool = False,
) -> None:
    """Write one line of text, aligned horizontally at x inches and centred vertically at y inches.

    Args:
        axes: The sheet.
        x: Horizontal position in inches.
        y: Vertical position in inches.
        text: The text.
        size: Font size in points.
        colour: Colour of the text.
        align: Horizontal alignment at x: "left", "center" or "right".
        bold: Use a bold font.
    """
    weight = "bold" if bold else "normal"
    axes.text(x, y, text, fontsize=size, color=colour, ha=align, va="center_baseline", fontweight=weight)


def draw_tile(axes: Axes, tile: Tile, x: float, y: float, width: float, height: float) -> None:
    """Draw a picture with its rectangles and its frame; the upper left corner is at (x, y), in inches."""
    if tile.part:
        frame = 0.015
        x, y, width, height = x + frame, y + frame, width - 2 * frame, height - 2 * frame
    smoothing = "nearest" if tile.blocks else "bicubic"
    axes.imshow(tile.image, extent=(x, x + width, y + height, y), aspect="auto", interpolation=smoothing)
    for number, (x0, y0, x1, y1) in enumerate(tile.boxes, start=1):
        corner, size = (x + x0 * width, y + y0 * height), ((x1 - x0) * width, (y1 - y0) * height)
        for colour, line in (("white", 2.4), (BOX, 1.3)):
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=line))
        if len(tile.boxes) > 1:
            room = x1 < 0.8  # put the number on the side that has room
            place = corner[0] + size[0] + 0.09 if room else corner[0] - 0.09
            badge(axes, place, corner[1] + size[1] / 2, str(number), BOX)
    if tile.part:
        colour = {"query": ACCENT, "right": RIGHT, "wrong": WRONG}[tile.part]
        dashes = (0, (3, 1.5)) if tile.part == "wrong" else "-"
        axes.add_patch(
            Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=2, linestyle=dashes)
        )
    if tile.part in ("right", "wrong"):
        sign, shape = ("✓", "o") if tile.part == "right" else ("✗", "s")
        badge(axes, x + 0.05, y + 0.05, sign, colour, shape)


def badge(axes: Axes, x: float, y: float, text: str, colour: str, shape: str = "o") -> None:
    """Draw a number or a sign on a coloured background with a white edge."""
    axes.plot(x, y, shape, markersize=8.6, markerfacecolor=colour, markeredgecolor=CARD, markeredgewidth=0.7)
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    write(axes, x, y, text, 5.8, INK if red + green + blue > 330 else CARD, bold=True)


def link(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    opacity: float = 1,
    dashes: Any = "-",
) -> None:
    """A curve with a light rim that leaves and arrives level."""
    middle = (start[0] + end[0]) / 2
    curve = Path([start, (middle, start[1]), (middle, end[1]), end], [1, 4, 4, 4])
    for stroke, line, alpha, pattern in ((CARD, 2.6, opacity / 2, "-"), (colour, 1.3, opacity, dashes)):
        axes.add_patch(
            PathPatch(curve, fill=False, edgecolor=stroke, linewidth=line, alpha=alpha, linestyle=pattern)
        )


def _draw_bar(axes: Axes, bar: tuple[str, str, str], right: float, y: float) -> None:
    """Draw the colour scale below a grid, right-aligned: its name, low end, ramp and high end."""
    name, low, high = bar
    ramp, left = 1.2, right - 1.64
    colours = np.linspace(0, 1, 256)[None]
    axes.imshow(colours, extent=(left, left + ramp, y + 0.15, y + 0.08), aspect="auto")
    write(axes, left - 0.06, y + 0.115, f"{name}:   {low}", SMALL, MUTED, "right")
    write(axes, left + ramp + 0.06, y + 0.115, high, SMALL, MUTED, "left")
