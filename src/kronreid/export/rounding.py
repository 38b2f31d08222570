"""Rounding of weights to int8 so that the mean output of every channel stays as it was.

Rounding changes a channel's output by the sum of (rounded - weight) · input. Inputs after a ReLU are
positive, and some hardly change from picture to picture, so the errors do not cancel: they shift the whole
channel. In a depthwise convolution, whose nine weights often nearly cancel themselves, one layer's shift can
spoil the vectors (MobileNetV2: a mean cosine of 0.56 from the first one alone). Two steps remove it. Some
weights are rounded to their other neighbour, so that the sum over mean inputs is almost zero. What is left of
it goes into the bias (bias correction of Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", 2019, with measured means).
"""

import copy
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Operators with weights.
WEIGHTED = {"Conv", "Gemm", "MatMul"}
#: The largest absolute weight in int8. 64 leaves a bit free, see `kronreid.export.int8`.
LARGEST = 64


@dataclass(frozen=True)
class _Layer:
    """A layer with weights.

    Attributes:
        node: Its node.
        weight: The name of its weight.
        turned: Whether the first axis of the weight is that of the inputs.
        groups: Groups of its channels.
    """

    node: Any
    weight: str
    turned: bool
    groups: int


def round_weights(proto: Any, names: Sequence[str], batches: Sequence[dict[str, np.ndarray]]) -> None:
    """Round the weights of some layers of a graph to numbers that int8 can hold, and correct their biases.

    Args:
        proto: The ModelProto, which is changed.
        names: The names of the layers; nodes without constant weights are left as they are.
        batches: Inputs of the graph by name, which show the mean inputs of the layers.
    """
    arrays = importlib.import_module("onnx.numpy_helper")
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    uses = [name for node in proto.graph.node for name in node.input]
    layers = [
        layer
        for layer in map(_layer, (node for node in proto.graph.node if node.name in set(names)))
        if layer is not None and layer.weight in tensors and uses.count(layer.weight) == 1
    ]
    sizes = {layer.node.input[0]: _inputs(layer, tensors[layer.weight].dims) for layer in layers}
    means = _mean_inputs(proto, sizes, batches)
    for layer in layers:
        weight = arrays.to_array(tensors[layer.weight]).astype(np.float64)
        weight = weight.T if layer.turned else weight
        rows = weight.reshape(len(weight), -1)
        mean = _per_weight(means[layer.node.input[0]], weight.shape, layer.groups)
        rounded = rounded_rows(rows, mean)
        shift = ((rounded - rows) * mean).sum(axis=1)
        rounded = rounded.reshape(weight.shape)
        rounded = np.ascontiguousarray(rounded.T if layer.turned else rounded, dtype=np.float32)
        tensors[layer.weight].CopyFrom(arrays.from_array(rounded, layer.weight))
        bias = layer.node.input[2] if len(layer.node.input) > 2 else ""
        if bias in tensors and uses.count(bias) == 1:
            corrected = arrays.to_array(tensors[bias]) - shift
            tensors[bias].CopyFrom(arrays.from_array(corrected.astype(np.float32), bias))


def rounded_rows(rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Round each row to multiples of its largest absolute number / `LARGEST`, to one of the two neighbours.

    Args:
        rows: (N, K) float64, the weights of N output channels.
        means: (N, K) float64, the mean inputs that they multiply.

    Returns:
        (N, K) float64. The sums (rounded - rows) · means are close to zero.
    """
    step = np.abs(rows).max(axis=1, keepdims=True) / LARGEST
    step[step == 0] = 1
    scaled = rows / step
    nearest = np.round(scaled)
    error = nearest - scaled
    total = (error * means).sum(axis=1, keepdims=True)
    change = -np.sign(error) * means  # of the total, if a weight is rounded to its other neighbour
    change[change * total >= 0] = 0
    order = np.argsort(-np.abs(error) * (change != 0), axis=1)  # the ones nearest to the middle first
    totals = total + np.cumsum(np.take_along_axis(change, order, axis=1), axis=1)
    best = np.abs(np.concatenate([total, totals], axis=1)).argmin(axis=1)  # how many are changed
    changed = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(changed, order, np.arange(rows.shape[1]) < best[:, None], axis=1)
    return (nearest - np.sign(error) * (changed & (change != 0))) * step


def _layer(node: Any) -> _Layer | None:
    """The node as a layer; None if it has no weights, or multiplies them in another way."""
    if node.op_type not in WEIGHTED:
        return None
    numbers = {one.name: one.f if one.type == 1 else one.i for one in node.attribute}
    if node.op_type == "Gemm" and (
        numbers.get("transA", 0) or numbers.get("alpha", 1) != 1 or numbers.get("beta", 1) != 1
    ):
        return None
    turned = node.op_type == "MatMul" or (node.op_type == "Gemm" and not numbers.get("transB", 0))
    return _Layer(node, node.input[1], turned, int(numbers.get("group", 1)))


def _inputs(layer: _Layer, shape: Sequence[int]) -> tuple[int, bool]:
    """The number of input channels, and whether they are the last axis of the input."""
    if layer.node.op_type == "Conv":
        return shape[1] * layer.groups, False
    return shape[0 if layer.turned else 1], True


def _per_weight(mean: np.ndarray, shape: tuple[int, ...], groups: int) -> np.ndarray:
    """The mean inputs (C,) of a layer, as many for each output channel as it has weights."""
    per_group = np.repeat(mean.reshape(groups, -1), shape[0] // groups, axis=0)  # (outputs, inputs)
    return np.repeat(per_group, int(np.prod(shape[2:])), axis=1)


def _mean_inputs(
    proto: Any, sizes: dict[str, tuple[int, bool]], batches: Sequence[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The mean (C,) of each channel of some tensors.

    Args:
        proto: The ModelProto.
        sizes: The tensors by name, with the number of channels and whether they are the last axis.
        batches: Inputs of the graph by name.
    """
    onnx, runtime = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    make, watched = onnx.helper, copy.deepcopy(proto)
    del watched.graph.output[:]
    outputs = []
    for number, (name, (channels, last)) in enumerate(sizes.items()):
        shape, axes = (f"mean.{number}.{part}" for part in ("shape", "axes"))
        rows, mean = (f"mean.{number}.{part}" for part in ("rows", "mean"))
        split = [-1, channels] if last else [0, channels, -1]
        reduced = [0] if last else [0, 2]
        for constant, values in ((shape, split), (axes, reduced)):
            array = onnx.numpy_helper.from_array(np.array(values, dtype=np.int64), constant)
            watched.graph.initializer.append(array)
        watched.graph.node.append(make.make_node("Reshape", [name, shape], [rows]))
        watched.graph.node.append(make.make_node("ReduceMean", [rows, axes], [mean], keepdims=0))
        watched.graph.output.append(make.make_tensor_value_info(mean, onnx.TensorProto.FLOAT, [channels]))
        outputs.append(mean)
    if not outputs:
        return {}
    session = runtime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    counts = [len(next(iter(batch.values()))) for batch in batches]
    found = [session.run(outputs, batch) for batch in batches]
    return {
        name: np.average(np.stack(values).astype(np.float64), axis=0, weights=counts)
        for name, values in zip(sizes, zip(*found))
    }
