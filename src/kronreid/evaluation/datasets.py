"""Evaluate models on a data set: embed its pictures, re-score the best candidates with a matcher, measure."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from kronreid.data.records import Picture, ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation import protocols as rules
from kronreid.evaluation.evaluate import Result, measure, reciprocal_scores
from kronreid.evaluation.pairs import DescribedPictures, EncodedPictures, PairScores, rescored
from kronreid.evaluation.processes import gather_rows, processes, share
from kronreid.evaluation.scores import Scores, VectorScores
from kronreid.models.places import Described
from kronreid.ops.places import Places

if TYPE_CHECKING:
    from kronreid.models.place_matcher import PlaceMatcher
    from kronreid.models.protocols import Embeds, Matches

log = logging.getLogger(__name__)


#: Candidates that are re-scored unless something else is said: by an embedder's places, and by a pair model,
#: for which 75 is its authors' number.
PLACES_TOP, MATCHER_TOP = 100, 75


def evaluate_dataset(
    embedder: Embeds | None,
    dataset: ReIDDataset,
    *,
    protocol: str | rules.Protocol = "market1501",
    matcher: Matches | None = None,
    rerank_top: int | str | None = None,
    matcher_weight: float | None = None,
    k_reciprocal: bool = False,
    ranks: Sequence[int] | None = None,
    verification: bool = False,
    hardest: int = 10,
    batch_size: int = 64,
    pictures_in_memory: int = 2048,
    seed: int = 0,
    progress: bool = False,
) -> Result:
    """Rank the gallery of a data set for each of its queries, and measure the ranking.

    Args:
        embedder: Ranks the gallery by its vectors, and re-scores its own ranking with its places if it has
            some. If it is a pair model and `matcher` is None, it ranks by its pooled features and re-scores
            its own ranking. None ranks by the pooled features of `matcher`.
        dataset: Provides the `query` and `gallery` pictures, and `multi_query` for multi-query protocols.
        protocol: See `evaluate`.
        matcher: Re-scores, instead of the embedder's places, the first `rerank_top` candidates of every
            query, not counting those that the protocol drops. The re-scored candidates come first; the
            others follow in their old order.
        rerank_top: Number of candidates to re-score, or "all"; 0 for the vectors alone. None re-scores 100 by
            places and 75 by a matcher; by places none if the protocol has no list to re-score (drawn
            galleries, averaged queries).
        matcher_weight: Weight of the matcher's logits among the re-scored candidates, 0 to 1; the first
            stage's scores have the rest (`pairs.fuse`). 1 orders them by the logits alone, as KPM's authors
            do. None takes 1 if a model re-scores its own ranking and 0.5 if it re-scores another model's.
        k_reciprocal: Re-rank the first stage by k-reciprocal encoding (Zhong et al. 2017).
        ranks: See `evaluate`. None takes those of 1, 5 and 10 that the gallery is large enough for.
        verification: See `evaluate`.
        hardest: Number of queries with the lowest AP whose first candidates the result keeps.
        batch_size: Pictures per network pass.
        pictures_in_memory: Encoded pictures of the matcher to hold at a time.
        seed: See `evaluate`.
        progress: Show progress bars on a terminal.

    Returns:
        What the last stage reached. Where pictures were re-scored, `Result.first_stage` is the ranking
        before.

    Raises:
        InputError: Options contradict each other, a picture cannot be read, the protocol cannot use the
            labels, or no query has a match.
    """
    started = time.perf_counter()
    if embedder is None and matcher is None:
        raise InputError("embedder", "give an embedder or a matcher")
    if not (rerank_top in (None, "all") or (type(rerank_top) is int and rerank_top >= 0)):
        raise InputError(
            "rerank_top", f"give a number of candidates, 'all' or 0 for none, not {rerank_top!r}"
        )
    task, images = dataset_task(dataset, protocol)
    first = cast("Embeds", matcher if embedder is None else embedder)
    places: PlaceMatcher | None = None
    if matcher is not None:
        matcher_weight = 0.5 if matcher_weight is None else matcher_weight
        rerank_top = MATCHER_TOP if rerank_top is None else rerank_top
    elif hasattr(first, "score_lists"):
        matcher = cast("Matches", first)
        rerank_top = MATCHER_TOP if rerank_top is None else rerank_top
    elif (places := getattr(first, "matcher", None)) is not None and rerank_top is None:
        one_list = not (task.protocol.draws or task.protocol.average_queries)
        rerank_top = PLACES_TOP if one_list else 0
    matcher_weight = 1.0 if matcher_weight is None else matcher_weight
    if not 0 <= matcher_weight <= 1:
        raise InputError("matcher_weight", f"{matcher_weight} is not between 0 and 1")
    if matcher is None and places is None and rerank_top:
        raise InputError(
            f"rerank_top {rerank_top}", "nothing re-scores: the model has no places, and no matcher is named"
        )
    if rerank_top == "all" and k_reciprocal:
        raise InputError(
            "k_reciprocal", "it re-ranks a first stage, and rerank_top='all' leaves nothing of it"
        )
    if ranks is None:
        ranks = [rank for rank in (1, 5, 10) if rank <= task.gallery]

    def result_of(scores: Scores, worst: int = hardest) -> Result:
        return measure(
            scores, task, ranks, seed, started, verification=verification, hardest=worst, pictures=images
        )

    pictures: EncodedPictures | DescribedPictures | None = None
    vectors: np.ndarray | Tensor
    if not rerank_top:
        vectors = _embed_shared(first, images, batch_size, progress)
    elif places is not None:
        described = _describe_shared(places, images, batch_size, progress)
        pictures, vectors = DescribedPictures(places, described), described.vectors
    else:
        assert matcher is not None
        pictures = EncodedPictures(matcher, images, pictures_in_memory, batch_size)
        if rerank_top == "all":
            return replace(result_of(PairScores(pictures, task, progress)), rerank_top="all")
        vectors = _embed_shared(first, images, batch_size, progress)
    base: Scores = VectorScores(vectors, vectors[:0], task)
    if k_reciprocal:
        base = reciprocal_scores(cast(VectorScores, base), task)
    if pictures is None:
        return result_of(base)
    before = result_of(base, worst=0)  # the last stage's lists are the ones to look at
    begun = time.perf_counter()
    scores: Scores
    if rerank_top == "all":
        scores = PairScores(pictures, task, progress)
    else:
        scores = rescored(base, task, pictures, cast(int, rerank_top), matcher_weight, progress)
    result = result_of(scores)
    milliseconds = 1e3 * (time.perf_counter() - begun) / task.queries
    return replace(
        result,
        first_stage=before,
        rerank_ms_per_query=milliseconds,
        rerank_top=cast("int | str", rerank_top),
    )


def dataset_task(dataset: ReIDDataset, protocol: str | rules.Protocol) -> tuple[rules.Task, list[Any]]:
    """Apply a protocol to a data set.

    Args:
        dataset: Provides pictures and labels.
        protocol: See `evaluate`.

    Returns:
        The task, and the list of pictures it needs, without duplicates. The task's rows index this list. An
        entry is a path, or a `Picture` if it is only a part of its file.

    Raises:
        InputError: There are no query or gallery pictures, or the protocol cannot use the labels.
    """
    for part in ("query", "gallery"):
        if not getattr(dataset, part):
            raise InputError(dataset.root, f"has no {part} pictures to evaluate with")
    protocol = rules.protocol_named(protocol)
    query = _several_pictures(dataset) if protocol.average_queries else list(dataset.query)
    gallery = list(dataset.gallery)
    names = [[(picture.path, picture.box) for picture in part] for part in (query, gallery)]
    task = rules.prepare(
        protocol,
        [picture.identity for picture in query],
        [picture.camera for picture in query],
        [picture.identity for picture in gallery],
        [picture.camera for picture in gallery],
        query_pictures=names[0],
        gallery_pictures=names[1],
    )
    pictures, keys = query + gallery, names[0] + names[1]
    rows: dict[Any, int] = {}
    images: list[Any] = []
    for row in (*task.query_rows, *task.gallery_rows):
        if keys[row] not in rows:
            rows[keys[row]] = len(images)
            images.append(pictures[row].path if pictures[row].box is None else pictures[row])
    query_rows, gallery_rows = (
        np.array([rows[keys[row]] for row in part], np.int64) for part in (task.query_rows, task.gallery_rows)
    )
    return replace(task, query_rows=query_rows, gallery_rows=gallery_rows), images


def _several_pictures(dataset: ReIDDataset) -> list[Picture]:
    """The pictures that a multi-query protocol averages.

    These are the pictures in `ReIDDataset.multi_query` of each query's person and camera. Where there are
    none, the query pictures of that person and camera stay.
    """
    found = {(picture.identity, picture.camera) for picture in dataset.multi_query}
    asked = {(picture.identity, picture.camera) for picture in dataset.query}
    if not found & asked and len(asked) == len(dataset.query):
        log.warning(
            "%s has one query picture per person and camera, and no gt_bbox folder: multi-query equals "
            "single query",
            dataset.root,
        )
    return [
        *(one for one in dataset.query if (one.identity, one.camera) not in found),
        *(one for one in dataset.multi_query if (one.identity, one.camera) in asked),
    ]


def _describe_shared(matcher: PlaceMatcher, images: list[Any], batch_size: int, progress: bool) -> Described:
    """All images described; every process describes its share, in the batches of a single process."""
    low, high = share(len(images), batch_size)
    show = progress and processes()[0] == 0
    mine = matcher.encode(images[low:high] or images[:1], batch_size, show)[: high - low]
    if processes()[1] == 1:
        return mine
    device = mine.vectors.device

    def gathered(tensor: Tensor) -> Tensor:
        plain = tensor.view(torch.uint8) if tensor.dtype == torch.bfloat16 else tensor  # unknown to numpy
        return torch.from_numpy(gather_rows(plain.cpu().numpy())).view(tensor.dtype).to(device)

    levels = [Places(*map(gathered, level.tensors)) for level in mine.levels]
    return Described(gathered(mine.vectors), levels)


def _embed_shared(embedder: Embeds, images: list[Any], batch_size: int, progress: bool) -> np.ndarray:
    """(N, D) vectors of all images. Every process embeds its share, in the batches of a single process."""
    low, high = share(len(images), batch_size)
    show = progress and processes()[0] == 0
    if low == high:  # more processes than batches: embed one picture to get the vectors' length
        return gather_rows(embedder.embed(images[:1], batch_size=batch_size, progress=False)[:0])
    return gather_rows(embedder.embed(images[low:high], batch_size=batch_size, progress=show))
