"""Tiny ONNX files whose outputs are constants, as networks of each family would give them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Height and width of the input.
SIZE = (64, 96)
CELLS = sum((SIZE[0] // stride) * (SIZE[1] // stride) for stride in (8, 16, 32))


def write_graph(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    shape: Sequence[Any] = (1, 3, *SIZE),
    kind: int = TensorProto.FLOAT,
    others: Mapping[str, tuple[int, Sequence[Any]]] | None = None,
    nodes: Sequence[Any] = (),
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a graph.

    Args:
        path: The file.
        outputs: Its outputs; those of `nodes` are given for their shapes only.
        shape, kind: The input ``image``.
        others: More inputs: the type and the shape by name.
        nodes: Nodes that compute outputs from the input; all other outputs are constants.
        metadata: Metadata of the file.
    """
    computed = {name for node in nodes for name in node.output}
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.ascontiguousarray(value)))
        for name, value in outputs.items()
        if name not in computed
    ]
    inputs = [helper.make_tensor_value_info("image", kind, shape)]
    inputs += [helper.make_tensor_value_info(name, *one) for name, one in (others or {}).items()]
    graph = helper.make_graph(
        [*constants, *nodes],
        "detector",
        inputs,
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in outputs.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path))
    return path


def outputs_of(
    family: str, boxes: np.ndarray, scores: np.ndarray, person: int, classes: int
) -> dict[str, Any]:
    """The outputs of a network of a family that finds people.

    Args:
        family: The family.
        boxes: (N, 4) centre, width and height as shares of the input.
        scores: (N,).
        person: The class of people.
        classes: The number of classes.
    """
    pixels = boxes * (SIZE[1], SIZE[0], SIZE[1], SIZE[0])
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    count = len(boxes)
    one_hot = np.zeros((count, classes))
    one_hot[:, person] = 1
    if family in ("yolox", "yolox-decoded", "yolov5", "yolov8"):
        rows = np.zeros(
            (CELLS * (3 if family == "yolov5" else 1), (4 if family == "yolov8" else 5) + classes)
        )
        rows[:, :4] = far_cells(len(rows)) if family != "yolox" else 0
        rows[:count, :4] = pixels if family != "yolox" else _raw(pixels)
        if family == "yolov8":
            rows[:count, 4:] = one_hot * scores[:, None]
            return {"output0": rows.T[None].astype(np.float32)}
        rows[:count, 4], rows[:count, 5:] = scores, one_hot
        return {"output": rows[None].astype(np.float32)}
    if family == "fastestdet":
        return {"758": _fastest(boxes, scores, one_hot)[None].astype(np.float32)}
    if family in ("end2end", "end2end-7"):
        columns = [corners * np.tile(SIZE[::-1], 2), scores[:, None], np.full((count, 1), person)]
        if family == "end2end":
            return {"output0": np.concatenate(columns, axis=1)[None].astype(np.float32)}
        columns = [np.zeros((count, 1)), columns[0], columns[2], columns[1]]
        return {"output": np.concatenate(columns, axis=1).astype(np.float32)}
    logits = np.where(one_hot > 0, _logit(scores)[:, None], -9.0)
    if family == "detr":  # the last class is none, softmax
        logits = np.full((count, classes), -30.0)
        logits[:, person], logits[:, -1] = np.log(scores), np.log(1 - scores)
    if family in ("detr", "rt-detr"):
        return {"logits": logits[None].astype(np.float32), "pred_boxes": boxes[None].astype(np.float32)}
    if family == "queries":
        rows = np.concatenate([boxes, one_hot * scores[:, None]], axis=1)
        return {"output0": rows[None].astype(np.float32)}
    if family == "ssd":
        table = (one_hot * scores[:, None])[None].astype(np.float32)
        return {"scores": table, "boxes": corners[None].astype(np.float32)}
    labels = np.full(count, person)
    if family == "boxes-pixels":
        found = (corners * np.tile(SIZE[::-1], 2)).astype(np.float32)
        return {"boxes": found, "labels": labels, "scores": scores.astype(np.float32)}
    assert family == "tensorflow"
    return {
        "detection_boxes": corners[:, [1, 0, 3, 2]][None].astype(np.float32),
        "detection_classes": labels[None].astype(np.float32),
        "detection_scores": scores[None].astype(np.float32),
        "num_detections": np.array([count], np.float32),
    }


def far_cells(count: int) -> np.ndarray:
    """Boxes in pixels for cells that see nothing: spread over the input."""
    share = np.linspace(0, 1, count)[:, None]
    return np.concatenate([share * SIZE[1], share * SIZE[0], np.full((count, 2), 4.0)], axis=1)


def _raw(pixels: np.ndarray) -> np.ndarray:
    """What YOLOX gives for boxes in its first cells, which are those of stride 8 in the first row."""
    columns = SIZE[1] // 8
    assert len(pixels) < columns
    cell = np.stack([np.arange(len(pixels)), np.zeros(len(pixels))], axis=1)
    return np.concatenate([pixels[:, :2] / 8 - cell, np.log(pixels[:, 2:] / 8)], axis=1)


def _fastest(boxes: np.ndarray, scores: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    rows, columns = SIZE[0] // 16, SIZE[1] // 16
    output = np.zeros((5 + one_hot.shape[1], rows, columns))
    output[6:] = 0.0
    output[5 + one_hot.shape[1] - 1] = 1.0  # all other cells see the last class
    for (x, y, width, height), score, classes in zip(boxes, scores, one_hot):
        column, row = min(int(x * columns), columns - 1), min(int(y * rows), rows - 1)
        offset = [math.atanh(x * columns - column), math.atanh(y * rows - row)]
        output[:, row, column] = [score ** (1 / 0.6), *offset, *_logit(np.array([width, height])), *classes]
    return output


def _logit(share: np.ndarray) -> np.ndarray:
    return np.log(share / (1 - share))
