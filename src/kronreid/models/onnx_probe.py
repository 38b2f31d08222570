"""Probing ONNX graphs by running them on two pictures, since shapes alone do not show how a graph behaves.

An embedder must always give a picture the same vector, no matter which other pictures are in the batch. A
graph that was exported in training mode does not do this. Neither does a graph that declares a free batch
axis but was exported for a fixed one.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: The largest allowed difference between two vectors of one picture, as 1 − cosine: in two equal runs, and in
#: two different batches. Half precision, static int8 and other orders of summation stay below 1e-5.
EQUAL_RUNS, OTHER_COMPANY = 1e-6, 1e-4
#: Vectors are considered the same if no component differs by more than this.
SAME = 1e-6
#: Runs of a graph that may draw at random: two draws of a short vector can be equal by chance.
DRAWS = 16

_RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}
#: These operators quantise a batch by the value range of all its pictures, so pictures influence each other.
_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}

_EVAL = "export it after model.eval()"
_DAMAGED = "the network is damaged, or expects another mean, std or scale"

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Behaviour:
    """How a graph must be run.

    Attributes:
        output: Name of the output with the vectors.
        dimension: Length of a vector.
        alone: Whether each picture needs its own run.
    """

    output: str
    dimension: int
    alone: bool


def probe_pictures(height: int, width: int) -> Tensor:
    """Two generated pictures, uint8 (2, 3, height, width), of colour patches with noise.

    The first is dark and has low contrast, the second is bright and has high contrast, so the statistics of a
    batch of both differ clearly from those of each.
    """
    random = np.random.default_rng(0)
    rows, columns = np.arange(height) * 6 // height, np.arange(width) * 3 // width
    patches = random.uniform(size=(2, 3, 6, 3))[:, :, rows][:, :, :, columns]
    values = 0.7 * patches + 0.3 * random.uniform(size=(2, 3, height, width))
    return torch.from_numpy(np.stack([20 + 60 * values[0], 40 + 215 * values[1]]).astype(np.uint8))


def padded(pixels: np.ndarray, batch: int | None) -> np.ndarray:
    """Append empty pictures to pictures (N, 3, H, W), up to the batch that a graph takes."""
    missing = max((batch or 0) - len(pixels), 0)
    return np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), pixels.dtype)])


class Probe:
    """Runs a graph on two pictures, one by one and together.

    Args:
        path: The file, for messages.
        session: An ``onnxruntime.InferenceSession``.
        nodes: All nodes of the graph, including those of subgraphs and functions.
        images: The two pictures (2, 3, H, W), in the graph's input type.
        batch: Pictures per run if the graph fixes it, otherwise None.
    """

    def __init__(
        self, path: Path, session: Any, nodes: Iterable[Any], images: np.ndarray, batch: int | None
    ) -> None:
        self.path, self.session, self.images, self.batch = path, session, images, batch
        self.nodes = list(nodes)
        self.input = session.get_inputs()[0].name
        self.names = [output.name for output in session.get_outputs()]

    def behaviour(self, wanted: str | None, sidecar: str) -> Behaviour:
        """Find the output with the vectors, and how the graph must be run to give each picture one vector.

        Args:
            wanted: Name of the output with the vectors; None if it is not given.
            sidecar: Name of the file that can give it, for messages.

        Raises:
            InputError: onnxruntime cannot run the graph, several outputs could hold the vectors, or the
                vectors are random, depend on other pictures, do not depend on the picture, are not finite or
                are zero.
        """
        alone, beside = self._tried([0]), self._tried(self._both())
        if not alone and not beside:
            self._run(self._both())  # raises the reason
        output, dimension, one_by_one = self._vector(alone, beside, wanted, sidecar)
        if _vectors(alone, self.batch or 1).get(output) != dimension:
            raise self._refusal("takes two pictures but not one; export it for one, or for any number")

        def vector(outputs: Outputs, row: int = 0) -> np.ndarray:
            return _unit(outputs[output].reshape(-1, dimension)[row])

        first, second = vector(alone), vector(self._run([1]))
        again = DRAWS if self._operators(_RANDOM) or self._training_mode() else 1
        if any(_apart(first, vector(self._run([0]))) > EQUAL_RUNS for _ in range(again)):
            reason = self._training_mode() or self._random()
            raise self._refusal(f"the same picture gives different vectors each time: {reason}")
        if not one_by_one and self.batch != 1:
            expected = [(beside, row, picture) for row, picture in enumerate(self._both())]
            if self.batch is None:
                turned = self._run([1, 0])
                expected += [(turned, 0, 1), (turned, 1, 0)]
            most = EQUAL_RUNS if self._operators(_DYNAMIC) else OTHER_COMPANY
            if any(
                _apart((first, second)[picture], vector(outputs, row)) > most
                for outputs, row, picture in expected
            ):
                self._check_company()
                one_by_one = True
        self._check_vectors(output, first, second)
        return Behaviour(output, dimension, one_by_one)

    def _both(self) -> list[int]:
        """The pictures of a run with both."""
        return [0, 1] if self.batch is None else [0, *[1] * (self.batch - 1)]

    def _run(self, pictures: list[int]) -> Outputs:
        pixels = padded(self.images[pictures], self.batch)
        try:
            return dict(zip(self.names, self.session.run(self.names, {self.input: pixels})))
        except Exception as error:  # onnxruntime's exceptions have no common ancestor
            raise self._refusal(f"onnxruntime cannot run it ({first_line(error)})") from None

    def _tried(self, pictures: list[int]) -> Outputs:
        """The outputs of a run; empty if the graph cannot be run on these pictures."""
        try:
            return self._run(pictures)
        except InputError:
            return {}

    def _refusal(self, reason: str) -> InputError:
        return InputError(self.path, reason)

    def _vector(
        self, alone: Outputs, beside: Outputs, wanted: str | None, sidecar: str
    ) -> tuple[str, int, bool]:
        """The output with the vectors, their length, and whether each picture needs its own run for that."""
        found = _vectors(beside, len(self._both()))
        lonely = _vectors(alone, self.batch or 1)
        one_by_one = wanted not in found if wanted is not None else not found
        told = _told(beside or alone)
        if one_by_one and lonely and (wanted is None or wanted in lonely):
            log.info("%s: takes one picture at a time, although it declares any number", self.path.name)
            found, told = lonely, _told(alone)
        if wanted is not None and wanted not in self.names:
            raise self._refusal(f"has no output {wanted!r}; its outputs are {told}")
        if wanted is not None and wanted not in found:
            raise self._refusal(f"output {wanted!r} has no vectors (N, D); the outputs are {told}")
        if not found:
            raise self._refusal(f"its outputs are {told}; an embedder has an output (N, D)")
        if wanted is None and len(found) > 1:
            raise self._refusal(
                f'several outputs could hold the vectors: {told}; name one as "output" in {sidecar}'
            )
        output = wanted or next(iter(found))
        return output, found[output], one_by_one

    def _check_company(self) -> None:
        """Refuse a graph whose vectors depend on other pictures, unless dynamic quantisation is the cause."""
        training = self._training_mode()
        if self._operators(_DYNAMIC) and not training:
            log.info(
                "%s: quantises a batch by the value range of all its pictures, so it gets one at a time",
                self.path.name,
            )
            return
        company = f"pictures of a batch influence each other, as in training mode; {_EVAL}"
        reason = training or (self._random() if self._operators(_RANDOM) else company)
        raise self._refusal(f"the same picture gives different vectors alone and in a batch: {reason}")

    def _training_mode(self) -> str:
        """The reason if an operator shows that the graph was exported in training mode; otherwise empty."""
        for node in self.nodes:
            flagged = any(one.name == "training_mode" and one.i for one in node.attribute)
            if flagged or (node.op_type == "Dropout" and len(node.input) > 2):
                return f"it was exported in training mode ({node.op_type}); {_EVAL}"
        return ""

    def _random(self) -> str:
        return f"it draws random numbers ({self._operators(_RANDOM) or 'in a custom operator'}); {_EVAL}"

    def _operators(self, kinds: set[str]) -> str:
        return ", ".join(sorted(kinds & {node.op_type for node in self.nodes}))

    def _check_vectors(self, output: str, first: np.ndarray, second: np.ndarray) -> None:
        for vector in (first, second):
            if not np.isfinite(vector).all():
                raise self._refusal(f"output {output} holds NaN or infinity for a normal picture; {_DAMAGED}")
            if not vector.any():
                raise self._refusal(f"output {output} is all zeros for a normal picture; {_DAMAGED}")
        if np.abs(first - second).max() < SAME:
            raise self._refusal(
                f"output {output} is the same for different pictures: it does not depend on the picture"
            )


def first_line(error: Exception) -> str:
    """The first line of an exception's text, cut to a readable length."""
    return str(error).strip().partition("\n")[0][:300]


def shape_text(shape: Sequence[int | str | None]) -> str:
    """A shape as text, like ``(?, 3, 256, 128)``."""
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"


def _vectors(outputs: Outputs, pictures: int) -> dict[str, int]:
    """The outputs that can hold one vector per picture, with the vector's length."""
    shapes: dict[str, tuple[int, ...]] = {
        name: getattr(value, "shape", ()) for name, value in outputs.items()
    }
    return {
        name: shape[1]
        for name, shape in shapes.items()
        if len(shape) >= 2 and shape[0] == pictures and math.prod(shape[1:]) == shape[1] > 0
    }


def _told(outputs: Outputs) -> str:
    return ", ".join(f"{name} {shape_text(getattr(value, 'shape', ()))}" for name, value in outputs.items())


def _unit(vector: np.ndarray) -> np.ndarray:
    """A vector scaled to length 1; a zero vector stays as it is."""
    vector = vector.astype(np.float64)
    length = np.linalg.norm(vector)
    with np.errstate(invalid="ignore"):  # infinity becomes NaN
        return vector / length if length else vector


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """1 − cosine of two unit vectors; 0 if both are zero or not finite, infinity if only one is."""
    known = [bool(np.isfinite(vector).all() and vector.any()) for vector in (a, b)]
    if all(known):
        return float(1 - a @ b)
    return 0.0 if not any(known) else math.inf
