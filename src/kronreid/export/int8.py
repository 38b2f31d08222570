"""Static quantisation of an exported embedder: its backbone computes in int8, all the rest stays in float32.

Activations are uint8 with the range that the calibration pictures showed, weights are int8 with a scale for
each output channel, rounded by `kronreid.export.rounding`. HOReID's sketch, the normalisation and the
projection of places stay in float32: a product of several levels, or a division by a small norm, would
enlarge the rounding.
"""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kronreid.errors import InputError
from kronreid.export.onnx import write_card
from kronreid.export.rounding import WEIGHTED, round_weights
from kronreid.models.onnx import SEAL

#: What the names of the backbone's weights begin with.
_BACKBONE = "model.backbone."

#: Activation functions that a convolution in int8 applies while it rounds its output.
_ACTIVATIONS = {"Relu", "Clip"}

#: Pictures per pass while the ranges are measured.
_BATCH = 16


def quantise(graph: Path, file: Path, pictures: Sequence[Image.Image]) -> None:
    """Quantise the backbone of an exported embedder.

    Args:
        graph: The file of `kronreid.export.onnx.write_onnx`.
        file: Where the quantised graph is written. It has no seal, so it gets a fingerprint of its own: its
            vectors are not those of the model.
        pictures: Pictures at the network's size, which show the ranges of the activations.

    Raises:
        InputError: The backbone has nothing that can be quantised.
    """
    onnx = importlib.import_module("onnx")
    quantization = importlib.import_module("onnxruntime.quantization")
    proto = onnx.load(graph)
    names = backbone_nodes(proto.graph)
    if not names:
        raise InputError("--format int8", "this backbone has no convolutions to quantise; export float32")
    card = {entry.key: entry.value for entry in proto.metadata_props if entry.key != SEAL}
    pixels = np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])
    batches = [{"images": pixels[start : start + _BATCH]} for start in range(0, len(pixels), _BATCH)]
    round_weights(proto, names, batches)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice for graphs that are not folded yet
    try:
        quantization.quantize_static(
            proto,
            file,
            _reader(quantization, batches),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # Processors without VNNI add two products in 16 bits, which 8 bits of weights overflow.
            reduce_range=True,  # to `kronreid.export.rounding.LARGEST`
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=names,
            extra_options={"CalibMovingAverage": True},  # a single odd picture does not widen the ranges
        )
    finally:
        logging.disable(before)
    proto = onnx.load(file)
    write_card(proto, card | {"precision": "int8"})
    onnx.save(proto, file)


def backbone_nodes(graph: Any) -> list[str]:
    """The names of the backbone's layers with weights, and of the additions and activations between them."""
    makers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    found = [
        node
        for node in graph.node
        if node.op_type in WEIGHTED and any(name.startswith(_BACKBONE) for name in node.input)
    ]
    names, waiting = {node.name for node in found}, list(found)
    seen = set(names)
    while waiting:
        for name in waiting.pop().input:
            before = makers.get(name)
            if before is None or before.name in seen:
                continue
            seen.add(before.name)
            waiting.append(before)
            if before.op_type == "Add" and not constants.intersection(before.input):
                names.add(before.name)
    made = {output for node in graph.node if node.name in names for output in node.output}
    names.update(node.name for node in graph.node if node.op_type in _ACTIVATIONS and node.input[0] in made)
    return sorted(names)


def _reader(quantization: Any, batches: Sequence[dict[str, np.ndarray]]) -> Any:
    """The batches as onnxruntime's calibration reads them: one per call, None at the end."""
    waiting = iter(batches)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(waiting, None)

    return Reader()
