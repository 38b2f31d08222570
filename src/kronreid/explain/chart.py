"""Line charts as SVG inside a page: they take the page's letters and colours, in light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 42
_DASHES = ("", "6 4", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Chart:
    """Curves of one quantity.

    Attributes:
        title: what is shown, a few words.
        xlabel: what x counts ("pictures seen").
        ylabel: what y measures, with its unit ("mAP, %"); the values are drawn as they are.
        curves: name to (x, y), equally long; values that are not finite are left out.
        caption: one sentence that says what one sees.
    """

    title: str
    xlabel: str
    ylabel: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    caption: str = ""


def chart_svg(chart: Chart) -> Markup:
    """The chart as an <svg> element with a legend above it; colours come from the classes s0 … s3."""
    points = {name: _finite(x, y) for name, (x, y) in chart.curves.items()}
    every = [point for curve in points.values() for point in curve]
    x_ticks = _ticks([x for x, _ in every])
    y_ticks = _ticks([0.0, *(y for _, y in every)])
    x_scale = (_WIDTH - _LEFT - _RIGHT) / (x_ticks[-1] - x_ticks[0])
    y_scale = (_HEIGHT - _TOP - _BOTTOM) / (y_ticks[-1] - y_ticks[0])

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - x_ticks[0]) * x_scale, _HEIGHT - _BOTTOM - (y - y_ticks[0]) * y_scale

    parts = []
    for tick in y_ticks:
        y = at(x_ticks[0], tick)[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    for tick in x_ticks:
        x = at(tick, y_ticks[0])[0]
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">{_short(tick)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(chart.xlabel)}</text>')
    legend = []
    for index, (name, curve) in enumerate(points.items()):
        style = index % len(_DASHES)
        place = [at(x, y) for x, y in curve]
        if place:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in place)
            parts.append(f'<polyline class="s{style}" stroke-dasharray="{_DASHES[style]}" points="{path}"/>')
            parts.append(f'<g class="s{style}">{_mark(style, *place[-1])}</g>')
        sample = (
            f'<svg class="sample" viewBox="0 0 30 12" aria-hidden="true"><g class="s{style}">'
            f'<line x1="1" x2="29" y1="6" y2="6" stroke-dasharray="{_DASHES[style]}"/>'
            f"{_mark(style, 15, 6)}</g></svg>"
        )
        last = f" <b>{_short(curve[-1][1])}</b>" if curve else ""
        legend.append(f"<li>{sample}{escape(name)}{last}</li>")
    spoken = escape(f"{chart.title}: {chart.ylabel} against {chart.xlabel}")
    return Markup(
        f'<ul class="legend">{"".join(legend)}</ul><p class="axis">{escape(chart.ylabel)}</p>'
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{spoken}">'
        f"{''.join(parts)}</svg>"
    )


def _finite(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    pairs = ((float(a), float(b)) for a, b in zip(x, y))
    return [(a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]


def _ticks(values: Sequence[float]) -> list[float]:
    """Four to eight round numbers that enclose the values."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _short(value: float) -> str:
    """Three digits; thousands as k."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value / 1000:.4g}k"


def _mark(style: int, x: float, y: float) -> str:
    """A disc, square, triangle or diamond, so that curves differ without their colours."""
    if style == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if style == 1:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    if style == 2:
        return f'<polygon points="{x:.1f},{y - 5:.1f} {x + 5:.1f},{y + 4:.1f} {x - 5:.1f},{y + 4:.1f}"/>'
    return (
        f'<polygon points="{x:.1f},{y - 5:.1f} {x + 5:.1f},{y:.1f} {x:.1f},{y + 5:.1f} {x - 5:.1f},{y:.1f}"/>'
    )
