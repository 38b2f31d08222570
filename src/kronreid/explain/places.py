"""Why an embedder takes two pictures for the same person: its verdict as a sum over places.

Every function reads `kronreid.models.place_matcher.PairExplanation`. Blue speaks for the same person, orange
against.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kronreid.explain.charts import name_rows
from kronreid.explain.heat import signed_heat
from kronreid.explain.matches import verdict
from kronreid.explain.sheet import (
    Block,
    Tile,
    axes_at,
    badge,
    below,
    draw_tile,
    link,
    sheet,
    titled,
    write,
)
from kronreid.explain.style import AGAINST, CARD, FOR, INK, MUTED, SMALL, TEXT, WIDTH

if TYPE_CHECKING:
    from kronreid.models.place_matcher import PairExplanation, PlaceShares

_LINES = 5, 3  # the places shown one by one: so many for the same person, so many against


@dataclass(frozen=True)
class Term:
    """A part of the sum that makes the logit.

    Attributes:
        name: Whose part it is.
        gain: What speaks for the same person, zero or more.
        loss: What speaks against, zero or less.
    """

    name: str
    gain: float
    loss: float


@dataclass(frozen=True)
class Link:
    """A place and its best match in the other picture.

    Attributes:
        start: The place: 0 for picture a or 1 for b, row and column.
        end: Its match: the other picture, row and column.
        share: What the place adds to the logit.
        similarity: The cosine of the two.
    """

    start: tuple[int, int, int]
    end: tuple[int, int, int]
    share: float
    similarity: float


def places_figure(why: PairExplanation) -> Figure:
    """One sheet with the probability, how it adds up, each place's share, and the strongest places.

    Each level of places has a row of its own. Colours of one level mean the same on both pictures.
    """
    text = (
        "The verdict is a sum, the logit. The two vectors and every place add to it (blue) or take away from "
        "it (orange); each bar begins where the one above ends. A logit above 0 says that the same person is "
        "more likely."
    )
    blocks = [
        verdict(why.probability),
        titled([(_sum_block(why), "The sum", text)]),
        *(_level_block(why, number) for number in range(len(why.levels))),
    ]
    return sheet(below(blocks, 0.2), margin=0.2)


def shares_figure(why: PairExplanation) -> Figure:
    """Both pictures with what each place of the first level adds to the verdict, small: beside a hit."""
    height, width = why.image_a.shape[:2]
    return sheet(_overlays(why, why.levels[0], min(1.0, 1.6 * width / height)), margin=0)


def sum_of(why: PairExplanation) -> list[Term]:
    """The parts that add up to the logit: the vectors, and of each level the places of a and those of b."""
    terms = [Term(f"vectors (cosine {why.cosine:.2f})", max(why.vectors, 0.0), min(why.vectors, 0.0))]
    for number, level in enumerate(why.levels, start=1):
        prefix = f"level {number}, " if len(why.levels) > 1 else ""
        terms += [Term(f"{prefix}places of {name}", *sums) for name, sums in zip("ab", level.sums)]
    return terms


def strongest(level: PlaceShares, count: int, sign: int) -> list[Link]:
    """The places of both pictures with the largest shares of one sign, kept apart, the strongest first.

    A place is left out where one chosen before, or the match of one, lies beside it in the same picture.

    Args:
        level: One level's places.
        count: No more than so many.
        sign: 1 for those that speak for the same person, -1 for those against.
    """
    height, width = level.shares_a.shape
    shares = sign * np.stack([level.shares_a, level.shares_b])
    found = np.stack([level.found_a, level.found_b])
    similarities = np.stack([level.similarity_a, level.similarity_b])
    apart = math.sqrt(height * width) / 5
    taken: list[tuple[int, int, int]] = []
    links: list[Link] = []
    for flat in np.argsort(-shares, axis=None, kind="stable"):
        side, row, column = (int(i) for i in np.unravel_index(int(flat), shares.shape))
        if len(links) == count or shares[side, row, column] <= 0:
            break
        if any(side == s and math.hypot(row - r, column - c) <= apart for s, r, c in taken):
            continue
        start = side, row, column
        end = (1 - side, *divmod(int(found[start]), width))
        links.append(Link(start, end, float(sign * shares[start]), float(similarities[start])))
        taken += [start, end]
    return links


def _sum_block(why: PairExplanation) -> Block:
    """A row for each part, which begins where the one above ends, and a row for their sum."""
    terms = sum_of(why)
    width, left, right, top = WIDTH - 0.08, 1.45, 1.35, 0.16
    height = 0.2 * (len(terms) + 1)
    ends = np.cumsum([0.0, *(term.gain + term.loss for term in terms)])
    peaks = [start + term.gain for start, term in zip(ends, terms)]
    low, high = min(-0.5, *ends), max(0.5, *ends, *peaks)
    room = 0.04 * (high - low)

    def draw(axes: Axes, x: float, y: float) -> None:
        plot = axes_at(axes, x + left, y + top, width - left - right, height)
        name_rows(plot, [*(term.name for term in terms), "sum: the logit"])
        plot.axvline(0, color=MUTED, linewidth=0.7, zorder=1, marker="")
        for row, (term, start, peak, end) in enumerate(zip(terms, ends, peaks, ends[1:])):
            split = term.gain > 0 > term.loss
            for sign, colour, at, size in ((-1, FOR, start, term.gain), (1, AGAINST, peak, term.loss)):
                middle, thickness = (row + 0.15 * sign, 0.3) if split else (row, 0.6)
                plot.barh(middle, size, thickness, left=at, color=colour, linewidth=0, zorder=2)
            plot.plot([end, end], [row - 0.3, row + 1.3], "-", color=INK, linewidth=0.7, zorder=3)
        plot.barh(len(terms), why.logit, 0.6, color=INK, linewidth=0, zorder=2)
        plot.set_xlim(low - room, high + room)
        plot.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        ticks = [tick for tick in plot.get_xticks() if low - room < tick < high + room]
        plot.set_xticks(ticks, [f"{_number(tick, 'g')}\n{_percent(tick)}" for tick in ticks])

        gains, losses = x + width - 0.75, x + width
        for at, heading in ((gains, "for"), (losses, "against")):
            write(axes, at, y + 0.08, heading, SMALL, MUTED, "right")
        for row, term in enumerate([*terms, Term("", max(why.logit, 0.0), min(why.logit, 0.0))]):
            middle, last = y + top + 0.2 * (row + 0.5), row == len(terms)
            for at, colour, value in ((gains, FOR, term.gain), (losses, AGAINST, term.loss)):
                text = _number(value, "+.2f") if value else ""
                write(axes, at, middle, text, SMALL, INK if last else colour, "right", bold=last)
        for line, name in enumerate(("logit", "probability")):
            write(axes, x + left - 0.3, y + top + height + 0.09 + 0.11 * line, name, SMALL, MUTED, "right")

    return Block(width, top + height + 0.3, draw)


def _level_block(why: PairExplanation, number: int) -> Block:
    """One level: the shares laid over the pictures, and the strongest places with their matches."""
    level = why.levels[number]
    tall, wide = why.image_a.shape[:2]
    rows, columns = level.shares_a.shape
    width = min(1.2, 2.5 * wide / tall)
    title = f"Level {number + 1}: what each place adds" if len(why.levels) > 1 else "What each place adds"
    links = [*strongest(level, _LINES[0], 1), *strongest(level, _LINES[1], -1)]
    return titled(
        [
            (
                _overlays(why, level, width),
                title,
                f"{rows} × {columns} places in each picture. Blue speaks for the same person, orange "
                "against. A place without colour is matched as well as usual.",
            ),
            (
                _links(why, level, links, width),
                "The strongest places",
                "A line leads from a place (number) to its best match in the other picture (ring). Dashed "
                "lines speak against: the match is poor, or it is of a place, often background, where good "
                "matches mislead.",
            ),
            (_list(links, _digits(level)), "Their shares", "In brackets: the cosine of place and match."),
        ]
    )


def _overlays(why: PairExplanation, level: PlaceShares, width: float) -> Block:
    """Both pictures below their shares, and the scale of the colours."""
    tall, wide = why.image_a.shape[:2]
    height, gap, top = width * tall / wide, 0.06, 0.16
    highest = _highest(level)
    sides = (("a", why.image_a, level.shares_a), ("b", why.image_b, level.shares_b))

    def draw(axes: Axes, x: float, y: float) -> None:
        left = x
        for name, picture, shares in sides:
            write(axes, left + width / 2, y + 0.05, name, SMALL, MUTED)
            draw_tile(axes, Tile(signed_heat(picture, shares, highest)), left, y + top, width, height)
            left += width + gap
        ramp, bottom = 2 * width + gap, y + top + height + 0.06
        scale = signed_heat(np.full((8, 256, 3), 160, np.uint8), np.linspace(-1, 1, 65)[None], 1.0)
        draw_tile(axes, Tile(scale), x, bottom, ramp, 0.08)
        write(axes, x + ramp / 2, bottom + 0.15, "0", SMALL, MUTED)
        for value, at, align in ((-highest, 0, "left"), (highest, ramp, "right")):
            text = _number(value, f"+.{_digits(level)}f") if value else ""
            write(axes, x + at, bottom + 0.15, text, SMALL, MUTED, align)

    return Block(max(2 * width + gap, 1.9), top + height + 0.26, draw)


def _links(why: PairExplanation, level: PlaceShares, links: list[Link], width: float) -> Block:
    """Both pictures and the lines between them."""
    tall, wide = why.image_a.shape[:2]
    rows, columns = level.shares_a.shape
    height, gap, top = width * tall / wide, 0.7, 0.16

    def draw(axes: Axes, x: float, y: float) -> None:
        def centre(place: tuple[int, int, int]) -> tuple[float, float]:
            side, row, column = place
            left = x + side * (width + gap)
            return left + (column + 0.5) * width / columns, y + top + (row + 0.5) * height / rows

        for side, (name, picture) in enumerate((("a", why.image_a), ("b", why.image_b))):
            left = x + side * (width + gap)
            write(axes, left + width / 2, y + 0.05, name, SMALL, MUTED)
            draw_tile(axes, Tile(picture), left, y + top, width, height)
        for each in links:
            start, end, colour = centre(each.start), centre(each.end), _colour(each)
            link(axes, start, end, colour, dashes="-" if each.share > 0 else (0, (2.5, 1.5)))
            axes.plot(*end, "o", markersize=4.4, markerfacecolor=CARD, markeredgecolor=colour)
        for number, each in enumerate(links, start=1):
            badge(axes, *centre(each.start), str(number), _colour(each))

    return Block(2 * width + gap, top + height, draw)


def _list(links: list[Link], digits: int) -> Block:
    """The shares of the places by their numbers, with so many digits behind the point."""

    def draw(axes: Axes, x: float, y: float) -> None:
        if not links:
            write(axes, x, y + 0.24, "All are zero.", SMALL, MUTED, "left")
        for number, each in enumerate(links, start=1):
            at = y + 0.24 + 0.19 * (number - 1)
            badge(axes, x + 0.06, at, str(number), _colour(each))
            write(axes, x + 0.2, at, "ab"[each.start[0]], SMALL, MUTED, "left")
            write(axes, x + 0.68, at, _number(each.share, f"+.{digits}f"), TEXT, INK, "right")
            write(axes, x + 0.75, at, f"({each.similarity:.2f})", SMALL, MUTED, "left")

    return Block(1.1, 0.3 + 0.19 * sum(_LINES), draw)


def _colour(each: Link) -> str:
    return FOR if each.share > 0 else AGAINST


def _highest(level: PlaceShares) -> float:
    """The largest magnitude of a share."""
    return float(max(np.abs(level.shares_a).max(), np.abs(level.shares_b).max()))


def _digits(level: PlaceShares) -> int:
    """Digits behind the point, two to five, with which the largest share shows two of its own."""
    highest = _highest(level)
    return min(5, max(2, 1 - math.floor(math.log10(highest)))) if highest > 0 else 2


def _number(value: float, form: str) -> str:
    """A number as people write it."""
    return f"{value:{form}}".replace("-", "−")


def _percent(logit: float) -> str:
    """The probability of a logit."""
    share = 50 * (1 + math.tanh(logit / 2))
    return f"{share:.0f} %" if 1 <= share <= 99 else "< 1 %" if share < 1 else "> 99 %"
