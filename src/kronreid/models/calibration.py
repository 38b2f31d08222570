"""What a model's scores mean: probabilities of one person, and thresholds for a wanted rate of false alarms.

A calibration is measured on people with known identities (`kronreid.evaluation.calibration`) and lies beside
the model as ``calibration.json``. It holds for one model with one set of places. A file of another model, or
of other places, is not used.

**Probability.** P(same person) = 1 / (1 + exp(−(slope · score + offset))), Platt scaling (Platt 1999). For a
logit, 1 / slope is the temperature. It is for a pair that somebody presents for comparison, of which a stated
share shows one person.

**Thresholds.** In an open set, the person may not be in the gallery at all. A search for such a person raises
a false alarm when the best hit reaches the threshold. The share of such searches with a false alarm is the
false positive identification rate, FPIR, of ISO/IEC 19795-1. It grows with the gallery. If each of G
comparisons raises one with probability p, independently, the rate is 1 − (1 − p)^G. So a rate r in a gallery
of G' pictures is the rate

    1 − (1 − r)^(G / G')

in the G pictures that were measured, and the threshold of that rate is the one to take. Some people look like
many others, so comparisons of one search are not quite independent. By Jensen's inequality the true rate in a
larger gallery is then at most r, and that in a smaller one at least r.
"""

import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from torch import Tensor

from kronreid.data.files import written_whole
from kronreid.errors import InputError, one_line
from kronreid.options import Positive, Share, Weight, checked

log = logging.getLogger(__name__)

CALIBRATION = "calibration.json"

#: Which score of a pair: the cosine of its vectors, or what the places or a pair model say.
Score: TypeAlias = Literal["similarity", "logit"]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]

#: The rates of false alarms that thresholds are given for.
RATES = (1e-2, 1e-3, 1e-4)
#: The rate of false alarms that a search takes by itself, and the highest at which a threshold is of use.
USUAL_RATE, HIGHEST_RATE = 1e-3, 0.1


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, as measured.

    Attributes:
        rate: The share of searches that may raise a false alarm, of those for people who are not in the
            gallery (FPIR).
        threshold: The lowest score that counts.
        low: The 2.5th percentile of the threshold over samples of people.
        high: The 97.5th percentile.
        found: The share of searches that find their person at rank 1 with such a score, of those for people
            who are in the gallery (the detection and identification rate).
    """

    rate: Annotated[float, Field(gt=0, lt=1)]
    threshold: Finite
    low: Finite
    high: Finite
    found: Share


@dataclass(frozen=True)
class ScoreCalibration:
    """What one kind of score means.

    Attributes:
        slope: Of Platt scaling; 0 where scores tell nothing, so that all pairs have one probability.
        offset: Of Platt scaling.
        strangers: One number for each search for somebody who is not in the gallery, in descending order: the
            lowest number with four decimals above the best score of that search.
        points: The thresholds of those of `RATES` that there are enough searches for.
    """

    slope: Weight
    offset: Finite
    strangers: Annotated[tuple[Finite, ...], Field(min_length=1)]
    points: tuple[OperatingPoint, ...]

    def __post_init__(self) -> None:
        if list(self.strangers) != sorted(self.strangers, reverse=True):
            raise InputError("strangers", "are not in descending order")

    def probability(self, scores: Tensor) -> Tensor:
        """That pairs with these scores show one person; see the head of this file."""
        return (self.slope * scores + self.offset).sigmoid()


@dataclass(frozen=True)
class Calibration:
    """What a model's scores mean, measured on a data set.

    Attributes:
        layout: Of the data set.
        folder: The data set's name.
        protocol: Which pictures were compared (docs/protocols.md).
        people: How many people were searched for.
        gallery: How many pictures a search compared the query with, on average.
        same_share: The share of compared pairs that show one person, for which probabilities hold.
        similarity: Of cosines; None for a pair model.
        logit: Of a pair model, or of an embedder's places; None without places.
    """

    layout: str
    folder: str
    protocol: str
    people: Positive
    gallery: Positive
    same_share: Annotated[float, Field(gt=0, lt=1)]
    similarity: ScoreCalibration | None
    logit: ScoreCalibration | None

    def of(self, score: Score) -> ScoreCalibration:
        """What a kind of score means.

        Raises:
            InputError: The model has no such score.
        """
        found = self.similarity if score == "similarity" else self.logit
        if found is None:
            there = ", ".join(name for name in ("similarity", "logit") if getattr(self, name)) or "none"
            raise InputError("score", f"{score!r} is not calibrated; this model's calibration has {there}")
        return found

    def threshold(self, rate: float, gallery_size: int | None = None, score: Score = "similarity") -> float:
        """The lowest score that counts, for a wanted rate of false alarms.

        Args:
            rate: The share of searches that may raise a false alarm, of those for people who are not in the
                gallery, between 0 and 1.
            gallery_size: How many pictures are searched; None for as many as were measured.
            score: Which score the threshold is for.

        Raises:
            InputError: No such rate or gallery, or the calibration has too few searches for it.

        Example:
            >>> embedder.calibration.threshold(1e-3, gallery_size=20_000)
        """
        strangers = self.of(score).strangers
        size = self._size(gallery_size)
        if not 0 < rate < 1:
            raise InputError(f"rate {rate}", "a number between 0 and 1 expected")
        measured = -math.expm1(math.log1p(-rate) * self.gallery / size)
        if measured == 0 or (allowed := alarms(measured, len(strangers))) < 1:
            needed = f"{math.ceil(1 / measured):,}" if measured else "far more"
            raise InputError(
                f"rate {rate:g}",
                f"for a gallery of {size:,} pictures it needs a calibration of at least {needed} searches in "
                f"{self.gallery:,} pictures; this one has {len(strangers):,}",
            )
        return strangers[min(allowed, len(strangers) - 1)]

    def rarest(self, gallery_size: int | None = None, score: Score = "similarity") -> float:
        """The lowest rate of false alarms that `threshold` gives a threshold for: one false alarm in all
        searches of the calibration, carried to a gallery of this size. It may be 1."""
        count = len(self.of(score).strangers)
        size = self._size(gallery_size)
        return -math.expm1(math.log1p(-1 / count) * size / self.gallery) if count > 1 else 1.0

    def _size(self, gallery_size: int | None) -> int:
        size = self.gallery if gallery_size is None else gallery_size
        if size < 1:
            raise InputError(f"gallery_size {size}", "a gallery of at least 1 picture expected")
        return size


def alarms(rate: float, searches: int) -> int:
    """How many of these searches may raise a false alarm at a rate."""
    return math.floor(searches * rate + 1e-9)


def probability(calibration: Calibration | None, logits: Tensor) -> Tensor:
    """That pairs with these logits show one person: as calibrated, or as the model was trained to say."""
    if calibration is None or calibration.logit is None:
        return logits.sigmoid()
    return calibration.logit.probability(logits)


@dataclass(frozen=True)
class SimilarityLimit:
    """From which similarity on a hit of a search counts.

    Attributes:
        similarity: The lowest that counts.
        rate: The rate of false alarms that it stands for; None where it was chosen by hand.
    """

    similarity: float
    rate: float | None

    @property
    def words(self) -> str:
        """What it stands for."""
        if self.rate is None:
            return f"a similarity of at least {self.similarity:g}"
        searches = round(1 / self.rate)
        return f"one false alarm in {_NUMBERS.get(searches, f'{searches:,}')} searches"

    @property
    def nobody(self) -> str:
        """What to say of a search without a hit that counts."""
        return f"nobody here, at {self.words}"


_NUMBERS = {10: "ten", 100: "a hundred", 1000: "a thousand"}


def similarity_limit(
    wanted: float | Literal["auto"], calibration: Calibration | None, gallery_size: int
) -> SimilarityLimit:
    """From which similarity on a search's hits count.

    Args:
        wanted: A similarity, or ``auto`` for the threshold of one false alarm in a thousand searches. Where
            the calibration has too few searches for that, it is the lowest rate that it can tell.
        calibration: The embedder's; None without one.
        gallery_size: How many pictures the search compares the query with.

    Raises:
        InputError: `wanted` is no similarity. Or it is ``auto``, and there is no calibration, or one that
            cannot tell a rate of one in ten for a gallery of this size.
    """
    if wanted != "auto":
        if not -1 <= wanted <= 1:
            raise InputError(f"--min-similarity {wanted}", "a number from -1 to 1, or auto, expected")
        return SimilarityLimit(wanted, None)
    if calibration is None:
        raise InputError(
            "--min-similarity auto",
            "the model has no calibration; measure one with kronreid calibrate, or give a number",
        )
    rate = max(USUAL_RATE, calibration.rarest(gallery_size))
    if rate > HIGHEST_RATE:
        raise InputError(
            "--min-similarity auto",
            f"the calibration, of {len(calibration.of('similarity').strangers):,} searches in "
            f"{calibration.gallery:,} pictures, is too small for a gallery of {gallery_size:,}; calibrate on "
            "more people, or give a number",
        )
    return SimilarityLimit(calibration.threshold(rate, gallery_size), rate)


def save_calibration(folder: Path, calibration: Calibration, model: str, places: str | None) -> None:
    """Write ``calibration.json`` into a model folder, whole or not at all.

    Args:
        folder: The model's.
        calibration: What was measured.
        model: The fingerprint of the model.
        places: The fingerprint of its places; None without places.
    """
    about = {"model": model, "places": places, "calibration": asdict(calibration)}
    with written_whole(folder / CALIBRATION) as new:
        new.write_text(json.dumps(about, allow_nan=False) + "\n")


def load_calibration(folder: Path, model: str, places: str | None) -> Calibration | None:
    """The calibration of a model folder; None without one.

    One that is damaged, of another model or of other places is not used, and one line of the log says so.

    Args:
        folder: The model's.
        model: The model's fingerprint.
        places: The fingerprint of its places; None without places.
    """
    file = folder / CALIBRATION
    if not file.is_file():
        return None
    try:
        about = json.loads(file.read_text())
        if (about["model"], about["places"]) == (model, places):
            return checked(Calibration, dict(about["calibration"]), "calibration")
        why = "is of another model or other places than those beside it"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"is damaged ({type(error).__name__}: {one_line(error)})"
    log.warning("%s %s and is not used; kronreid calibrate writes it anew", file, why)
    return None
