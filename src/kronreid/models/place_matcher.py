"""An embedder's places as people use them: they score and explain pairs of pictures, as a pair model does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kronreid.data.images import ImageLike
from kronreid.errors import InputError
from kronreid.models.calibration import Calibration, probability
from kronreid.models.places import UNUSABLE, Described, PlaceMatching
from kronreid.ops.places import best_places

if TYPE_CHECKING:
    from kronreid.models.inference import Embedder


@dataclass(frozen=True)
class PlaceShares:
    """What the places of one level say about a pair.

    Attributes:
        shares_a: (h, w) float32: what each place of the first picture adds to the logit. Above zero it speaks
            for the same person; zero is a match as good as pairs have on average at that place.
        shares_b: (h, w): the same of the second picture's places.
        found_a: (h, w) int64: the place of the second picture that each place of the first matches best.
            Places are numbered row by row.
        found_b: (h, w): the place of the first picture that each place of the second matches best.
        similarity_a: (h, w) float32: m_i, the cosine of that best match.
        similarity_b: (h, w): n_j.
    """

    shares_a: np.ndarray
    shares_b: np.ndarray
    found_a: np.ndarray
    found_b: np.ndarray
    similarity_a: np.ndarray
    similarity_b: np.ndarray

    @property
    def sums(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """For the first picture and the second: the sum of the shares above zero, and of those below."""
        first, second = (
            (float(shares.clip(min=0).sum()), float(shares.clip(max=0).sum()))
            for shares in (self.shares_a.astype(np.float64), self.shares_b.astype(np.float64))
        )
        return first, second

    def to_json(self) -> dict[str, list[list[float]]]:
        """The arrays by their names, each as h lists of w numbers."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}


@dataclass(frozen=True)
class PairExplanation:
    """An embedder's verdict on a pair as a sum: logit = vectors + Σ of all places' shares.

    Attributes:
        logit: The higher, the surer it is that they show one person.
        probability: Of the same person, as the embedder is calibrated; 1 / (1 + e^−logit) without a
            calibration.
        cosine: Of the two vectors.
        vectors: What the vectors add to the logit: a · cosine + b.
        levels: The places of each level.
        image_a: The first picture as the network saw it, uint8 (H, W, 3).
        image_b: The second.
    """

    logit: float
    probability: float
    cosine: float
    vectors: float
    levels: list[PlaceShares]
    image_a: np.ndarray
    image_b: np.ndarray

    @property
    def places(self) -> tuple[float, float]:
        """The sum of all shares above zero, and the sum of those below: logit = vectors + both."""
        sums = [side for level in self.levels for side in level.sums]
        return sum(gain for gain, _ in sums), sum(loss for _, loss in sums)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, ready for JSON: what `kronreid match --json` writes."""
        names = ("probability", "logit", "cosine", "vectors")
        return {
            **{name: getattr(self, name) for name in names},
            "levels": [level.to_json() for level in self.levels],
        }


class PlaceMatcher:
    """Compares pictures pair by pair with an embedder's places.

    It has the methods of `kronreid.models.inference.Matcher`, so that evaluation, galleries and the server
    take one or the other.

    Args:
        embedder: Describes pictures.
        places: Its place matching.
    """

    def __init__(self, embedder: Embedder, places: PlaceMatching) -> None:
        self.embedder, self.places = embedder, places

    @property
    def calibration(self) -> Calibration | None:
        """The embedder's, if it is of these places."""
        return self.embedder.calibration if self.places is self.embedder.places else None

    @property
    def dimension(self) -> int:
        return self.embedder.dimension

    @property
    def fingerprint(self) -> str:
        return self.embedder.fingerprint

    def embed(
        self, images: ImageLike | Sequence[ImageLike], batch_size: int = 64, progress: bool = False
    ) -> np.ndarray:
        """See `kronreid.models.inference.Embedder.embed`."""
        return self.embedder.embed(images, batch_size, progress)

    def encode(
        self, images: ImageLike | Sequence[ImageLike], batch_size: int = 64, progress: bool = False
    ) -> Described:
        """See `kronreid.models.inference.Embedder.describe`."""
        return self.embedder.describe(images, batch_size, progress, places=self.places)

    def logits(self, query: Described, candidates: Described) -> Tensor:
        """Logits (Q, G) of every query with every candidate.

        Raises:
            InputError: A side is empty or was described by another model.
        """
        return self.places.score(query, candidates)

    def score_lists(self, query: Described, candidates: Described, lists: Tensor) -> Tensor:
        """Logits (Q, K) of each query with its own candidates, whose numbers are `lists` (Q, K) int64.

        Raises:
            InputError: See `logits`; or `lists` is empty or names a candidate that is not there.
        """
        return self.places.score(query, candidates, lists)

    def score(
        self,
        query: Described | ImageLike | Sequence[ImageLike],
        candidates: Described | ImageLike | Sequence[ImageLike],
        progress: bool = False,
    ) -> np.ndarray:
        """Probability that two pictures show the same person, (Q, G) float32, for every query and candidate;
        calibrated where the embedder has a calibration.

        Raises:
            InputError: There is no query or no candidate, a picture cannot be read, or a side was described
                by another model.
        """
        sides = [
            side if isinstance(side, Described) else self.encode(side, progress=progress)
            for side in (query, candidates)
        ]
        return probability(self.calibration, self.logits(*sides)).cpu().numpy()

    @torch.no_grad()
    def explain(self, a: ImageLike, b: ImageLike) -> PairExplanation:
        """Why two pictures match, place by place.

        Raises:
            InputError: A picture cannot be read, or the weights are unusable.
        """
        pictures = [self.embedder.as_seen(image) for image in (a, b)]
        described = self.encode(pictures)
        cosine = float(described.vectors[0] @ described.vectors[1])
        vectors, shares = self.places.terms(described[:1], described[1:])
        levels = []
        for places, (_, height, width), (share_a, share_b, m, n) in zip(
            described.levels, self.places.sizes, shares
        ):
            unit = places.unit()
            found = best_places(unit[:1], unit[1:])
            arrays = (share_a, share_b, *found, m, n)
            levels.append(PlaceShares(*(tensor.view(height, width).cpu().numpy() for tensor in arrays)))
        logit = float(vectors) + sum(float(term.sum()) for share in shares for term in share[:2])
        if not math.isfinite(logit):
            raise InputError("model", UNUSABLE)
        images = [np.asarray(picture) for picture in pictures]
        chance = float(probability(self.calibration, torch.tensor(logit)))
        return PairExplanation(logit, chance, cosine, float(vectors), levels, *images)
