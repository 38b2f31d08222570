"""Sources of scores: vectors, or a function that returns blocks. A larger score means more alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from kronreid.errors import InputError
from kronreid.evaluation.protocols import Task

BlockFunction = Callable[[slice, slice], Any]
#: torch's names of the precisions. Products are summed in fp32 in all of them.
PRECISIONS = {"fp32": "highest", "tf32": "high", "bf16": "medium"}


class Scores(Protocol):
    """Scores of any block of a task's queries against any block of its gallery.

    Attributes:
        device: Where blocks are computed.
        tile: Most gallery columns per block.
        kind: "cosine", "euclidean", "k-reciprocal", "logit", "score" or "distance"; distances are negated.
    """

    device: torch.device
    tile: int
    kind: str

    def fill(self, out: Tensor, queries: slice, gallery: slice) -> None:
        """Write the block's scores, finite float32, into `out` (q, g)."""
        ...


class VectorScores:
    """Cosine similarities or negated squared Euclidean distances of vectors.

    Args:
        query_vectors: (Q', D) floats, numpy or torch.
        gallery_vectors: (G', D) floats.
        task: Its rows index the stacked list [query_vectors; gallery_vectors].
        metric: "cosine" or "euclidean".
        precision: Precision of the similarity product: "fp32", or "tf32" or "bf16" on hardware that has them.

    Raises:
        InputError: An option is unknown, shapes do not fit, or a vector is not finite.
    """

    tile = 4096

    def __init__(
        self,
        query_vectors: Any,
        gallery_vectors: Any,
        task: Task,
        metric: str = "cosine",
        precision: str = "fp32",
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError("precision", f"{precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
        if metric not in ("cosine", "euclidean"):
            raise InputError("metric", f"{metric!r} is unknown; choose cosine or euclidean")
        query = as_matrix(query_vectors, "query_vectors")
        gallery = as_matrix(gallery_vectors, "gallery_vectors").to(query.device)
        if query.shape[1] != gallery.shape[1]:
            raise InputError(
                "gallery_vectors", f"{gallery.shape[1]} dimensions, but query_vectors has {query.shape[1]}"
            )
        check_finite(query, "query_vectors")
        check_finite(gallery, "gallery_vectors")
        self.device, self.metric, self._precision = query.device, metric, PRECISIONS[precision]
        self.dimension, self.kind = query.shape[1], metric
        self.queries, self.gallery = task.queries, task.gallery
        self._sources = (query, gallery)
        self._gallery_rows = task.gallery_rows
        self._query = self._mean_queries(task)

    def fill(self, out: Tensor, queries: slice, gallery: slice) -> None:
        self.compare(out, self._query[queries], self._prepared(self._gallery_rows[gallery]))

    def compare(self, out: Tensor, left: Tensor, right: Tensor) -> None:
        """Write the scores of prepared rows (q, D) against prepared rows (g, D) into `out` (q, g)."""
        with _matmul_precision(self._precision):
            torch.mm(left, right.T, out=out)
        if self.metric == "euclidean":  # -|q - g|^2
            out.mul_(2).sub_(right.square().sum(1)).sub_(left.square().sum(1, keepdim=True))

    def stacked(self, rows: np.ndarray) -> Tensor:
        """(n, D) prepared rows (n,) int64 of the list [the task's queries; the task's gallery]."""
        in_query = rows < self.queries
        if in_query.all():
            return _take(self._query, rows)
        if not in_query.any():
            return self._prepared(self._gallery_rows[rows - self.queries])
        picked = torch.empty(len(rows), self.dimension, device=self.device)
        mask = torch.from_numpy(in_query).to(self.device)
        picked[mask] = _take(self._query, rows[in_query])
        picked[~mask] = self._prepared(self._gallery_rows[rows[~in_query] - self.queries])
        return picked

    def squared_distance(self, scores: Tensor) -> Tensor:
        """Convert scores to squared Euclidean distances, of unit vectors for the cosine metric."""
        return 2 - 2 * scores if self.metric == "cosine" else -scores

    def _mean_queries(self, task: Task) -> Tensor:
        """(Q, D) query vectors; a query of several pictures is their mean."""
        rows = self._prepared(task.query_rows)
        counts = np.diff(task.query_groups)
        if (counts == 1).all():
            return rows
        group = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(self.device)
        sums = torch.zeros(len(counts), rows.shape[1], device=self.device).index_add_(0, group, rows)
        means = sums / torch.from_numpy(counts).to(self.device)[:, None]
        return unit(means) if self.metric == "cosine" else means

    def _prepared(self, rows: np.ndarray) -> Tensor:
        """Rows of the stacked list [query; gallery] as float32, scaled to length 1 for the cosine metric."""
        query, gallery = self._sources
        in_query = rows < len(query)
        if in_query.all():
            picked = _take(query, rows).float()
        elif not in_query.any():
            picked = _take(gallery, rows - len(query)).float()
        else:
            picked = torch.empty(len(rows), query.shape[1], dtype=torch.float32, device=self.device)
            mask = torch.from_numpy(in_query).to(self.device)
            picked[mask] = _take(query, rows[in_query]).float()
            picked[~mask] = _take(gallery, rows[~in_query] - len(query)).float()
        return unit(picked) if self.metric == "cosine" else picked


class FunctionScores:
    """Scores from a function of (query slice, gallery slice), which index the caller's pictures.

    Args:
        function: Returns the (q, g) block of finite numbers, numpy or torch.
        task: A task with one query per query picture of the caller.
        distances: The function returns distances: smaller is more alike.

    Raises:
        InputError: The protocol builds its queries from vectors.
    """

    def __init__(self, function: BlockFunction, task: Task, *, distances: bool = False) -> None:
        if task.protocol.pool or task.protocol.average_queries:
            raise InputError(
                "protocol",
                f"{task.protocol.name} builds its queries from the vectors; give vectors, not scores or "
                "distances",
            )
        self.device, self.tile, self.kind = torch.device("cpu"), 4096, "distance" if distances else "score"
        self._function, self._distances = function, distances
        self._columns = task.gallery_rows - task.queries

    def fill(self, out: Tensor, queries: slice, gallery: slice) -> None:
        wanted = self._columns[gallery]
        low, high = int(wanted[0]), int(wanted[-1]) + 1
        block = torch.as_tensor(self._function(queries, slice(low, high)))
        expected = (queries.stop - queries.start, high - low)
        if tuple(block.shape) != expected:
            raise InputError(
                f"{self.kind}s", f"a block has shape {tuple(block.shape)}, but {expected} is expected"
            )
        if high - low != len(wanted):
            block = block[:, torch.from_numpy(wanted - low).to(block.device)]
        if not torch.isfinite(block).all():
            raise InputError(
                f"{self.kind}s",
                f"the block of queries {queries.start}:{queries.stop} holds NaN or infinite values; "
                "scores and distances must be finite",
            )
        out.copy_(block)
        if self._distances:
            out.neg_()


@contextmanager
def _matmul_precision(name: str) -> Iterator[None]:
    """Compute fp32 matrix products in this precision of torch, whatever training has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def as_matrix(values: Any, argument: str) -> Tensor:
    """A 2-d float tensor of the values, which shares their memory if possible.

    Raises:
        InputError: The values are not a 2-d array of numbers.
    """
    try:
        tensor = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    except TypeError as error:
        raise InputError(argument, f"give an array of numbers ({error})") from None
    if tensor.ndim != 2:
        raise InputError(argument, f"give one row per picture, not an array of shape {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        tensor = tensor.float()
    return tensor


def check_finite(vectors: Tensor, argument: str) -> None:
    """Raise an InputError that names the first row with a NaN or an infinity."""
    # A value that is not finite makes its row's sum not finite. A sum can also overflow: check such rows.
    for row in (~torch.isfinite(vectors.sum(1))).nonzero()[:, 0].tolist():
        if not torch.isfinite(vectors[row]).all():
            raise InputError(argument, f"row {row} holds NaN or infinite values; embed the picture again")


def unit(rows: Tensor) -> Tensor:
    """Rows scaled to length 1. A zero row stays zero, so its cosine with any row is 0."""
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-12)


def _take(matrix: Tensor, rows: np.ndarray) -> Tensor:
    """matrix[rows]; a view if the rows are consecutive."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return matrix[int(rows[0]) : int(rows[-1]) + 1]
    return matrix[torch.from_numpy(rows).to(matrix.device)]
