"""Verification, "does this pair show one person?": ROC, AUC, EER and TPR at a given FPR, by counting.

A threshold t accepts the pairs that score at least t. TPR is the share of accepted positive pairs, FPR the
share of accepted negative pairs. TPR changes only at the scores of positives. For every distinct positive
score it is therefore enough to count the negatives that reach it and those that exceed it. Negatives are
streamed, never collected or sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kronreid.errors import InputError
from kronreid.evaluation.metrics import BLOCK_SCORES, fill_rows, take_positives
from kronreid.evaluation.processes import gallery_share, sum_over_processes
from kronreid.evaluation.protocols import Task
from kronreid.evaluation.scores import Scores


@dataclass(frozen=True)
class Verification:
    """Rates over all positive and negative pairs, at the T distinct scores of positives.

    Attributes:
        positives: Number of positive pairs.
        negatives: Number of negative pairs.
        thresholds: (T,) float32, descending.
        tpr: (T,) float64 share of positives that score at least the threshold.
        fpr: (T,) float64 share of negatives that score at least the threshold.
        fpr_above: (T,) float64 share of negatives that score more than the threshold.
    """

    positives: int
    negatives: int
    thresholds: np.ndarray
    tpr: np.ndarray
    fpr: np.ndarray
    fpr_above: np.ndarray

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """(FPR, TPR), each (2 T + 2,): the corners of the ROC curve from (0, 0) to (1, 1).

        Negatives between two positive scores move the curve to the right and a positive moves it up. A tie
        moves it diagonally.
        """
        before = np.concatenate([[0.0], self.tpr[:-1]])
        false = np.stack([self.fpr_above, self.fpr], 1).reshape(-1)
        true = np.stack([before, self.tpr], 1).reshape(-1)
        return np.concatenate([[0.0], false, [1.0]]), np.concatenate([[0.0], true, [1.0]])

    @property
    def auc(self) -> float:
        """Area under the ROC curve: how often a positive outscores a negative; a tie counts half."""
        false, true = self.roc()
        return float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))

    @property
    def eer(self) -> float:
        """Equal error rate: where FPR equals 1 - TPR, interpolated linearly between the curve's corners."""
        false, true = self.roc()
        gap = false + true - 1  # never falls from -1 to 1
        after = int(np.argmax(gap >= 0))
        span = gap[after] - gap[after - 1]
        return float(false[after - 1] + (false[after] - false[after - 1]) * -gap[after - 1] / span)

    def tpr_at(self, fpr: float) -> float:
        """The highest TPR of all thresholds whose FPR is at most `fpr` (0 to 1); 0 if there is none."""
        allowed = self.tpr[self.fpr <= fpr]
        return float(allowed[-1]) if len(allowed) else 0.0


def verify_pairs(positive_scores: Any, negative_scores: Any) -> Verification:
    """Verification rates of two lists of scores.

    Args:
        positive_scores: Scores of pairs of the same person, any shape, numpy or torch. A larger score means
            more alike.
        negative_scores: Scores of pairs of different people.

    Raises:
        InputError: A list is empty or holds a NaN or an infinity.
    """
    positive = _scores(positive_scores, "positive_scores")
    negative = _scores(negative_scores, "negative_scores")
    counter = _Counter(positive)
    counter.add(negative)
    return counter.finish(distributed=False)


def verify(scores: Scores, task: Task, positives: np.ndarray, query_block: int | None = None) -> Verification:
    """Verification rates over all pairs of a task that its protocol does not drop.

    Args:
        scores: Computes the same score tiles as when the positives were taken.
        task: Which entries are positive or dropped.
        positives: (P,) float32 scores of all positives of the task (`Hits.scores`).
        query_block: Most queries to count at a time; None for no limit.

    Raises:
        InputError: There is no negative pair.
    """
    counter = _Counter(torch.from_numpy(positives).to(scores.device))
    low, high = gallery_share(task.gallery, scores.tile)
    step = max(1, min(query_block or task.queries, BLOCK_SCORES // task.gallery))
    for start in range(0, task.queries, step):
        stop = min(start + step, task.queries)
        rows = torch.empty(stop - start, high - low, device=scores.device)
        fill_rows(scores, rows, slice(start, stop), task, low, high)
        take_positives(rows, task, start, stop, low, high)
        for row in rows:
            counter.add(row[row > -torch.inf])
    return counter.finish(distributed=True)


class _Counter:
    """Counts negatives between the distinct scores of the positives."""

    def __init__(self, positives: Tensor) -> None:
        self._levels, self._weights = torch.unique(positives.float(), return_counts=True)
        size = len(self._levels) + 1
        self._reaching = torch.zeros(size, dtype=torch.int64, device=positives.device)
        self._exceeding = torch.zeros_like(self._reaching)

    def add(self, negatives: Tensor) -> None:
        size = len(self._reaching)
        for right, counts in ((True, self._reaching), (False, self._exceeding)):
            bucket = torch.bucketize(negatives.float(), self._levels, right=right)
            counts += torch.bincount(bucket, minlength=size)

    def finish(self, distributed: bool) -> Verification:
        reaching, exceeding = self._reaching.cpu().numpy(), self._exceeding.cpu().numpy()
        if distributed:
            reaching, exceeding = sum_over_processes(reaching), sum_over_processes(exceeding)
        negatives = int(reaching.sum())
        if not negatives:
            raise InputError(
                "negative_scores", "there is no negative pair, which a false positive rate needs; add some"
            )
        accepted = np.cumsum(self._weights.cpu().numpy()[::-1])
        return Verification(
            positives=int(accepted[-1]),
            negatives=negatives,
            thresholds=self._levels.cpu().numpy()[::-1].copy(),
            tpr=accepted / accepted[-1],
            fpr=np.cumsum(reaching[:0:-1]) / negatives,
            fpr_above=np.cumsum(exceeding[:0:-1]) / negatives,
        )


def _scores(values: Any, argument: str) -> Tensor:
    tensor = torch.as_tensor(values).reshape(-1).float()
    if not len(tensor):
        raise InputError(argument, "is empty; give at least one score")
    if not torch.isfinite(tensor).all():
        raise InputError(argument, "holds NaN or infinite values")
    return tensor
