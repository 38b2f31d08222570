"""Figures of pictures in rows: ranked lists, right and wrong marked, and the maps of HOReID's sampler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.canvas import (
    MUTED,
    PAPER,
    QUERY,
    RIGHT,
    RULE,
    WRONG,
    Canvas,
    Picture,
    as_image,
    at_height,
    column,
    heat_overlay,
    label,
    row,
    shortened,
)

_WIDTH, _HEIGHT = 96, 192
_FRAME = 5
_PER_ROW = 10


def ranked_list_figure(
    query_image: Picture,
    hit_images: Sequence[Picture],
    correct: Sequence[bool | None],
    labels: Sequence[str],
) -> Image.Image:
    """The query and its hits, best first, ten in a row, RGB.

    A right hit has a whole green frame and a tick in a disc, a wrong one a broken vermilion frame and a cross
    in a square, one that nobody knows (None) a grey frame. `labels` stand below the hits, shortened to fit.
    """
    if not len(hit_images) == len(correct) == len(labels):
        raise InputError(
            f"ranked list: {len(hit_images)} hits, {len(correct)} marks and {len(labels)} labels; "
            "give one of each"
        )
    step_x, step_y, lead = _WIDTH + 2 * _FRAME + 12, _HEIGHT + 2 * _FRAME + 46, 26
    rows = max(1, -(-len(hit_images) // _PER_ROW))
    columns = 1 + min(_PER_ROW, len(hit_images))
    canvas = Canvas(columns * step_x + lead, rows * step_y)
    _card(canvas, 0, 0, query_image, "query", "", QUERY)
    canvas.line([(step_x + 7, 22), (step_x + 7, rows * step_y - 24)], RULE, 1.5)
    for index, (image, mark, name) in enumerate(zip(hit_images, correct, labels)):
        left = step_x + lead + (index % _PER_ROW) * step_x
        top = (index // _PER_ROW) * step_y
        colour = RULE if mark is None else RIGHT if mark else WRONG
        _card(canvas, left, top, image, str(index + 1), name, colour, broken=mark is False)
        if mark is not None:
            _badge(canvas, left + 4, top + 20, mark)
    return canvas.image()


def part_maps_figure(image: Picture, maps: np.ndarray) -> Image.Image:
    """A picture and the maps (P, H, W) ≥ 0 of HOReID's sampler over it, one by one (its Figure 6), RGB.

    Each map is scaled to its own highest value: bright is where the part is sampled.
    """
    if maps.ndim != 3 or len(maps) == 0:
        raise InputError(
            f"maps: expected (P, H, W) with P ≥ 1, got {maps.shape}; choose some of the sampler's maps"
        )
    small = at_height(image, 224)
    cells = [column([small, label(small.width, "picture")], 4)]
    for number, part in enumerate(maps, start=1):
        overlay = heat_overlay(small, part, float(part.max()))
        cells.append(column([overlay, label(small.width, f"part {number}")], 4))
    per_row = 7
    return column([row(cells[i : i + per_row], 8) for i in range(0, len(cells), per_row)], 10)


def _card(
    canvas: Canvas,
    left: int,
    top: int,
    picture: Picture,
    rank: str,
    name: str,
    colour: tuple[int, int, int],
    broken: bool = False,
) -> None:
    """A framed picture, its rank above, its label below."""
    right, bottom = left + _WIDTH + 2 * _FRAME, top + 20 + _HEIGHT + 2 * _FRAME
    canvas.text((left + right) / 2, top + 9, rank, 12, MUTED, bold=True, anchor="mm")
    canvas.box(left, top + 20, right, bottom, fill=colour)
    if broken:
        for y in range(top + 20 + 12, bottom - 4, 18):
            canvas.box(left, y, left + _FRAME, y + 6, fill=PAPER)
            canvas.box(right - _FRAME, y, right, y + 6, fill=PAPER)
        for x in range(left + 14, right - 4, 18):
            canvas.box(x, top + 20, x + 6, top + 20 + _FRAME, fill=PAPER)
            canvas.box(x, bottom - _FRAME, x + 6, bottom, fill=PAPER)
    canvas.paste(_fitted(picture), left + _FRAME, top + 20 + _FRAME)
    canvas.text((left + right) / 2, bottom + 10, shortened(name, right - left, 11), 11, anchor="mm")


def _fitted(picture: Picture) -> Image.Image:
    """The whole picture inside the card, on grey where its shape differs."""
    image = as_image(picture)
    factor = min(_WIDTH / image.width, _HEIGHT / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    card = Image.new("RGB", (_WIDTH, _HEIGHT), RULE)
    resized = image.resize(size, Image.Resampling.LANCZOS)
    card.paste(resized, ((_WIDTH - size[0]) // 2, (_HEIGHT - size[1]) // 2))
    return card


def _badge(canvas: Canvas, x: float, y: float, right: bool) -> None:
    """A tick in a disc or a cross in a square, centred a little inside the frame's corner."""
    x, y = x + 9, y + 9
    if right:
        canvas.disc(x, y, 13, PAPER)
        canvas.disc(x, y, 11.5, RIGHT)
        canvas.line([(x - 5.5, y + 0.5), (x - 1.5, y + 4.5), (x + 5.5, y - 4)], PAPER, 2.6)
    else:
        canvas.box(x - 12, y - 12, x + 12, y + 12, fill=PAPER, radius=3)
        canvas.box(x - 10.5, y - 10.5, x + 10.5, y + 10.5, fill=WRONG, radius=2)
        canvas.line([(x - 4.5, y - 4.5), (x + 4.5, y + 4.5)], PAPER, 2.6)
        canvas.line([(x - 4.5, y + 4.5), (x + 4.5, y - 4.5)], PAPER, 2.6)
