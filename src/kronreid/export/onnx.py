"""Write a model as ONNX, and do not believe it before it has been compared with the model."""

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

#: The set of operators: the oldest that the exporter writes without converting, which most runtimes have.
OPSET = 18

#: A graph whose numbers differ more than this from the model's is not written.
TOLERANCE = 1e-3

#: Generated people and pictures of each that an export is compared on.
_PEOPLE, _SHOTS = 16, 2

_LICENCE = (
    "The weights have the terms of what they were trained on. The field's data sets are for research only; "
    "so are weights trained on them."
)
_RESPONSIBLE_USE = (
    "This model identifies people. A high similarity is a hint for a human, never proof. Not for following "
    "or profiling people without a lawful basis; error rates differ between groups and cameras: measure them."
)


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with the model on generated pictures.

    Attributes:
        files: One for an embedder; encoder and scorer for a matcher.
        pictures: How many were compared.
        difference: Largest absolute difference of any entry of a vector, or of any pair's probability (of a
            matcher, or by an embedder's places).
        agreement: With each picture as query, the share of places in the rankings of the others that both
            give to the same picture.
    """

    files: tuple[Path, ...]
    pictures: int
    difference: float
    agreement: float


def export_onnx(tool: Embedder | Matcher, file: str | Path, progress: bool = False) -> ExportReport:
    """Write a model as ONNX.

    An embedder becomes one graph, ``images`` → ``vectors``, and with places their projected maps beside them,
    which `kronreid.load` re-ranks with. A matcher becomes two: `file`, ``images`` →
    ``pooled`` and each scale's maps, and ``NAME.scorer.onnx`` beside it, maps of queries and of candidates →
    ``logits`` (Q, G). Any number of pictures goes through at once. The files are in place only when they
    have passed ONNX's checker and the comparison; without, what was there stays.

    Args:
        tool: What `kronreid.load` gave.
        file: Where to, a name ending in ``.onnx``.
        progress: Show a bar.

    Raises:
        InputError: The packages are missing, the name is wrong, the backbone cannot be exported, or the
            graph's numbers are not the model's.

    Example:
        >>> export_onnx(kronreid.load("runs/horeid"), "horeid.onnx").difference
    """
    file = Path(file)
    if isinstance(tool, OnnxEmbedder):
        raise InputError(tool.path, "is an ONNX file already")
    if file.suffix != ".onnx" or not file.parent.is_dir():
        raise InputError(file, "a name ending in .onnx in a folder that exists is expected")
    require("kronreid export", "export")
    model = copy.deepcopy(tool.model).cpu()
    reference = wrap(model, tool.input)
    if isinstance(reference, Embedder) and isinstance(tool, Embedder):
        reference.places = tool.places
    if any(isinstance(module, CountSketch) for module in model.modules()):
        model = fold(model)  # no FFT operator: not every runtime has one
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
                f"not written: the graph's numbers differ from the model's by {difference:.2g}, more "
                f"than {TOLERANCE}; its backbone does not export",
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
        inputs: Examples of its inputs by name.
        axes: What the first axis of each input, of any length, counts.
        outputs: Their names; the first is the result.
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
        # Two numbers of pictures, or the exporter would take queries and candidates to be as many.
        maps[name] = torch.cat([tensor, tensor[:1]]) if side == "candidate" else tensor
        sides[name] = "candidates" if side == "candidate" else "queries"
    return [
        _Plan("encoder", encoder, images, axes, list(encoded)),
        _Plan("scorer", scorer, maps, sides, ["logits"]),
    ]


def _trace(plan: _Plan) -> Any:
    """A plan's ModelProto."""
    counts = {axis: torch.export.Dim(axis) for axis in plan.axes.values()}
    shapes: tuple[Any, ...] = tuple({0: counts[plan.axes[name]]} for name in plan.inputs)
    if plan.kind == "scorer":
        shapes = (shapes,)  # its forward takes them as one *inputs
    with _quiet():
        try:
            # Left to itself, torch.onnx.export tries again with fixed numbers of pictures when this fails.
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
        except Exception as error:  # torch raises many kinds
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
    """Without the exporter's remarks about itself."""
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
    """The proto with its model card as metadata, and without the exporter's notes on our source code."""
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
        card["input"] = "maps and weights as the encoder gives them; any number of queries and of candidates"
        proto.doc_string = (
            f"{name}: logits (queries, candidates) of showing the same person; sigmoid: probability."
        )
    else:
        card["input"] = (
            f"uint8 RGB (N, 3, {size.height}, {size.width}), any N; scaled bilinearly with antialiasing. "
            "mean and std are applied inside"
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
    """ONNX's own checker, and no operator that a common runtime lacks."""
    importlib.import_module("onnx").checker.check_model(proto, full_check=True)
    odd = {node.op_type for node in proto.graph.node} & {"DFT", "STFT"}
    assert not odd, f"the folded form has no {odd}"


def compare(reference: Embedder | Matcher, files: list[Path]) -> tuple[float, float]:
    """Largest difference and agreement of rankings, as in `ExportReport`, of files to their model."""
    pictures = [
        draw(person, camera=shot, shot=0, height=reference.height, width=reference.width)
        for person in range(_PEOPLE)
        for shot in range(_SHOTS)
    ]
    embedder = load_onnx(files[0], device="cpu")
    expected, found = reference.embed(pictures), embedder.embed(pictures)
    difference = float(np.abs(expected - found).max())
    if isinstance(reference, Embedder) and reference.matcher and embedder.matcher:
        scores, probabilities = (one.matcher.score(pictures, pictures) for one in (reference, embedder))
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
    """Logits (N, N) of every picture against every one, by an exported matcher's two graphs."""
    runtime = importlib.import_module("onnxruntime")
    names = [output.name for output in encoder.get_outputs()]
    encoded = dict(zip(names, encoder.run(names, {"images": images})))
    scorer = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    rows = []
    for row in range(len(images)):  # one by one: the inner products of all with all would fill the memory
        inputs = {}
        for one in scorer.get_inputs():
            side, _, name = one.name.partition("_")
            inputs[one.name] = encoded[name][row : row + 1] if side == "query" else encoded[name]
        rows.append(scorer.run(None, inputs)[0])
    return np.concatenate(rows)


def _agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """The share of places that hold the same picture in the rankings by two score matrices (N, N)."""
    rankings = []
    for scores in (expected, found):
        scores = scores.copy()
        np.fill_diagonal(scores, -np.inf)
        rankings.append(np.argsort(-scores, axis=1, kind="stable")[:, :-1])
    return float((rankings[0] == rankings[1]).mean())
