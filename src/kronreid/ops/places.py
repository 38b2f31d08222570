"""Best matches of places: how well each place of one picture finds its counterpart in the other.

Pictures X and Y are unit vectors u_i and v_j at their places. S_ij = <u_i, v_j> is what KPM's Kronecker
product holds (Eq. 6, as cosines). The paper warps Y softly onto X by S and compares the two maps (Eq. 8, 10).
Here only the best matches are kept,

    m_i = max_j S_ij    and    n_j = max_i S_ij,

of X's places in Y and of Y's places in X, which say how *well* each place is found. QAConv (Liao & Shao, ECCV
2020) keeps the same maxima.

`best_matches` is the plain form, which also trains. `score_block` and `score_lists` give weighted sums of the
maxima for many pictures against many: one matrix product per tile, both maxima while it lies in the cache,
and never an array of all pairs' S. Every place of every picture has a weight of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from kronreid.ops.blocks import check_lists

#: How the numbers of places are kept.
Precision: TypeAlias = Literal["int8", "bf16", "fp32"]
DTYPES: dict[str, torch.dtype] = {"int8": torch.int8, "bf16": torch.bfloat16, "fp32": torch.float32}

# Inner products held at once: a CPU tile (3 MiB) must stay in its cache, a GPU wants few, large launches.
_TILE_ELEMENTS = {"cpu": 3 << 18, "cuda": 1 << 27}
# Pictures that lie side by side in a product. On a CPU a maximum over rows of 32 neighbours is vectorised;
# over rows of fewer it takes twenty times as long.
_SIDE_BY_SIDE = {"cpu": 32, "cuda": 64}


@dataclass(frozen=True)
class Places:
    """The places of N pictures at one level, as they are kept and compared.

    Attributes:
        numbers: (N, M, D) int8, bfloat16 or float32: what is left of each place's unit vector. An int8 place
            is its unit vector divided by its scale, rounded.
        scales: (N, M) float16, the factor of an int8 place; (N, 0) for the other types.
        common: (N, M) float16, how well each place is matched by strangers (`commonness`).
    """

    numbers: Tensor
    scales: Tensor
    common: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """All that is kept of each picture."""
        return self.numbers, self.scales, self.common

    def _map(self, change: Callable[[Tensor], Tensor]) -> Places:
        return Places(*map(change, self.tensors))

    def __getitem__(self, index: slice | Tensor) -> Places:
        """The pictures of a slice (a view) or of an int64 tensor (a copy)."""
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Places:
        return self._map(lambda tensor: tensor.to(device))

    @classmethod
    def cat(cls, parts: Sequence[Places]) -> Places:
        """One after the other; all of one number of places, one length and one type."""
        return cls(*map(torch.cat, zip(*(part.tensors for part in parts))))

    def unit(self) -> Tensor:
        """(N, M, D) float32: the places' vectors."""
        numbers = self.numbers.float()
        return numbers * self.scales.float()[..., None] if self.scales.shape[1] else numbers

    @property
    def bytes_per_picture(self) -> int:
        """What one picture takes."""
        return sum(tensor[0].numel() * tensor.element_size() if len(tensor) else 0 for tensor in self.tensors)


def keep(unit: Tensor, common: Tensor, precision: Precision = "int8") -> Places:
    """Places in the form in which they are kept.

    Args:
        unit: Their unit vectors (N, M, D), floating.
        common: Their commonness (N, M), floating.
        precision: How the vectors' numbers are kept.
    """
    unit, common = unit.detach().float(), common.detach().half()
    if precision != "int8":
        numbers = unit.to(DTYPES[precision])
        return Places(numbers.contiguous(), common[:, :0], common)
    # The rounded scale is what the numbers are divided by, so that it costs no accuracy. 2⁻¹⁴ is the smallest
    # normal half-precision number; a place of zeros stays zero.
    scales = (unit.abs().amax(2) / 127).clamp_min(2**-14).half()
    numbers = (unit / scales.float()[..., None]).round_().clamp_(-127, 127).to(torch.int8)
    return Places(numbers.contiguous(), scales, common)


def best_matches(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The plain form, pair by pair, with gradients.

    Args:
        x: Unit places (P, M_x, D) of the first pictures, floating.
        y: Unit places (P, M_y, D) of the second.

    Returns:
        m (P, M_x) and n (P, M_y), cosines.
    """
    products = torch.einsum("pid,pjd->pij", x, y)
    return products.amax(2), products.amax(1)


def commonness(unit: Tensor, strangers: Tensor, nearest: int = 5) -> Tensor:
    """How well strangers match each place: the mean cosine of its nearest places among those of other people.

    Args:
        unit: Unit places (N, M, D), floating.
        strangers: Unit places (B, D) of many people.
        nearest: How many of them count, at most B.

    Returns:
        (N, M), cosines.
    """
    return (unit @ strangers.t()).topk(nearest, dim=2, sorted=False).values.mean(2)


def best_places(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where the best matches lie: for each place of x (P, M_x, D) its number in y (P, M_y, D), and the
    reverse.

    Returns:
        (P, M_x) and (P, M_y) int64.
    """
    products = torch.einsum("pid,pjd->pij", x, y)
    return products.argmax(2), products.argmax(1)


@torch.no_grad()
def score_reference(queries: Places, candidates: Places, weight_x: Tensor, weight_y: Tensor) -> Tensor:
    """Σ_i w_i m_i + Σ_j w'_j n_j (Q, G) float32 of all pairs at once, in memory Q·G·M_x·M_y: small sets only.

    Args:
        queries: Q pictures, X.
        candidates: G pictures, Y.
        weight_x: w (Q, M_x), of every query's places.
        weight_y: w' (G, M_y), of every candidate's places.
    """
    products = torch.einsum("qid,gjd->qgij", queries.unit(), candidates.unit())
    of_x = torch.einsum("qgi,qi->qg", products.amax(3), weight_x.float())
    return of_x + torch.einsum("qgj,gj->qg", products.amax(2), weight_y.float())


@torch.no_grad()
def score_block(queries: Places, candidates: Places, weight_x: Tensor, weight_y: Tensor) -> Tensor:
    """As `score_reference`, tile by tile: (Q, G) float32. Only the result grows with the sets.

    The products are float32 whatever the places are kept in: int8 saves memory, but torch's integer product
    on a CPU is slower than its float32 one. On a GPU with Triton a fused kernel multiplies the places as they
    are kept.

    Raises:
        ValueError: A set is empty, or they and the weights do not fit each other.
    """
    weight_x, weight_y = _check(queries, candidates, weight_x, weight_y)
    if queries.numbers.is_cuda and (fused := _fused()) is not None:
        return fused(queries, candidates, weight_x, weight_y)
    return _tiles(queries, candidates, weight_x, weight_y)


@torch.no_grad()
def score_lists(
    queries: Places, candidates: Places, lists: Tensor, weight_x: Tensor, weight_y: Tensor
) -> Tensor:
    """As `score_block`, (Q, K) float32, of query q with the candidates lists[q]; lists (Q, K) int64.

    Raises:
        ValueError: See `score_block`.
        InputError: `lists` is empty or names a candidate that is not there.
    """
    weight_x, weight_y = _check(queries, candidates, weight_x, weight_y)
    check_lists(lists, len(queries), len(candidates))
    lists = lists.to(candidates.numbers.device)
    if queries.numbers.is_cuda and (fused := _fused()) is not None:
        return fused(queries, candidates, weight_x, weight_y, lists)
    rows = [
        _tiles(queries[q : q + 1], candidates[row], weight_x[q : q + 1], weight_y[row])
        for q, row in enumerate(lists)
    ]
    return torch.cat(rows)


def _check(queries: Places, candidates: Places, weight_x: Tensor, weight_y: Tensor) -> tuple[Tensor, Tensor]:
    """The weights in float32 on the places' device; ValueError where anything does not fit."""
    if len(queries) == 0 or len(candidates) == 0:
        raise ValueError(f"{len(queries)} queries, {len(candidates)} candidates: neither may be empty")
    kinds = [(places.numbers.shape[2], places.numbers.dtype) for places in (queries, candidates)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"places: queries (D, dtype) {kinds[0]} and candidates {kinds[1]} differ")
    for name, weight, places in (("weight_x", weight_x, queries), ("weight_y", weight_y, candidates)):
        if weight.shape != places.numbers.shape[:2]:
            raise ValueError(f"{name}: {tuple(weight.shape)} is not {tuple(places.numbers.shape[:2])}")
    device = queries.numbers.device
    return weight_x.to(device, torch.float32), weight_y.to(device, torch.float32)


def _tiles(queries: Places, candidates: Places, weight_x: Tensor, weight_y: Tensor) -> Tensor:
    """`score_block`, a block of queries at a time against tiles of candidates.

    A product's rows are the candidates' places and its columns the queries'. The queries of a whole block lie
    side by side, all queries' first place, then their second, and so on, so that both maxima run over
    neighbours in memory. In the last block, which may be smaller, they lie one behind the other.
    """
    (count, m_x, d), m_y = queries.numbers.shape, candidates.numbers.shape[1]
    device = queries.numbers.device
    kind = "cpu" if device.type == "cpu" else "cuda"
    side, elements = _SIDE_BY_SIDE[kind], _TILE_ELEMENTS[kind]
    row = min(side, count) * m_x * m_y  # of one candidate with a block of queries
    # One buffer for all products: fresh pages cost more than the products themselves.
    buffer = torch.empty(min(len(candidates) * row, max(elements, row)), device=device)
    result = torch.empty(count, len(candidates), device=device)
    for start in range(0, count, side):
        x, w = queries[start : start + side].unit(), weight_x[start : start + side]
        q = len(x)
        columns = (x.permute(2, 1, 0) if q == side else x.permute(2, 0, 1)).reshape(d, -1)
        tile = max(1, elements // (q * m_x * m_y))
        shares = []
        for y, v in zip(_float_tiles(candidates, tile), weight_y.split(tile)):
            products = torch.mm(y, columns, out=buffer[: len(y) * q * m_x].view(len(y), -1))
            m = products.view(-1, m_y, q * m_x).amax(1)
            if q == side:
                n = products.view(-1, m_x, q).amax(1)
                m = m.view(-1, m_x, q).mul_(w.t()).sum(1)
            else:
                n = products.view(-1, q, m_x).amax(2)
                m = m.view(-1, q, m_x).mul_(w).sum(2)
            shares.append(m + torch.bmm(v[:, None], n.view(-1, m_y, q)).squeeze(1))
        result[start : start + q] = torch.cat(shares).t()
    return result


def _float_tiles(pictures: Places, size: int) -> Iterator[Tensor]:
    """The places of `size` pictures at a time, (size·M, D) float32; several tiles are converted at once."""
    step = size * max(1, 64 // size)
    for start in range(0, len(pictures), step):
        part = pictures[start : start + step].unit()
        yield from part.flatten(0, 1).split(size * part.shape[1])


@functools.cache
def _fused() -> Callable[..., Tensor] | None:
    """The GPU kernel, where Triton is installed."""
    try:
        from kronreid.ops.places_triton import scores
    except ImportError:
        return None
    return scores


def project(maps: Tensor, projection: Tensor) -> Tensor:
    """Maps (N, C, H, W), floating, with each place's unit vector multiplied by a projection (C, D).

    Returns:
        (N, D, H, W) float32. The same is one 1×1 convolution of an exported graph.
    """
    return F.conv2d(F.normalize(maps.float(), dim=1), projection.t()[:, :, None, None])


def unit(projected: Tensor) -> Tensor:
    """Projected maps (N, D, H, W) to the unit vectors of their places, (N, H·W, D) float32.

    Places are numbered row by row. A place of zeros stays zero.
    """
    return F.normalize(projected.float().flatten(2).transpose(1, 2), dim=2)
