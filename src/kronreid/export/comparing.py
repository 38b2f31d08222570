"""The comparison of exported files with the model that they were made of."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kronreid.data.generated import draw
from kronreid.data.images import ImageLike
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.onnx import OnnxEmbedder

#: Exports are compared with their model on this many generated people with this many pictures each.
_PEOPLE, _SHOTS = 16, 2


@dataclass(frozen=True)
class Comparison:
    """How close exported files are to their model.

    Attributes:
        pictures: Number of compared pictures.
        difference: Largest absolute difference of any component of a vector, or of any probability of a
            matcher.
        places: The same of any probability by an embedder's places; 0 without places.
        cosine: Mean cosine between the two vectors of a picture.
        agreement: The share of ranks at which both have the same picture, 0 to 1, with each picture as query
            for the others.
    """

    pictures: int
    difference: float
    places: float
    cosine: float
    agreement: float


@dataclass(frozen=True)
class ExportReport(Comparison):
    """The written files, and their comparison with the model.

    Attributes:
        files: The files; see `kronreid.export`.
    """

    files: tuple[Path, ...]


def compare(
    reference: Embedder | Matcher,
    exported: Embedder,
    scorer: Path | None = None,
    pictures: Sequence[ImageLike] = (),
) -> Comparison:
    """Compare exported files with their model.

    Args:
        reference: The model.
        exported: The exported embedder, or the encoder of a matcher.
        scorer: The file with the scorer of a matcher.
        pictures: The pictures to compare on; by default generated ones.
    """
    pictures = pictures or [
        draw(person, camera=shot, shot=0, height=reference.height, width=reference.width)
        for person in range(_PEOPLE)
        for shot in range(_SHOTS)
    ]
    expected, found = reference.embed(pictures), exported.embed(pictures)
    cosine = float((expected * found).sum(axis=1).mean())
    difference, places = largest(expected, found), 0.0
    scores = [vectors @ vectors.T for vectors in (expected, found)]
    if isinstance(reference, Matcher) and scorer is not None:
        assert isinstance(exported, OnnxEmbedder)
        images = exported.batch([exported.pixels(picture) for picture in pictures]).contiguous().numpy()
        logits = run_scorer(scorer, exported.model.session, images)
        scores = [reference.score(pictures, pictures), torch.from_numpy(logits).sigmoid().numpy()]
        difference = max(difference, largest(*scores))
    elif isinstance(reference, Embedder) and reference.places is not None:
        places = largest(*[one.needed_matcher().score(pictures, pictures) for one in (reference, exported)])
    return Comparison(len(pictures), difference, places, cosine, agreement_of(*scores))


def largest(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest absolute difference of two arrays."""
    return float(np.abs(expected - found).max())


def run_scorer(file: Path, encoder: Any, images: np.ndarray) -> np.ndarray:
    """Logits (N, N) of all pairs of pictures, computed by the two graphs of an exported matcher."""
    runtime = importlib.import_module("onnxruntime")
    names = [output.name for output in encoder.get_outputs()]
    encoded = dict(zip(names, encoder.run(names, {"images": images})))
    scorer = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    rows = []
    for row in range(len(images)):  # one query at a time, since all inner products would need much memory
        inputs = {}
        for one in scorer.get_inputs():
            side, _, name = one.name.partition("_")
            inputs[one.name] = encoded[name][row : row + 1] if side == "query" else encoded[name]
        rows.append(scorer.run(None, inputs)[0])
    return np.concatenate(rows)


def agreement_of(expected: np.ndarray, found: np.ndarray) -> float:
    """The share of ranks with the same picture in the rankings by two score matrices (N, N)."""
    rankings = []
    for scores in (expected, found):
        scores = scores.copy()
        np.fill_diagonal(scores, -np.inf)
        rankings.append(np.argsort(-scores, axis=1, kind="stable")[:, :-1])
    return float((rankings[0] == rankings[1]).mean())
