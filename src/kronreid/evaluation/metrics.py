"""CMC, mAP, Market-1501's trapezoid mAP and mINP from counted ranks.

All of them need one number per positive: how many negatives score at least as high (ties count against you).
The j-th best of a query's P positives (j from 1) then has rank r_j = negatives ahead + j, and

    CMC@k   the share of queries with r_1 <= k
    AP      mean over j of j / r_j
    AP (trapezoid)   mean over j of (j / r_j + (j - 1) / (r_j - 1)) / 2, with precision 1 before rank 1
                     (`compute_AP` of the Market-1501 evaluation code, Zheng et al. 2015)
    INP     P / r_P, the share of positives when the last one is found (Ye et al. 2021)

A block of queries at a time is counted against the gallery, tile by tile. There is no Q×G matrix, and the
gallery is never sorted.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kronreid.evaluation.processes import gallery_share, gather_rows, sum_over_processes, tile_edges
from kronreid.evaluation.protocols import Task
from kronreid.evaluation.scores import Scores

BLOCK_SCORES = 24 * 2**20  # scores held at a time: 96 MiB
BUCKET_ENTRIES = 2**23  # scores sorted into buckets at a time


@dataclass(frozen=True)
class Hits:
    """The scores and ranks of all positives: P positives over Q queries, best first within a query.

    Attributes:
        offsets: (Q + 1,) int64; query i owns entries [offsets[i], offsets[i + 1]).
        scores: (P,) float32 scores of the positives.
        ahead: (P,) int64, the number of negatives of the same query that score at least as high.
    """

    offsets: np.ndarray
    scores: np.ndarray
    ahead: np.ndarray

    @property
    def positives(self) -> np.ndarray:
        """(Q,) int64 number of positives of every query."""
        return np.diff(self.offsets)

    def ranks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(query, j, rank), each (P,) int64: the rank (from 1) of positive j (from 1) of each query."""
        counts = self.positives
        query = np.repeat(np.arange(len(counts)), counts)
        position = np.arange(len(self.ahead)) - np.repeat(self.offsets[:-1], counts) + 1
        return query, position, self.ahead + position


def average_precision(hits: Hits) -> np.ndarray:
    """(Q,) float64 AP in (0, 1], NaN for a query without a positive."""
    query, position, rank = hits.ranks()
    return _mean_per_query(query, position / rank, hits.positives)


def average_precision_trapezoid(hits: Hits) -> np.ndarray:
    """(Q,) float64 AP by Market's trapezoid rule, never above `average_precision`; NaN without a positive."""
    query, position, rank = hits.ranks()
    before = np.where(rank > 1, (position - 1) / np.maximum(rank - 1, 1), 1.0)
    return _mean_per_query(query, (position / rank + before) / 2, hits.positives)


def inverse_negative_penalty(hits: Hits) -> np.ndarray:
    """(Q,) float64 P / rank of the last positive, NaN without a positive."""
    counts = hits.positives
    found = counts > 0
    out = np.full(len(counts), np.nan)
    last = hits.offsets[1:][found] - 1
    out[found] = counts[found] / (hits.ahead[last] + counts[found])
    return out


def first_rank(hits: Hits) -> np.ndarray:
    """(Q,) int64 rank of the first positive, from 1; 0 for a query without a positive."""
    found = hits.positives > 0
    out = np.zeros(len(found), np.int64)
    out[found] = hits.ahead[hits.offsets[:-1][found]] + 1
    return out


def cmc_curve(first_ranks: np.ndarray, length: int) -> np.ndarray:
    """(length,) float64; entry k - 1 is the share of the queries with a match whose first rank is <= k."""
    ranks = first_ranks[first_ranks > 0]
    inside = np.bincount(ranks[ranks <= length], minlength=length + 1)[1:]
    return np.cumsum(inside) / len(ranks)


def _mean_per_query(query: np.ndarray, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    sums = np.bincount(query, weights=values, minlength=len(counts))
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


@dataclass(frozen=True)
class Counted:
    """The result of one pass over the scores.

    Attributes:
        hits: One entry, or one per gallery that the protocol draws.
        negatives: float32 scores of random negatives, ascending, at most 64 per query.
    """

    hits: list[Hits]
    negatives: np.ndarray


def count_hits(
    scores: Scores,
    task: Task,
    *,
    block_scores: int = BLOCK_SCORES,
    query_block: int | None = None,
    seed: int = 0,
) -> Counted:
    """Count, for every positive, the negatives of its query that score at least as high.

    Under torch.distributed every process counts its own share of the gallery. The sums are exact and equal
    the counts of a single process, because the grid of tiles is the same.

    Args:
        scores: Computes score tiles; larger is more alike.
        task: Which entries are positive or dropped.
        block_scores: Scores to hold at a time.
        query_block: Most queries to count at a time; None for no limit.
        seed: Seed of the drawn galleries, if the protocol draws, and of the sample of negatives.
    """
    low, high = gallery_share(task.gallery, scores.tile)
    drawn = draw_galleries(task, seed) if task.protocol.draws else None
    if drawn is not None:
        low, high = 0, task.gallery  # these galleries are small, so every process counts all of them
    step = max(1, min(task.queries, query_block or task.queries, block_scores // task.gallery))
    buffer = torch.empty(step, high - low, dtype=torch.float32, device=scores.device)
    parts: list[list[Hits]] = []
    negatives: list[np.ndarray] = []
    for start in range(0, task.queries, step):
        stop = min(start + step, task.queries)
        rows = buffer[: stop - start]
        fill_rows(scores, rows, slice(start, stop), task, low, high)
        if drawn is not None:
            parts.append(_count_drawn(rows, task, start, stop, drawn))
        offsets, own = take_positives(rows, task, start, stop, low, high)
        if drawn is None:
            own = sum_over_processes(own)  # all shares but one hold zero
            order = np.lexsort((-own, np.repeat(np.arange(stop - start), np.diff(offsets))))
            own = own[order]
            parts.append([Hits(offsets, own, count_at_least(rows, own, offsets))])
        negatives.append(_sample(rows, task.gallery, low, high, (seed, start)))
    merged = [_concatenate(list(repeat)) for repeat in zip(*parts)]
    sample = np.concatenate(negatives)
    if drawn is None:
        merged[0] = Hits(merged[0].offsets, merged[0].scores, sum_over_processes(merged[0].ahead))
        sample = gather_rows(sample)
    return Counted(merged, np.sort(sample))


def fill_rows(scores: Scores, rows: Tensor, queries: slice, task: Task, low: int, high: int) -> None:
    """Write the scores of `queries` against gallery columns [low, high) into `rows`, tile by tile."""
    edges = [edge for edge in tile_edges(task.gallery, scores.tile) if low <= edge <= high]
    for start, stop in itertools.pairwise(edges):
        scores.fill(rows[:, start - low : stop - low], queries, slice(start, stop))


def take_positives(
    rows: Tensor, task: Task, start: int, stop: int, low: int, high: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take the positives out of rows of scores, so that only negatives stay above minus infinity.

    Args:
        rows: (stop - start, high - low) scores of queries [start, stop) against gallery columns [low, high).
            Positives and dropped entries are set to minus infinity.
        task: Which entries are positive or dropped.
        start, stop: The queries.
        low, high: The gallery columns.

    Returns:
        (stop - start + 1,) int64 offsets of the queries' positives, and the positives' float32 scores, 0 for
        positives outside these columns.
    """
    row, column, positive = task.specials(start, stop)
    inside = (column >= low) & (column < high)
    where = (
        torch.from_numpy(row[inside]).to(rows.device),
        torch.from_numpy(column[inside] - low).to(rows.device),
    )
    own = np.zeros(len(row), np.float32)
    own[inside] = rows[where].cpu().numpy()
    rows[where] = -torch.inf
    if task.protocol.drop_same_camera == "all":
        same = task.query_cameras[start:stop, None] == task.gallery_cameras[None, low:high]
        rows.masked_fill_(torch.from_numpy(same).to(rows.device), -torch.inf)
    counts = np.bincount(row[positive], minlength=stop - start)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), own[positive]


def count_at_least(rows: Tensor, thresholds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Count how many entries of each row reach each of the row's thresholds.

    Args:
        rows: (q, G) float32, finite or minus infinity.
        thresholds: (P,) float32, finite, descending within a row.
        offsets: (q + 1,) int64; row i owns thresholds [offsets[i], offsets[i + 1]).

    Returns:
        (P,) int64.
    """
    if not len(thresholds) or not rows.shape[1]:
        return np.zeros(len(thresholds), np.int64)
    if rows.device.type == "cpu":
        return _count_by_comparing(rows.numpy(), thresholds, offsets)
    return _count_by_buckets(rows, thresholds, offsets)


def _count_by_comparing(rows: np.ndarray, thresholds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """One comparison and one count per threshold: both are vectorised, and the row stays in the cache."""
    out = np.empty(len(thresholds), np.int64)
    few = rows.shape[1] // 4
    for row, low, high in zip(rows, offsets[:-1].tolist(), offsets[1:].tolist()):
        if low == high:
            continue
        # Only entries that reach the worst positive can reach the others. With good vectors these are few.
        reaches = row >= thresholds[high - 1]
        out[high - 1] = count = np.count_nonzero(reaches)
        if low == high - 1:
            continue
        rest = row[reaches] if count < few else row
        for place in range(low, high - 1):
            out[place] = np.count_nonzero(rest >= thresholds[place])
    return out


def _count_by_buckets(rows: Tensor, thresholds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The same for a GPU, all rows at once: sort scores into buckets between thresholds and count those."""
    counts = np.diff(offsets)
    width = int(counts.max())
    row = np.repeat(np.arange(len(counts)), counts)
    place = offsets[1:][row] - 1 - np.arange(len(thresholds))  # ascending, as searchsorted needs them
    table = np.full((len(counts), width), np.inf, np.float32)  # no score reaches the padding
    table[row, place] = thresholds
    ascending = torch.from_numpy(table).to(rows.device)
    buckets = torch.zeros(len(counts) * (width + 1), dtype=torch.int64, device=rows.device)
    base = torch.arange(len(counts), device=rows.device)[:, None] * (width + 1)
    step = max(1, BUCKET_ENTRIES // len(counts))
    for start in range(0, rows.shape[1], step):
        reached = torch.searchsorted(ascending, rows[:, start : start + step].contiguous(), right=True)
        buckets += torch.bincount((reached + base).view(-1), minlength=len(buckets))
    table_counts = buckets.view(len(counts), width + 1).flip(1).cumsum(1).flip(1)[:, 1:].cpu().numpy()
    return table_counts[row, place]


def _sample(rows: Tensor, gallery: int, low: int, high: int, seed: tuple[int, int]) -> np.ndarray:
    """Scores of up to 64 random gallery entries per row; only negatives in columns [low, high) are kept.

    The draw does not depend on how the gallery is divided among processes.
    """
    columns = np.random.default_rng(seed).integers(gallery, size=(len(rows), min(64, gallery)))
    row, place = np.nonzero((columns >= low) & (columns < high))
    column = columns[row, place] - low
    values = rows[torch.from_numpy(row).to(rows.device), torch.from_numpy(column).to(rows.device)]
    picked = values.cpu().numpy()
    return picked[picked > -np.inf]


def draw_galleries(task: Task, seed: int) -> list[dict[int, np.ndarray]]:
    """Draw the random galleries of a protocol that draws them.

    Each repeat shuffles the gallery. For the queries of one camera, every identity is then represented by its
    first picture from another camera.

    Args:
        task: Its protocol says how many galleries to draw.
        seed: Seed of the shuffles.

    Returns:
        For each repeat a mapping from query camera to gallery columns, one column per identity.
    """
    rng = np.random.default_rng(seed)
    repeats = []
    for _ in range(task.protocol.draws):
        order = rng.permutation(task.gallery)
        chosen = {}
        for camera in np.unique(task.query_cameras):
            allowed = order[task.gallery_cameras[order] != camera]
            _, first = np.unique(task.gallery_ids[allowed], return_index=True)
            chosen[int(camera)] = allowed[first]
        repeats.append(chosen)
    return repeats


def _count_drawn(
    rows: Tensor, task: Task, start: int, stop: int, drawn: list[dict[int, np.ndarray]]
) -> list[Hits]:
    """Hits of queries [start, stop) in every drawn gallery, where each query has at most one match."""
    block = rows.cpu().numpy()
    cameras = task.query_cameras[start:stop]
    ids = task.query_ids[start:stop]
    out = []
    for chosen in drawn:
        own = np.zeros(stop - start, np.float32)
        ahead = np.full(stop - start, -1, np.int64)  # -1: the identity is not in this gallery
        for camera in np.unique(cameras):
            columns = chosen[int(camera)]
            if not len(columns):
                continue
            asking = np.flatnonzero(cameras == camera)
            position = np.searchsorted(task.gallery_ids[columns], ids[asking])
            position = np.minimum(position, len(columns) - 1)
            found = task.gallery_ids[columns[position]] == ids[asking]
            asking, position = asking[found], position[found]
            picked = block[np.ix_(asking, columns)]
            own[asking] = picked[np.arange(len(asking)), position]
            ahead[asking] = (picked >= own[asking][:, None]).sum(1) - 1
        matched = ahead >= 0
        offsets = np.concatenate([[0], np.cumsum(matched)]).astype(np.int64)
        out.append(Hits(offsets, own[matched], ahead[matched]))
    return out


def _concatenate(parts: list[Hits]) -> Hits:
    counts = np.concatenate([part.positives for part in parts])
    return Hits(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.ahead for part in parts]),
    )
