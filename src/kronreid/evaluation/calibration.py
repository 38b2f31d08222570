"""Measuring what a model's scores mean (`kronreid.models.calibration`), on people that it was not trained on.

**Probabilities.** Platt scaling (Platt, Probabilistic outputs for support vector machines, 1999): a logistic
regression on one number, the score. Its pairs are each query's matches, and strangers drawn at random from
the gallery, up to a hundred of each. The two kinds are weighted to the stated share of pairs that show one
person. The targets of N₊ matches and N₋ strangers are Platt's, (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2), so that
the solution is finite where a score tells all pairs apart.

**Thresholds.** Open-set identification in the terms of ISO/IEC 19795-1, and of Grother & Ngan, Face
Recognition Vendor Test, NIST IR 8009, 2014:

- *Searches for people who are not there.* Each query searches the gallery without the pictures of its own
  person, whatever their camera. The search raises a false alarm when its best score reaches the threshold.
- *Searches for people who are there.* Each query that has a match searches all that its protocol does not
  drop. The search finds the person when a match comes first, with a score that reaches the threshold: the
  detection and identification rate (Phillips, Grother & Micheals, Evaluation methods in face recognition,
  2011).

Junk is in no gallery, and pictures that the protocol drops for a query, like those of the same person and
camera, are not compared. Distractors are strangers. Queries that are junk or distractors are left out, since
their person may be in the gallery. The second stage re-scores the best 100 candidates (75 with a pair model)
and orders them by its logits alone, as `evaluate_dataset` does.

A threshold is the lowest number that no more than the wanted share of the searches reaches. Nothing is
extrapolated: if not even one search may reach it, there is no threshold. Its interval comes from a bootstrap
over people, which draws all queries of a person together. The gallery stays as it is.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, logit
from tqdm import tqdm

from kronreid.data.records import ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation.datasets import MATCHER_TOP, PLACES_TOP, dataset_task
from kronreid.evaluation.metrics import BLOCK_SCORES, fill_rows
from kronreid.evaluation.pairs import DescribedPictures, EncodedPictures, mask_dropped
from kronreid.evaluation.protocols import JUNK, Protocol, Task
from kronreid.evaluation.rerank import stable_top
from kronreid.evaluation.scores import Scores, VectorScores
from kronreid.models.calibration import RATES, Calibration, OperatingPoint, ScoreCalibration, alarms

if TYPE_CHECKING:
    from kronreid.models.protocols import Embeds, Matches

log = logging.getLogger(__name__)

#: Matches and strangers of each query that probabilities are fitted on, at most.
PAIRS = 100
#: Samples of people of which the intervals are taken.
SAMPLES = 1000


def calibrate(
    model: Embeds | Matches,
    dataset: ReIDDataset,
    *,
    protocol: str | Protocol | None = None,
    same_share: float = 0.5,
    batch_size: int = 64,
    pictures_in_memory: int = 2048,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Measure what a model's scores mean, on the query and gallery pictures of a data set.

    Args:
        model: An embedder, with places or without, or a pair model.
        dataset: Of people that the model was not trained on. The model knows its own too well.
        protocol: Which pictures are compared; None for the data set's own.
        same_share: The share of the compared pairs that show one person, for which probabilities hold.
        batch_size: Pictures at a time through the network.
        pictures_in_memory: So many encoded pictures of a pair model are held at a time.
        seed: Decides which pairs and which samples of people are drawn.
        progress: Show progress on a terminal.

    Raises:
        InputError: There are too few people, the protocol has no single gallery, or a picture cannot be read.
    """
    if not 0 < same_share < 1:
        raise InputError(f"same_share {same_share}", "a number between 0 and 1 expected")
    task, images = dataset_task(dataset, protocol or dataset.protocol)
    if task.protocol.draws or task.protocol.average_queries:
        raise InputError(
            f"protocol {task.protocol.name}",
            "draws galleries or averages queries; a calibration is of single pictures in one gallery, as in "
            "cuhk03-np or market1501",
        )
    pictures: DescribedPictures | EncodedPictures | None = None
    top = PLACES_TOP
    if pair_model := hasattr(model, "score_lists"):
        top = MATCHER_TOP
        pictures = EncodedPictures(cast("Matches", model), images, pictures_in_memory, batch_size)
        vectors: Any = model.embed(images, batch_size, progress)
    elif matcher := getattr(model, "matcher", None):
        described = matcher.encode(images, batch_size, progress)
        pictures, vectors = DescribedPictures(matcher, described), described.vectors
    else:
        vectors = model.embed(images, batch_size, progress)
    lists = find_lists(VectorScores(vectors, vectors[:0], task), task, top, seed, progress)
    queries = lists.queries
    _check_people(dataset, task, lists)

    def of(scores: np.ndarray) -> ScoreCalibration:
        same, different = (part[part > -np.inf] for part in lists.split(scores)[2:])
        slope, offset = platt(same, different, same_share)
        if not slope:
            log.warning(
                "%s: pairs that show one person score no higher than others, so the scores tell nothing",
                dataset.root,
            )
        searches = Searches.among(lists, scores, task.query_ids[queries], top)
        strangers, points = searches.thresholds(seed)
        return ScoreCalibration(slope, offset, tuple(strangers.tolist()), points)

    of_logits = None
    if pictures is not None:
        rows = np.where(lists.columns >= 0, task.gallery_rows[lists.columns], -1)
        with tqdm(
            total=int((rows >= 0).sum()), desc="match", unit="pair", disable=None if progress else True
        ) as bar:
            of_logits = of(pictures.score_lists(task.query_rows[queries], rows, bar))
    return Calibration(
        layout=dataset.name,
        folder=os.fsencode(dataset.root.absolute().name).decode(errors="backslashreplace"),
        protocol=task.protocol.name,
        people=len(np.unique(task.query_ids[queries])),
        gallery=round(float(lists.searched.mean())),
        same_share=same_share,
        similarity=None if pair_model else of(lists.similarities),
        logit=of_logits,
    )


@dataclass(frozen=True)
class Lists:
    """The gallery pictures that Q queries are compared with: their best strangers, their best matches, random
    matches and random strangers, side by side.

    Attributes:
        queries: (Q,) int64, the task's queries that show a person and have a stranger to be compared with.
        columns: (Q, K) int64 gallery columns; −1 where a part of a list is shorter.
        similarities: (Q, K) float32; minus infinity where there is no column.
        widths: Of the four parts; they add up to K.
        searched: (Q,) int64, how many strangers there are.
    """

    queries: np.ndarray
    columns: np.ndarray
    similarities: np.ndarray
    widths: tuple[int, ...]
    searched: np.ndarray

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """The four parts of (Q, K) values."""
        return np.split(values, np.cumsum(self.widths)[:-1], axis=1)


def find_lists(base: Scores, task: Task, top: int, seed: int = 0, progress: bool = False) -> Lists:
    """Find each query's best `top` strangers and matches, and draw random ones of both.

    Args:
        base: The first stage.
        task: What is compared.
        top: How many of the best.
        seed: Decides which are drawn.
        progress: Show progress on a terminal.
    """
    random = np.random.default_rng(seed)
    person = ~np.isin(task.query_ids, [JUNK, *task.protocol.distractors])
    kept: list[int] = []
    searched: list[int] = []
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[], [], [], []]
    step = max(1, BLOCK_SCORES // task.gallery)
    starts = range(0, task.queries, step)
    for start in tqdm(starts, desc="search", unit="block", disable=None if progress else True):
        stop = min(start + step, task.queries)
        rows = torch.empty(stop - start, task.gallery, device=base.device)
        fill_rows(base, rows, slice(start, stop), task, 0, task.gallery)
        mask_dropped(rows, task, start, stop)
        everybody = rows.cpu().numpy().copy()
        own, column, positive = task.specials(start, stop)
        mine = (torch.from_numpy(index[positive]).to(rows.device) for index in (own, column))
        rows[tuple(mine)] = -torch.inf
        best = stable_top(rows, top).cpu().numpy()
        for number in np.flatnonzero(person[start:stop]).tolist():
            scores = everybody[number]
            mates = column[(own == number) & positive]
            mates = mates[scores[mates] > -np.inf]
            there = scores > -np.inf
            there[mates] = False
            strangers = np.flatnonzero(there)
            if not len(strangers):
                continue
            kept.append(start + number)
            searched.append(len(strangers))
            chosen = (
                best[number][: len(strangers)],
                mates[np.argsort(-scores[mates], kind="stable")[:top]],
                random.choice(mates, min(PAIRS, len(mates)), replace=False),
                random.choice(strangers, min(PAIRS, len(strangers)), replace=False),
            )
            for part, columns in zip(parts, chosen):
                part.append((columns, scores[columns]))
    blocks = [_padded(part) for part in parts]
    columns, similarities = (np.concatenate([block[i] for block in blocks], axis=1) for i in (0, 1))
    widths = tuple(block[0].shape[1] for block in blocks)
    return Lists(np.array(kept, np.int64), columns, similarities, widths, np.array(searched, np.int64))


def _padded(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of columns and scores as arrays as wide as the longest, with −1 and minus infinity behind."""
    width = max((len(columns) for columns, _ in rows), default=0)
    columns = np.full((len(rows), width), -1, np.int64)
    scores = np.full((len(rows), width), -np.inf, np.float32)
    for number, (found, values) in enumerate(rows):
        columns[number, : len(found)], scores[number, : len(found)] = found, values
    return columns, scores


def _check_people(dataset: ReIDDataset, task: Task, lists: Lists) -> None:
    people = len(np.unique(task.query_ids[lists.queries]))
    if people < 2 or not lists.widths[1]:
        matched = "some" if lists.widths[1] else "none"
        raise InputError(
            dataset.root,
            f"its queries show {people} people, {matched} of them with a match in the gallery; a calibration "
            "needs at least two people, one of them with a match",
        )


def platt(same: np.ndarray, different: np.ndarray, same_share: float) -> tuple[float, float]:
    """Platt scaling of pairs that are weighted to a share of same pairs.

    Args:
        same: (S,) scores of pairs that show one person.
        different: (D,) of pairs that do not.
        same_share: The weight of all same pairs together; that of all others is the rest of 1.

    Returns:
        slope and offset; the probability is 1 / (1 + exp(−(slope · score + offset))). The slope is never
        negative: where same pairs do not score higher than others it is 0.
    """
    sizes = (len(same), len(different))
    scores = np.concatenate([same, different]).astype(np.float64)
    weights = np.repeat([same_share / sizes[0], (1 - same_share) / sizes[1]], sizes)
    targets = np.repeat([(sizes[0] + 1) / (sizes[0] + 2), 1 / (sizes[1] + 2)], sizes)
    centre, spread = scores.mean(), scores.std()
    standard = (scores - centre) / (spread or 1.0)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        logits = values[0] * standard + values[1]
        gap = weights * (expit(logits) - targets)
        return float(weights @ (np.logaddexp(0, logits) - targets * logits)), np.array(
            [gap @ standard, gap.sum()]
        )

    slope, offset = minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    if not spread or slope <= 0:
        return 0.0, float(logit(weights @ targets))
    return float(slope / spread), float(offset - slope * centre / spread)


@dataclass(frozen=True)
class Searches:
    """What one score says of Q searches.

    Attributes:
        people: (Q,) int64, who is searched for.
        strangers: (Q,) float32, the best score when the person is not in the gallery.
        matches: (Q,) float32, the best score of a match when the person is there and comes first; minus
            infinity where a stranger comes first.
        there: (Q,) bool: the gallery has a match.
    """

    people: np.ndarray
    strangers: np.ndarray
    matches: np.ndarray
    there: np.ndarray

    @classmethod
    def among(cls, lists: Lists, scores: np.ndarray, people: np.ndarray, top: int) -> Searches:
        """The searches in which the first stage's best `top` candidates are ordered by `scores` (Q, K)."""
        first = np.concatenate(lists.split(lists.similarities)[:2], axis=1)
        second = np.concatenate(lists.split(scores)[:2], axis=1)
        order = np.argsort(-first, axis=1, kind="stable")[:, :top]  # of equals, strangers come first
        kept = np.take_along_axis(second, order, 1)
        strange = order < lists.widths[0]
        stranger = np.where(strange, kept, -np.inf).max(1)
        match = np.where(strange, -np.inf, kept).max(1)
        there = np.any(lists.split(lists.columns)[1] >= 0, axis=1)
        alone = lists.split(scores)[0].max(1)
        return cls(people, alone, np.where(match > stranger, match, -np.inf), there)

    def thresholds(self, seed: int = 0) -> tuple[np.ndarray, tuple[OperatingPoint, ...]]:
        """`ScoreCalibration.strangers`, and the thresholds at those of `RATES` that there are enough searches
        for."""
        order = np.argsort(-self.strangers, kind="stable")
        levels = just_above(self.strangers[order])
        rates = [rate for rate in RATES if alarms(rate, len(levels))]
        _, codes = np.unique(self.people[order], return_inverse=True)
        samples = sampled_thresholds(levels, codes, rates, seed)
        points = []
        for rate, sample in zip(rates, samples.T):
            threshold = float(levels[alarms(rate, len(levels))])
            low, high = np.quantile(sample, (0.025, 0.975), method="closest_observation").tolist()
            found = float((self.matches[self.there] >= threshold).mean())
            points.append(OperatingPoint(rate, threshold, low, high, found))
        return levels, tuple(points)


def just_above(scores: np.ndarray) -> np.ndarray:
    """For each float32 score the lowest number with four decimals above it, float64.

    It is above the score in float32 as well, so scores may be compared with it in either precision.
    """
    next_score = np.nextafter(scores, np.float32(np.inf)).astype(np.float64)
    return np.ceil(next_score * 1e4) / 1e4


def sampled_thresholds(
    levels: np.ndarray, people: np.ndarray, rates: list[float], seed: int = 0, samples: int = SAMPLES
) -> np.ndarray:
    """Thresholds of samples of people, drawn with replacement: a person's searches are drawn together.

    Args:
        levels: (Q,) `just_above` the searches' best scores, in descending order.
        people: (Q,) int64 from 0, whose search each is.
        rates: R rates of false alarms.
        seed: Decides which people are drawn.
        samples: How many times.

    Returns:
        (samples, R) float64.
    """
    random = np.random.default_rng(seed)
    count = int(people.max()) + 1
    found = np.empty((samples, len(rates)))
    for sample in found:
        drawn = np.bincount(random.integers(count, size=count), minlength=count)[people]
        so_far = np.cumsum(drawn)
        allowed = [alarms(rate, int(so_far[-1])) for rate in rates]
        sample[:] = levels[np.searchsorted(so_far, allowed, side="right")]
    return found
