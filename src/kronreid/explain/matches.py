"""Figures that show why a matcher considers two pictures the same person: correspondences and the soft warp.

They follow KPM's Figure 6. Every function takes a `kronreid.models.inference.Explanation`. Scale 0 is the
coarsest, −1 the finest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.figures import attention_block, matching_block
from kronreid.explain.heat import as_image
from kronreid.explain.sheet import (
    Block,
    Tile,
    TileGroup,
    badge,
    below,
    draw_tile,
    link,
    sheet,
    tile_block,
    titled,
    write,
)
from kronreid.explain.style import ACCENT, INK, MUTED, RULE, SMALL, WIDTH

if TYPE_CHECKING:
    from kronreid.models.inference import Explanation, ScaleExplanation

Place = tuple[int, int]


def correspondence_figure(explanation: Explanation, *, scale: int = -1, places: int = 8) -> Figure:
    """Both pictures, with lines from places of a to where they look in b.

    The places are those with the most attention that keep a distance from each other (`prominent_places`).
    They are numbered from top to bottom. The more confident the match, the more opaque its line (`looks_at`).

    Args:
        explanation: The pair.
        scale: Index of the scale.
        places: Number of lines.

    Raises:
        InputError: There is no such scale.
    """
    height, width = explanation.image_a.shape[:2]
    return sheet(_correspondences(explanation, scale, places, min(2.0, 2.74 * width / height)), margin=0)


def match_figure(explanation: Explanation) -> Figure:
    """A sheet with the probability, correspondences, the soft warp, matching confidences and attention."""
    height, width = explanation.image_a.shape[:2]
    tile = min(1.2, 2.5 * width / height)
    finest = explanation.scales[-1]
    warped = (explanation.image_a, warped_picture(explanation), explanation.image_b)
    names = [TileGroup("", ["a", "b warped onto a", "b"])]
    places = prominent_places(finest.attention_a, 6)
    points = [((c + 0.5) / finest.width, (r + 0.5) / finest.height) for r, c in places]
    blocks = [
        titled(
            [
                (
                    _correspondences(explanation, -1, 8, tile),
                    "Correspondences",
                    "Lines lead from places of a to where they look in b. Faint lines are uncertain.",
                ),
                (
                    tile_block([[Tile(picture) for picture in warped]], names, widest=tile),
                    "Soft warp",
                    "Every place of a is repainted with what it matched in b. KPM compares a with this.",
                ),
            ]
        ),
        titled(
            [
                (
                    matching_block([explanation], points, slice(-1, None)),
                    "Matching confidence",
                    f"Each red rectangle in a (one of {finest.height} × {finest.width} places) distributes a "
                    "probability of 1 over b. Bright places receive most of it.",
                )
            ]
        ),
    ]
    if any(np.ptp(scale.attention_a) > 0 or np.ptp(scale.attention_b) > 0 for scale in explanation.scales):
        text = "Bright places weigh more in the comparison."
        blocks.append(titled([(attention_block([explanation]), "Attention", text)]))
    return sheet(below([verdict(explanation.probability), *blocks], 0.2), margin=0.2)


def warped_picture(explanation: Explanation, *, scale: int = -1) -> np.ndarray:
    """Picture b warped onto a.

    KPM warps features (Eq. 3, ŷ_i = Σ_j β_ij y_j). Here y_j is the patch of pixels around place j of b.
    Patches are two places wide and fade linearly towards their edges, so overlapping weights sum to 1
    everywhere. If every place corresponds to itself, the result is b.

    Args:
        explanation: The pair.
        scale: Index of the scale.

    Returns:
        uint8 (H, W, 3) in RGB, of the size of a.

    Raises:
        InputError: There is no such scale.
    """
    chosen_scale = _scale(explanation, scale)
    rows, columns = chosen_scale.height, chosen_scale.width
    height, width = explanation.image_a.shape[:2]
    # Even, so that patches two places wide can start half a place outside the picture.
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
    """Places with much attention that keep a distance from each other.

    They are chosen greedily: the place with the most attention is taken and its surroundings are damped, and
    so on. A mild window avoids the border, which is background in a crop of a person.

    Args:
        attention: (H, W), not negative.
        count: Number of places.

    Returns:
        (row, column) of `count` places (all, if there are fewer), from top to bottom.
    """
    height, width = attention.shape
    rows, columns = np.mgrid[:height, :width]
    across, down = (columns + 0.5) / width - 0.5, (rows + 0.5) / height - 0.5
    relative = attention / attention.max() if attention.max() > 0 else np.ones(attention.shape)
    # The floor of a tenth keeps places apart from each other even if attention has collapsed onto one place.
    score = (0.1 + 0.9 * relative) * np.exp(-4 * across**2 - 1.5 * down**2)
    reach = math.sqrt(height * width / max(1, count)) / 2.5
    chosen: list[Place] = []
    for _ in range(min(count, height * width)):
        r, c = (int(i) for i in np.unravel_index(int(score.argmax()), score.shape))
        chosen.append((r, c))
        distance = (rows - r) ** 2 + (columns - c) ** 2
        score = score * (1 - np.exp(-distance / (2 * reach**2)))
        score[r, c] = -1.0  # never chosen twice, even if all others are damped to zero
    return sorted(chosen)


def looks_at(scale: ScaleExplanation, place: Place) -> tuple[float, float, float]:
    """Where `place` (row, column) of a looks in b, as (row, column, confidence).

    The position is the most probable place, refined by the mean over it and its eight neighbours. A mean over
    all of b could lie between two candidates, where there is neither. The confidence is
    1 − entropy / log(H·W): 1 for a single place, 0 for no preference.
    """
    beta = scale.correspondence[place[0] * scale.width + place[1]].reshape(scale.height, scale.width)
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
            "scale", f"{scale} does not exist; the explanation has {count}: use 0 to {count - 1}, or -1"
        )
    return explanation.scales[scale]


def _tent(step: int) -> np.ndarray:
    """A triangular window two steps wide. Windows one step apart sum to 1."""
    return 1 - np.abs((np.arange(2 * step) + 0.5) / step - 1)


def _correspondences(explanation: Explanation, scale: int, places: int, width: float) -> Block:
    """Both pictures, `width` inches each, and the lines between them."""
    chosen = _scale(explanation, scale)
    tall, wide = explanation.image_a.shape[:2]
    height, gap, top = width * tall / wide, 0.8, 0.16
    ends = [(place, looks_at(chosen, place)) for place in prominent_places(chosen.attention_a, places)]
    # Colours change from head to feet, so a line that crosses the others stands out.
    colours = [to_hex(c) for c in matplotlib.colormaps["viridis"](np.linspace(0.05, 0.9, len(ends)))]

    def draw(axes: Axes, x: float, y: float) -> None:
        def centre(left: float, row: float, column: float) -> tuple[float, float]:
            return left + (column + 0.5) * width / chosen.width, y + top + (
                row + 0.5
            ) * height / chosen.height

        pictures = ((x, "a", explanation.image_a), (x + width + gap, "b", explanation.image_b))
        for left, name, picture in pictures:
            write(axes, left + width / 2, y + 0.05, name, SMALL, MUTED)
            draw_tile(axes, Tile(picture), left, y + top, width, height)
        lines = [(centre(x, *a), centre(x + width + gap, *b), confidence) for a, (*b, confidence) in ends]
        for colour, (start, end, confidence) in zip(colours, lines):
            link(axes, start, end, colour, opacity=0.12 + 0.88 * confidence)
        for number, (colour, (start, end, _)) in enumerate(zip(colours, lines), start=1):
            for place in (start, end):
                badge(axes, *place, str(number), colour)

    return Block(2 * width + gap, top + height, draw)


def verdict(probability: float) -> Block:
    """The verdict in words, and a bar of the probability with a mark at 50 %."""
    percent = f"{100 * probability:.1f} %"
    if probability > 0.9995:
        percent = "over 99.9 %"
    elif probability < 0.0005:
        percent = "under 0.1 %"
    words = "Probably the same person" if probability >= 0.5 else "Probably two different people"
    width = WIDTH - 0.08

    def draw(axes: Axes, x: float, y: float) -> None:
        write(axes, x, y + 0.08, words, 12, INK, "left", bold=True)
        write(axes, x + width, y + 0.09, f"same person: {percent}", 10, INK, "right")
        for colour, share in ((RULE, 1.0), (ACCENT, probability)):
            if share * width > 0.08:
                shape = "round,pad=0,rounding_size=0.04"
                bar = FancyBboxPatch((x, y + 0.24), share * width, 0.08, shape, facecolor=colour, linewidth=0)
                axes.add_patch(bar)
        axes.plot([x + width / 2] * 2, [y + 0.225, y + 0.335], "-", color=INK, linewidth=0.8)
        write(axes, x + width / 2, y + 0.39, "50 %", 5.5, MUTED)

    return Block(width, 0.42, draw)
