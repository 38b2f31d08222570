"""Export a model to ONNX, and verify the exported graph against the model."""

import contextlib
import copy
import importlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from kronreid import __version__
from kronreid.data.generated import draw
from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError, one_line
from kronreid.export.graphs import EmbedderGraph, EncoderGraph, ScorerGraph, outputs
from kronreid.extras import require
from kronreid.models import MODELS
from kronreid.models.folding import fold
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.loading import wrap
from kronreid.models.onnx import (
    PLACES_CARD,
    SEAL,
    WRITER,
    OnnxEmbedder,
    load_onnx,
    places_card,
    places_outputs,
    seal,
)
from kronreid.models.pairs import PairModel
from kronreid.models.places import PlaceMatching
from kronreid.ops.sketch import CountSketch

#: The operator set: the oldest one that the exporter writes without conversion. Most runtimes support it.
OPSET = 18

#: A graph is not written if its outputs differ from the model's by more than this.
TOLERANCE = 1e-3

#: An export is verified on this many generated people with this many pictures each.
_PEOPLE, _SHOTS = 16, 2

_LICENCE = (
    "The weights are subject to the terms of their training data. The field's data sets are for research "
    "only, and so are weights trained on them."
)
_RESPONSIBLE_USE = (
    "This model identifies people. A high similarity is a hint for a human, never proof. Do not follow or "
    "profile people without a lawful basis. Error rates differ between groups and cameras; measure them."
)


@dataclass(frozen=True)
class ExportReport:
    """The written files, and their comparison with the model on generated pictures.

    Attributes:
        files: One file for an embedder; encoder and scorer for a matcher.
        pictures: Number of compared pictures.
        difference: Largest absolute difference of any component of a vector or any probability of a pair, of
            a matcher or of an embedder's places.
        agreement: The share of ranks at which both have the same picture, 0 to 1, with each picture as query
            for the others.
    """

    files: tuple[Path, ...]
    pictures: int
    difference: float
    agreement: float


def export_onnx(tool: Embedder | Matcher, file: str | Path, progress: bool = False) -> ExportReport:
    """Export a model to ONNX.

    An embedder becomes one graph, ``images`` → ``vectors``. Beside them it has the projected maps of the
    embedder's places, if there are any, with which `kronreid.load` re-ranks. A matcher becomes two graphs:
    `file`, ``images`` → ``pooled`` and each scale's maps, and ``NAME.scorer.onnx`` beside it, maps of queries
    and candidates → ``logits`` (Q, G). All accept any number of pictures. Files are only written, and old
    ones replaced, after the graphs passed ONNX's checker and the comparison with the model.

    Args:
        tool: A model loaded by `kronreid.load`.
        file: The output file, whose name ends in ``.onnx``.
        progress: Show a progress bar.

    Raises:
        InputError: A package is missing, the name is wrong, the backbone cannot be exported, or the graph's
            outputs differ from the model's.

    Example:
        >>> export_onnx(kronreid.load("runs/horeid"), "horeid.onnx").difference
    """
    file = Path(file)
    if isinstance(tool, OnnxEmbedder):
        raise InputError(tool.path, "is already an ONNX file")
    if file.suffix != ".onnx" or not file.parent.is_dir():
        raise InputError(file, "must end in .onnx and be in an existing folder")
    require("kronreid export", "export")
    model = copy.deepcopy(tool.model).cpu()
    reference = wrap(model, tool.input)
    if isinstance(reference, Embedder) and isinstance(tool, Embedder):
        reference.places = tool.places
    if any(isinstance(module, CountSketch) for module in model.modules()):
        model = fold(model)  # removes FFT operators, which some runtimes lack
    places = copy.deepcopy(tool.places).cpu() if isinstance(tool, Embedder) and tool.places else None
    plans = _plans(model, tool.input, places)
    files = [file, file.with_name(f"{file.stem}.scorer.onnx")][: len(plans)]
    with (
        tempfile.TemporaryDirectory(dir=file.parent, prefix=".export-") as folder,
        tqdm(total=len(files) + 1, desc="exporting", disable=None if progress else True) as bar,
    ):
        written = [Path(folder) / one.name for one in files]
        for plan, new in zip(plans, written):
            proto = _describe(_trace(plan), plan, tool)
            _check(proto)
            new.write_bytes(proto.SerializeToString())
            bar.update()
        difference, agreement = compare(reference, written)
        bar.update()
        if not difference <= TOLERANCE:
            raise InputError(
                file,
                f"was not written: the graph's outputs differ from the model's by {difference:.2g}, more "
                f"than {TOLERANCE}; its backbone cannot be exported",
            )
        for new, one in zip(written, files):
            new.replace(one)
    return ExportReport(tuple(files), _PEOPLE * _SHOTS, difference, agreement)


@dataclass(frozen=True)
class _Plan:
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


def _plans(model: nn.Module, size: InputOptions, places: PlaceMatching | None) -> list[_Plan]:
    """The graphs of a folded model."""
    images = {"images": torch.zeros(2, 3, size.height, size.width, dtype=torch.uint8)}
    axes = {"images": "pictures"}
    if not isinstance(model, PairModel):
        names = ["vectors", *(places_outputs(places) if places else ())]
        return [_Plan("embedder", EmbedderGraph(model, size, places), images, axes, names)]
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
        _Plan("encoder", encoder, images, axes, list(encoded)),
        _Plan("scorer", scorer, maps, sides, ["logits"]),
    ]


def _trace(plan: _Plan) -> Any:
    """Export a plan to a ModelProto."""
    counts = {axis: torch.export.Dim(axis) for axis in plan.axes.values()}
    shapes: tuple[Any, ...] = tuple({0: counts[plan.axes[name]]} for name in plan.inputs)
    if plan.kind == "scorer":
        shapes = (shapes,)  # its forward takes all as one argument, *inputs
    with _quiet():
        try:
            # Called directly, torch.onnx.export would retry a failure with fixed numbers of pictures.
            program = torch.export.export(
                plan.graph.eval(), tuple(plan.inputs.values()), dynamic_shapes=shapes, strict=False
            )
            written = torch.onnx.export(
                program,
                input_names=list(plan.inputs),
                output_names=plan.outputs,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # torch raises many kinds of errors
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise InputError(
                f"the {plan.kind} cannot be exported to ONNX",
                f"{type(cause).__name__}: {one_line(cause)[:300]}",
            ) from error
    assert written is not None
    return written.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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


def _describe(proto: Any, plan: _Plan, tool: Embedder | Matcher) -> Any:
    """Add the model card as metadata, and remove the exporter's notes about our source code."""
    for function in (proto.graph, *proto.functions):
        del function.metadata_props[:]
        for part in (*function.node, *function.value_info):
            part.doc_string = ""
            del part.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    name = next(name for name, kind in MODELS.items() if type(tool.model) is kind)
    size = tool.input
    card = {
        WRITER: __version__,
        "kind": plan.kind,
        "model": name,
        "fingerprint": tool.fingerprint,
        "output": plan.outputs[0],
        "height": str(size.height),
        "width": str(size.width),
        "mean": json.dumps(size.mean),
        "std": json.dumps(size.std),
        "licence": _LICENCE,
        "responsible_use": _RESPONSIBLE_USE,
    }
    if plan.kind == "scorer":
        card["input"] = "outputs of the encoder, for any number of queries and of candidates"
        proto.doc_string = (
            f"{name}: logits (queries, candidates) that a pair shows the same person; the sigmoid is the "
            "probability."
        )
    else:
        card["input"] = (
            f"uint8 RGB (N, 3, {size.height}, {size.width}), any N, resized bilinearly with antialiasing; "
            "the graph applies mean and std"
        )
        card["dimension"] = str(tool.dimension)
        if len(plan.outputs) > 1 and isinstance(tool, Embedder) and tool.places is not None:
            card[PLACES_CARD] = places_card(tool.places, tool.fingerprint)
        proto.doc_string = (
            f"{name}: pictures of people to L2-normalised vectors; the inner product is the cosine."
        )
    _write_card(proto, card)
    card[SEAL] = seal(proto)
    _write_card(proto, card)
    return proto


def _write_card(proto: Any, card: dict[str, str]) -> None:
    del proto.metadata_props[:]
    for key, value in card.items():
        proto.metadata_props.add(key=key, value=value)


def _check(proto: Any) -> None:
    """Run ONNX's checker, and check that no operator is used that common runtimes lack."""
    importlib.import_module("onnx").checker.check_model(proto, full_check=True)
    odd = {node.op_type for node in proto.graph.node} & {"DFT", "STFT"}
    assert not odd, f"the folded form has no {odd}"


def compare(reference: Embedder | Matcher, files: list[Path]) -> tuple[float, float]:
    """Compare exported files with their model; returns difference and agreement as in `ExportReport`."""
    pictures = [
        draw(person, camera=shot, shot=0, height=reference.height, width=reference.width)
        for person in range(_PEOPLE)
        for shot in range(_SHOTS)
    ]
    embedder = load_onnx(files[0], device="cpu")
    expected, found = reference.embed(pictures), embedder.embed(pictures)
    difference = float(np.abs(expected - found).max())
    if isinstance(reference, Embedder) and reference.places is not None:
        scores, probabilities = (
            one.needed_matcher().score(pictures, pictures) for one in (reference, embedder)
        )
        difference = max(difference, float(np.abs(scores - probabilities).max()))
    if not isinstance(reference, Matcher):
        return difference, _agreement(expected @ expected.T, found @ found.T)
    scores = reference.score(pictures, pictures)
    images = embedder.batch([embedder.pixels(picture) for picture in pictures]).contiguous().numpy()
    logits = run_scorer(files[1], embedder.model.session, images)
    probabilities = torch.from_numpy(logits).sigmoid().numpy()
    difference = max(difference, float(np.abs(scores - probabilities).max()))
    return difference, _agreement(scores, probabilities)


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


def _agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """The share of ranks with the same picture in the rankings by two score matrices (N, N)."""
    rankings = []
    for scores in (expected, found):
        scores = scores.copy()
        np.fill_diagonal(scores, -np.inf)
        rankings.append(np.argsort(-scores, axis=1, kind="stable")[:, :-1])
    return float((rankings[0] == rankings[1]).mean())
