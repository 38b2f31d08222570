"""Evaluate vectors or scores under any protocol. `datasets` evaluates models on a data set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from kronreid.errors import InputError
from kronreid.evaluation import metrics
from kronreid.evaluation import protocols as rules
from kronreid.evaluation.intervals import interval
from kronreid.evaluation.pairs import PairScores, Rescored, top_lists
from kronreid.evaluation.rerank import KReciprocalScores
from kronreid.evaluation.scores import BlockFunction, FunctionScores, Scores, VectorScores
from kronreid.evaluation.verification import Verification, verify

CURVE = 50  # a result keeps at least this many ranks of the CMC curve


@dataclass(frozen=True)
class RankedList:
    """The first candidates of one query.

    Attributes:
        query: The query's picture (a path), or its row in the evaluated list [query; gallery].
        pictures: The first K candidates, best first, as paths or rows. Those that the protocol drops are
            left out.
        right: (K,) bool, whether a candidate shows the query's person.
        scores: (K,) float32.
        average_precision: AP of the query, 0 to 1.
        first_rank: Rank of its first match, from 1.
    """

    query: Any
    pictures: tuple[Any, ...]
    right: np.ndarray
    scores: np.ndarray
    average_precision: float
    first_rank: float


@dataclass(frozen=True)
class Result:
    """The result of an evaluation of Q queries. Rates are fractions, 0 to 1.

    Attributes:
        protocol: Name of the protocol.
        queries: Number of queries, Q.
        gallery: Number of gallery pictures, without junk.
        junk: Number of gallery pictures that were dropped for every query.
        ranks: The requested ranks.
        cmc: (K,) CMC curve; entry k - 1 is the rate at rank k.
        mAP: Mean AP over the queries with a match.
        mAP_trapezoid: The same by Market-1501's trapezoid rule.
        mINP: Mean inverse negative penalty over the queries with a match.
        queries_without_match: Number of queries without a match. No mean includes them.
        draws: Number of galleries drawn and averaged over; 1 if the protocol draws none.
        seconds: Duration of the evaluation.
        average_precision: (Q,) AP of every query, mean over the draws; NaN without a match.
        first_rank: (Q,) rank of the first match, mean over the draws; NaN without a match.
        score_kind: Kind of the scores, see `Scores`.
        positive_scores: float32 scores of all positives, of the first draw. After re-scoring: logits of the
            re-scored positive pairs.
        negative_scores: float32 scores of random negatives, at most 64 per query. After re-scoring: logits of
            all re-scored negative pairs.
        hardest: The queries with the lowest AP and their first candidates, if requested.
        verification: ROC, AUC and EER over all pairs, if requested.
        first_stage: The ranking before its best candidates were re-scored, if they were.
        rerank_top: How many of each query's candidates were re-scored: a number, or "all"; 0 for none.
        rerank_ms_per_query: Milliseconds that re-scoring took, including the passes through a second network
            if there is one.
        rank1_interval: The 95 % interval of the rate at rank 1 over samples of people (`intervals.interval`).
        mAP_interval: That of mAP.
    """

    protocol: str
    queries: int
    gallery: int
    junk: int
    ranks: tuple[int, ...]
    cmc: np.ndarray
    mAP: float
    mAP_trapezoid: float
    mINP: float
    queries_without_match: int
    draws: int
    seconds: float
    average_precision: np.ndarray
    first_rank: np.ndarray
    score_kind: str
    positive_scores: np.ndarray
    negative_scores: np.ndarray
    hardest: tuple[RankedList, ...] = ()
    verification: Verification | None = None
    first_stage: Result | None = None
    rerank_ms_per_query: float | None = None
    rerank_top: int | str = 0
    rank1_interval: tuple[float, float] | None = None
    mAP_interval: tuple[float, float] | None = None

    def cmc_at(self, rank: int) -> float:
        """The share of queries whose first match has this rank or a better one.

        Args:
            rank: From 1. Beyond the gallery's size it gives the rate of the last rank.

        Raises:
            InputError: The result does not hold the CMC curve up to this rank.
        """
        if rank > len(self.cmc) and len(self.cmc) < self.gallery:
            raise InputError(
                "rank", f"{rank}; the result holds only the first {len(self.cmc)}; request it in ranks"
            )
        return float(self.cmc[min(rank, len(self.cmc)) - 1])

    @property
    def rank1(self) -> float:
        return self.cmc_at(1)

    @property
    def rank5(self) -> float:
        return self.cmc_at(5)

    @property
    def rank10(self) -> float:
        return self.cmc_at(10)

    def to_json(self) -> dict[str, Any]:
        """The metrics as a dictionary for `json.dump`; those of a first stage are under ``first_stage``."""
        out: dict[str, Any] = {"protocol": self.protocol, "queries": self.queries, "gallery": self.gallery}
        for rank in sorted({1, 5, 10, *self.ranks}):
            out[f"rank{rank}"] = self.cmc_at(rank)
        out.update(
            mAP=self.mAP,
            mAP_trapezoid=self.mAP_trapezoid,
            mINP=self.mINP,
            queries_without_match=self.queries_without_match,
            junk=self.junk,
            draws=self.draws,
            seconds=self.seconds,
            rerank_top=self.rerank_top,
            rank1_interval=self.rank1_interval and list(self.rank1_interval),
            mAP_interval=self.mAP_interval and list(self.mAP_interval),
        )
        if self.verification is not None:
            out.update(auc=self.verification.auc, eer=self.verification.eer)
            out.update({f"tpr_at_fpr_{fpr:g}": self.verification.tpr_at(fpr) for fpr in (1e-2, 1e-3, 1e-4)})
        if self.first_stage is not None:
            out.update(first_stage=self.first_stage.to_json(), rerank_ms_per_query=self.rerank_ms_per_query)
        return out


def evaluate(
    query_vectors: Any,
    query_ids: Any,
    query_cameras: Any,
    gallery_vectors: Any,
    gallery_ids: Any,
    gallery_cameras: Any,
    *,
    protocol: str | rules.Protocol = "market1501",
    metric: str = "cosine",
    precision: str = "fp32",
    ranks: Sequence[int] = (1, 5, 10),
    query_pictures: Sequence[Any] | None = None,
    gallery_pictures: Sequence[Any] | None = None,
    k_reciprocal: bool = False,
    verification: bool = False,
    seed: int = 0,
) -> Result:
    """Evaluate vectors against labels.

    Args:
        query_vectors: (Q, D) floats, numpy or torch, on any device.
        query_ids: (Q,) integers.
        query_cameras: (Q,) integers; None for a protocol that does not use cameras.
        gallery_vectors: (G, D) floats.
        gallery_ids: (G,) integers; identity -1 marks junk.
        gallery_cameras: (G,) integers, or None.
        protocol: A name from `PROTOCOLS`, or a `Protocol` of your own.
        metric: "cosine" or "euclidean".
        precision: Precision of the similarity product: "fp32", or "tf32" or "bf16" on hardware that has them.
        ranks: Ranks of the CMC curve that the result must hold.
        query_pictures: (Q,) names of the pictures. Protocol "no-camera" drops the gallery entry that has the
            query's name.
        gallery_pictures: (G,) names of the pictures.
        k_reciprocal: Re-rank by k-reciprocal encoding first (Zhong et al. 2017).
        verification: Also compute ROC, AUC and EER over all pairs, in a second pass over the scores.
        seed: Seed of the drawn galleries and of the sample of negatives.

    Returns:
        A `Result`.

    Raises:
        InputError: An argument is wrong; the message names it. Or no query has a match.

    Example:
        >>> import numpy as np
        >>> vectors = np.eye(3, dtype=np.float32)
        >>> evaluate(vectors[:2], [1, 2], [0, 0], vectors, [1, 2, 3], [1, 1, 1], ranks=(1,)).rank1
        1.0
    """
    started = time.perf_counter()
    _same_length(query_vectors, query_ids, "query")
    _same_length(gallery_vectors, gallery_ids, "gallery")
    task = rules.prepare(
        protocol,
        query_ids,
        query_cameras,
        gallery_ids,
        gallery_cameras,
        query_pictures=query_pictures,
        gallery_pictures=gallery_pictures,
    )
    vectors = VectorScores(query_vectors, gallery_vectors, task, metric, precision)
    scores: Scores = reciprocal_scores(vectors, task) if k_reciprocal else vectors
    return measure(scores, task, ranks, seed, started, verification=verification)


def evaluate_scores(
    scores: BlockFunction | np.ndarray | Tensor,
    query_ids: Any,
    query_cameras: Any,
    gallery_ids: Any,
    gallery_cameras: Any,
    *,
    protocol: str | rules.Protocol = "market1501",
    ranks: Sequence[int] = (1, 5, 10),
    query_pictures: Sequence[Any] | None = None,
    gallery_pictures: Sequence[Any] | None = None,
    verification: bool = False,
    seed: int = 0,
    distances: bool = False,
) -> Result:
    """Evaluate a matrix of scores, or a function that returns its blocks.

    The other arguments are those of `evaluate`.

    Args:
        scores: (Q, G) finite numbers, numpy or torch, or a function (query slice, gallery slice) -> (q, g).
        distances: The scores are distances: smaller is more alike.

    Returns:
        A `Result`.

    Raises:
        InputError: An argument is wrong; the message names it. Or no query has a match.
    """
    started = time.perf_counter()
    task = rules.prepare(
        protocol,
        query_ids,
        query_cameras,
        gallery_ids,
        gallery_cameras,
        query_pictures=query_pictures,
        gallery_pictures=gallery_pictures,
    )
    function = scores if callable(scores) else _blocks_of(scores, len(query_ids), len(gallery_ids))
    source = FunctionScores(function, task, distances=distances)
    return measure(source, task, ranks, seed, started, verification=verification)


def _blocks_of(matrix: Any, queries: int, gallery: int) -> BlockFunction:
    """A function that returns the blocks of a (Q, G) matrix."""
    values = matrix if isinstance(matrix, Tensor) else np.asarray(matrix)
    if tuple(values.shape) != (queries, gallery):
        raise InputError(
            "scores",
            f"shape {tuple(values.shape)}, but there are labels for {queries} queries and "
            f"{gallery} gallery pictures",
        )
    return lambda queries, gallery: values[queries, gallery]


def reciprocal_scores(vectors: VectorScores, task: rules.Task) -> KReciprocalScores:
    """The first stage re-ranked by k-reciprocal encoding.

    Raises:
        InputError: The protocol draws several galleries at random.
    """
    if task.protocol.draws:
        raise InputError(
            "k_reciprocal",
            f"protocol {task.protocol.name} draws random galleries, which cannot be re-ranked",
        )
    return KReciprocalScores(vectors)


def _same_length(vectors: Any, ids: Any, which: str) -> None:
    if len(vectors) != len(ids):
        raise InputError(f"{which}_vectors", f"{len(vectors)} rows, but {which}_ids has {len(ids)} labels")


def measure(
    scores: Scores,
    task: rules.Task,
    ranks: Sequence[int],
    seed: int,
    started: float,
    *,
    verification: bool = False,
    hardest: int = 0,
    pictures: Sequence[Any] | None = None,
) -> Result:
    """The `Result` of any scores. Every evaluation ends here.

    Args:
        scores: Scores of the task's queries against its gallery.
        task: Which entries are positive or dropped.
        ranks: Ranks of the CMC curve that the result must hold.
        seed: Seed of the drawn galleries and of the sample of negatives.
        started: `time.perf_counter()` when the evaluation began.
        verification: Also compute ROC, AUC and EER.
        hardest: Number of queries with the lowest AP to keep.
        pictures: What the task's rows index, for `hardest`; None keeps the rows.

    Raises:
        InputError: A rank is beyond the gallery, or no query has a match.
    """
    ranks = tuple(int(rank) for rank in ranks)
    for rank in ranks:
        if not 1 <= rank <= task.gallery:
            raise InputError(
                "ranks",
                f"rank {rank} does not exist in a gallery of {task.gallery} pictures; request ranks from 1 "
                f"to {task.gallery}",
            )
    query_block = scores.query_block if isinstance(scores, PairScores) else None
    counted = metrics.count_hits(scores, task, seed=seed, query_block=query_block)
    hits = counted.hits
    matched = np.stack([one.positives > 0 for one in hits])
    if not matched.any():
        raise InputError(
            "query_ids",
            f"none of the {task.queries} queries has a match in the gallery under protocol "
            f"{task.protocol.name}; compare the identities and cameras of queries and gallery",
        )
    first = np.stack([metrics.first_rank(one) for one in hits]).astype(float)
    first[~matched] = np.nan
    precision = np.stack([metrics.average_precision(one) for one in hits])
    trapezoid = np.stack([metrics.average_precision_trapezoid(one) for one in hits])
    penalty = np.stack([metrics.inverse_negative_penalty(one) for one in hits])
    length = min(task.gallery, max(CURVE, *ranks, 0))
    curves = [metrics.cmc_curve(metrics.first_rank(one), length) for one in hits if one.positives.any()]
    positives, negatives = hits[0].scores, counted.negatives
    if isinstance(scores, Rescored):  # its scores are only ranks; report the logits
        positives, negatives = scores.pairs(task)
    people = np.asarray(task.query_ids)
    result = Result(
        protocol=task.protocol.name,
        queries=task.queries,
        gallery=task.gallery,
        junk=task.junk,
        ranks=ranks,
        cmc=np.mean(curves, 0),
        mAP=_mean_of_means(precision),
        mAP_trapezoid=_mean_of_means(trapezoid),
        mINP=_mean_of_means(penalty),
        queries_without_match=int(task.queries - matched.any(0).sum()),
        draws=len(hits),
        seconds=0.0,
        average_precision=_column_means(precision),
        first_rank=_column_means(first),
        score_kind=scores.kind,
        positive_scores=positives,
        negative_scores=negatives,
        rank1_interval=interval(_column_means(np.where(np.isnan(first), np.nan, first == 1)), people, seed),
        mAP_interval=interval(_column_means(precision), people, seed),
    )
    return replace(
        result,
        hardest=_hardest(result, scores, task, hardest, pictures),
        verification=_verification(scores, task, hits, query_block) if verification else None,
        seconds=time.perf_counter() - started,
    )


def _verification(
    scores: Scores, task: rules.Task, hits: list[metrics.Hits], query_block: int | None
) -> Verification:
    if task.protocol.draws:  # all pairs, not those of one drawn gallery
        task = replace(task, protocol=replace(task.protocol, draws=0))
        hits = metrics.count_hits(scores, task, query_block=query_block).hits
    return verify(scores, task, hits[0].scores, query_block)


def _hardest(
    result: Result, scores: Scores, task: rules.Task, count: int, pictures: Sequence[Any] | None
) -> tuple[RankedList, ...]:
    """The `count` queries with the lowest AP, and their first 10 candidates."""
    out = []
    worst = np.argsort(result.average_precision, kind="stable")[:count]  # NaN (no match) sorts last
    for query in worst[~np.isnan(result.average_precision[worst])].tolist():
        columns, found = top_lists(scores, task, min(10, task.gallery), query, query + 1)
        columns, found = columns[0][columns[0] >= 0], found[0][columns[0] >= 0]
        row = int(task.query_rows[task.query_groups[query]])
        rows = task.gallery_rows[columns].tolist()
        out.append(
            RankedList(
                query=row if pictures is None else pictures[row],
                pictures=tuple(rows) if pictures is None else tuple(pictures[one] for one in rows),
                right=task.gallery_ids[columns] == task.query_ids[query],
                scores=found,
                average_precision=float(result.average_precision[query]),
                first_rank=float(result.first_rank[query]),
            )
        )
    return tuple(out)


def _mean_of_means(values: np.ndarray) -> float:
    """Mean over draws of the mean over the queries with a match; (draws, Q), NaN without a match."""
    return float(np.mean([np.nanmean(row) for row in values if not np.isnan(row).all()]))


def _column_means(values: np.ndarray) -> np.ndarray:
    """(Q,) mean over the draws in which a query has a match; NaN if it has none in any draw."""
    present = ~np.isnan(values)
    counts = present.sum(0)
    sums = np.where(present, values, 0).sum(0)
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
