"""ONNX files of a model: they take uint8 pictures and contain their own description."""

import importlib
import json
from pathlib import Path
from typing import Any

from kronreid import __version__
from kronreid.export.tracing import Plan, plans, to_onnx
from kronreid.models import MODELS
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.onnx import PLACES_CARD, SEAL, WRITER, places_card, seal

_LICENCE = (
    "The weights are subject to the terms of their training data. The field's data sets are for research "
    "only, and so are weights trained on them."
)
_RESPONSIBLE_USE = (
    "This model identifies people. A high similarity is a hint for a human, never proof. Do not follow or "
    "profile people without a lawful basis. Error rates differ between groups and cameras; measure them."
)


def write_onnx(tool: Embedder | Matcher, file: Path) -> list[Path]:
    """Write the graphs of a model: one of an embedder, encoder and scorer of a matcher.

    Args:
        tool: A model of torch.
        file: The file of the embedder or the encoder, whose name ends in ``.onnx``. The scorer becomes
            ``NAME.scorer.onnx`` beside it.

    Returns:
        The written files.

    Raises:
        InputError: The network cannot be exported.
    """
    files = []
    for plan in plans(tool):
        proto = _describe(to_onnx(plan), plan, tool)
        _check(proto)
        files.append(file.with_name(f"{file.stem}.scorer.onnx") if plan.kind == "scorer" else file)
        files[-1].write_bytes(proto.SerializeToString())
    return files


def card_of(plan: Plan, tool: Embedder | Matcher) -> dict[str, str]:
    """The metadata of a graph: what it takes and gives, and which model it was made of."""
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
    else:
        card["input"] = (
            f"uint8 RGB (N, 3, {size.height}, {size.width}), any N, resized bilinearly with antialiasing; "
            "the graph applies mean and std"
        )
        card["dimension"] = str(tool.dimension)
        if len(plan.outputs) > 1 and isinstance(tool, Embedder) and tool.places is not None:
            card[PLACES_CARD] = places_card(tool.places, tool.fingerprint)
    return card


def _describe(proto: Any, plan: Plan, tool: Embedder | Matcher) -> Any:
    """Add the model card as metadata, and remove the exporter's notes about our source code."""
    for function in (proto.graph, *proto.functions):
        del function.metadata_props[:]
        for part in (*function.node, *function.value_info):
            part.doc_string = ""
            del part.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    card = card_of(plan, tool)
    if plan.kind == "scorer":
        proto.doc_string = (
            f"{card['model']}: logits (queries, candidates) that a pair shows the same person; the sigmoid "
            "is the probability."
        )
    else:
        proto.doc_string = (
            f"{card['model']}: pictures of people to L2-normalised vectors; the inner product is the cosine."
        )
    write_card(proto, card)
    write_card(proto, card | {SEAL: seal(proto)})
    return proto


def write_card(proto: Any, card: dict[str, str]) -> None:
    """Replace the metadata of a file."""
    del proto.metadata_props[:]
    for key, value in card.items():
        proto.metadata_props.add(key=key, value=value)


def _check(proto: Any) -> None:
    """Run ONNX's checker, and check that no operator is used that common runtimes lack."""
    importlib.import_module("onnx").checker.check_model(proto, full_check=True)
    odd = {node.op_type for node in proto.graph.node} & {"DFT", "STFT"}
    assert not odd, f"the folded form has no {odd}"
