"""Fused best matches of places for GPUs: weighted sums of maxima (see `places.py`) without S in memory.

One program owns one pair. It holds the products of all places of one picture with a few of the other's, in
registers, and takes both maxima of them: those over the few, which are complete when all have passed by, and
those over all, which are complete at once. The picture with fewer places is the one that is there as a whole,
up to 512 places. Where both have more, a first launch takes the maxima of the one's places, chunk by chunk,
and a second those of the other's.

Places are multiplied as they are kept: int8 with int32 sums, which their scales multiply afterwards, and
bfloat16, float16 and float32 with float32 sums. Every edge is masked, so maps of any size and length go.
Triton is optional: import this module only where it is installed. Under TRITON_INTERPRET=1 it runs on the CPU
(in int8, float16 and float32; the interpreter's bfloat16 product is wrong).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kronreid.ops.places import Places

_WHOLE_LIMIT = 512  # places whose products with 32 others still fit in a program's registers
_FEW = 32
_PAIRS_PER_LAUNCH = 1 << 30  # a launch has at most 2³¹ − 1 programs


@triton.jit
def _products(
    x, y, i, j, i_inside, j_inside,
    D: tl.constexpr, BLOCK_D: tl.constexpr, EXACT: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Inner products (I, J), of type SUM, of places i of one picture (M, D) with places j of another."""
    total = tl.zeros((i.shape[0], j.shape[0]), dtype=SUM)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        u = tl.load(x + i[:, None] * D + d[None, :], mask=i_inside[:, None] & (d < D)[None, :], other=0)
        v = tl.load(y + j[None, :] * D + d[:, None], mask=j_inside[None, :] & (d < D)[:, None], other=0)
        # float32 places are multiplied as float32, not rounded to TF32
        total = tl.dot(u, v, total, input_precision="ieee" if EXACT else "tf32", out_dtype=SUM)
    return total


@triton.jit
def _pair_shares(
    x, y, scales_x, scales_y, weight_x, weight_y, lists, out, count,
    M_X: tl.constexpr, M_Y: tl.constexpr, D: tl.constexpr, SCALED: tl.constexpr, EXACT: tl.constexpr,
    LISTED: tl.constexpr, EXCHANGED: tl.constexpr, BOTH: tl.constexpr,
    BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_D: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """out (P, chunks): of pair p, Σ_i w_i m_i over a chunk of X's places, and if BOTH also Σ_j w'_j n_j.

    Pair p is query p // count with candidate lists[p], or p % count where it is not LISTED. X is the query,
    or the candidate if EXCHANGED. BOTH needs all of X's places in one chunk. Grid (P, chunks).
    """
    pair = tl.program_id(0).to(tl.int64)
    query = pair // count
    if LISTED:
        candidate = tl.load(lists + pair)
    else:
        candidate = pair % count
    if EXCHANGED:
        x_number, y_number = candidate, query
    else:
        x_number, y_number = query, candidate
    i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    i_inside = i < M_X
    if SCALED:
        scale_x = tl.load(scales_x + x_number * M_X + i, mask=i_inside, other=0).to(tl.float32)
    m = tl.full((BLOCK_I,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_J,), tl.float32)
    for start in range(0, M_Y, BLOCK_J):
        j = start + tl.arange(0, BLOCK_J)
        j_inside = j < M_Y
        s = _products(
            x + x_number * M_X * D, y + y_number * M_Y * D, i, j, i_inside, j_inside, D, BLOCK_D, EXACT, SUM
        ).to(tl.float32)
        if SCALED:
            scale_y = tl.load(scales_y + y_number * M_Y + j, mask=j_inside, other=0).to(tl.float32)
            s = s * scale_x[:, None] * scale_y[None, :]
        m = tl.maximum(m, tl.max(tl.where(j_inside[None, :], s, float("-inf")), axis=1))
        if BOTH:
            n = tl.max(tl.where(i_inside[:, None], s, float("-inf")), axis=0)
            total += n * tl.load(weight_y + y_number * M_Y + j, mask=j_inside, other=0)
    share = tl.sum(m * tl.load(weight_x + x_number * M_X + i, mask=i_inside, other=0)) + tl.sum(total)
    tl.store(out + pair * tl.num_programs(1) + tl.program_id(1), share)


def scores(
    queries: Places, candidates: Places, weight_x: Tensor, weight_y: Tensor, lists: Tensor | None = None
) -> Tensor:
    """Σ_i w_i m_i + Σ_j w'_j n_j of many pairs. `places.score_block` and `score_lists` check the arguments.

    Args:
        queries: Q pictures, X.
        candidates: G pictures, Y, of the same numbers and type.
        weight_x: (Q, M_x) float32.
        weight_y: (G, M_y) float32.
        lists: (Q, K) int64 candidates of each query; None for all of every query.

    Returns:
        (Q, G) float32, or (Q, K) with lists.
    """
    count = len(candidates) if lists is None else lists.shape[1]
    result = weight_x.new_empty(len(queries), count)
    step = max(1, _PAIRS_PER_LAUNCH // count)
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        sides = (queries[part], weight_x[part]), (candidates, weight_y)
        exchanged = candidates.numbers.shape[1] < queries.numbers.shape[1]
        if exchanged:
            sides = sides[::-1]
        both = sides[0][0].numbers.shape[1] <= _WHOLE_LIMIT
        rows = result[part]
        chosen = None if lists is None else lists[part]
        rows[:] = _launch(*sides, chosen, rows.shape, exchanged, both)
        if not both:
            rows += _launch(*sides[::-1], chosen, rows.shape, not exchanged, both)
    return result


def _launch(
    first: tuple[Places, Tensor],
    second: tuple[Places, Tensor],
    lists: Tensor | None,
    shape: torch.Size,
    exchanged: bool,
    both: bool,
) -> Tensor:
    """(Q, K) shares of each pair; `first` is X."""
    (x, weight_x), (y, weight_y) = first, second
    (_, m_x, d), m_y, dtype = x.numbers.shape, y.numbers.shape[1], x.numbers.dtype
    width = min(_WHOLE_LIMIT, max(16, triton.next_power_of_2(m_x)))
    chunks = triton.cdiv(m_x, width)
    out = weight_x.new_empty(shape.numel(), chunks)
    tensors = (x.numbers, y.numbers, x.scales, y.scales, weight_x, weight_y, out if lists is None else lists)
    _pair_shares[(len(out), chunks)](
        *(tensor.contiguous() for tensor in tensors), out, shape[1],
        M_X=m_x, M_Y=m_y, D=d, SCALED=dtype == torch.int8, EXACT=dtype == torch.float32,
        LISTED=lists is not None, EXCHANGED=exchanged, BOTH=both,
        # Two stages of 64 bytes of 512 + 32 places take 68 KiB of shared memory.
        BLOCK_I=width, BLOCK_J=_FEW, BLOCK_D=64 // dtype.itemsize,
        SUM=tl.int32 if dtype == torch.int8 else tl.float32,
        num_warps=8 if width > 128 else 4, num_stages=2,
    )  # fmt: skip
    return out.sum(1).view(shape)
