"""Kronecker-product matching (KPM, Shen et al., CVPR 2018) of pairs of feature maps.

The notation is the paper's. X and Y are maps of M positions with C channels. beta_ij says how strongly
position i of X looks at position j of Y (Eq. 5). w_i = 1 + attention_i weights the positions of X (Eq. 9).
delta is the weighted difference between X and Y softly warped onto X (Eq. 10). The temperature divides the
inner product (Eq. 5), not the softmax (Eq. 7 as printed). delta is divided by M so that scales of different
sizes are comparable.

By default the inner products are cosines (both maps are L2-normalised over channels), and the raw map is
warped. The paper prints plain inner products; its authors' public code has cosines. With ``cosine=False``
they are plain.

`match_reference` computes it as the paper writes it. `match_pairs` computes the same without the warped map,
because the warp collapses:

    sum_i w_i (x_i - sum_j beta_ij y_j)  =  X w - Y v    with  v = beta^T w.

`blocks.py` compares many pictures with many, without gradients.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from kronreid.errors import InputError

EPSILON = 1e-12  # lower bound of a vector's norm: the cosine of a zero vector with any other is 0

# Elements of the gathered maps held at a time. A CPU needs them in its cache, a GPU needs few launches.
_CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 28}


class MatchResult(NamedTuple):
    """The result of `match_reference`, float32 (float64 for float64 maps)."""

    delta: Tensor
    """(N, C), the difference of Eq. 10, divided by M."""
    beta: Tensor
    """(N, M, M), the correspondences of Eq. 5. Row i sums to 1 over the positions of y."""
    warped: Tensor
    """(N, C, M), y warped onto x: position i holds the expectation in Eq. 3."""


def as_positions(maps: Tensor, name: str) -> Tensor:
    """Flatten maps (N, C, H, W) or (N, C, M) to (N, C, M) in float32; float64 stays.

    Raises:
        ValueError: The shape or dtype is another.
    """
    if maps.dim() not in (3, 4) or not maps.is_floating_point() or 0 in maps.shape[1:]:
        raise ValueError(
            f"{name}: expected floating maps (N, C, H, W) or (N, C, M), got {tuple(maps.shape)} {maps.dtype}"
        )
    positions = maps.flatten(2)
    return positions if positions.dtype == torch.float64 else positions.float()


def as_weight(weight: Tensor | None, positions: Tensor, name: str) -> Tensor:
    """The weights (N, M) of maps (N, C, M), given as (N, M), as (N, 1, H, W), or as None for ones.

    Raises:
        ValueError: The weights do not fit the maps.
    """
    count, _, m = positions.shape
    if weight is None:
        return positions.new_ones(count, m)
    if weight.numel() != count * m or len(weight) != count:
        raise ValueError(f"{name}: {tuple(weight.shape)} does not fit {count} maps of {m} positions")
    return weight.reshape(count, m).to(positions.dtype)


def check_temperature(temperature: float, name: str = "temperature") -> None:
    """Check a temperature.

    Raises:
        InputError: It is not a positive number, or its inverse overflows float32.
    """
    if not (temperature > 0 and math.isfinite(temperature) and 1 / temperature < 1e38):
        raise InputError(name, f"{temperature} is not a positive number; the paper uses 0.05")


def _check_pair(x: Tensor, y: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    check_temperature(temperature)
    x, y = as_positions(x, "x"), as_positions(y, "y")
    if x.shape[1] != y.shape[1] or x.dtype != y.dtype:
        raise ValueError(
            f"maps of {x.shape[1]} channels ({x.dtype}) do not fit maps of {y.shape[1]} ({y.dtype})"
        )
    return x, y


def _check_indices(pairs_x: Tensor, pairs_y: Tensor) -> None:
    if pairs_x.dim() != 1 or pairs_x.shape != pairs_y.shape:
        raise ValueError(f"pairs_x {tuple(pairs_x.shape)}, pairs_y {tuple(pairs_y.shape)}: must both be (P,)")


def check_finite(result: Tensor) -> None:
    """Check the result of a comparison.

    Raises:
        InputError: It holds NaN or infinity, so the maps or weights do, too.
    """
    # Tracing cannot branch on values.
    if not torch.compiler.is_compiling() and not torch.jit.is_tracing() and not bool(result.isfinite().all()):
        raise InputError("maps", "the comparison is not finite; the maps or weights hold NaN or infinity")


def _unit(positions: Tensor) -> Tensor:
    return F.normalize(positions, dim=1, eps=EPSILON)


def correspondence(x: Tensor, y: Tensor, temperature: float = 0.05, cosine: bool = True) -> Tensor:
    """The correspondences beta of Eq. 5.

    Args:
        x: (N, C, H, W) or (N, C, M), any floating dtype.
        y: The same for the second pictures; its M may differ.
        temperature: tau_KPM > 0.
        cosine: Compute inner products of unit vectors; False takes the vectors as they are.

    Returns:
        (N, M_x, M_y) float32 (float64 for float64 maps). Row i says where position i of x looks in y, and
        sums to 1.

    Raises:
        ValueError: The maps do not fit each other.
        InputError: The maps hold NaN or infinity, or the temperature is not positive.
    """
    x, y = _check_pair(x, y, temperature)
    with torch.autocast(x.device.type, enabled=False):
        x, y = (_unit(x), _unit(y)) if cosine else (x, y)
        beta = torch.softmax(torch.bmm(x.transpose(1, 2), y) / temperature, dim=2)
    check_finite(beta)
    return beta


def correspondence_of_all(x: Tensor, y: Tensor, temperature: float, cosine: bool = True) -> Tensor:
    """beta (Q, M, G, M) of every map (Q, M, C) with every map (G, M, C), with exportable operators only."""
    (queries, m, channels), candidates = x.shape, y.shape[0]  # len() would become a constant in the graph
    if cosine:
        x, y = F.normalize(x, dim=2, eps=EPSILON), F.normalize(y, dim=2, eps=EPSILON)
    products = x.reshape(queries * m, channels) @ y.reshape(candidates * m, channels).t()
    return (products.view(queries, m, candidates, m) / temperature).softmax(dim=3)


def match_reference(
    x: Tensor,
    y: Tensor,
    weight_x: Tensor | None = None,
    temperature: float = 0.05,
    cosine: bool = True,
) -> MatchResult:
    """Eq. 5-10 as written: y is warped onto x, subtracted, weighted and averaged over positions.

    Args:
        x: (N, C, H, W) or (N, C, M), the first picture of each pair.
        y: (N, C, H, W) or (N, C, M), the second picture of each pair.
        weight_x: (N, M) or (N, 1, H, W), w = 1 + attention; None for ones.
        temperature: tau_KPM > 0.
        cosine: See `correspondence`.

    Raises:
        ValueError: The maps or weights do not fit each other.
        InputError: They hold NaN or infinity, or the temperature is not positive.
    """
    beta = correspondence(x, y, temperature, cosine)
    x, y = _check_pair(x, y, temperature)
    weight = as_weight(weight_x, x, "weight_x")
    with torch.autocast(x.device.type, enabled=False):
        warped = torch.bmm(y, beta.transpose(1, 2))  # Y K^T in Eq. 8
        delta = (weight[:, None] * (x - warped)).mean(dim=2)
    check_finite(delta)
    return MatchResult(delta, beta, warped)


def match_pairs(
    maps_x: Tensor,
    maps_y: Tensor,
    pairs_x: Tensor,
    pairs_y: Tensor,
    weight_x: Tensor | None = None,
    temperature: float = 0.05,
    cosine: bool = True,
) -> Tensor:
    """delta (P, C) of the pairs (maps_x[pairs_x[p]], maps_y[pairs_y[p]]), for training.

    It equals the delta of `match_reference(maps_x[pairs_x], maps_y[pairs_y], weight_x[pairs_x])`, but is
    computed as (X w - Y beta^T w) / M. Each picture is normalised once. Maps are gathered for one chunk of
    pairs at a time. Under autocast the inner products are in its dtype, the rest is in float32.

    Args:
        maps_x: (B_x, C, H, W) or (B_x, C, M).
        maps_y: (B_y, C, H, W) or (B_y, C, M); may be the same tensor.
        pairs_x: (P,) int64 indices into `maps_x`.
        pairs_y: (P,) int64 indices into `maps_y`.
        weight_x: (B_x, M) or (B_x, 1, H, W), w = 1 + attention; None for ones.
        temperature: tau_KPM > 0.
        cosine: See `correspondence`.

    Raises:
        ValueError: Maps, weights or indices do not fit each other.
        InputError: Maps or weights hold NaN or infinity, or the temperature is not positive.
    """
    x, y = _check_pair(maps_x, maps_y, temperature)
    weight = as_weight(weight_x, x, "weight_x")
    _check_indices(pairs_x, pairs_y)
    kind = x.device.type
    product_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    with torch.autocast(kind, enabled=False):
        x_sum = torch.bmm(x, weight[:, :, None])[:, :, 0]
        x_unit = _unit(x) if cosine else x
        y_unit = x_unit if maps_y is maps_x else _unit(y) if cosine else y
        y_sum = _WarpedSum.apply(x_unit, y_unit, y, weight, pairs_x, pairs_y, 1 / temperature, product_dtype)
        delta = (x_sum[pairs_x] - y_sum) / x.shape[2]
    check_finite(delta)
    return delta


class _WarpedSum(torch.autograd.Function):
    """sum_i w_i sum_j beta_ij y_j = Y (beta^T w), (P, C), for pairs given by index.

    The backward pass keeps beta, in the dtype of the products: recomputing it would take four products per
    step instead of three. It does not keep the gathered maps of the pairs, which take more memory. Let g be
    the gradient of the result, g_v = Y^T g and t_i = sum_k beta_ik g_v,k. Then the gradient through the
    softmax is g_S,ij = w_i beta_ij (g_v,j - t_i), and t is the gradient of w.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_unit: Tensor,
        y_unit: Tensor,
        y: Tensor,
        weight: Tensor,
        pairs_x: Tensor,
        pairs_y: Tensor,
        scale: float,
        dtype: torch.dtype,
    ) -> Tensor:
        x_unit, y_unit = x_unit.to(dtype), y_unit.to(dtype)
        count, m_x, m_y = len(pairs_x), x_unit.shape[2], y_unit.shape[2]
        keep = any(ctx.needs_input_grad)
        beta = x_unit.new_empty(count if keep else 0, m_x, m_y)
        v = y.new_empty(count, m_y)
        result = y.new_empty(count, y.shape[1])
        for part in _chunks(count, x_unit, y_unit):
            i, j = pairs_x[part], pairs_y[part]
            products = torch.bmm(x_unit[i].transpose(1, 2), y_unit[j]).to(y.dtype).mul_(scale)
            soft = torch.softmax(products, dim=2, out=products)
            if keep:
                beta[part] = soft
            v[part] = torch.bmm(weight[i, None], soft)[:, 0]
            result[part] = torch.bmm(y[j], v[part, :, None])[:, :, 0]
        ctx.save_for_backward(x_unit, y_unit, y, weight, pairs_x, pairs_y, beta, v)
        ctx.scale = scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x_unit, y_unit, y, weight, pairs_x, pairs_y, beta, v = ctx.saved_tensors
        g_x, g_y_unit = torch.zeros_like(x_unit, dtype=y.dtype), torch.zeros_like(y)
        g_y, g_weight = torch.zeros_like(y), torch.zeros_like(weight)
        for part in _chunks(len(pairs_x), x_unit, y_unit):
            i, j = pairs_x[part], pairs_y[part]
            g = gradient[part, :, None]
            soft = beta[part].to(y.dtype)
            g_v = torch.bmm(y[j].transpose(1, 2), g)
            t = torch.bmm(soft, g_v)
            g_products = (g_v.transpose(1, 2) - t).mul_(soft).mul_(weight[i, :, None] * ctx.scale)
            g_products = g_products.to(x_unit.dtype)
            g_weight.index_add_(0, i, t[:, :, 0])
            g_y.index_add_(0, j, torch.bmm(g, v[part, None]))
            g_x.index_add_(0, i, torch.bmm(y_unit[j], g_products.transpose(1, 2)).to(y.dtype))
            g_y_unit.index_add_(0, j, torch.bmm(x_unit[i], g_products).to(y.dtype))
        return g_x, g_y_unit, g_y, g_weight, None, None, None, None


def match_squares(
    maps_x: Tensor,
    maps_y: Tensor,
    pairs_x: Tensor,
    pairs_y: Tensor,
    weight_x: Tensor | None = None,
    temperature: float = 0.05,
    cosine: bool = True,
) -> Tensor:
    """mean_i w_i (x_i - sum_j beta_ij y_j)^2, (P, C): squared place by place after the warp, for training.

    This is not in the paper, which squares delta after pooling. Here differences of opposite sign at two
    places do not cancel. Under a square the warp does not collapse, so the warped maps are computed for one
    chunk of pairs at a time, and again in the backward pass instead of being kept. Everything is in float32,
    even under autocast, because the differences are small.

    The arguments and the errors are those of `match_pairs`.
    """
    x, y = _check_pair(maps_x, maps_y, temperature)
    weight = as_weight(weight_x, x, "weight_x")
    _check_indices(pairs_x, pairs_y)

    def squares(i: Tensor, j: Tensor) -> Tensor:
        x_i, y_j = x.index_select(0, i), y.index_select(0, j)  # faster in the backward pass than indexing
        warped = torch.bmm(y_j, correspondence(x_i, y_j, temperature, cosine).transpose(1, 2))
        return (weight.index_select(0, i)[:, None] * (x_i - warped).square()).mean(dim=2)

    with torch.autocast(x.device.type, enabled=False):
        chunks = [
            checkpoint(squares, pairs_x[part], pairs_y[part], use_reentrant=False, preserve_rng_state=False)
            for part in _chunks(len(pairs_x), x, y)
        ]
        result = torch.cat(chunks) if chunks else x.new_empty(0, x.shape[1])
    check_finite(result)
    return result


def _chunks(count: int, x: Tensor, y: Tensor) -> list[slice]:
    """Slices of `count` pairs, small enough for their gathered maps and inner products."""
    _, c, m_x = x.shape
    per_pair = max(m_x, y.shape[2]) * max(c, y.shape[2])
    size = max(1, _CHUNK_ELEMENTS.get(x.device.type, _CHUNK_ELEMENTS["cuda"]) // per_pair)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
