"""Re-ranking without an N×N array: k-reciprocal encoding and average query expansion.

k-reciprocal encoding is from Zhong, Zheng, Cao, Li: Re-ranking Person Re-identification with k-reciprocal
Encoding, CVPR 2017. Each picture is described by a sparse vector over its k-reciprocal neighbours: pictures
that are in its top list and have it in theirs. The Jaccard distance of two such vectors is mixed with the
original distance. This needs only the k1 + 1 nearest neighbours of every picture, never the whole distance
matrix.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from kronreid.errors import InputError
from kronreid.evaluation.metrics import BLOCK_SCORES
from kronreid.evaluation.processes import tile_edges
from kronreid.evaluation.scores import VectorScores, as_matrix, check_finite, unit

CHUNK = 8 * 2**20  # entries of an intermediate array


class KReciprocalScores:
    """The negated k-reciprocal distance (1 - λ) Jaccard + λ d / max d of queries and gallery.

    d is the squared Euclidean distance, of unit vectors for the cosine metric. max d is the largest distance
    in its row, over queries and gallery together, as in the authors' code.

    Args:
        vectors: Scores of the first stage.
        k1: Number of neighbours, at least 1 and less than the number of pictures.
        k2: Number of neighbours for the local expansion, 1 to k1 + 1; 1 switches it off.
        weight: λ, the share of the original distance, 0 to 1.

    Raises:
        InputError: k1 or k2 is out of range.
    """

    def __init__(
        self,
        vectors: VectorScores,
        k1: int = 20,
        k2: int = 6,
        weight: float = 0.3,
    ) -> None:
        count = vectors.queries + vectors.gallery
        if not 1 <= k1 < count:
            raise InputError(
                "k1",
                f"k-reciprocal re-ranking needs {k1} neighbours of every picture, but there are only "
                f"{count - 1} others; leave it out for such a small set",
            )
        if not 1 <= k2 <= k1 + 1:
            raise InputError("k2", f"{k2} must lie between 1 and k1 + 1 = {k1 + 1}")
        self.device, self.tile, self.kind = vectors.device, vectors.tile, "k-reciprocal"
        self._vectors, self._weight = vectors, weight
        neighbours, farthest = nearest(vectors, k1 + 1)
        encoding = reciprocal_encoding(vectors, neighbours, farthest, k1)
        if k2 > 1:
            encoding = _local_expansion(encoding, neighbours[:, :k2])
        self._farthest = torch.from_numpy(farthest[: vectors.queries]).to(self.device)
        self._similarity = _jaccard_similarity(encoding[: vectors.queries], encoding[vectors.queries :])

    def fill(self, out: Tensor, queries: slice, gallery: slice) -> None:
        self._vectors.fill(out, queries, gallery)
        if self._vectors.metric == "cosine":
            out.sub_(1).mul_(2)  # the negated squared distance
        out.mul_(self._weight / self._farthest[queries, None]).sub_(1 - self._weight)
        part = self._similarity[queries, gallery].tocoo()
        where = (
            torch.from_numpy(part.row.astype(np.int64)).to(self.device),
            torch.from_numpy(part.col.astype(np.int64)).to(self.device),
        )
        out[where] += (1 - self._weight) * torch.from_numpy(part.data).to(self.device)


def nearest(vectors: VectorScores, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest pictures of every picture, and its largest distance, among the N queries and gallery.

    Returns:
        (N, k) int32 rows, nearest first, equal distances in the order of rows; a picture is usually its own
        nearest. (N,) float32 largest squared distances.
    """
    count = vectors.queries + vectors.gallery
    step = max(1, min(count, BLOCK_SCORES // count))
    buffer = torch.empty(step, count, device=vectors.device)
    lists = np.empty((count, k), np.int32)
    farthest = np.empty(count, np.float32)
    edges = tile_edges(count, vectors.tile)
    for start in range(0, count, step):
        stop = min(start + step, count)
        rows = buffer[: stop - start]
        left = vectors.stacked(np.arange(start, stop))
        for low, high in itertools.pairwise(edges):
            vectors.compare(rows[:, low:high], left, vectors.stacked(np.arange(low, high)))
        lists[start:stop] = stable_top(rows, k).cpu().numpy()
        farthest[start:stop] = vectors.squared_distance(rows.amin(1)).cpu().numpy()
    return lists, np.maximum(farthest, np.finfo(np.float32).tiny)


def stable_top(rows: Tensor, k: int) -> Tensor:
    """(q, k) columns of the k largest scores per row, best first; equal scores in the order of columns."""
    values, columns = torch.topk(rows, min(k, rows.shape[1]), dim=1)
    # topk picks any of the entries that tie for the last place, and orders equal ones at will. Fix both.
    last = values[:, -1:]
    surplus = (rows == last).sum(1) > (values == last).sum(1)
    for row in surplus.nonzero()[:, 0].tolist():
        above = columns[row][values[row] > last[row]]
        tied = (rows[row] == last[row]).nonzero()[:, 0]
        columns[row] = torch.cat([above, tied[: columns.shape[1] - len(above)]])
    columns = columns.sort(dim=1).values
    order = rows.gather(1, columns).sort(dim=1, descending=True, stable=True).indices
    return columns.gather(1, order)


def reciprocal_encoding(
    vectors: VectorScores, neighbours: np.ndarray, farthest: np.ndarray, k1: int
) -> sparse.csr_matrix:
    """The k-reciprocal encodings, (N, N) sparse: Gaussian weights (Eq. 7) over R*(p, k1) (Eq. 3 to 5).

    Each row is scaled to sum to 1.
    """
    count = len(neighbours)
    half = int(np.around(k1 / 2)) + 1
    mutual = _mutual(neighbours)
    mutual_half = _mutual(neighbours[:, :half])
    width = k1 + 1
    step = max(1, CHUNK // (width * width * half))
    keys = []
    for start in range(0, count, step):
        near, near_ok = neighbours[start : start + step], mutual[start : start + step]
        far = neighbours[near, :half]  # (n, k1 + 1, half): the candidates' neighbours
        far_ok = mutual_half[near]
        known = np.zeros(far.shape, bool)
        for place in range(width):  # is the candidate's neighbour in R(p, k1)?
            known |= (far == near[:, None, place, None]) & near_ok[:, None, place, None]
        shared = (known & far_ok).sum(2)
        grow = near_ok & (shared > 2 / 3 * far_ok.sum(2))
        far_ok = far_ok & grow[:, :, None]
        base = np.arange(start, start + len(near), dtype=np.int64) * count
        own = (base[:, None] + near)[near_ok]
        added = (base[:, None, None] + far)[far_ok]
        keys.append(np.unique(np.concatenate([own, added])))
    key = np.concatenate(keys)
    row, column = key // count, key % count
    weights = np.exp(-_pair_distances(vectors, row, column) / farthest[row])
    weights /= np.bincount(row, weights=weights, minlength=count)[row]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=count))])
    return sparse.csr_matrix((weights.astype(np.float32), column.astype(np.int32), offsets), (count, count))


def _pair_distances(vectors: VectorScores, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n,) float32 squared distances of stacked rows left[i] and right[i]; `left` ascends."""
    out = np.empty(len(left), np.float32)
    step = max(1, CHUNK // vectors.dimension)
    for start in range(0, len(left), step):
        a = vectors.stacked(left[start : start + step])
        b = vectors.stacked(right[start : start + step])
        out[start : start + step] = (a - b).square().sum(1).cpu().numpy()
    return out


def _mutual(lists: np.ndarray) -> np.ndarray:
    """(N, k) bool: whether picture i is in the list of its own a-th neighbour (R(p, k), Eq. 2)."""
    out = np.empty(lists.shape, bool)
    step = max(1, CHUNK // lists.shape[1] ** 2)
    for start in range(0, len(lists), step):
        own = np.arange(start, min(start + step, len(lists)))
        out[own] = (lists[lists[own]] == own[:, None, None]).any(2)
    return out


def _local_expansion(encoding: sparse.csr_matrix, lists: np.ndarray) -> sparse.csr_matrix:
    """Replace every row by the mean of the rows of its k2 nearest (Eq. 11)."""
    count, k2 = lists.shape
    averages = sparse.csr_matrix(
        (np.full(lists.size, 1 / k2, np.float32), lists.reshape(-1), np.arange(count + 1) * k2),
        (count, count),
    )
    return averages @ encoding


def _jaccard_similarity(query: sparse.csr_matrix, gallery: sparse.csr_matrix) -> sparse.csr_matrix:
    """(Q, G) sparse Jaccard similarity, 1 - the distance of Eq. 10, of rows that each sum to 1.

    The sum of minima m comes from an inverted index of the gallery; the sum of maxima is 2 - m.
    """
    index = gallery.tocsc()
    lengths = np.diff(index.indptr)
    count = gallery.shape[0]
    step = max(1, CHUNK // count)
    parts = []
    for start in range(0, query.shape[0], step):
        block = query[start : start + step]
        runs = lengths[block.indices]
        entry = np.repeat(np.arange(len(runs)), runs)
        within = np.arange(len(entry)) - np.repeat(np.cumsum(runs) - runs, runs)
        place = index.indptr[block.indices][entry] + within
        smaller = np.minimum(block.data[entry], index.data[place])
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        key = rows[entry] * count + index.indices[place]
        sums = np.bincount(key, weights=smaller, minlength=block.shape[0] * count)
        filled = np.flatnonzero(sums)
        minima = sums[filled]
        row, column = np.divmod(filled, count)
        data = (minima / (2 - minima)).astype(np.float32)
        parts.append(sparse.csr_matrix((data, (row, column)), (block.shape[0], count)))
    return sparse.vstack(parts, format="csr")


def average_query_expansion(query_vectors: Any, gallery_vectors: Any, top: int = 5) -> Tensor:
    """Replace every query by the mean of itself and its `top` nearest gallery vectors (Chum et al. 2007).

    Args:
        query_vectors: (Q, D) floats, numpy or torch.
        gallery_vectors: (G, D) floats.
        top: Number of neighbours to average with, 1 to G.

    Returns:
        (Q, D) float32 unit vectors, on the device of the queries.

    Raises:
        InputError: `top` is out of range, or vectors are not finite or have another shape.
    """
    query = as_matrix(query_vectors, "query_vectors")
    gallery = as_matrix(gallery_vectors, "gallery_vectors").to(query.device)
    check_finite(query, "query_vectors")
    check_finite(gallery, "gallery_vectors")
    if not 1 <= top <= len(gallery):
        raise InputError("top", f"{top} neighbours; give a number from 1 to the gallery's {len(gallery)}")
    out = torch.empty(query.shape, dtype=torch.float32, device=query.device)
    step = max(1, BLOCK_SCORES // len(gallery))
    edges = tile_edges(len(gallery), VectorScores.tile)
    for start in range(0, len(query), step):
        asking = unit(query[start : start + step].float())
        rows = torch.empty(len(asking), len(gallery), device=query.device)
        for low, high in itertools.pairwise(edges):
            torch.mm(asking, unit(gallery[low:high].float()).T, out=rows[:, low:high])
        columns = stable_top(rows, top)
        found = unit(gallery[columns.reshape(-1)].float()).view(*columns.shape, -1)
        out[start : start + step] = unit(asking + found.sum(1))
    return out
