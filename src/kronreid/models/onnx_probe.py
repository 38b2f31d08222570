"""What an ONNX graph does with pictures: tried when it is opened, since no shape in the file tells it.

An embedder gives a picture one vector, whatever pictures stand beside it and however often it is asked. A
graph that was exported in training mode does not, nor does one whose batch axis is free in name only.
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

#: How far apart the vectors of one picture may be, as 1 − cosine: in two equal runs, and beside others.
#: Half precision, static int8 and other orders of summation stay below 1e-5.
EQUAL_RUNS, OTHER_COMPANY = 1e-6, 1e-4
#: Vectors that differ less than this in every number are the same.
SAME = 1e-6

_RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}
#: They quantise a batch by the range of all its pictures: how much that changes depends on the pictures.
_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}

_EVAL = "export it after model.eval()"
_DAMAGED = "the network is damaged, or expects another mean, std or scale"

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Behaviour:
    """How a graph is run.

    Attributes:
        output: The output that is the vector.
        dimension: Its length.
        alone: Whether each picture needs a run of its own.
    """

    output: str
    dimension: int
    alone: bool


def probe_pictures(height: int, width: int) -> Tensor:
    """Two generated pictures, uint8 (2, 3, height, width): patches of colour with noise.

    The first is dark with little contrast, the second bright with much of it: statistics of both together are
    far from those of either.
    """
    random = np.random.default_rng(0)
    rows, columns = np.arange(height) * 6 // height, np.arange(width) * 3 // width
    patches = random.uniform(size=(2, 3, 6, 3))[:, :, rows][:, :, :, columns]
    values = 0.7 * patches + 0.3 * random.uniform(size=(2, 3, height, width))
    return torch.from_numpy(np.stack([20 + 60 * values[0], 40 + 215 * values[1]]).astype(np.uint8))


def padded(pixels: np.ndarray, batch: int | None) -> np.ndarray:
    """Pictures (N, 3, H, W) with empty ones behind them, up to the number that a graph takes."""
    missing = max((batch or 0) - len(pixels), 0)
    return np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), pixels.dtype)])


class Probe:
    """Runs a graph on two pictures, alone and beside each other.

    Args:
        path: The file, for messages.
        session: An ``onnxruntime.InferenceSession``.
        nodes: All nodes of the graph, those of subgraphs and functions as well.
        images: The two pictures as the graph takes them (2, 3, H, W).
        batch: Pictures per run where the graph fixes it, None where it does not.
    """

    def __init__(
        self, path: Path, session: Any, nodes: Iterable[Any], images: np.ndarray, batch: int | None
    ) -> None:
        self.path, self.session, self.images, self.batch = path, session, images, batch
        self.nodes = list(nodes)
        self.input = session.get_inputs()[0].name
        self.names = [output.name for output in session.get_outputs()]

    def behaviour(self, wanted: str | None, sidecar: str) -> Behaviour:
        """Find the vector, and how the graph has to be run to give each picture one vector.

        Args:
            wanted: The output that is the vector; None if nobody says it.
            sidecar: The name of the file that could say it, for messages.

        Raises:
            InputError: onnxruntime cannot run the graph; it is not clear which output is the vector; the
                vector is random, depends on other pictures or on no picture, or is not finite or zero.
        """
        alone, beside = self._tried([0]), self._tried(self._both())
        if not alone and not beside:
            self._run(self._both())  # which says why
        output, dimension, one_by_one = self._vector(alone, beside, wanted, sidecar)
        if _vectors(alone, self.batch or 1).get(output) != dimension:
            raise self._refusal("takes two pictures but not one; export it with one, or for any number")

        def vector(outputs: Outputs, row: int = 0) -> np.ndarray:
            return _unit(outputs[output].reshape(-1, dimension)[row])

        first, second = vector(alone), vector(self._run([1]))
        if _apart(first, vector(self._run([0]))) > EQUAL_RUNS:
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
        """The pictures of a run with company."""
        return [0, 1] if self.batch is None else [0, *[1] * (self.batch - 1)]

    def _run(self, pictures: list[int]) -> Outputs:
        pixels = padded(self.images[pictures], self.batch)
        try:
            return dict(zip(self.names, self.session.run(self.names, {self.input: pixels})))
        except Exception as error:  # onnxruntime's exceptions have no common ancestor
            raise self._refusal(f"onnxruntime cannot run it ({first_line(error)})") from None

    def _tried(self, pictures: list[int]) -> Outputs:
        """The outputs; none if the graph cannot be run like this."""
        try:
            return self._run(pictures)
        except InputError:
            return {}

    def _refusal(self, reason: str) -> InputError:
        return InputError(self.path, reason)

    def _vector(
        self, alone: Outputs, beside: Outputs, wanted: str | None, sidecar: str
    ) -> tuple[str, int, bool]:
        """Name and length of the output that is the vector, and whether it is one only without company."""
        found = _vectors(beside, len(self._both()))
        lonely = _vectors(alone, self.batch or 1)
        one_by_one = wanted not in found if wanted is not None else not found
        told = _told(beside or alone)
        if one_by_one and lonely and (wanted is None or wanted in lonely):
            log.info("%s: takes one picture at a time, though it promises any number", self.path.name)
            found, told = lonely, _told(alone)
        if wanted is not None and wanted not in self.names:
            raise self._refusal(f"has no output {wanted!r}; there are {told}")
        if wanted is not None and wanted not in found:
            raise self._refusal(f"output {wanted!r} is no vector (N, D); there are {told}")
        if not found:
            raise self._refusal(f"gives {told}, and no vector (N, D): it is no embedder")
        if wanted is None and len(found) > 1:
            raise self._refusal(
                f'several outputs could be the vector: {told}; say which as "output" in {sidecar}'
            )
        output = wanted or next(iter(found))
        return output, found[output], one_by_one

    def _check_company(self) -> None:
        """Complain about vectors that depend on other pictures, unless by dynamic quantisation."""
        training = self._training_mode()
        if self._operators(_DYNAMIC) and not training:
            log.info(
                "%s: quantises a batch by the range of all its pictures, so it is given one at a time",
                self.path.name,
            )
            return
        reason = training or f"pictures of a batch influence each other, as in training mode; {_EVAL}"
        raise self._refusal(f"the same picture gives different vectors alone and in a batch: {reason}")

    def _training_mode(self) -> str:
        """Which operator shows that the graph was exported in training mode; empty if none does."""
        for node in self.nodes:
            flagged = any(one.name == "training_mode" and one.i for one in node.attribute)
            if flagged or (node.op_type == "Dropout" and len(node.input) > 2):
                return f"it was exported in training mode ({node.op_type}); {_EVAL}"
        return ""

    def _random(self) -> str:
        return f"it draws random numbers ({self._operators(_RANDOM) or 'in an operator of its own'}); {_EVAL}"

    def _operators(self, kinds: set[str]) -> str:
        return ", ".join(sorted(kinds & {node.op_type for node in self.nodes}))

    def _check_vectors(self, output: str, first: np.ndarray, second: np.ndarray) -> None:
        for vector in (first, second):
            if not np.isfinite(vector).all():
                raise self._refusal(f"output {output} holds NaN or infinity for a sound picture; {_DAMAGED}")
            if not vector.any():
                raise self._refusal(f"output {output} is all zeros for a sound picture; {_DAMAGED}")
        if np.abs(first - second).max() < SAME:
            raise self._refusal(
                f"output {output} is the same for different pictures: it does not depend on the picture"
            )


def first_line(error: Exception) -> str:
    """The first line of an exception's text, cut to a readable length."""
    return str(error).strip().partition("\n")[0][:300]


def shape_text(shape: Sequence[int | str | None]) -> str:
    """A shape as people write it: ``(?, 3, 256, 128)``."""
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"


def _vectors(outputs: Outputs, pictures: int) -> dict[str, int]:
    """The outputs that can be a vector per picture, with its length."""
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
    """A vector with length one; one of zeros stays as it is."""
    vector = vector.astype(np.float64)
    length = np.linalg.norm(vector)
    with np.errstate(invalid="ignore"):  # of infinity, which stays no number
        return vector / length if length else vector


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """1 − cosine of two unit vectors; 0 for two without direction, infinity where one alone has none."""
    known = [bool(np.isfinite(vector).all() and vector.any()) for vector in (a, b)]
    if all(known):
        return float(1 - a @ b)
    return 0.0 if not any(known) else math.inf
