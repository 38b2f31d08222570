"""The other comparisons of many pictures with many, for scoring (without gradients).

`blocks.py` has the collapsed warp. Here are the other rows of KPM's Tables 1 and 5, and squares of warped
maps. Each function returns one scale's share of the logits, like `score_block`. Only the result grows with
the gallery.

- `score_means`: differences of average-pooled maps, squared or absolute: the baseline (Fig. 5).
- `score_sums`: means without a difference or without its square (Sec. 4.3).
- `score_places`: differences place by place, squared *before* pooling (Table 1).
- `score_confidences`: the matching confidences of Eq. 7, classified by a small network ("w/o warp").
- `score_warped`: differences place by place after the warp, squared before pooling (not in the paper).

All raise ValueError if a set is empty, if the sets do not fit each other, or if they were prepared without
positions that are needed. All raise InputError if the result is not finite or the temperature is not
positive. In all, `queries` are Q pictures, `candidates` are G pictures, and `head_weight` is (C,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kronreid.ops.blocks import PreparedMaps, check_head, check_lists, check_sets, tile_elements
from kronreid.ops.matching import check_finite, check_temperature

# Queries and candidates per matrix product: enough to make the scaling of the rows cheap in comparison.
_ROWS = 256

Block = Callable[[PreparedMaps, PreparedMaps], Tensor]


@torch.no_grad()
def score_means(
    queries: PreparedMaps, candidates: PreparedMaps, head_weight: Tensor, absolute: bool = False
) -> Tensor:
    """sum_c head_weight_c f(mean x_c - mean y_c) (Q, G) float32, f the square or the absolute value.

    Expanding (p - q)^2 gives one matrix product. The absolute values are two distances in the 1-norm, one
    over the channels with positive weights and one over those with negative weights, since a |d| = |a d| for
    a > 0.
    """
    check_sets(queries, candidates, positions=False)
    a = check_head(head_weight, queries)
    # The common mean cancels in the difference. Subtracting it first loses fewer digits to rounding.
    common = queries.weighted_mean.mean(0)
    p = queries.weighted_mean - common
    size = max(1, tile_elements(p.device) // len(a))
    result = p.new_empty(len(p), len(candidates))
    for start in range(0, len(candidates), size):
        q = candidates.weighted_mean[start : start + size] - common
        result[:, start : start + size] = _absolute(p, q, a) if absolute else _squares(p, q, a)
    check_finite(result)
    return result


def _squares(p: Tensor, q: Tensor, a: Tensor) -> Tensor:
    scores = (p * a) @ q.t()
    return scores.mul_(-2).add_((p.square() @ a)[:, None]).add_((q.square() @ a)[None])


def _absolute(p: Tensor, q: Tensor, a: Tensor) -> Tensor:
    up, down = a > 0, a < 0
    return torch.cdist(p[:, up] * a[up], q[:, up] * a[up], p=1.0) - torch.cdist(
        p[:, down] * a[down], q[:, down] * a[down], p=1.0
    )


@torch.no_grad()
def score_sums(
    queries: PreparedMaps, candidates: PreparedMaps, first_weight: Tensor, second_weight: Tensor
) -> Tensor:
    """sum_c first_weight_c mean x_c + sum_c second_weight_c mean y_c (Q, G) float32.

    Args:
        queries: Q pictures.
        candidates: G pictures.
        first_weight: (C,), of the queries.
        second_weight: (C,), of the candidates.
    """
    check_sets(queries, candidates, positions=False)
    first, second = (check_head(weight, queries) for weight in (first_weight, second_weight))
    result = (queries.weighted_mean @ first)[:, None] + (candidates.weighted_mean @ second)[None]
    check_finite(result)
    return result


@torch.no_grad()
def score_places(queries: PreparedMaps, candidates: PreparedMaps, head_weight: Tensor) -> Tensor:
    """sum_c head_weight_c mean_i (x_ic - y_ic)^2 (Q, G) float32.

    Expanding the square gives one matrix product of vectors of M C numbers, which is computed over a few
    positions at a time. It is always in float32, whatever dtype the maps have, because small differences of
    large sums must not be rounded away.
    """
    check_sets(queries, candidates)
    a = check_head(head_weight, queries)
    _, m, c = queries.unit.shape
    piece = max(1, tile_elements(queries.unit.device) // (c * _ROWS))
    result = torch.zeros(len(queries), len(candidates), device=queries.unit.device)
    for i in range(0, len(queries), _ROWS):
        for j in range(0, len(candidates), _ROWS):
            block = result[i : i + _ROWS, j : j + _ROWS]
            for start in range(0, m, piece):
                places = slice(start, min(start + piece, m))
                weight = a.repeat(places.stop - start) / m
                x = _raw(queries, slice(i, i + _ROWS), places).flatten(1)
                y = _raw(candidates, slice(j, j + _ROWS), places).flatten(1)
                block.add_((x.square() @ weight)[:, None]).add_((y.square() @ weight)[None])
                block.addmm_(x.mul_(weight), y.t(), alpha=-2)
    check_finite(result)
    return result


@torch.no_grad()
def score_confidences(
    queries: PreparedMaps,
    candidates: PreparedMaps,
    temperature: float,
    classify: Callable[[Tensor], Tensor],
) -> Tensor:
    """Classify the matching confidences of every pair; returns (Q, G) float32.

    Args:
        queries: Q pictures.
        candidates: G pictures.
        temperature: tau_KPM > 0.
        classify: Maps beta (P, M, M) float32 of P pairs to scores (P,).
    """
    m = queries.unit.shape[1]
    result = torch.empty(len(queries), len(candidates), device=queries.unit.device)
    # The network holds about 64 channels per position.
    for i, j, beta in _matched(queries, candidates, temperature, numbers=64):
        scores = classify(beta.transpose(1, 2).reshape(-1, m, m))
        result[i, j] = scores.view(beta.shape[0], beta.shape[2])
    check_finite(result)
    return result


@torch.no_grad()
def score_warped(
    queries: PreparedMaps, candidates: PreparedMaps, head_weight: Tensor, temperature: float
) -> Tensor:
    """sum_c head_weight_c mean_i w_i (x_ic - sum_j beta_ij y_jc)^2 (Q, G) float32; candidates are warped.

    The squares are always in float32, as in `score_places`.
    """
    a = check_head(head_weight, queries)
    result = torch.empty(len(queries), len(candidates), device=queries.unit.device)
    for i, j, beta in _matched(queries, candidates, temperature, numbers=len(a)):
        x, y = _raw(queries, i), _raw(candidates, j)
        # One product per candidate warps it onto all queries.
        warped = beta.permute(2, 0, 1, 3).flatten(1, 2) @ y
        squares = warped.view(len(y), *x.shape).sub_(x).square_()
        result[i, j] = (squares @ a).mul_(queries.weight[i]).mean(2).t()
    check_finite(result)
    return result


def _raw(maps: PreparedMaps, rows: slice, places: slice = slice(None)) -> Tensor:
    """The raw maps (rows, places, C), float32."""
    return maps.unit[rows, places].float() * maps.norms[rows, places, None]


def _matched(
    queries: PreparedMaps, candidates: PreparedMaps, temperature: float, numbers: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (slice of queries, slice of candidates, beta (q, M, g, M) float32 of their pairs).

    Args:
        numbers: How many numbers the caller computes per position of a pair; the tiles leave room for them.
    """
    check_temperature(temperature)
    check_sets(queries, candidates)
    count, m, c = queries.unit.shape
    pairs = max(1, tile_elements(queries.unit.device) // (m * max(m, numbers)))
    q_size = min(count, pairs, max(1, _ROWS // m))
    g_size = max(1, pairs // q_size)
    for j in range(0, len(candidates), g_size):
        y = candidates.unit[j : j + g_size]
        for i in range(0, count, q_size):
            x = queries.unit[i : i + q_size]
            products = (x.reshape(-1, c) @ y.reshape(-1, c).t()).float().div_(temperature)
            beta = products.view(len(x), m, len(y), m).softmax(3)
            yield slice(i, i + q_size), slice(j, j + g_size), beta


def by_lists(score: Block, queries: PreparedMaps, candidates: PreparedMaps, lists: Tensor | None) -> Tensor:
    """Apply a `score` function to each query q and the candidates `lists[q]`.

    Args:
        score: Returns (Q, G) float32 of queries and candidates.
        queries: Q pictures.
        candidates: G pictures.
        lists: (Q, K) int64 indices into `candidates`; None compares with all.

    Returns:
        (Q, K) float32, or (Q, G) without lists.

    Raises:
        InputError: `lists` has the wrong dtype or shape, or an index outside the candidates.
    """
    if lists is None:
        return score(queries, candidates)
    check_sets(queries, candidates, positions=False)
    check_lists(lists, len(queries), len(candidates))
    lists = lists.to(candidates.unit.device)
    per_candidate = max(candidates.unit[0].numel(), candidates.weighted_mean.shape[1])
    size = max(1, tile_elements(queries.unit.device) // per_candidate)
    result = torch.empty(lists.shape, device=queries.unit.device)
    for q, row in enumerate(lists):
        for start in range(0, len(row), size):
            chosen = candidates[row[start : start + size]]
            result[q, start : start + size] = score(queries[q : q + 1], chosen)[0]
    return result
