"""The numbers behind the papers' figures: similarities of places, colours of feature maps, coverage of parts.

`kronreid.explain.figures` draws them. A place is one position of a feature map. Places are numbered row by
row.
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
    """HOReID's features of N pictures before pooling, all float32.

    Attributes:
        pictures: The pictures at the network's input size, uint8 (N, H, W, 3) in RGB.
        levels: G_l (N, C, h, w) of each level; empty without GHP.
        products: Ĝ (N, D, h, w) of the first 1, 2, … n levels (Eq. 10); the last one is the model's. Empty
            without GHP.
        part_maps: The sampler's maps (N, P, h, w), each summing to 1; None without LHP.
        parts: P_l (N, C, P) of each level (Eq. 12); empty without LHP.
    """

    pictures: np.ndarray
    levels: list[np.ndarray]
    products: list[np.ndarray]
    part_maps: np.ndarray | None
    parts: list[np.ndarray]


@torch.no_grad()
def look_inside(embedder: Embedder, images: Sequence[ImageLike]) -> Insight:
    """The features inside a HOReID model for some pictures.

    Args:
        embedder: A model loaded with ``kronreid.load(run, folded=False)``; a folded one has no separate
            levels.
        images: Paths, PIL images or uint8 arrays (H, W, 3) in RGB; they form one batch.

    Raises:
        InputError: The model is not a HOReID.
    """
    model = embedder.model
    if not isinstance(model, HOReID):
        raise InputError(
            "model", f"{type(model).__name__} has no separate levels to show; load a HOReID with folded=False"
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
    """The maps G_l (N, C, h, w), and Ĝ (N, D, h, w) of the first 1, 2, … n of them."""
    levels = model.levels(batch)
    if model.normalise_levels:
        levels = [F.normalize(level.float(), dim=1) for level in levels]
    maps = [conv(level) for conv, level in zip(ghp.convs, levels)]
    sketches = [sketch(level.movedim(1, -1)) for sketch, level in zip(ghp.sketches, maps)]
    orders = range(1, len(maps) + 1)
    return maps, [high_order_product(sketches[:order]).movedim(-1, 1) for order in orders]


def place_similarities(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The matrix of HOReID's Figure 2: inner products of all places of one map with all places of the other.

    Each map is first divided by the norm of its spatial mean. The mean of all entries is then the cosine
    similarity of the two pooled descriptors, and an entry is its pair's contribution times the number of
    pairs.

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
    """The share of the strongest pairs in the sum of all positive similarities, 0 to 1.

    Args:
        similarities: Any shape, at least one value above 0.
        fraction: The fraction of all pairs that counts as the strongest, at least one pair.
    """
    ordered = np.sort(similarities, axis=None)[::-1]
    count = max(1, round(fraction * ordered.size))
    positive = ordered[ordered > 0]
    return float(positive[:count].sum() / positive.sum())


def principal_components(maps: np.ndarray) -> np.ndarray:
    """The three principal components of HOReID's Figure 4: every place's feature as three numbers.

    One analysis covers all places of all pictures, so colours are comparable between pictures. The sign of an
    axis is arbitrary. It is chosen so that the few places far from the mean get high values, which gives a
    map and its sketch the same sign. Each component is scaled so that its 1st and 99th percentiles become 0
    and 1, and is clipped.

    Args:
        maps: (N, C, h, w), C ≥ 3.

    Returns:
        (N, h, w, 3) float64, 0 to 1, most variance first.
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
    """Colours, uint8 (..., 3) in sRGB, for components (..., 3), 0 to 1.

    The paper uses the components as red, green and blue. Here the first one is the lightness in CIELAB, the
    second runs from blue to yellow, and the third, with the least variance, runs from green to red. People
    with red-green colour blindness thus lose only the third.
    """
    lightness = 25 + 65 * components[..., 0]
    red = 45 * (2 * components[..., 2] - 1)
    yellow = 60 * (2 * components[..., 1] - 1)
    return _srgb(np.stack([lightness, red, yellow], axis=-1))


def _srgb(lab: np.ndarray) -> np.ndarray:
    """Convert CIELAB (..., 3), white point D65, to sRGB uint8. Colours outside sRGB are clipped."""
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

    Args:
        maps: (..., h, w), each map not negative and summing to 1.

    Returns:
        (...) float64, from 1 (a single place) to h·w (a uniform map).
    """
    flat = maps.reshape(*maps.shape[:-2], -1).astype(np.float64)
    logarithm = np.log(flat, out=np.zeros_like(flat), where=flat > 0)
    return np.exp(-(flat * logarithm).sum(axis=-1))


def places_sampled(part_maps: np.ndarray) -> np.ndarray:
    """The number of different places at which the maps of one picture peak.

    Args:
        part_maps: (N, P, h, w).

    Returns:
        (N,) int64, from 1 (all parts peak at one place) to the smaller of P and h·w.
    """
    peaks = part_maps.reshape(*part_maps.shape[:2], -1).argmax(axis=2)
    return np.array([len(np.unique(row)) for row in peaks])


def share_at_rim(part_maps: np.ndarray) -> np.ndarray:
    """The share of the sampling in the outermost rows and columns, which are mostly background in a crop.

    Args:
        part_maps: (N, P, h, w).

    Returns:
        (N,), 0 to 1. Uniform sampling gives the share of places that lie there.
    """
    inner = part_maps[:, :, 1:-1, 1:-1].sum(axis=(2, 3)).mean(axis=1)
    return 1 - inner / part_maps.sum(axis=(2, 3)).mean(axis=1)


def part_alikeness(parts: np.ndarray) -> np.ndarray:
    """The mean cosine of two different parts of a picture, which DSR keeps below its margin (Eq. 13).

    Args:
        parts: P_l (N, C, P) of one level, P ≥ 2.

    Returns:
        (N,), −1 to 1.
    """
    unit = parts / np.maximum(np.linalg.norm(parts, axis=1, keepdims=True), 1e-12)
    count = parts.shape[2]
    # The sum over all pairs is the squared norm of the sum. The P pairs of a part with itself are 1 each.
    return ((unit.sum(axis=2) ** 2).sum(axis=1) - count) / (count * (count - 1))


def place_at(scale: ScaleExplanation, point: Point) -> tuple[int, int]:
    """The place (row, column) of a scale at a point.

    Args:
        scale: The scale.
        point: (x, y) as fractions of the picture's width and height, at least 0 and below 1.

    Raises:
        InputError: The point lies outside the picture.
    """
    x, y = point
    if not (0 <= x < 1 and 0 <= y < 1):
        raise InputError(
            "place", f"{x:g},{y:g} lies outside the picture; give two fractions from 0 to below 1"
        )
    return int(y * scale.height), int(x * scale.width)


def matching_map(scale: ScaleExplanation, point: Point) -> np.ndarray:
    """K̃(i, j) of KPM's Eq. 7: where the place of a at `point` looks in b, (H, W) float32, summing to 1."""
    row, column = place_at(scale, point)
    return scale.correspondence[row * scale.width + column].reshape(scale.height, scale.width)


def spread_channels(available: int, wanted: Sequence[int]) -> list[int]:
    """The indices of the maps to show: `wanted` if all are available, otherwise as many, spread evenly."""
    if available > max(wanted):
        return list(wanted)
    return [int(i) for i in np.unique(np.linspace(0, available - 1, min(available, len(wanted))).round())]
