"""The numbers behind the papers' figures of what the models see: similarities between places, colours of
feature maps, and where attention and sampled parts lie.

Every function returns arrays; `kronreid.explain.figures` draws them. A place is one location of a feature
map; places are numbered row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kronreid.errors import InputError
from kronreid.models.horeid import GlobalHierarchicalPooling, HOReID
from kronreid.ops.sketch import high_order_product

if TYPE_CHECKING:
    from kronreid.data.images import ImageLike
    from kronreid.models.inference import Embedder, ScaleExplanation

#: (x, y) as fractions of a picture's width and height.
Point = tuple[float, float]


@dataclass(frozen=True)
class Insight:
    """What HOReID makes of N pictures, before it pools.

    Attributes:
        pictures: As the network saw them, uint8 (N, H, W, 3).
        levels: G_l of each level (N, C, h, w), float32; none in a model without GHP.
        products: Ĝ of the first 1, 2 … n levels (N, D, h, w) (Eq. 10); the last is the model's own.
        part_maps: Where the parts are sampled (N, P, h, w), each map summing to 1; None without LHP.
        parts: P_l of each level (N, C, P) (Eq. 12); none without LHP.
    """

    pictures: np.ndarray
    levels: list[np.ndarray]
    products: list[np.ndarray]
    part_maps: np.ndarray | None
    parts: list[np.ndarray]


@torch.no_grad()
def look_inside(embedder: Embedder, images: Sequence[ImageLike]) -> Insight:
    """What the layers of a HOReID model hold for some pictures.

    Args:
        embedder: Opened with ``kronreid.load(run, folded=False)``: a folded one has no separate levels.
        images: Paths, PIL images or uint8 arrays (H, W, 3); as many as one batch holds.

    Raises:
        InputError: The model is not HOReID's, or is folded.
    """
    model = embedder.model
    if not isinstance(model, HOReID):
        raise InputError(
            "model", f"{type(model).__name__} has no separate levels to look into; HOReID's has, not folded"
        )
    pixels = [embedder.pixels(image) for image in images]
    batch = embedder.batch(pixels)
    levels, products = _global_maps(model, model.ghp, batch) if model.ghp is not None else ([], [])
    part_maps = model.part_maps(batch).float().cpu().numpy() if model.lhp is not None else None
    return Insight(
        torch.stack(pixels).permute(0, 2, 3, 1).contiguous().numpy(),
        [level.float().cpu().numpy() for level in levels],
        [product.cpu().numpy() for product in products],
        part_maps,
        [part.float().cpu().numpy() for part in model(batch).parts],
    )


def _global_maps(
    model: HOReID, ghp: GlobalHierarchicalPooling, batch: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """{G_l} (N, C, h, w), and Ĝ (N, D, h, w) of the first 1, 2 … n of them."""
    levels = model.levels(batch)
    if model.normalise_levels:
        levels = [F.normalize(level.float(), dim=1) for level in levels]
    maps = [conv(level) for conv, level in zip(ghp.convs, levels)]
    sketches = [sketch(level, dim=1).movedim(1, -1) for sketch, level in zip(ghp.sketches, maps)]
    orders = range(1, len(maps) + 1)
    return maps, [high_order_product(sketches[:order]).movedim(-1, 1) for order in orders]


def place_similarities(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The matrix of HOReID's Figure 2: inner products of all places of one map with all of the other.

    Each map is first divided by the norm of its spatial mean, so that the mean of all entries is the cosine
    similarity of the two pooled descriptors, and an entry says how many times an even share a pair adds.

    Args:
        a: (D, h, w).
        b: (D, h', w').

    Returns:
        (h·w, h'·w').
    """
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    scaled_a = flat_a / np.linalg.norm(flat_a.mean(axis=1))
    scaled_b = flat_b / np.linalg.norm(flat_b.mean(axis=1))
    return scaled_a.T @ scaled_b


def share_of_strongest(similarities: np.ndarray, fraction: float = 0.01) -> float:
    """What the strongest pairs contribute to the sum of all positive similarities, 0 to 1.

    Args:
        similarities: Any shape, at least one above 0.
        fraction: Which part of all pairs counts as the strongest (at least one pair).
    """
    ordered = np.sort(similarities, axis=None)[::-1]
    count = max(1, round(fraction * ordered.size))
    positive = ordered[ordered > 0]
    return float(positive[:count].sum() / positive.sum())


def principal_components(maps: np.ndarray) -> np.ndarray:
    """The three components of HOReID's Figure 4: every place's feature as three numbers from 0 to 1.

    The axes are those of all places of all pictures together, so that colours compare between pictures. An
    axis has no sign of its own: it is turned so that the few places far from the mean lie at its upper end,
    which is the same for a map and its sketch. Each is stretched so that all but one percent of the places at
    either end lie within 0 and 1; the others are cut off.

    Args:
        maps: (N, C, h, w), C ≥ 3.

    Returns:
        (N, h, w, 3) float64, most variance first.
    """
    count, channels, height, width = maps.shape
    rows = maps.transpose(0, 2, 3, 1).reshape(-1, channels).astype(np.float64)
    rows = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    projected = rows @ axes[:3].T
    projected *= np.where((projected**3).sum(axis=0) < 0, -1, 1)
    low, high = np.percentile(projected, [1, 99], axis=0)
    spread = np.where(high > low, high - low, 1.0)
    return np.clip((projected - low) / spread, 0, 1).reshape(count, height, width, 3)


def component_colours(components: np.ndarray) -> np.ndarray:
    """Components (..., 3) in [0, 1] as colours uint8 (..., 3): alike places alike, for any colour vision.

    The paper takes the components as red, green and blue. Here the first is CIELAB's lightness, the second
    runs from blue to yellow, and the third, with least variance, from green to red: all that is lost to
    people who do not tell red from green is the last.
    """
    lightness = 25 + 65 * components[..., 0]
    red = 45 * (2 * components[..., 2] - 1)
    yellow = 60 * (2 * components[..., 1] - 1)
    return _srgb(np.stack([lightness, red, yellow], axis=-1))


def _srgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB (..., 3), white point D65, to sRGB uint8, cut off where sRGB has no such colour."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.95047, 1.0, 1.08883]
    linear = xyz @ np.array(
        [
            [3.2404542, -0.9692660, 0.0556434],
            [-1.5371385, 1.8760108, -0.2040259],
            [-0.4985314, 0.0415560, 1.0572252],
        ]
    )
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (255 * encoded + 0.5).astype(np.uint8)


def places_covered(maps: np.ndarray) -> np.ndarray:
    """How many places a distribution over places covers: the exponential of its entropy.

    1 where all lies on a single place, h·w where it is even.

    Args:
        maps: (..., h, w), each map ≥ 0 and summing to 1.

    Returns:
        (...) float64.
    """
    flat = maps.reshape(*maps.shape[:-2], -1).astype(np.float64)
    logarithm = np.log(flat, out=np.zeros_like(flat), where=flat > 0)
    return np.exp(-(flat * logarithm).sum(axis=-1))


def places_sampled(part_maps: np.ndarray) -> np.ndarray:
    """At how many different places the maps of one picture have their peaks.

    Args:
        part_maps: (N, P, h, w).

    Returns:
        (N,) int64, from 1 (all parts are one) to the smaller of P and h·w.
    """
    peaks = part_maps.reshape(*part_maps.shape[:2], -1).argmax(axis=2)
    return np.array([len(np.unique(row)) for row in peaks])


def share_at_rim(part_maps: np.ndarray) -> np.ndarray:
    """How much of the sampling goes to the outermost rows and columns: mostly background in a person's crop.

    Args:
        part_maps: (N, P, h, w).

    Returns:
        (N,) from 0 to 1; even sampling gives the share of places that lie there.
    """
    inner = part_maps[:, :, 1:-1, 1:-1].sum(axis=(2, 3)).mean(axis=1)
    return 1 - inner / part_maps.sum(axis=(2, 3)).mean(axis=1)


def part_alikeness(parts: np.ndarray) -> np.ndarray:
    """The mean cosine between two different parts of a picture, which DSR keeps below its margin (Eq. 13).

    Args:
        parts: P_l of one level (N, C, P), P ≥ 2.

    Returns:
        (N,) from −1 to 1.
    """
    unit = parts / np.maximum(np.linalg.norm(parts, axis=1, keepdims=True), 1e-12)
    count = parts.shape[2]
    # The sum over all pairs is the squared norm of the sum; the P pairs of a part with itself give 1 each.
    return ((unit.sum(axis=2) ** 2).sum(axis=1) - count) / (count * (count - 1))


def place_at(scale: ScaleExplanation, point: Point) -> tuple[int, int]:
    """The place (row, column) of a scale that holds a point.

    Raises:
        InputError: The point lies outside the picture.
    """
    x, y = point
    if not (0 <= x < 1 and 0 <= y < 1):
        raise InputError(
            "place", f"{x:g},{y:g} lies outside the picture; both are fractions from 0 to below 1"
        )
    return int(y * scale.height), int(x * scale.width)


def matching_map(scale: ScaleExplanation, point: Point) -> np.ndarray:
    """K̃(i, j) of KPM's Eq. 7: where the place of a that holds `point` looks in b, (H, W), summing to 1."""
    row, column = place_at(scale, point)
    return scale.correspondence[row * scale.width + column].reshape(scale.height, scale.width)


def spread_channels(available: int, wanted: Sequence[int]) -> list[int]:
    """Which maps to show: `wanted` where there are as many, otherwise as many spread evenly."""
    if available > max(wanted):
        return list(wanted)
    return [int(i) for i in np.unique(np.linspace(0, available - 1, min(available, len(wanted))).round())]
