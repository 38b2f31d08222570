"""Why a matcher takes two pictures for the same person (KPM, Figure 6): correspondences, attention, warp.

Every function reads `kronreid.models.inference.Explanation`. Scales count from the coarsest; −1 is the
finest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.canvas import (
    BOX,
    INK,
    MUTED,
    PAPER,
    RULE,
    TEXT_SIZE,
    Canvas,
    as_image,
    at_height,
    caption,
    colour_bar,
    colours_of,
    column,
    heat_overlay,
    label,
    row,
    wrapped,
)

if TYPE_CHECKING:
    from kronreid.models.inference import Explanation, ScaleExplanation

Place = tuple[int, int]

_HEIGHT = 384


def correspondence_figure(explanation: Explanation, *, scale: int = -1, places: int = 8) -> Image.Image:
    """The two pictures with lines from places of a to where they look in b, RGB, 384 pixels high.

    The places are those with most attention, kept apart (`prominent_places`), numbered from top to bottom at
    both ends. A line is the more opaque the surer the match (`looks_at`).
    """
    chosen_scale = _scale(explanation, scale)
    image_a, image_b = at_height(explanation.image_a, _HEIGHT), at_height(explanation.image_b, _HEIGHT)
    gap = 132
    canvas = Canvas(image_a.width + gap + image_b.width, _HEIGHT)
    canvas.paste(image_a, 0, 0)
    canvas.paste(image_b, image_a.width + gap, 0)

    ends = []
    for row_a, column_a in prominent_places(chosen_scale.attention_a, places):
        row_b, column_b, confidence = looks_at(chosen_scale, (row_a, column_a))
        start = _centre(row_a, column_a, chosen_scale, image_a)
        x, y = _centre(row_b, column_b, chosen_scale, image_b)
        ends.append((start, (image_a.width + gap + x, y), confidence))
    # Colour runs from head to feet, so a line that crosses the others stands out.
    colours = colours_of(np.linspace(0.05, 0.9, max(1, len(ends))))
    strokes = [(tuple(int(v) for v in colour), *end) for colour, end in zip(colours, ends)]
    for colour, start, end, confidence in strokes:
        opacity = round(255 * (0.12 + 0.88 * confidence))
        curve = _curve(start, end)
        canvas.line(curve, (*PAPER, opacity // 2), 5)
        canvas.line(curve, (*colour, opacity), 2.6)
    for number, (colour, start, end, _) in enumerate(strokes, start=1):
        for x, y in (start, end):
            canvas.disc(x, y, 11, PAPER)
            canvas.disc(x, y, 9.5, colour)
            canvas.text(x, y, str(number), 12, INK if sum(colour) > 330 else PAPER, bold=True, anchor="mm")
    return canvas.image()


def match_heat_figure(explanation: Explanation, place: Place, *, scale: int = -1) -> Image.Image:
    """A red rectangle at `place` (row, column) of a, and over b the map of where it looks, RGB."""
    chosen_scale = _scale(explanation, scale)
    image_a, image_b = at_height(explanation.image_a, _HEIGHT), at_height(explanation.image_b, _HEIGHT)
    boxed = _boxed(image_a, chosen_scale, [place])
    heat, bar = _heat(image_b, chosen_scale, place)
    return row([boxed, column([heat, bar], 6)], 16)


def attention_figure(explanation: Explanation) -> Image.Image:
    """What counts more in the comparison: the attention over both pictures, scale by scale, RGB.

    Colours give each place's attention as a multiple of an even share and start at 0, so even attention looks
    even.
    """
    blocks = []
    image_a, image_b = at_height(explanation.image_a, 288), at_height(explanation.image_b, 288)
    for number, scale in enumerate(explanation.scales, start=1):
        shares_a = scale.attention_a * scale.attention_a.size
        shares_b = scale.attention_b * scale.attention_b.size
        highest = max(2.0, float(shares_a.max()), float(shares_b.max()))
        pair = row([heat_overlay(image_a, shares_a, highest), heat_overlay(image_b, shares_b, highest)], 6)
        bar = colour_bar(pair.width, "0", f"{highest:.1f} × even share")
        blocks.append(column([pair, bar, label(pair.width, _scale_name(number, scale))], 5))
    return row(blocks, 28)


def warped_figure(explanation: Explanation, *, scale: int = -1) -> Image.Image:
    """Picture a, picture b softly warped onto a, and picture b, RGB, 384 pixels high and named below."""
    names = ("a", "b warped onto a", "b")
    pictures = (
        explanation.image_a,
        warped_picture(explanation, scale=scale),
        explanation.image_b,
    )
    images = [at_height(picture, _HEIGHT) for picture in pictures]
    return row([column([image, label(image.width, name)], 5) for image, name in zip(images, names)], 12)


def match_figure(explanation: Explanation) -> Image.Image:
    """One sheet with the probability and all of the above, RGB."""
    finest = explanation.scales[-1]
    lines = correspondence_figure(explanation)
    lines = column([lines, label(lines.width, "a  →  b")], 5)
    top = _sections(
        [
            (
                lines,
                "Correspondences",
                "Lines lead from places of a to where they look in b; faint is unsure.",
            ),
            (
                warped_figure(explanation),
                "Soft warp",
                "Every place of a repainted with what it found in b: so the two are compared.",
            ),
        ]
    )
    heats = (
        _heat_row(explanation, finest, top.width),
        "Matching confidence",
        f"Each red rectangle of a (one of {finest.height} × {finest.width} places) spreads a probability of "
        "1 over b; bright is where it goes.",
    )
    parts = [top, _sections([heats])]
    if any(np.ptp(scale.attention_a) > 0 or np.ptp(scale.attention_b) > 0 for scale in explanation.scales):
        text = "Bright places weigh more in the comparison."
        parts.append(_sections([(attention_figure(explanation), "Attention", text)]))
    width = max(part.width for part in parts)
    body = column([_probability_header(explanation.probability, width), *parts], 34)
    margin = 32
    sheet = Image.new("RGB", (body.width + 2 * margin, body.height + 2 * margin), PAPER)
    sheet.paste(body, (margin, margin))
    return sheet


def warped_picture(explanation: Explanation, *, scale: int = -1) -> np.ndarray:
    """Picture b repainted in the places of a, uint8 (H, W, 3) of a's size.

    KPM warps features (Eq. 3, ŷ_i = Σ_j β_ij y_j); here the y_j are the pixels around location j of b.
    Patches are two locations wide and fade linearly to their rims, where the neighbours take over: they add
    up to 1 everywhere, and a correspondence of every place with itself gives b back.
    """
    chosen_scale = _scale(explanation, scale)
    rows, columns = chosen_scale.height, chosen_scale.width
    height, width = explanation.image_a.shape[:2]
    # Even, so that patches two locations wide begin half a location outside.
    step_y, step_x = 2 * math.ceil(height / rows / 2), 2 * math.ceil(width / columns / 2)
    image = as_image(explanation.image_b).resize((step_x * columns, step_y * rows), Image.Resampling.BICUBIC)
    half_y, half_x = step_y // 2, step_x // 2
    padded = np.pad(np.asarray(image, dtype=np.float32), ((half_y,) * 2, (half_x,) * 2, (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * step_y, 2 * step_x), axis=(0, 1))
    patches = windows[::step_y, ::step_x].reshape(rows * columns, -1)
    painted = np.asarray(chosen_scale.correspondence, dtype=np.float32) @ patches
    painted = painted.reshape(rows, columns, 3, 2 * step_y, 2 * step_x)
    painted *= np.outer(_tent(step_y), _tent(step_x)).astype(np.float32)

    total = np.zeros_like(padded)
    weight = np.zeros((*padded.shape[:2], 1), dtype=np.float32)
    window = np.outer(_tent(step_y), _tent(step_x))[..., None]
    for r in range(rows):
        for c in range(columns):
            here = np.s_[r * step_y : (r + 2) * step_y, c * step_x : (c + 2) * step_x]
            total[here] += painted[r, c].transpose(1, 2, 0)
            weight[here] += window
    inner = np.s_[half_y : half_y + step_y * rows, half_x : half_x + step_x * columns]
    pixels = np.clip(total[inner] / weight[inner] + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def prominent_places(attention: np.ndarray, count: int) -> list[Place]:
    """`count` places (row, column) of an attention map (H, W) with much attention, apart, from top to bottom.

    Greedy: the place with most attention, then again after the surroundings of those chosen are damped. Where
    attention is flat, a mild window keeps off the rim, which is background in a crop of a person.
    """
    height, width = attention.shape
    rows, columns = np.mgrid[:height, :width]
    across, down = (columns + 0.5) / width - 0.5, (rows + 0.5) / height - 0.5
    relative = attention / attention.max() if attention.max() > 0 else np.ones(attention.shape)
    # An attention that has collapsed onto one place says nothing about the others: they keep a tenth.
    score = (0.1 + 0.9 * relative) * np.exp(-4 * across**2 - 1.5 * down**2)
    reach = math.sqrt(height * width / max(1, count)) / 2.5
    chosen: list[Place] = []
    for _ in range(min(count, height * width)):
        r, c = (int(i) for i in np.unravel_index(int(score.argmax()), score.shape))
        chosen.append((r, c))
        distance = (rows - r) ** 2 + (columns - c) ** 2
        score = score * (1 - np.exp(-distance / (2 * reach**2)))
        score[r, c] = -1.0  # never twice, even where all the others are damped to nothing
    return sorted(chosen)


def looks_at(scale: ScaleExplanation, place: Place) -> tuple[float, float, float]:
    """Where `place` of a looks in b, as (row, column, confidence).

    The position is the most probable location, refined by the mean with its eight neighbours; the mean over
    all of b would lie between two candidates, where neither is. Confidence is 1 − entropy / log(H·W): 1 for a
    single location, 0 for no preference.
    """
    beta = _beta(scale, place)
    r, c = (int(i) for i in np.unravel_index(int(beta.argmax()), beta.shape))
    top, left = max(0, r - 1), max(0, c - 1)
    near = beta[top : r + 2, left : c + 2]
    rows, columns = np.mgrid[top : top + near.shape[0], left : left + near.shape[1]]
    mass = near.sum()
    positive = beta[beta > 0]
    entropy = float(-(positive * np.log(positive)).sum())
    confidence = 1 - entropy / math.log(beta.size) if beta.size > 1 else 1.0
    return (
        float((near * rows).sum() / mass),
        float((near * columns).sum() / mass),
        min(1.0, max(0.0, confidence)),
    )


def _scale(explanation: Explanation, scale: int) -> ScaleExplanation:
    count = len(explanation.scales)
    if not -count <= scale < count:
        raise InputError(
            f"scale: {scale} is not one of the explanation's {count}; use 0 to {count - 1}, or -1"
        )
    return explanation.scales[scale]


def _beta(scale: ScaleExplanation, place: Place) -> np.ndarray:
    r, c = place
    if not (0 <= r < scale.height and 0 <= c < scale.width):
        raise InputError(f"place: {place} lies outside the {scale.height} × {scale.width} map of this scale")
    return scale.correspondence[r * scale.width + c].reshape(scale.height, scale.width)


def _tent(step: int) -> np.ndarray:
    """A linear fade over two steps; tents a step apart add up to 1."""
    return 1 - np.abs((np.arange(2 * step) + 0.5) / step - 1)


def _centre(r: float, c: float, scale: ScaleExplanation, image: Image.Image) -> tuple[float, float]:
    return (c + 0.5) * image.width / scale.width, (r + 0.5) * image.height / scale.height


def _curve(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """A Bézier curve that leaves and arrives level."""
    t = np.linspace(0, 1, 49)
    middle = (start[0] + end[0]) / 2
    x = (1 - t) ** 3 * start[0] + 3 * t * (1 - t) * middle + t**3 * end[0]
    y = (1 + 2 * t) * (1 - t) ** 2 * start[1] + (3 - 2 * t) * t**2 * end[1]
    return [(float(px), float(py)) for px, py in zip(x, y)]


def _boxed(
    image: Image.Image, scale: ScaleExplanation, places: list[Place], numbered: bool = False
) -> Image.Image:
    canvas = Canvas(image.width, image.height)
    canvas.paste(image, 0, 0)
    cell_x, cell_y = image.width / scale.width, image.height / scale.height
    for number, (r, c) in enumerate(places, start=1):
        _beta(scale, (r, c))
        left, top, right, bottom = c * cell_x, r * cell_y, (c + 1) * cell_x, (r + 1) * cell_y
        for grown, colour, width in ((4, PAPER, 1.5), (3, BOX, 3)):
            canvas.box(
                max(0, left - grown),
                max(0, top - grown),
                min(image.width, right + grown),
                min(image.height, bottom + grown),
                outline=colour,
                width=width,
            )
        if numbered:
            # The number stands outside the rectangle, on the side that has room.
            x = right + 14 if right + 26 < image.width else left - 14
            y = (top + bottom) / 2
            canvas.disc(x, y, 10, PAPER)
            canvas.disc(x, y, 8.5, BOX)
            canvas.text(x, y, str(number), 11, PAPER, bold=True, anchor="mm")
    return canvas.image()


def _heat(image: Image.Image, scale: ScaleExplanation, place: Place) -> tuple[Image.Image, Image.Image]:
    """The matching confidence map of `place` over `image`, and its colour bar."""
    beta = _beta(scale, place)
    highest = float(beta.max())
    bar = colour_bar(
        image.width, "0", f"{100 * highest:.0f} %" if highest >= 0.095 else f"{100 * highest:.1f} %"
    )
    return heat_overlay(image, beta, highest), bar


def _scale_name(number: int, scale: ScaleExplanation) -> str:
    return f"scale {number}: {scale.height} × {scale.width} places, a and b"


def _heat_row(explanation: Explanation, scale: ScaleExplanation, width: int) -> Image.Image:
    """Picture a with numbered rectangles, and for each its map over b: as many as fit, two to six."""
    image_a, image_b = at_height(explanation.image_a, 288), at_height(explanation.image_b, 288)
    gap = 14
    fitting = (width - image_a.width) // (image_b.width + gap)
    places = prominent_places(scale.attention_a, min(6, max(2, fitting)))
    boxed = _boxed(image_a, scale, places, numbered=True)
    cells = [column([boxed, label(boxed.width, "a")], 5)]
    for number, place in enumerate(places, start=1):
        heat, bar = _heat(image_b, scale, place)
        cells.append(column([heat, bar, label(heat.width, f"where {number} looks in b")], 5))
    return row(cells, gap)


def _sections(sections: list[tuple[Image.Image, str, str]]) -> Image.Image:
    """Figures beside each other below their titles and texts, in one line."""
    lines = max(len(wrapped(text, figure.width, TEXT_SIZE)) for figure, _, text in sections)
    return row(
        [column([caption(figure.width, title, text, lines), figure], 10) for figure, title, text in sections],
        40,
    )


def _probability_header(probability: float, width: int) -> Image.Image:
    """The verdict in words and as a bar with its half marked."""
    canvas = Canvas(width, 68)
    percent = f"{100 * probability:.1f} %"
    if probability > 0.9995:
        percent = "over 99.9 %"
    elif probability < 0.0005:
        percent = "under 0.1 %"
    verdict = "Probably the same person" if probability >= 0.5 else "Probably two different people"
    canvas.text(0, 24, verdict, 24, bold=True, anchor="ls")
    canvas.text(width, 24, f"same person: {percent}", 18, INK, anchor="rs")
    canvas.box(0, 38, width, 50, fill=RULE, radius=6)
    filled = probability * width
    if filled >= 1:
        canvas.box(
            0, 38, max(12, filled), 50, fill=tuple(int(v) for v in colours_of(np.array(0.35))), radius=6
        )
    canvas.line([(width / 2, 36), (width / 2, 52)], INK, 1.5)
    canvas.text(width / 2, 60, "50 %", 11, MUTED, anchor="mm")
    return canvas.image()
