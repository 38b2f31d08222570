"""Comparisons of many pictures with many that are not the collapsed warp of `blocks.py`, for scoring (no
gradients): the other rows of KPM's Tables 1 and 5, and squares of warped maps.

Each is a share of the logit, as `score_block` gives it. Nothing here grows with the gallery but the result:

- `score_means`: differences of average-pooled maps, squared or absolute, the baseline (Fig. 5).
- `score_places`: differences place by place, squared *before* pooling (Table 1).
- `score_confidences`: the matching confidences of Eq. 7 themselves, read by a small network ("w/o warp").
- `score_warped`: differences place by place after the warp, squared before pooling (not in the paper).

All raise ValueError where the sets are empty, do not fit, or were prepared without positions that are needed,
and InputError where the result is not finite or the temperature is not positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kronreid.ops.blocks import PreparedMaps, check_head, check_lists, check_sets
from kronreid.ops.matching import check_finite, check_temperature

# Elements held at once beside the result, as in `blocks.py`.
_TILE_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}
# Rows of queries and of candidates per product of places: enough that scaling them costs little beside it.
_ROWS = 256

Block = Callable[[PreparedMaps, PreparedMaps], Tensor]


@torch.no_grad()
def score_means(
    queries: PreparedMaps, candidates: PreparedMaps, head_weight: Tensor, absolute: bool = False
) -> Tensor:
    """sum_c head_weight_c f(mean x_c - mean y_c) (Q, G) float32, f the square or the absolute value.

    (p - q)^2 multiplied out is one matrix product. Absolute values are distances in the 1-norm, one of the
    channels with a positive and one of those with a negative weight, since a |d| = |a d| for a > 0.
    """
    check_sets(queries, candidates, positions=False)
    a = check_head(head_weight, queries)
    # What all means have in common cancels anyway; without it less is rounded away.
    common = queries.weighted_mean.mean(0)
    p = queries.weighted_mean - common
    elements = _TILE_ELEMENTS.get(p.device.type, _TILE_ELEMENTS["cuda"])
    size = max(1, elements // len(a))
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
def score_places(queries: PreparedMaps, candidates: PreparedMaps, head_weight: Tensor) -> Tensor:
    """sum_c head_weight_c mean_i (x_ic - y_ic)^2 (Q, G) float32.

    Multiplied out it is one matrix product of vectors of M C numbers, taken piece by piece of the positions.
    Always in float32, whatever the maps are kept in: small differences of large sums must survive.
    """
    check_sets(queries, candidates)
    a = check_head(head_weight, queries)
    _, m, c = queries.unit.shape
    elements = _TILE_ELEMENTS.get(queries.unit.device.type, _TILE_ELEMENTS["cuda"])
    piece = max(1, elements // (c * _ROWS))
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
    """What `classify` makes of the matching confidences of every pair, (Q, G) float32.

    Args:
        temperature: tau_KPM > 0.
        classify: beta of some pairs (P, M, M) float32 to (P,).
    """
    m = queries.unit.shape[1]
    result = torch.empty(len(queries), len(candidates), device=queries.unit.device)
    # A network keeps some 64 channels per position.
    for i, j, beta in _matched(queries, candidates, temperature, numbers=64):
        scores = classify(beta.transpose(1, 2).reshape(-1, m, m))
        result[i, j] = scores.view(beta.shape[0], beta.shape[2])
    check_finite(result)
    return result


@torch.no_grad()
def score_warped(
    queries: PreparedMaps, candidates: PreparedMaps, head_weight: Tensor, temperature: float
) -> Tensor:
    """sum_c head_weight_c mean_i w_i (x_ic - sum_j beta_ij y_jc)^2 (Q, G) float32, candidates warped.

    Always squared in float32, whatever the maps are kept in, as in `score_places`.
    """
    a = check_head(head_weight, queries)
    result = torch.empty(len(queries), len(candidates), device=queries.unit.device)
    for i, j, beta in _matched(queries, candidates, temperature, numbers=len(a)):
        x, y = _raw(queries, i), _raw(candidates, j)
        # The rows of all queries look at one candidate in one product.
        warped = beta.permute(2, 0, 1, 3).flatten(1, 2) @ y
        squares = warped.view(len(y), *x.shape).sub_(x).square_()
        result[i, j] = (squares @ a).mul_(queries.weight[i]).mean(2).t()
    check_finite(result)
    return result


def _raw(maps: PreparedMaps, rows: slice, places: slice = slice(None)) -> Tensor:
    """The maps as they were, (rows, places, C) float32."""
    return maps.unit[rows, places].float() * maps.norms[rows, places, None]


def _matched(
    queries: PreparedMaps, candidates: PreparedMaps, temperature: float, numbers: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles of queries and of candidates, and beta (q, M, g, M) float32 of their pairs.

    Args:
        numbers: How many the caller makes of each position of a pair, which a tile has room for.
    """
    check_temperature(temperature)
    check_sets(queries, candidates)
    count, m, c = queries.unit.shape
    elements = _TILE_ELEMENTS.get(queries.unit.device.type, _TILE_ELEMENTS["cuda"])
    pairs = max(1, elements // (m * max(m, numbers)))
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
    """(Q, K) float32: `score` of query q with the candidates lists[q], int64 (Q, K); None: with all."""
    if lists is None:
        return score(queries, candidates)
    check_sets(queries, candidates, positions=False)
    check_lists(lists, len(queries), len(candidates))
    lists = lists.to(candidates.unit.device)
    elements = _TILE_ELEMENTS.get(queries.unit.device.type, _TILE_ELEMENTS["cuda"])
    size = max(1, elements // max(candidates.unit[0].numel(), candidates.weighted_mean.shape[1]))
    result = torch.empty(lists.shape, device=queries.unit.device)
    for q, row in enumerate(lists):
        for start in range(0, len(row), size):
            chosen = candidates[row[start : start + size]]
            result[q, start : start + size] = score(queries[q : q + 1], chosen)[0]
    return result
