"""The papers' figures of what the models see, drawn for print: HOReID's Figures 2, 4 and 6, KPM's Figure 6.

The numbers come from `kronreid.explain.parts` and from `Matcher.explain`; `save_figure` writes a figure as
PNG and SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from kronreid.explain.canvas import INK, MUTED, at_height, heat_overlay
from kronreid.explain.figures_sheet import (
    GAP,
    MARGIN,
    TEXT,
    WIDTH,
    Tile,
    TileGroup,
    axes_at,
    draw_tile,
    new_figure,
    save_figure,
    tile_figure,
    write,
)
from kronreid.explain.parts import (
    Insight,
    Point,
    component_colours,
    matching_map,
    place_at,
    place_similarities,
    places_covered,
    principal_components,
    share_of_strongest,
)

if TYPE_CHECKING:
    from kronreid.models.inference import Explanation

__all__ = [
    "attention_maps_figure",
    "colour_figure",
    "matching_figure",
    "part_figure",
    "save_figure",
    "similarity_figure",
]

#: Feature maps (N, D, h, w) of the same N pictures, by the name of their order.
Orders = Sequence[tuple[str, np.ndarray]]

_PIXELS = 288  # height of a map laid over a picture
# Okabe and Ito's colours that show on white, with dashes, so that the curves differ in grey, too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
_DASHES = ("-", "--", (0, (1, 1)), "-.", (0, (5, 1, 1, 1)))


def similarity_figure(orders: Orders, pictures: np.ndarray) -> Figure:
    """HOReID's Figure 2: similarities of all pairs of places of two pictures of one person, by order.

    Args:
        orders: Ĝ of each order; pictures 2i and 2i+1 are a pair.
        pictures: uint8 (N, H, W, 3).
    """
    spacing, chart = 0.34, 1.3
    wide = min(0.48, pictures.shape[2] / pictures.shape[1])
    tall = wide * pictures.shape[1] / pictures.shape[2]
    left = MARGIN + 2 * wide + GAP + 0.36
    matrix = min(1.1, (WIDTH - left - 0.24 - chart - 0.1) / len(orders) - spacing)
    line = max(matrix, tall) + 0.58
    pairs = len(pictures) // 2
    figure = new_figure(left + len(orders) * (matrix + spacing) + 0.24 + chart + 0.1, pairs * line)
    for pair in range(pairs):
        top = figure.get_figheight() - 0.22 - pair * line
        for number, name in enumerate("ab"):
            x = MARGIN + number * (wide + GAP)
            draw_tile(figure, Tile(pictures[2 * pair + number]), x, top - tall, wide, tall)
            write(figure, x + wide / 2, top + 0.09, name, TEXT, INK)
        similarities = [place_similarities(maps[2 * pair], maps[2 * pair + 1]) for _, maps in orders]
        x = left
        for number, ((name, maps), values) in enumerate(zip(orders, similarities)):
            axes = axes_at(figure, x, top - matrix, matrix, matrix)
            _draw_matrix(axes, values, maps.shape[2], named=number == 0)
            write(figure, x + matrix / 2, top + 0.09, name, TEXT, INK, bold=True)
            text = f"max {values.max():.1f}   min {values.min():.1f}   mean {values.mean():.2f}".replace(
                "-", "−"
            )
            write(figure, x + matrix / 2, top - matrix - 0.29, text, 5.5, MUTED)
            x += matrix + spacing
        axes = axes_at(figure, x + 0.24, top - matrix, chart, matrix)
        _draw_distributions(axes, [name for name, _ in orders], similarities)
    return figure


def colour_figure(insight: Insight) -> Figure:
    """HOReID's Figure 4: feature maps as colours, the levels one by one and their products.

    A row is a pair of pictures; the colours of a column, a's and b's alike, are of one scale.
    """
    numbers = range(1, len(insight.levels) + 1)
    coloured = [
        component_colours(principal_components(maps)) for maps in (*insight.levels, *insight.products)
    ]
    shape = insight.pictures.shape[1:3]
    tiles = [
        [Tile(picture), *(Tile(_blocks(colours[number], shape), blocks=True) for colours in coloured)]
        for number, picture in enumerate(insight.pictures)
    ]
    rows = [tiles[i] + tiles[i + 1] for i in range(0, len(tiles) - 1, 2)]
    levels = TileGroup("levels", [f"$G_{number}$" for number in numbers])
    products = TileGroup("products Ĝ", [f"n = {number}" for number in numbers])
    groups = [TileGroup("", ["a"]), levels, products, TileGroup(""), TileGroup("", ["b"]), levels, products]
    return tile_figure(rows, groups)


def part_figure(
    named: Sequence[tuple[str, Insight]], pictures: Sequence[int], channels: Sequence[int]
) -> Figure:
    """HOReID's Figure 6: the sampler's maps laid over the pictures, a block of rows for each run.

    Args:
        named: A run's name and what its model holds for the same pictures; all with part maps.
        pictures: Numbers of the pictures to show, from 0.
        channels: Numbers of the maps to show, from 0.
    """
    rows: list[list[Tile]] = []
    bands = []
    for name, insight in named:
        assert insight.part_maps is not None
        for number in pictures:
            picture, maps = insight.pictures[number], insight.part_maps[number]
            shown = [_overlay(picture, maps[channel]) for channel in channels]
            rows.append([Tile(picture), _overlay(picture, maps.sum(axis=0)), *shown])
        bands.append((name, len(pictures)))
    groups = [
        TileGroup("", ["picture"]),
        TileGroup("", ["sum of all"]),
        TileGroup("confidence maps, by channel", [str(channel) for channel in channels]),
    ]
    bar = ("each map on a scale of its own", "not sampled", "most")
    return tile_figure(rows, groups, bands if len(bands) > 1 else (), bar)


def attention_maps_figure(explanations: Sequence[Explanation]) -> Figure:
    """KPM's Figure 6, left: the attention of each scale over both pictures of each pair.

    Below each map: how many places it covers (`places_covered`).
    """
    rows: list[list[Tile]] = []
    for explanation in explanations:
        rows.append([])
        for picture, side in ((explanation.image_a, "attention_a"), (explanation.image_b, "attention_b")):
            rows[-1].append(Tile(picture))
            for scale in explanation.scales:
                attention = getattr(scale, side)
                text = f"{float(places_covered(attention)):.1f} of {attention.size} places"
                rows[-1].append(_overlay(picture, attention, text))
    columns = ["picture", *_scale_names(explanations[0])]
    groups = [TileGroup("a", columns), TileGroup("b", columns)]
    return tile_figure(rows, groups, bar=("attention, each map on a scale of its own", "0", "most"))


def matching_figure(explanations: Sequence[Explanation], points: Sequence[Point]) -> Figure:
    """KPM's Figure 6, right: where chosen places of a (red rectangles) look in b, scale by scale.

    Below each map: the highest matching confidence. The rectangle is the place of the coarsest scale.

    Args:
        explanations: The pairs.
        points: (x, y) of each chosen place, as fractions of the picture's width and height.
    """
    rows: list[list[Tile]] = []
    for explanation in explanations:
        coarse = explanation.scales[0]
        boxes = []
        for point in points:
            row, column = place_at(coarse, point)
            box = (column / coarse.width, row / coarse.height)
            boxes.append((*box, box[0] + 1 / coarse.width, box[1] + 1 / coarse.height))
        rows.append([Tile(explanation.image_a, boxes=boxes), Tile(explanation.image_b)])
        for point in points:
            for scale in explanation.scales:
                confidence = matching_map(scale, point)
                text = f"highest {100 * confidence.max():.0f} %"
                rows[-1].append(_overlay(explanation.image_b, confidence, text))
    several = len(points) > 1
    groups = [TileGroup("", ["a", "b"])]
    for number in range(1, len(points) + 1):
        heading = f"where {number} looks in b" if several else "where it looks in b"
        groups.append(TileGroup(heading, _scale_names(explanations[0])))
    return tile_figure(
        rows, groups, bar=("matching confidence, each map on a scale of its own", "0", "highest")
    )


def _scale_names(explanation: Explanation) -> list[str]:
    return [f"scale-{number}" for number in range(1, len(explanation.scales) + 1)]


def _overlay(picture: np.ndarray, values: np.ndarray, text: str = "") -> Tile:
    """A map over a picture as in HOReID's Figure 6: cubic upsampling, alpha blending."""
    return Tile(np.asarray(heat_overlay(at_height(picture, _PIXELS), values, float(values.max()))), text)


def _blocks(colours: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w, 3) enlarged to about twice `shape` with sharp edges, which viewers of SVG would smooth."""
    height, width = (size * round(2 * goal / size) for size, goal in zip(colours.shape, shape))
    return np.asarray(Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST))


def _draw_matrix(axes: Axes, values: np.ndarray, rows: int, named: bool) -> None:
    """All pairs of places with a colour scale of their own; the ticks count the rows of the feature maps."""
    image = axes.imshow(values, cmap="viridis", aspect="auto", interpolation="nearest")
    step = max(1, rows // 4)
    shown = range(0, rows, step)
    ticks = [(row + 0.5) * len(values) / rows - 0.5 for row in shown]
    names = [str(row + 1) for row in shown]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names if named else [])
    axes.set_xlabel("row of b", fontsize=5.5, labelpad=1)
    if named:
        axes.set_ylabel("row of a", fontsize=5.5, labelpad=1)
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.05, 1)))
    bar.outline.set_linewidth(0.4)
    for each in (axes, bar.ax):
        each.tick_params(labelsize=5, length=1.5, width=0.5, pad=1)
    axes.spines[:].set_linewidth(0.5)


def _draw_distributions(axes: Axes, names: Sequence[str], similarities: Sequence[np.ndarray]) -> None:
    """How many pairs are how similar, on a logarithmic scale; triangles mark the most similar pair."""
    low, high = min(v.min() for v in similarities), max(v.max() for v in similarities)
    edges = np.linspace(low, high, 41)
    for index, (name, values) in enumerate(zip(names, similarities)):
        colour = _COLOURS[index % len(_COLOURS)]
        share = np.histogram(values, edges)[0] / values.size
        label = f"{name} ({100 * share_of_strongest(values):.0f} %)"
        dashes = _DASHES[index % len(_DASHES)]
        axes.stairs(share, edges, color=colour, linestyle=dashes, linewidth=1.1, label=label)
        axes.plot(values.max(), 0.5 / values.size, "v", color=colour, markersize=3.5, clip_on=False)
    axes.set_yscale("log")
    lowest = 0.5 / similarities[0].size
    axes.set_ylim(lowest, 50)  # room for the legend above 1
    axes.set_yticks([10.0**power for power in range(-int(np.log10(similarities[0].size)), 1)])
    axes.set_xlabel("similarity of a pair of places", fontsize=5.5, labelpad=1)
    axes.set_ylabel("share of pairs", fontsize=5.5, labelpad=1, y=0.35)
    axes.minorticks_off()
    axes.tick_params(labelsize=5, length=2, width=0.5, pad=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["left"].set_bounds(lowest, 1)
    axes.spines[["left", "bottom"]].set_linewidth(0.5)
    axes.legend(
        frameon=False,
        fontsize=5.5,
        title="order (share of the strongest 1 %)",
        title_fontsize=5.5,
        loc="upper right",
        bbox_to_anchor=(1.04, 1.04),
        handlelength=2,
        borderaxespad=0,
        labelspacing=0.2,
    )
