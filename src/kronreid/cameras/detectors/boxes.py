"""Boxes: how much they overlap, and which of several detections of one person stays."""

import numpy as np

#: Two boxes show one person if they overlap by more than this (intersection over union), or if more than this
#: share of the smaller one lies inside the other.
OVERLAP, INSIDE = 0.45, 0.8


def overlaps(one: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How boxes overlap.

    Args:
        one: (N, 4) left, top, right, bottom.
        others: (M, 4).

    Returns:
        (N, M) intersection over union, and (N, M) intersection over the smaller area.
    """
    first = np.maximum(one[:, None, :2], others[None, :, :2])
    last = np.minimum(one[:, None, 2:], others[None, :, 2:])
    common = np.clip(last - first, 0, None).prod(axis=-1)
    areas = area(one)[:, None], area(others)[None, :]
    tiny = np.finfo(np.float32).tiny
    union = np.maximum(areas[0] + areas[1] - common, tiny)
    return common / union, common / np.maximum(np.minimum(*areas), tiny)


def area(boxes: np.ndarray) -> np.ndarray:
    """(N,) areas of boxes (N, 4): left, top, right, bottom."""
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=-1)


def best(
    boxes: np.ndarray, scores: np.ndarray, overlap: float = OVERLAP, inside: float = INSIDE
) -> np.ndarray:
    """Non-maximum suppression: the indices of the boxes that stay, the highest score first.

    Args:
        boxes: (N, 4) left, top, right, bottom.
        scores: (N,).
        overlap: The largest allowed intersection over union of two boxes.
        inside: The largest allowed share of a box that lies in another one.
    """
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        first, waiting = waiting[0], waiting[1:]
        kept.append(first)
        union, smaller = overlaps(boxes[first : first + 1], boxes[waiting])
        waiting = waiting[(union[0] <= overlap) & (smaller[0] <= inside)]
    return np.array(kept, np.int64)
