"""The papers' figures of what the models see, for print: HOReID's Figures 2, 4 and 6, and KPM's Figure 6.

`kronreid.explain.parts` and `Matcher.explain` provide the numbers. `save_figure` writes a figure as PNG and
SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from kronreid.explain.heat import heat
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
from kronreid.explain.sheet import (
    GAP,
    MARGIN,
    Block,
    Tile,
    TileGroup,
    axes_at,
    below,
    draw_tile,
    sheet,
    tile_block,
    write,
)
from kronreid.explain.style import INK, MUTED, TEXT, WIDTH

if TYPE_CHECKING:
    from kronreid.models.inference import Explanation, ScaleExplanation

#: Feature maps (N, D, h, w) of the same N pictures, each with the name of its order.
Orders = Sequence[tuple[str, np.ndarray]]


def similarity_figure(orders: Orders, pictures: np.ndarray) -> Figure:
    """HOReID's Figure 2: the similarities of all pairs of places of two pictures of one person, by order.

    Args:
        orders: Ĝ of each order. Pictures 2i and 2i+1 are a pair.
        pictures: uint8 (N, H, W, 3) in RGB.
    """
    return sheet(below([_similarities(orders, pictures, i) for i in range(0, len(pictures) - 1, 2)], 0), 0)


def _similarities(orders: Orders, pictures: np.ndarray, first: int) -> Block:
    """One pair: the pictures `first` and `first` + 1, a matrix for each order, and the distributions."""
    spacing, chart = 0.34, 1.3
    wide = min(0.48, pictures.shape[2] / pictures.shape[1])
    tall = wide * pictures.shape[1] / pictures.shape[2]
    left = MARGIN + 2 * wide + GAP + 0.36
    matrix = min(1.1, (WIDTH - left - 0.24 - chart - 0.1) / len(orders) - spacing)
    similarities = [place_similarities(maps[first], maps[first + 1]) for _, maps in orders]

    def draw(axes: Axes, x: float, y: float) -> None:
        top = y + 0.22
        for number, name in enumerate("ab"):
            at = x + MARGIN + number * (wide + GAP)
            draw_tile(axes, Tile(pictures[first + number]), at, top, wide, tall)
            write(axes, at + wide / 2, top - 0.09, name, TEXT, INK)
        at = x + left
        for number, ((name, maps), values) in enumerate(zip(orders, similarities)):
            _draw_matrix(axes_at(axes, at, top, matrix, matrix), values, maps.shape[2], named=number == 0)
            write(axes, at + matrix / 2, top - 0.09, name, TEXT, INK, bold=True)
            text = f"max {values.max():.1f}   min {values.min():.1f}   mean {values.mean():.2f}".replace(
                "-", "−"
            )
            write(axes, at + matrix / 2, top + matrix + 0.29, text, 5.5, MUTED)
            at += matrix + spacing
        names = [name for name, _ in orders]
        _draw_distributions(axes_at(axes, at + 0.24, top, chart, matrix), names, similarities)

    width = left + len(orders) * (matrix + spacing) + 0.24 + chart + 0.1
    return Block(width, max(matrix, tall) + 0.58, draw)


def colour_figure(insight: Insight) -> Figure:
    """HOReID's Figure 4: the feature maps of each level and of the products, as colours.

    Each row shows a pair of pictures. All maps of a column, those of a and of b, share one colour scale.
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
    # Unicode's subscript digits are ten consecutive characters.
    levels = TileGroup("levels", [f"G{chr(ord('₀') + number)}" for number in numbers])
    products = TileGroup("products Ĝ", [f"n = {number}" for number in numbers])
    groups = [TileGroup("", ["a"]), levels, products, TileGroup(""), TileGroup("", ["b"]), levels, products]
    return sheet(tile_block(rows, groups))


def part_figure(sampled: Sequence[tuple[str, np.ndarray, np.ndarray]], channels: Sequence[int]) -> Figure:
    """HOReID's Figure 6: the sampler's maps laid over the pictures, one block of rows per run.

    Args:
        sampled: For each run its name, the pictures uint8 (N, H, W, 3) in RGB, and its sampler's maps
            (N, P, h, w).
        channels: Indices of the maps to show, from 0.
    """
    rows = [
        [Tile(picture), *(_overlay(picture, each) for each in (part_maps.sum(axis=0), *part_maps[channels]))]
        for _, pictures, maps in sampled
        for picture, part_maps in zip(pictures, maps)
    ]
    groups = [
        TileGroup("", ["picture"]),
        TileGroup("", ["sum of all"]),
        TileGroup("confidence maps, by channel", [str(channel) for channel in channels]),
    ]
    bands = [(name, len(pictures)) for name, pictures, _ in sampled if len(sampled) > 1]
    bar = ("each map has its own scale", "not sampled", "most")
    return sheet(tile_block(rows, groups, bands, bar))


def attention_figure(explanations: Sequence[Explanation]) -> Figure:
    """KPM's Figure 6, left: the attention at each scale, laid over both pictures of each pair.

    The colour scale of a map runs from 0 to its highest value, but at least to twice the uniform value, so
    that uniform attention looks uniform. The text below a map states its highest value as a multiple of the
    uniform value, and how many places the attention covers (`places_covered`).
    """
    return sheet(attention_block(explanations))


def attention_block(explanations: Sequence[Explanation]) -> Block:
    """The content of `attention_figure` as a block."""
    rows: list[list[Tile]] = []
    for explanation in explanations:
        rows.append([])
        for picture, side in ((explanation.image_a, "attention_a"), (explanation.image_b, "attention_b")):
            rows[-1].append(Tile(picture))
            for scale in explanation.scales:
                shares = getattr(scale, side) * (scale.height * scale.width)
                text = (
                    f"up to {shares.max():.1f} × uniform\n"
                    f"{float(places_covered(shares / shares.size)):.1f} of {shares.size} places"
                )
                rows[-1].append(Tile(heat(picture, shares, max(2.0, float(shares.max()))), text))
    columns = ["picture", *_scale_names(explanations[0].scales)]
    bar = ("attention, each map has its own scale", "0", "most")
    return tile_block(rows, [TileGroup("a", columns), TileGroup("b", columns)], bar=bar)


def matching_figure(explanations: Sequence[Explanation], points: Sequence[Point]) -> Figure:
    """KPM's Figure 6, right: where selected places of a (red rectangles) look in b, at each scale.

    A rectangle is a place of the coarsest scale. The text below a map states its highest matching confidence.

    Args:
        explanations: The pairs.
        points: (x, y) of each selected place, as fractions of the picture's width and height.
    """
    return sheet(matching_block(explanations, points))


def matching_block(
    explanations: Sequence[Explanation], points: Sequence[Point], scales: slice = slice(None)
) -> Block:
    """The content of `matching_figure` as a block, for some of the scales."""
    rows: list[list[Tile]] = []
    for explanation in explanations:
        shown = explanation.scales[scales]
        coarse = shown[0]
        boxes = []
        for point in points:
            row, column = place_at(coarse, point)
            box = (column / coarse.width, row / coarse.height)
            boxes.append((*box, box[0] + 1 / coarse.width, box[1] + 1 / coarse.height))
        rows.append([Tile(explanation.image_a, boxes=boxes), Tile(explanation.image_b)])
        for point in points:
            for scale in shown:
                confidence = matching_map(scale, point)
                text = f"highest {100 * confidence.max():.0f} %"
                rows[-1].append(_overlay(explanation.image_b, confidence, text))
    names = _scale_names(explanations[0].scales)[scales]
    numbers = [str(number) for number in range(1, len(points) + 1)]
    if len(points) == 1:
        found = [TileGroup("where it looks in b", names)]
    elif len(names) == 1:
        found = [TileGroup("where each looks in b", numbers)]
    else:
        found = [TileGroup(f"where {number} looks in b", names) for number in numbers]
    bar = ("matching confidence, each map has its own scale", "0", "highest")
    return tile_block(rows, [TileGroup("", ["a", "b"]), *found], bar=bar)


def _scale_names(scales: Sequence[ScaleExplanation]) -> list[str]:
    return [f"scale-{number}" for number in range(1, len(scales) + 1)]


def _overlay(picture: np.ndarray, values: np.ndarray, text: str = "") -> Tile:
    return Tile(heat(picture, values, float(values.max())), text)


def _blocks(colours: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w, 3) enlarged to about twice `shape` with sharp edges; SVG viewers smooth small pictures."""
    height, width = (size * round(2 * goal / size) for size, goal in zip(colours.shape, shape))
    return np.asarray(Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST))


def _draw_matrix(axes: Axes, values: np.ndarray, rows: int, named: bool) -> None:
    """Draw all pairs of places with their own colour scale. The ticks count the rows of the feature maps."""
    image = axes.imshow(values, aspect="auto", interpolation="nearest")
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
    for each in (axes, bar.ax):
        each.tick_params(labelsize=5, length=1.5, pad=1)
    axes.spines[:].set_visible(True)


def _draw_distributions(axes: Axes, names: Sequence[str], similarities: Sequence[np.ndarray]) -> None:
    """Draw histograms of the similarities on a logarithmic scale. Triangles mark the most similar pairs."""
    low, high = min(v.min() for v in similarities), max(v.max() for v in similarities)
    edges = np.linspace(low, high, 41)
    for name, values in zip(names, similarities):
        share = np.histogram(values, edges)[0] / values.size
        label = f"{name} ({100 * share_of_strongest(values):.0f} %)"
        (line,) = axes.plot(edges, [*share, share[-1]], drawstyle="steps-post", marker="", label=label)
        axes.plot(values.max(), 0.5 / values.size, "v", color=line.get_color(), clip_on=False)
    axes.set_yscale("log")
    lowest = 0.5 / similarities[0].size
    axes.set_ylim(lowest, 50)  # room for the legend above 1
    powers = [10.0**power for power in range(-int(np.log10(similarities[0].size)), 1)]
    axes.set_yticks(powers, [f"{power:g}" for power in powers])
    axes.set_xlim(low, high)
    axes.set_xlabel("similarity of a pair of places", fontsize=5.5, labelpad=1)
    axes.set_ylabel("share of pairs", fontsize=5.5, labelpad=1, y=0.35)
    axes.minorticks_off()
    axes.tick_params(labelsize=5, pad=1)
    axes.spines["left"].set_bounds(lowest, 1)
    title = "order (share of the strongest 1 %)"
    place = {"loc": "upper right", "bbox_to_anchor": (1.04, 1.04), "labelspacing": 0.2, "handlelength": 2}
    axes.legend(fontsize=5.5, title=title, title_fontsize=5.5, **place)
