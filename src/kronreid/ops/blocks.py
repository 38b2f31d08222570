"""Kronecker-product matching of many pictures with many, for scoring (without gradients).

The query is X and the candidate is Y of `matching.py`: Y is warped onto X. At each scale one matrix product
computes the inner products of a tile of queries with a tile of candidates. The result stays in the cache
until its softmax and its weighted column sums are computed. The warped map is never formed, because

    delta = (sum_i w_i x_i - sum_j v_j y_j) / M     with  v_j = sum_i w_i beta_ij.

Only the result grows with the gallery.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kronreid.errors import InputError
from kronreid.ops.matching import EPSILON, as_positions, as_weight, check_finite, check_temperature

# Positions of queries per matrix product. Fewer make the product inefficient, more gain nothing.
_ROWS = 512
# Elements held at a time. A CPU tile (4 MiB) must stay in its cache. A GPU needs few, large launches.
_TILE_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}


def tile_elements(device: torch.device) -> int:
    """The number of elements that a tile may have on this device."""
    return _TILE_ELEMENTS.get(device.type, _TILE_ELEMENTS["cuda"])


@dataclass(frozen=True)
class PreparedMaps:
    """The maps of N pictures at one scale, prepared once for comparisons with many others.

    Attributes:
        unit: (N, M, C) float32 or bfloat16, the vectors whose inner products are matched: those of the
            positions divided by their norms, or as they are (`prepare(..., cosine=False)`). M is 0 if only
            the means are kept (`prepare(..., positions=False)`).
        norms: (N, M) float32, ones for vectors as they are. `unit * norms` is the raw map, which is therefore
            not kept.
        weight: (N, M) float32, w = 1 + attention. It is used when the picture is a query.
        weighted_mean: (N, C) float32, sum_i w_i x_i / M of the raw map.
        size: (H, W) of the maps, with H W = M; None if it is not known.
    """

    unit: Tensor
    norms: Tensor
    weight: Tensor
    weighted_mean: Tensor
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.unit)

    def _map(self, change: Callable[[Tensor], Tensor]) -> PreparedMaps:
        unit, norms, weight, mean = map(change, (self.unit, self.norms, self.weight, self.weighted_mean))
        return PreparedMaps(unit, norms, weight, mean, self.size)

    def __getitem__(self, index: slice | Tensor) -> PreparedMaps:
        """The pictures of a slice (a view) or of an int64 tensor (a copy)."""
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> PreparedMaps:
        return self._map(lambda tensor: tensor.to(device))

    @classmethod
    def cat(cls, parts: Sequence[PreparedMaps]) -> PreparedMaps:
        """Concatenate pictures whose maps have the same size, channels and dtype."""
        columns = zip(*((part.unit, part.norms, part.weight, part.weighted_mean) for part in parts))
        unit, norms, weight, mean = map(torch.cat, columns)
        return cls(unit, norms, weight, mean, parts[0].size)


@torch.no_grad()
def prepare(
    maps: Tensor,
    weight: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    positions: bool = True,
    cosine: bool = True,
) -> PreparedMaps:
    """Prepare maps for `match_block` and `score_block`, and for the functions of `comparisons.py`.

    Args:
        maps: (N, C, H, W) or (N, C, M), any floating dtype.
        weight: (N, M) or (N, 1, H, W), w = 1 + attention; None for ones.
        dtype: Precision of the unit vectors, torch.float32 or torch.bfloat16. bfloat16 halves the memory and
            speeds up the products several times. Their results are then rounded to 8 bits before the
            softmax, which is always float32.
        positions: Keep the positions. Without them only means can be compared, in a fraction of the memory.
        cosine: Match by cosines; False matches by plain inner products.

    Raises:
        ValueError: Maps or weights have the wrong shape.
        InputError: Maps or weights hold NaN or infinity, or the dtype is not supported.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        raise InputError("prepare", f"dtype {dtype} is not supported; use torch.float32 or torch.bfloat16")
    x = as_positions(maps, "maps").float()
    weight = as_weight(weight, x, "weight")
    with torch.autocast(maps.device.type, enabled=False):
        norms = torch.linalg.vector_norm(x, dim=1).clamp_min(EPSILON)
        weighted_mean = torch.bmm(x, weight[:, :, None])[:, :, 0] / norms.shape[1]
        if not bool(torch.isfinite(weighted_mean).all() & torch.isfinite(norms).all()):
            raise InputError("maps", "maps or weights hold NaN or infinity, or their squares overflow")
        if not positions:
            x, norms, weight = x[:, :, :0], norms[:, :0], weight[:, :0]
        if not cosine:
            norms = torch.ones_like(norms)
        unit = (x / norms[:, None]).transpose(1, 2).to(dtype)
    size = (maps.shape[2], maps.shape[3]) if maps.dim() == 4 else None
    return PreparedMaps(unit.contiguous(), norms, weight, weighted_mean, size)


class _Workspace:
    """Buffers that every tile reuses: allocating new memory would take longer than the computation."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[str, Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        size = int(torch.Size(shape).numel())
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.dtype != dtype:
            buffer = self._buffers[name] = torch.empty(size, dtype=dtype, device=self._device)
        return buffer[:size].view(shape)


def check_sets(queries: PreparedMaps, candidates: PreparedMaps, positions: bool = True) -> None:
    """Check that both sets are not empty, have the same kind of maps, and have positions if needed.

    Raises:
        ValueError: They do not.
    """
    kinds = [(*maps.unit.shape[1:], maps.unit.dtype) for maps in (queries, candidates)]
    if len(queries) == 0 or len(candidates) == 0:
        raise ValueError(f"{len(queries)} queries and {len(candidates)} candidates: neither may be empty")
    if kinds[0] != kinds[1]:
        raise ValueError(f"maps: queries (M, C, dtype) {kinds[0]} and candidates {kinds[1]} differ")
    if positions and queries.unit.shape[1] == 0:
        raise ValueError("maps: they were prepared without positions, which this comparison needs")


def check_head(head_weight: Tensor, queries: PreparedMaps) -> Tensor:
    """The weights (C,) of a linear head, converted to float32 on the queries' device.

    Raises:
        ValueError: The shape is wrong.
    """
    if head_weight.shape != queries.unit.shape[2:]:
        raise ValueError(f"head_weight: {tuple(head_weight.shape)} is not ({queries.unit.shape[2]},)")
    return head_weight.to(queries.norms)


def check_lists(lists: Tensor, queries: int, candidates: int) -> None:
    """Check lists (Q, K) of candidates' indices.

    Raises:
        InputError: The dtype or the shape is wrong, or an index is outside the candidates.
    """
    if lists.dtype != torch.int64:
        raise InputError("lists", f"expected int64 indices of candidates, got {lists.dtype}")
    if lists.dim() != 2 or len(lists) != queries or lists.numel() == 0:
        raise InputError("lists", f"expected ({queries}, K) with K > 0, got {tuple(lists.shape)}")
    if int(lists.min()) < 0 or int(lists.max()) >= candidates:
        raise InputError("lists", f"an index is outside the candidates 0 to {candidates - 1}")


def _tile_sizes(queries: int, positions: int, channels: int, device: torch.device) -> tuple[int, int, int]:
    """Queries per product, candidates per product, and queries per warp (a multiple of the first)."""
    elements = tile_elements(device)
    per_product = max(1, min(queries, _ROWS // positions))
    candidates = max(1, elements // (positions * max(per_product * positions, channels)))
    per_warp = max(1, elements // (candidates * max(channels, positions) * per_product))
    return per_product, candidates, per_warp * per_product


@functools.cache
def _fused_column_sums() -> Callable[..., Tensor] | None:
    """The GPU kernel, or None without Triton."""
    try:
        from kronreid.ops.matching_triton import column_sums
    except ImportError:
        return None
    return column_sums


def _column_sums(
    queries: PreparedMaps, y_unit: Tensor, temperature: float, out: Tensor, work: _Workspace
) -> None:
    """Write v (G, Q, M) into `out`, for a few queries and a tile of candidates' unit vectors (G, M, C)."""
    count, m, c = queries.unit.shape
    if queries.unit.is_cuda and (fused := _fused_column_sums()) is not None:
        number = torch.arange(count * len(y_unit), device=y_unit.device)
        pairs = number % count, number // count  # candidate by candidate, the layout of `out`
        out.copy_(fused(queries.unit, y_unit, queries.weight, *pairs, temperature).view(out.shape))
        return
    columns = len(y_unit) * m
    products = work.get("products", (count * m, columns), y_unit.dtype)
    products.addmm_(queries.unit.reshape(-1, c), y_unit.reshape(-1, c).t(), beta=0, alpha=1 / temperature)
    beta = products
    if products.dtype != torch.float32:
        beta = work.get("beta", (count * m, columns))
        beta.copy_(products)
    rows = beta.view(-1, m)
    torch.softmax(rows, dim=1, out=rows)
    v = work.get("v", (count, 1, columns))
    torch.bmm(queries.weight[:, None], beta.view(count, m, columns), out=v)
    out.copy_(v.view(count, len(y_unit), m).transpose(0, 1))


def _delta_tiles(
    queries: PreparedMaps, candidates: PreparedMaps, temperature: float, work: _Workspace
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (slice of queries, slice of candidates, delta (G_tile, Q_tile, C)). The tensor is reused."""
    check_temperature(temperature)
    check_sets(queries, candidates)
    (q_total, m, c), g_total = queries.unit.shape, len(candidates)
    q_size, g_size, q_chunk = _tile_sizes(q_total, m, c, queries.unit.device)
    for g in range(0, g_total, g_size):
        g_slice = slice(g, min(g + g_size, g_total))
        y_unit, y_norms = candidates.unit[g_slice], candidates.norms[g_slice]
        y = y_unit
        if y.dtype != torch.float32:
            y = work.get("y", tuple(y_unit.shape))
            y.copy_(y_unit)
        for q in range(0, q_total, q_chunk):
            q_slice = slice(q, min(q + q_chunk, q_total))
            v = work.get("v_tile", (len(y), q_slice.stop - q, m))
            for start in range(q, q_slice.stop, q_size):
                stop = min(start + q_size, q_slice.stop)
                _column_sums(queries[start:stop], y_unit, temperature, v[:, start - q : stop - q], work)
            v *= (y_norms / m)[:, None]
            delta = work.get("delta", (len(y), q_slice.stop - q, c))
            torch.bmm(v, y, out=delta)
            torch.sub(queries.weighted_mean[q_slice], delta, out=delta)
            yield q_slice, g_slice, delta


@torch.no_grad()
def match_block(queries: PreparedMaps, candidates: PreparedMaps, temperature: float = 0.05) -> Tensor:
    """delta (Q, G, C) float32 of every query with every candidate (KPM, Eq. 10, divided by M).

    Args:
        queries: Q pictures.
        candidates: G pictures with maps of the same size and precision.
        temperature: tau_KPM > 0 of Eq. 5.

    Raises:
        ValueError: A set is empty, or the sets do not fit.
        InputError: The temperature is not positive.
    """
    result = queries.norms.new_empty(len(queries), len(candidates), queries.unit.shape[2])
    work = _Workspace(queries.unit.device)
    for q, g, delta in _delta_tiles(queries, candidates, temperature, work):
        result[q, g] = delta.transpose(0, 1)
    return result


@torch.no_grad()
def score_block(
    queries: PreparedMaps,
    candidates: PreparedMaps,
    head_weight: Tensor,
    temperature: float = 0.05,
    absolute: bool = False,
) -> Tensor:
    """One scale's share of the logits, sum_c head_weight_c delta_c^2, (Q, G) float32.

    BatchNorm in eval mode and the following linear layer reduce to one weight per channel and a constant,
    which the caller adds. delta (Q, G, C) is never held as a whole.

    Args:
        queries: Q pictures.
        candidates: G pictures with maps of the same size and precision.
        head_weight: (C,).
        temperature: tau_KPM > 0 of Eq. 5.
        absolute: Use |delta_c| instead of the square.

    Raises:
        ValueError: A set is empty, or the sets or the weights do not fit.
        InputError: The temperature is not positive, or the result is not finite.
    """
    head_weight = check_head(head_weight, queries)
    result = queries.norms.new_empty(len(queries), len(candidates))
    work = _Workspace(queries.unit.device)
    for q, g, delta in _delta_tiles(queries, candidates, temperature, work):
        result[q, g] = (_magnitudes(delta, absolute) @ head_weight).t()
    check_finite(result)
    return result


def _magnitudes(delta: Tensor, absolute: bool) -> Tensor:
    return delta.abs_() if absolute else delta.square_()


@torch.no_grad()
def score_lists(
    queries: PreparedMaps,
    candidates: PreparedMaps,
    lists: Tensor,
    head_weight: Tensor,
    temperature: float = 0.05,
    absolute: bool = False,
) -> Tensor:
    """As `score_block`, but each query q is compared only with the candidates `lists[q]`.

    Args:
        queries: Q pictures.
        candidates: G pictures with maps of the same size and precision.
        lists: (Q, K) int64 indices into `candidates`.
        head_weight: (C,).
        temperature: tau_KPM > 0 of Eq. 5.
        absolute: Use |delta_c| instead of the square.

    Returns:
        (Q, K) float32.

    Raises:
        ValueError: As in `score_block`.
        InputError: As in `score_block`. Or `lists` has the wrong dtype or shape, or an index outside the
            candidates.
    """
    check_sets(queries, candidates)
    check_lists(lists, len(queries), len(candidates))
    head_weight, lists = check_head(head_weight, queries), lists.to(candidates.unit.device)
    _, m, c = queries.unit.shape
    result = queries.norms.new_empty(lists.shape)
    work = _Workspace(queries.unit.device)
    _, size, _ = _tile_sizes(1, m, c, queries.unit.device)
    for q in range(len(queries)):
        for start in range(0, lists.shape[1], size):
            index = lists[q, start : start + size]
            unit = work.get("gathered", (len(index), m, c), candidates.unit.dtype)
            torch.index_select(candidates.unit, 0, index, out=unit)
            chosen = PreparedMaps(
                unit, candidates.norms[index], candidates.weight[index], candidates.weighted_mean[index]
            )
            for _, g, delta in _delta_tiles(queries[q : q + 1], chosen, temperature, work):
                result[q, start + g.start : start + g.stop] = _magnitudes(delta, absolute)[:, 0] @ head_weight
    check_finite(result)
    return result
