"""Fused Kronecker-product matching for GPUs: v = beta^T w (see `matching.py`) without an M x M map in memory.

One program holds tiles of the inner products of one pair in registers. There are two variants:

- `_whole_rows` is for up to 512 positions. A program has some rows i of the pair with all their columns, so
it
  computes the softmax, weights the rows and sums them in one pass over the products.
- `_row_statistics` and `_column_sums` are for larger maps. The first pass keeps a running maximum and sum of
  exponentials per row (online softmax). The second pass computes the products again and sums the weighted
  columns.

Inputs are float32, float16 or bfloat16; accumulation, softmax and sums are float32. Every edge is masked, so
any channel count and map size works. Triton is optional: import this module only if it is installed. Under
TRITON_INTERPRET=1 it runs on the CPU, in float32 and float16; the interpreter's bfloat16 product is wrong.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kronreid.ops.matching import check_temperature

_WHOLE_ROWS_LIMIT = 512  # most columns whose products with 64 rows fit in a program's registers
_PAIRS_PER_LAUNCH = 1 << 15  # bounds the row blocks' shares of v, which take 16 KiB per pair at 512 positions


@triton.jit
def _products(
    x_rows, y_rows, i, j, i_inside, j_inside, C: tl.constexpr, BLOCK_C: tl.constexpr, EXACT: tl.constexpr
):
    """Inner products (I, J) of positions i of one map (M, C) with positions j of another, float32."""
    total = tl.zeros((i.shape[0], j.shape[0]), dtype=tl.float32)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        x = tl.load(
            x_rows + i[:, None] * C + c[None, :], mask=i_inside[:, None] & (c < C)[None, :], other=0.0
        )
        y = tl.load(
            y_rows + j[None, :] * C + c[:, None], mask=j_inside[None, :] & (c < C)[:, None], other=0.0
        )
        # Multiply float32 inputs as float32, without rounding to TF32.
        total = tl.dot(x, y, total, input_precision="ieee" if EXACT else "tf32")
    return total


@triton.jit
def _whole_rows(
    x, y, weight, pairs_x, pairs_y, out, scale,
    M_X: tl.constexpr, M_Y: tl.constexpr, C: tl.constexpr,
    BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_C: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """out (P, ceil(M_X / BLOCK_I), M_Y): each program's share of v. BLOCK_J >= M_Y. Grid (P, row blocks)."""
    pair = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    x_pair, y_pair = tl.load(pairs_x + pair), tl.load(pairs_y + pair)
    i = block * BLOCK_I + tl.arange(0, BLOCK_I)
    j = tl.arange(0, BLOCK_J)
    logits = scale * _products(
        x + x_pair * M_X * C, y + y_pair * M_Y * C, i, j, i < M_X, j < M_Y, C, BLOCK_C, EXACT
    )
    logits = tl.where((j < M_Y)[None, :], logits, float("-inf"))
    exponentials = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    w = tl.load(weight + x_pair * M_X + i, mask=i < M_X, other=0.0)
    v = tl.sum(exponentials * (w / tl.sum(exponentials, axis=1))[:, None], axis=0)
    tl.store(out + (pair * tl.num_programs(1) + block) * M_Y + j, v, mask=j < M_Y)


@triton.jit
def _row_statistics(
    x, y, pairs_x, pairs_y, log_sums, scale,
    M_X: tl.constexpr, M_Y: tl.constexpr, C: tl.constexpr,
    BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_C: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """log_sums (P, M_X): the logarithm of each row's sum of exponentials. Grid (P, row blocks)."""
    pair = tl.program_id(0).to(tl.int64)
    x_pair, y_pair = tl.load(pairs_x + pair), tl.load(pairs_y + pair)
    i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    maximum = tl.full((BLOCK_I,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_I,), tl.float32)
    for start in range(0, M_Y, BLOCK_J):
        j = start + tl.arange(0, BLOCK_J)
        logits = scale * _products(
            x + x_pair * M_X * C, y + y_pair * M_Y * C, i, j, i < M_X, j < M_Y, C, BLOCK_C, EXACT
        )
        logits = tl.where((j < M_Y)[None, :], logits, float("-inf"))
        new_maximum = tl.maximum(maximum, tl.max(logits, axis=1))
        total = total * tl.exp(maximum - new_maximum) + tl.sum(tl.exp(logits - new_maximum[:, None]), axis=1)
        maximum = new_maximum
    tl.store(log_sums + pair * M_X + i, maximum + tl.log(total), mask=i < M_X)


@triton.jit
def _column_sums(
    x, y, weight, pairs_x, pairs_y, log_sums, out, scale,
    M_X: tl.constexpr, M_Y: tl.constexpr, C: tl.constexpr,
    BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_C: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """out (P, M_Y): v, computed with the rows' statistics. Grid (P, column blocks)."""
    pair = tl.program_id(0).to(tl.int64)
    x_pair, y_pair = tl.load(pairs_x + pair), tl.load(pairs_y + pair)
    j = tl.program_id(1) * BLOCK_J + tl.arange(0, BLOCK_J)
    v = tl.zeros((BLOCK_J,), tl.float32)
    for start in range(0, M_X, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)
        logits = scale * _products(
            x + x_pair * M_X * C, y + y_pair * M_Y * C, i, j, i < M_X, j < M_Y, C, BLOCK_C, EXACT
        )
        w = tl.load(weight + x_pair * M_X + i, mask=i < M_X, other=0.0)
        log_sum = tl.load(log_sums + pair * M_X + i, mask=i < M_X, other=0.0)
        v += tl.sum(tl.exp(logits - log_sum[:, None]) * w[:, None], axis=0)
    tl.store(out + pair * M_Y + j, v, mask=j < M_Y)


def column_sums(
    x_unit: Tensor, y_unit: Tensor, weight: Tensor, pairs_x: Tensor, pairs_y: Tensor, temperature: float
) -> Tensor:
    """v = beta^T w of pairs given by index.

    Args:
        x_unit: (N_x, M_x, C) unit vectors, float32, float16 or bfloat16.
        y_unit: (N_y, M_y, C), the same dtype.
        weight: (N_x, M_x) float32.
        pairs_x: (P,) int64 indices into `x_unit`.
        pairs_y: (P,) int64 indices into `y_unit`.
        temperature: tau_KPM > 0.

    Returns:
        (P, M_y) float32.

    Raises:
        ValueError: Channels or dtypes differ.
        InputError: The temperature is not positive.
    """
    check_temperature(temperature)
    c, m_y = x_unit.shape[2], y_unit.shape[1]
    if y_unit.shape[2] != c or x_unit.dtype != y_unit.dtype:
        raise ValueError(f"channels and dtypes differ: {c} {x_unit.dtype}, {y_unit.shape[2]} {y_unit.dtype}")
    x_unit, y_unit, weight = x_unit.contiguous(), y_unit.contiguous(), weight.float().contiguous()
    result = weight.new_empty(len(pairs_x), m_y)
    for start in range(0, len(pairs_x), _PAIRS_PER_LAUNCH):
        part = slice(start, start + _PAIRS_PER_LAUNCH)
        result[part] = _launch(
            x_unit, y_unit, weight, pairs_x[part].contiguous(), pairs_y[part].contiguous(), temperature
        )
    return result


def _launch(
    x: Tensor, y: Tensor, weight: Tensor, pairs_x: Tensor, pairs_y: Tensor, temperature: float
) -> Tensor:
    (_, m_x, c), m_y, pairs = x.shape, y.shape[1], len(pairs_x)
    sizes = {"M_X": m_x, "M_Y": m_y, "C": c, "EXACT": x.dtype == torch.float32}
    # Two stages of 64 channels of half precision take 74 KiB of shared memory on Ampere, 144 KiB on Hopper.
    tuning = {"BLOCK_C": 16 if x.dtype == torch.float32 else 64, "num_stages": 2}
    if m_y <= _WHOLE_ROWS_LIMIT:
        block_j = max(16, triton.next_power_of_2(m_y))
        block_i = min(64 if block_j > 256 else 128, max(16, triton.next_power_of_2(m_x)))
        blocks = triton.cdiv(m_x, block_i)
        shares = weight.new_empty(pairs, blocks, m_y)
        _whole_rows[(pairs, blocks)](
            x, y, weight, pairs_x, pairs_y, shares, 1 / temperature, **sizes,
            BLOCK_I=block_i, BLOCK_J=block_j, num_warps=8 if block_i * block_j > 8192 else 4, **tuning,
        )  # fmt: skip
        return shares.sum(dim=1)
    tuning |= {"BLOCK_I": 128, "BLOCK_J": 128, "num_warps": 8}
    log_sums, v = weight.new_empty(pairs, m_x), weight.new_empty(pairs, m_y)
    _row_statistics[(pairs, triton.cdiv(m_x, 128))](
        x, y, pairs_x, pairs_y, log_sums, 1 / temperature, **sizes, **tuning
    )
    _column_sums[(pairs, triton.cdiv(m_y, 128))](
        x, y, weight, pairs_x, pairs_y, log_sums, v, 1 / temperature, **sizes, **tuning
    )
    return v
