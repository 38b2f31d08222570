"""CMC, mAP, Market's trapezoid mAP and mINP from counted ranks.

All of them need one number for each positive: how many negatives score at least as high (a tie counts
against you). The j-th best of a query's P positives (j from 1) then has rank r_j = negatives ahead + j, and

    CMC@k   the share of queries with r_1 <= k
    AP      mean over j of j / r_j
    AP (trapezoid)   mean over j of (j / r_j + (j - 1) / (r_j - 1)) / 2, with precision 1 before rank 1
                     (`compute_AP` of the Market-1501 evaluation code, Zheng et al. 2015)
    INP     P / r_P, the share of positives when the last one is found (Ye et al. 2021)

The counting goes through the gallery tile by tile for a block of queries at a time: there is no Q×G matrix
and no sorting of the gallery.
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
    """Where every positive stands. P positives over Q queries, best first within a query.

    Attributes:
        offsets: (Q + 1,) int64; query i owns entries [offsets[i], offsets[i + 1]).
        scores: (P,) float32 scores of the positives.
        ahead: (P,) int64, how many negatives of the same query score at least as high.
    """

    offsets: np.ndarray
    scores: np.ndarray
    ahead: np.ndarray

    @property
    def positives(self) -> np.ndarray:
        """(Q,) int64 number of positives of every query."""
        return np.diff(self.offsets)

    def ranks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(query, j, rank), each (P,) int64: positive j (from 1) of a query stands at that rank (from 1)."""
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
    """What one pass over the scores gives.

    Attributes:
        hits: one, or as many as the protocol draws galleries.
        negatives: float32 scores of randomly chosen negatives, ascending, at most 64 of a query.
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

    With torch.distributed every process counts its own share of the gallery; the sums are exact and equal
    to the counts of a single process, because the grid of tiles is the same.

    Args:
        scores: gives score tiles; larger is more alike.
        task: which entries are positive or dropped.
        block_scores: how many scores are held at a time.
        query_block: at most so many queries at a time.
        seed: of the drawn galleries, where the protocol draws, and of the sample of negatives.
    """
    low, high = gallery_share(task.gallery, scores.tile)
    drawn = draw_galleries(task, seed) if task.protocol.draws else None
    if drawn is not None:
        low, high = 0, task.gallery  # such galleries are small: every process counts all of it
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
            own = sum_over_processes(own)  # of all shares but one it is zero
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
        rows: (stop - start, high - low) scores of queries [start, stop) against gallery columns [low, high);
            positives and dropped entries become minus infinity.

    Returns:
        (stop - start + 1,) int64 offsets of the queries' positives, and their float32 scores: 0 for those
        that lie outside of these columns.
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
    """How many entries of a row reach each of its thresholds.

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
    """A comparison and a population count per threshold: a row stays in the cache, both are vectorised."""
    out = np.empty(len(thresholds), np.int64)
    few = rows.shape[1] // 4
    for row, low, high in zip(rows, offsets[:-1].tolist(), offsets[1:].tolist()):
        if low == high:
            continue
        # Only what reaches the worst positive can reach another; with good vectors that is next to nothing.
        reaches = row >= thresholds[high - 1]
        out[high - 1] = count = np.count_nonzero(reaches)
        if low == high - 1:
            continue
        rest = row[reaches] if count < few else row
        for place in range(low, high - 1):
            out[place] = np.count_nonzero(rest >= thresholds[place])
    return out


def _count_by_buckets(rows: Tensor, thresholds: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """All rows at once, for a GPU: sort every score between its row's thresholds and count the buckets."""
    counts = np.diff(offsets)
    width = int(counts.max())
    row = np.repeat(np.arange(len(counts)), counts)
    place = offsets[1:][row] - 1 - np.arange(len(thresholds))  # ascending, what searchsorted wants
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
    """Scores of up to 64 random gallery entries of every row, of those that are negatives and in [low, high).

    The entries do not depend on how the gallery is shared out.
    """
    columns = np.random.default_rng(seed).integers(gallery, size=(len(rows), min(64, gallery)))
    row, place = np.nonzero((columns >= low) & (columns < high))
    column = columns[row, place] - low
    values = rows[torch.from_numpy(row).to(rows.device), torch.from_numpy(column).to(rows.device)]
    picked = values.cpu().numpy()
    return picked[picked > -np.inf]


def draw_galleries(task: Task, seed: int) -> list[dict[int, np.ndarray]]:
    """The random galleries of a protocol that draws them.

    One random order of the gallery makes one repeat: for a query of camera c every identity is represented
    by its first picture, in that order, that the protocol does not drop.

    Returns:
        For each repeat: query camera -> gallery columns, one per identity.
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
    """Hits of queries [start, stop) in every drawn gallery: one picture per identity, so one positive."""
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
