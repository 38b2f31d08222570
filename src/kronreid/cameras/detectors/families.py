"""Families of detection networks: how their pictures are prepared, and what their outputs mean.

A family is recognised by the shapes of the outputs. A network of 640 × 640 that sees boxes at strides 8, 16
and 32 has 8,400 cells, so (8400, 85) is YOLOX with 80 classes, and (84, 8400) is of the style of YOLOv8.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

#: Outputs by name, of one picture, without the axis of the batch.
Outputs: TypeAlias = Mapping[str, np.ndarray]
#: Boxes (N, 4), left, top, right and bottom as shares of the network's input, and scores (N,).
Found: TypeAlias = tuple[np.ndarray, np.ndarray]
Triple: TypeAlias = tuple[float, float, float]
#: How a picture is brought to the input's size: stretched, or scaled and put in the middle or in the corner.
Fit: TypeAlias = Literal["stretch", "middle", "corner"]
FamilyName: TypeAlias = Literal[
    "fastestdet", "yolox", "yolov5", "yolov8", "end2end", "detr", "queries", "ssd", "boxes"
]

IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: What is understood, for messages.
UNDERSTOOD = (
    "FastestDet (1, 5 + classes, rows, columns); YOLOX and YOLOv5 (1, cells, 5 + classes); YOLOv8 "
    "(1, 4 + classes, cells); with NMS inside (1, N, 6) or (N, 7); DETR and RT-DETR (1, N, classes) and "
    "(1, N, 4); SSD, boxes (1, N, 4) with scores (1, N, classes), or with scores and labels (1, N)"
)


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        name: Its name.
        person: The class of people.
        fit: How a picture is brought to the input's size.
        bgr: Whether the network takes BGR.
        scale: What a pixel of 255 becomes.
        mean: Subtracted afterwards, by colour.
        std: The divisor afterwards.
    """

    name: FamilyName
    person: int = 0
    fit: Fit = "middle"
    bgr: bool = False
    scale: float = 1.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    def read(self, outputs: Outputs, size: tuple[int, int]) -> Found:
        """The people in a picture, by the network's outputs.

        Args:
            outputs: The outputs for one picture.
            size: Height and width of the network's input.
        """
        return _READERS[self.name](outputs, size, self.person)


def cells(size: tuple[int, int], strides: tuple[int, ...] = (8, 16, 32)) -> int:
    """The number of cells of a network's grids."""
    return sum(math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in strides)


def recognise(outputs: Outputs, size: tuple[int, int], sized: bool = False) -> Family | None:
    """The family of a network; None if its outputs are not understood.

    Args:
        outputs: Its outputs for one picture.
        size: Height and width of its input.
        sized: Whether it also takes the size of the picture, as exports of RT-DETR with their own last step.
    """
    if len(outputs) == 1:
        return _of_one(next(iter(outputs.values())), size)
    try:
        parts = _parts(outputs)
    except LookupError:
        return None
    if parts.labels is not None:
        return Family("boxes", fit="stretch", person=0 if sized else 1)
    classes = parts.scores.shape[1]
    if parts.scores.min() < 0 or parts.scores.max() > 1:  # logits
        family = Family("detr", fit="stretch", person=1 if classes in (91, 92) else 0)
        return replace(family, mean=IMAGENET[0], std=IMAGENET[1]) if family.person else family
    return Family("ssd", fit="stretch", person=1 if classes in (2, 21, 81, 91) else 0)


def _of_one(output: np.ndarray, size: tuple[int, int]) -> Family | None:
    """The family of a network with one output."""
    if output.ndim == 3:
        square = output.shape[1:] in {(size[0] // s, size[1] // s) for s in (8, 16, 32)}
        return Family("fastestdet", fit="stretch", bgr=True) if output.shape[0] >= 6 and square else None
    if output.ndim != 2:
        return None
    rows, columns = output.shape
    known = {cells(size), cells(size, (8, 16, 32, 64))}
    if columns >= 6 and rows in known:
        return Family("yolox", fit="corner", bgr=True, scale=255.0)
    if columns >= 6 and rows in {3 * one for one in known}:
        return Family("yolov5")
    if rows >= 5 and columns in known:
        return Family("yolov8")
    if columns == 7 or (columns == 6 and rows > 1):
        return Family("end2end")
    if columns >= 5 and 1 < rows <= 1000:
        return Family("queries", fit="stretch")
    return None


@dataclass(frozen=True)
class _Parts:
    """Several outputs: boxes (N, 4), and scores (N,) with labels (N,), or scores (N, classes)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray | None


def _parts(outputs: Outputs) -> _Parts:
    """Sort outputs by their shapes, types and names.

    Raises:
        LookupError: They are not of this kind.
    """
    boxes = _first({name: one for name, one in outputs.items() if one.ndim == 2 and one.shape[1] == 4}, "box")
    count = len(boxes)
    rest = {name: one for name, one in outputs.items() if one is not boxes and one.ndim and len(one) == count}
    flat = {name: one.reshape(count) for name, one in rest.items() if one.size == count}
    if len(flat) >= 2:
        whole = {name: one for name, one in flat.items() if _is_label(name, one)}
        labels = _first(whole, "label", "class")
        scores = _first({name: one for name, one in flat.items() if one is not labels}, "score", "conf")
        return _Parts(boxes, scores.astype(float), labels)
    tables = {name: one for name, one in rest.items() if one.ndim == 2}
    return _Parts(boxes, _first(tables, "logit", "score", "class", "label").astype(float), None)


def _is_label(name: str, values: np.ndarray) -> bool:
    if any(word in name.lower() for word in ("label", "class", "cls")):
        return True
    return values.dtype.kind in "iu"


def _first(outputs: Outputs, *words: str) -> np.ndarray:
    """The output whose name has one of the words, otherwise the first one."""
    named = [one for word in words for name, one in outputs.items() if word in name.lower()]
    if not outputs:
        raise LookupError
    return named[0] if named else next(iter(outputs.values()))


# ── what the outputs of each family mean ────────────────────────────────────────────────────────────────


def _fastestdet(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """Each cell has a score, the offsets and the size of a box, and the classes' shares."""
    (output,) = outputs.values()
    rows, columns = output.shape[1:]
    y, x = np.mgrid[:rows, :columns]
    classes = output[5:]
    scores = np.clip(output[0], 0, 1) ** 0.6 * classes[person] ** 0.4
    centres = (np.tanh(output[1]) + x) / columns, (np.tanh(output[2]) + y) / rows
    boxes = _corners(np.stack([*centres, _sigmoid(output[3]), _sigmoid(output[4])], axis=-1))
    is_person = classes.argmax(axis=0) == person
    return boxes[is_person], scores[is_person]


def _yolox(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """Offsets in cells and logarithms of sizes, unless the export has turned them into pixels already."""
    (output,) = outputs.values()
    boxes = output[:, :4].astype(np.float64)
    strides = (8, 16, 32) if len(output) == cells(size) else (8, 16, 32, 64)
    if np.abs(boxes[:, :2]).max() < max(size) / 4:  # the last cell lies at the far corner
        grids = []
        for stride in strides:
            y, x = np.mgrid[: math.ceil(size[0] / stride), : math.ceil(size[1] / stride)]
            grids.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
        grid = np.concatenate(grids)
        centres = (boxes[:, :2] + grid[:, :2]) * grid[:, 2:]
        boxes = np.concatenate([centres, np.exp(np.clip(boxes[:, 2:], -20, 20)) * grid[:, 2:]], axis=1)
    return _corners(boxes) / _sides(size), output[:, 4] * output[:, 5 + person]


def _yolov5(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    (output,) = outputs.values()
    return _corners(output[:, :4]) / _sides(size), output[:, 4] * output[:, 5 + person]


def _yolov8(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    (output,) = outputs.values()
    return _corners(output[:4].T) / _sides(size), output[4 + person]


def _queries(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    (output,) = outputs.values()
    return _shares(_corners(output[:, :4]), size), output[:, 4 + person]


def _end2end(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """Left, top, right, bottom, score, class; or batch, left, top, right, bottom, class, score."""
    (output,) = outputs.values()
    if output.shape[1] == 7:
        output = output[:, [1, 2, 3, 4, 6, 5]]
    output = output[np.round(output[:, 5]) == person]
    return _shares(output[:, :4], size), output[:, 4]


def _detr(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """Logits: of 91 classes and none with DETR, otherwise each class for itself."""
    parts = _parts(outputs)
    logits = parts.scores
    if logits.shape[1] == 92:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
    else:
        scores = _sigmoid(logits)
    return _corners(parts.boxes), scores[:, person]


def _ssd(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    parts = _parts(outputs)
    return _shares(parts.boxes, size), parts.scores[:, person]


def _boxes(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """The answers of a network that sorts its boxes itself. TensorFlow's begin with the top."""
    parts = _parts(outputs)
    assert parts.labels is not None
    wanted = np.round(parts.labels) == person
    boxes = parts.boxes[wanted]
    if any(name.startswith("detection_boxes") for name in outputs):
        boxes = boxes[:, [1, 0, 3, 2]]
    return _shares(boxes, size), parts.scores[wanted]


_READERS: dict[FamilyName, Callable[[Outputs, tuple[int, int], int], Found]] = {
    "fastestdet": _fastestdet,
    "yolox": _yolox,
    "yolov5": _yolov5,
    "yolov8": _yolov8,
    "end2end": _end2end,
    "detr": _detr,
    "queries": _queries,
    "ssd": _ssd,
    "boxes": _boxes,
}


def _sides(size: tuple[int, int]) -> np.ndarray:
    return np.array([size[1], size[0], size[1], size[0]], np.float64)


def _shares(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes in pixels or in shares of the input, as shares."""
    return boxes if not len(boxes) or np.abs(boxes).max() <= 2 else boxes / _sides(size)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) from centre, width and height to left, top, right, bottom."""
    centre, half = boxes[..., :2], boxes[..., 2:4] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -60, 60)))
