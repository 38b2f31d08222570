"""Verification: is this pair one person? ROC, AUC, EER and TPR at a given FPR, by counting.

At a threshold t a pair is accepted when it scores at least t. TPR is the share of positive pairs that are
accepted, FPR that of negative pairs. Every change of TPR happens at the score of a positive, so it is enough
to count, for every distinct positive score, the negatives that reach it and those that exceed it. Negatives
stream by; they are never collected or sorted.
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
    """Rates over all positive and negative pairs. T distinct positive scores.

    Attributes:
        positives, negatives: how many pairs.
        thresholds: (T,) float32, descending.
        tpr: (T,) share of positives that score at least the threshold.
        fpr: (T,) share of negatives that score at least the threshold.
        fpr_above: (T,) share of negatives that score more than the threshold.
    """

    positives: int
    negatives: int
    thresholds: np.ndarray
    tpr: np.ndarray
    fpr: np.ndarray
    fpr_above: np.ndarray

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """(FPR, TPR), each (2 T + 2,): the corners of the ROC curve from (0, 0) to (1, 1).

        Negatives between two positive scores move the curve to the right, a positive moves it up, and both
        at once (a tie) along the diagonal.
        """
        before = np.concatenate([[0.0], self.tpr[:-1]])
        false = np.stack([self.fpr_above, self.fpr], 1).reshape(-1)
        true = np.stack([before, self.tpr], 1).reshape(-1)
        return np.concatenate([[0.0], false, [1.0]]), np.concatenate([[0.0], true, [1.0]])

    @property
    def auc(self) -> float:
        """Area under the ROC curve: how often a positive beats a negative, a tie being half."""
        false, true = self.roc()
        return float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))

    @property
    def eer(self) -> float:
        """The rate at which FPR equals 1 - TPR, on the straight line between the curve's corners."""
        false, true = self.roc()
        gap = false + true - 1  # from -1 to 1, never falling
        after = int(np.argmax(gap >= 0))
        span = gap[after] - gap[after - 1]
        return float(false[after - 1] + (false[after] - false[after - 1]) * -gap[after - 1] / span)

    def tpr_at(self, fpr: float) -> float:
        """The highest TPR of a threshold whose FPR is at most `fpr`; 0 where there is none."""
        allowed = self.tpr[self.fpr <= fpr]
        return float(allowed[-1]) if len(allowed) else 0.0


def verify_pairs(positive_scores: Any, negative_scores: Any) -> Verification:
    """Verification rates of two lists of scores, larger is more alike.

    Raises:
        InputError: a list is empty or holds a NaN or an infinity.
    """
    positive = _scores(positive_scores, "positive_scores")
    negative = _scores(negative_scores, "negative_scores")
    counter = _Counter(positive)
    counter.add(negative)
    return counter.finish(distributed=False)


def verify(scores: Scores, task: Task, positives: np.ndarray, query_block: int | None = None) -> Verification:
    """Verification rates over every pair of a task that its protocol does not drop.

    Args:
        scores: gives the same score tiles as when the positives were taken.
        task: which entries are positive or dropped.
        positives: (P,) scores of all the task's positives (`Hits.scores`).
        query_block: at most so many queries at a time.
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
                "negative_scores", "there is no negative pair, so there is no false positive rate"
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
        raise InputError(argument, "there is none; give at least one")
    if not torch.isfinite(tensor).all():
        raise InputError(argument, "holds NaN or infinite values")
    return tensor
