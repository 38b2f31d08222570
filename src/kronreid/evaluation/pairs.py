"""Scores of a pair model, for all pairs or for the first candidates of a cheaper first stage."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from kronreid.errors import InputError
from kronreid.evaluation.metrics import BLOCK_SCORES, fill_rows
from kronreid.evaluation.processes import gather_rows, processes, share
from kronreid.evaluation.protocols import Task
from kronreid.evaluation.rerank import stable_top
from kronreid.evaluation.scores import Scores

if TYPE_CHECKING:
    from kronreid.models.place_matcher import PlaceMatcher
    from kronreid.models.places import Described
    from kronreid.models.protocols import Matches

ABOVE_ALL = 4.0  # above every first-stage score: a cosine is at most 1, a negated distance at most 0


class EncodedPictures:
    """Pictures encoded by a pair model on demand; the most recently used stay in memory.

    Args:
        matcher: The pair model.
        images: The pictures; a task's rows index them.
        most: Encoded pictures to hold at a time.
        batch_size: Pictures per network pass.
    """

    def __init__(self, matcher: Matches, images: list[Any], most: int, batch_size: int) -> None:
        self.matcher, self.most = matcher, most
        self._images, self._batch = images, batch_size
        self._held: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def get(self, rows: np.ndarray) -> Any:
        """The encoded pictures of these rows, (n,) int64, in their order."""
        key = tuple(rows.tolist())
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        while self._held and sum(map(len, self._held)) + len(rows) > self.most:
            self._held.popitem(last=False)
        encoded = self.matcher.encode([self._images[row] for row in rows], batch_size=self._batch)
        self._held[key] = encoded
        return encoded

    def score_lists(self, queries: np.ndarray, lists: np.ndarray, bar: Any) -> np.ndarray:
        """(Q, K) float32 logits of the pictures `queries` (Q,) with those of `lists` (Q, K), -1 for none.

        Pictures are encoded in ranges, so that a gallery larger than memory passes by once for every block of
        queries. Where a list has no picture the logit is minus infinity.
        """
        logits = np.full(lists.shape, -np.inf, np.float32)
        query_step = max(1, min(len(lists), 3 * self.most // 4))
        gallery_step = max(1, self.most - query_step)
        for start in range(0, len(lists), query_step):
            block = lists[start : start + query_step]
            asking = self.get(queries[start : start + len(block)])
            wanted = np.unique(block[block >= 0])
            for low in range(0, len(wanted), gallery_step):
                known = wanted[low : low + gallery_step]
                candidates = self.get(known)
                position = np.searchsorted(known, block).clip(max=len(known) - 1)
                inside = known[position] == block
                counts = inside.sum(1)
                for count in np.unique(counts[counts > 0]):  # lists of one length make one call
                    rows = np.flatnonzero(counts == count)
                    row, place = np.nonzero(inside[rows])
                    chosen = torch.from_numpy(position[rows][row, place].reshape(len(rows), count))
                    with torch.no_grad():
                        found = self.matcher.score_lists(asking[torch.from_numpy(rows)], candidates, chosen)
                    logits[start + rows[row], place] = _finite(found).reshape(-1).cpu().numpy()
                    bar.update(row.size)
        return logits


class DescribedPictures:
    """Pictures that an embedder has already described for its place matching, so there is no second pass.

    Args:
        matcher: The embedder's place matching.
        described: The pictures; a task's rows index them.
    """

    def __init__(self, matcher: PlaceMatcher, described: Described) -> None:
        self.matcher, self.most = matcher, len(described)
        self._described = described

    def get(self, rows: np.ndarray) -> Described:
        """The described pictures of these rows, (n,) int64, in their order."""
        return self._described[torch.from_numpy(rows)]

    def score_lists(self, queries: np.ndarray, lists: np.ndarray, bar: Any) -> np.ndarray:
        """See `EncodedPictures.score_lists`."""
        logits = np.full(lists.shape, -np.inf, np.float32)
        for number, (query, row) in enumerate(zip(queries.tolist(), lists)):
            there = row >= 0
            if not there.any():
                continue
            asking = self._described[query : query + 1]
            chosen = torch.from_numpy(row[there])[None]
            logits[number, there] = self.matcher.score_lists(asking, self._described, chosen)[0].cpu()
            bar.update(int(there.sum()))
        return logits


class PairScores:
    """Logits of all pairs, computed block by block.

    Args:
        pictures: The task's pictures, encoded by the pair model.
        task: The queries and the gallery.
        progress: Show a progress bar on a terminal.

    Raises:
        InputError: The protocol averages query vectors.
    """

    def __init__(self, pictures: EncodedPictures | DescribedPictures, task: Task, progress: bool) -> None:
        _check_single(task)
        self.device, self.tile, self.kind = torch.device("cpu"), 128, "logit"
        self.query_block = max(1, min(task.queries, pictures.most // 2))
        self._pictures, self._task = pictures, task
        self._bar = _bar(task.queries * task.gallery, "match", progress)

    def fill(self, out: Tensor, queries: slice, gallery: slice) -> None:
        asking = self._pictures.get(self._task.query_rows[queries])
        candidates = self._pictures.get(self._task.gallery_rows[gallery])
        with torch.no_grad():
            out.copy_(_finite(self._pictures.matcher.logits(asking, candidates)))
        self._bar.update(out.numel())


class Rescored:
    """A first stage whose best candidates are re-ordered by a pair model and placed before all others.

    Args:
        base: Scores of the first stage.
        lists: (Q, K) int64 gallery columns of the candidates; shorter lists end in -1.
        logits: (Q, K) float32 logits of the candidates.
        order: (Q, K) values to order the candidates by: the logits, or the result of `fuse`.
    """

    def __init__(self, base: Scores, lists: np.ndarray, logits: np.ndarray, order: np.ndarray) -> None:
        self.device, self.tile, self.kind = base.device, base.tile, "logit"
        self._base, self._lists, self._logits = base, lists, logits
        # Only the order matters, and equal values must stay equal. Small integers are exact in float32.
        self._values = (ABOVE_ALL + _dense_ranks(order)).astype(np.float32)

    def fill(self, out: Tensor, queries: slice, gallery: slice) -> None:
        self._base.fill(out, queries, gallery)
        lists = self._lists[queries]
        row, place = np.nonzero((lists >= gallery.start) & (lists < gallery.stop))
        column = lists[row, place] - gallery.start
        values = torch.from_numpy(self._values[queries][row, place]).to(out.device)
        out[torch.from_numpy(row).to(out.device), torch.from_numpy(column).to(out.device)] = values

    def pairs(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """The float32 logits of the re-scored positive pairs, and those of the negative pairs."""
        row, place = np.nonzero(self._lists >= 0)
        wanted = row * task.gallery + self._lists[row, place]
        own, column, positive = task.specials(0, task.queries)
        right = np.isin(wanted, (own * task.gallery + column)[positive])
        logits = self._logits[row, place]
        return logits[right], logits[~right]


def rescored(
    base: Scores,
    task: Task,
    pictures: EncodedPictures | DescribedPictures,
    top: int,
    weight: float,
    progress: bool,
) -> Rescored:
    """Re-score the best candidates of every query with a pair model.

    Args:
        base: Scores of the first stage.
        task: The queries and the gallery.
        pictures: The task's pictures, encoded by the pair model.
        top: Candidates to re-score per query.
        weight: Weight of the pair model's logits, see `fuse`.
        progress: Show a progress bar on a terminal.

    Raises:
        InputError: The protocol draws random galleries or averages query vectors.
    """
    _check_single(task)
    if task.protocol.draws:
        raise InputError(
            "rerank_top",
            f"protocol {task.protocol.name} draws random galleries, so there is no single list to "
            "re-score; use rerank_top='all'",
        )
    low, high = share(task.queries, 16)  # every process re-scores its own queries
    lists, similarities = top_lists(base, task, min(top, task.gallery), low, high)
    rows = np.where(lists >= 0, task.gallery_rows[lists], -1)
    bar = _bar(int((lists >= 0).sum()), "match", progress)
    logits = pictures.score_lists(task.query_rows[low:high], rows, bar)
    order = fuse(logits, similarities, weight)
    return Rescored(base, gather_rows(lists), gather_rows(logits), gather_rows(order))


def fuse(logits: np.ndarray, similarities: np.ndarray, weight: float) -> np.ndarray:
    """Combine the scores of both stages: weight · logit + (1 − weight) · similarity.

    The two scores have different scales, so each is first standardised within its list (zero mean, unit
    deviation). The two stages make different errors, so their mean is often better than either.

    Args:
        logits: (Q, K) logits of the pair model; shorter lists end in minus infinity.
        similarities: (Q, K) scores of the first stage.
        weight: Weight of the logits, 0 to 1. 1 orders by the logits alone, as the papers do.

    Returns:
        (Q, K) values to order by; shorter lists end in minus infinity.
    """
    if weight == 1:
        return logits
    there = np.isfinite(logits)

    def standard(values: np.ndarray) -> np.ndarray:
        # float64 keeps equal scores equal, and a list of equal scores becomes zeros.
        values = np.where(there, values, np.nan).astype(np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # rows without a candidate
            centred = values - np.nanmean(values, axis=1, keepdims=True)
            deviation = np.nanstd(values, axis=1, keepdims=True)
        return centred / np.where(deviation > 0, deviation, 1)

    mean = weight * standard(logits) + (1 - weight) * standard(similarities)
    return np.where(there, mean, -np.inf)


def top_lists(base: Scores, task: Task, k: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """The best k candidates of queries [low, high), without those that the protocol drops.

    Args:
        base: Scores of the first stage.
        task: The queries and the gallery.
        k: Candidates per query, at most the gallery's size.
        low, high: The queries.

    Returns:
        (high - low, k) int64 gallery columns, best first, equal scores in the gallery's order; and their
        float32 scores. A query with fewer than k candidates is filled up with column -1 and minus infinity.
    """
    columns = np.full((high - low, k), -1, np.int64)
    scores = np.full((high - low, k), -np.inf, np.float32)
    step = max(1, BLOCK_SCORES // task.gallery)
    for start in range(low, high, step):
        stop = min(start + step, high)
        rows = torch.empty(stop - start, task.gallery, device=base.device)
        fill_rows(base, rows, slice(start, stop), task, 0, task.gallery)
        mask_dropped(rows, task, start, stop)
        best = stable_top(rows, k)
        values = rows.gather(1, best)
        best[values == -torch.inf] = -1
        columns[start - low : stop - low] = best.cpu().numpy()
        scores[start - low : stop - low] = values.cpu().numpy()
    return columns, scores


def mask_dropped(rows: Tensor, task: Task, start: int, stop: int) -> None:
    """Set the entries that the protocol drops for queries [start, stop) to minus infinity.

    Args:
        rows: (stop - start, G) scores, changed in place.
        task: Which entries are dropped.
        start, stop: The queries.
    """
    row, column, positive = task.specials(start, stop)
    rows[
        torch.from_numpy(row[~positive]).to(rows.device), torch.from_numpy(column[~positive]).to(rows.device)
    ] = -torch.inf
    if task.protocol.drop_same_camera == "all":
        same = task.query_cameras[start:stop, None] == task.gallery_cameras[None]
        rows.masked_fill_(torch.from_numpy(same).to(rows.device), -torch.inf)


def _dense_ranks(values: np.ndarray) -> np.ndarray:
    """(Q, K) int64 rank of every value among the distinct values of its row, ascending from 0."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, 1)
    steps = np.zeros(values.shape, np.int64)
    steps[:, 1:] = np.cumsum(ordered[:, 1:] > ordered[:, :-1], 1)
    out = np.empty_like(steps)
    np.put_along_axis(out, order, steps, 1)
    return out


def _finite(logits: Tensor) -> Tensor:
    if not torch.isfinite(logits).all():
        raise InputError("matcher", "its logits are NaN or infinite; its weights are unusable")
    return logits


def _check_single(task: Task) -> None:
    if task.protocol.average_queries:
        raise InputError(
            "matcher",
            f"protocol {task.protocol.name} averages query vectors, and a pair model compares no vectors",
        )


def _bar(total: int, what: str, progress: bool) -> Any:
    """A progress bar, shown in the first process only, and only on a terminal."""
    return tqdm(
        total=total, desc=what, unit="pair", disable=None if progress and processes()[0] == 0 else True
    )
