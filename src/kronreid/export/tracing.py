"""The graphs of a model, and their traces in torch's and in ONNX's form."""

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError, one_line
from kronreid.export.graphs import EmbedderGraph, EncoderGraph, ScorerGraph, outputs
from kronreid.models.folding import fold
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.onnx import places_outputs
from kronreid.models.pairs import PairModel
from kronreid.models.places import PlaceMatching
from kronreid.ops.sketch import CountSketch

#: The operator set: the oldest one that the exporter writes without conversion. Most runtimes support it.
OPSET = 18


@dataclass(frozen=True)
class Plan:
    """One graph to write.

    Attributes:
        kind: ``embedder``, ``encoder`` or ``scorer``.
        graph: The network.
        inputs: Example inputs by name.
        axes: The name of the first, variable axis of each input.
        outputs: Names of the outputs; the first is the result.
    """

    kind: str
    graph: nn.Module
    inputs: dict[str, Tensor]
    axes: dict[str, str]
    outputs: list[str]


def plans(tool: Embedder | Matcher) -> list[Plan]:
    """The graphs of a model, on the CPU: one of an embedder, encoder and scorer of a matcher."""
    model = copy.deepcopy(tool.model).cpu()
    if any(isinstance(module, CountSketch) for module in model.modules()):
        model = fold(model)  # removes FFT operators, which some runtimes lack
    places = copy.deepcopy(tool.places).cpu() if isinstance(tool, Embedder) and tool.places else None
    return _plans(model, tool.input, places)


def _plans(model: nn.Module, size: InputOptions, places: PlaceMatching | None) -> list[Plan]:
    images = {"images": torch.zeros(2, 3, size.height, size.width, dtype=torch.uint8)}
    axes = {"images": "pictures"}
    if not isinstance(model, PairModel):
        names = ["vectors", *(places_outputs(places) if places else ())]
        return [Plan("embedder", EmbedderGraph(model, size, places), images, axes, names)]
    encoder = EncoderGraph(model, size)
    with torch.no_grad():
        example = model.encode(encoder.normalise(images["images"]))
    scorer = ScorerGraph(model, example)
    encoded = outputs(example)
    maps, sides = {}, {}
    for name in scorer.names:
        side, _, output = name.partition("_")
        tensor = encoded[output]
        # Different numbers of queries and candidates, or the exporter would assume that they are equal.
        maps[name] = torch.cat([tensor, tensor[:1]]) if side == "candidate" else tensor
        sides[name] = "candidates" if side == "candidate" else "queries"
    return [
        Plan("encoder", encoder, images, axes, list(encoded)),
        Plan("scorer", scorer, maps, sides, ["logits"]),
    ]


def trace(plan: Plan) -> torch.export.ExportedProgram:
    """Trace a graph for any number of pictures.

    Raises:
        InputError: The network cannot be traced.
    """
    counts = {axis: torch.export.Dim(axis) for axis in plan.axes.values()}
    shapes: tuple[Any, ...] = tuple({0: counts[plan.axes[name]]} for name in plan.inputs)
    if plan.kind == "scorer":
        shapes = (shapes,)  # its forward takes all as one argument, *inputs
    with _explained(plan):
        return torch.export.export(
            plan.graph.eval(), tuple(plan.inputs.values()), dynamic_shapes=shapes, strict=False
        )


def to_onnx(plan: Plan) -> Any:
    """Trace a graph to a ModelProto.

    Raises:
        InputError: The network cannot be exported.
    """
    program = trace(plan)  # called directly, torch.onnx.export would retry with fixed numbers of pictures
    with _explained(plan):
        written = torch.onnx.export(
            program,
            input_names=list(plan.inputs),
            output_names=plan.outputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert written is not None
    return written.model_proto


@contextlib.contextmanager
def _explained(plan: Plan) -> Iterator[None]:
    """Turn what torch raises into one line."""
    try:
        with quiet():
            yield
    except Exception as error:  # torch raises many kinds of errors
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise InputError(
            f"the {plan.kind} cannot be exported",
            f"{type(cause).__name__}: {one_line(cause)[:300]}",
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporter's messages and warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
