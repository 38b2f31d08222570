"""Looks: pictures of a person at single moments, how good they are, and which of many are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from kronreid.data.crops import QUALITY
from kronreid.data.records import Box

#: A crop of this height or more is large enough, in pixels.
LARGE_ENOUGH = 128
#: Variance of the Laplacian at which a crop counts as half sharp.
_HALF_SHARP = 100.0
#: What a picture that the frame's border cuts is worth.
_CUT = 0.5
#: Pictures whose cosine is above this show the same view.
_SAME_VIEW = 0.98
#: What the distance in time between two pictures adds to their difference, at most.
_TIME_COUNTS = 0.1
#: A picture of less than this share of the best one's quality is only kept if there are few.
_POOR = 0.4


@dataclass(eq=False)
class Look:
    """A person at one moment.

    Attributes:
        time: When it was taken, in seconds since 1970 (UTC).
        box: Where in the frame.
        quality: How good the picture is, 0 to 1, by size, visibility and sharpness; see `quality_of`.
        jpeg: The picture as a JPEG file.
        image: The picture, (H, W, 3) uint8 RGB, until it has been embedded.
        vector: (D,) float32, L2-normalised; None before it has been embedded.
    """

    time: float
    box: Box
    quality: float
    jpeg: bytes
    image: np.ndarray | None
    vector: np.ndarray | None = None


def take_look(image: np.ndarray, box: Box, time: float, quality: float) -> Look:
    """Cut a person out of a frame.

    Args:
        image: The frame, (H, W, 3) uint8 RGB.
        box: A box within the frame.
        time: When the frame was taken.
        quality: See `quality_of`.
    """
    left, top, width, height = box
    crop = image[top : top + height, left : left + width].copy()
    return Look(time, box, quality, b"", crop)


def encoded(image: np.ndarray, quality: int = QUALITY) -> bytes:
    """A picture (H, W, 3) uint8 RGB as a JPEG file."""
    _, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return jpeg.tobytes()


def inside(box: np.ndarray, image: np.ndarray) -> Box | None:
    """The part of a box that lies within a frame, in whole pixels; None if there is none.

    Args:
        box: (4,) left, top, width, height.
        image: The frame, (H, W, 3).
    """
    height, width = image.shape[:2]
    left, top = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    right = min(int(np.ceil(box[0] + box[2])), width)
    bottom = min(int(np.ceil(box[1] + box[3])), height)
    if right <= left or bottom <= top:
        return None
    return left, top, right - left, bottom - top


def areas_shared(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M): the area that each of N boxes shares with each of M others; left, top, width, height."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], others[None, :, :2] + others[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2)


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """(N, N): the intersection over union of each two of N boxes; 0 on the diagonal."""
    shared = areas_shared(boxes, boxes)
    areas = boxes[:, 2] * boxes[:, 3]
    found = shared / np.maximum(areas[:, None] + areas[None] - shared, 1e-9)
    np.fill_diagonal(found, 0)
    return found


def visible_shares(boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """How much of each person can be seen, by the boxes of all.

    A person whose feet are lower in the frame stands in front of another one.

    Args:
        boxes: (N, 4) left, top, width, height.
        image: The frame, (H, W, 3).

    Returns:
        (N,) shares from 0 to 1, halved for those whom the frame's border cuts.
    """
    bottoms = boxes[:, 1] + boxes[:, 3]
    in_front = bottoms[None] > bottoms[:, None]
    shared = areas_shared(boxes, boxes) / np.maximum(boxes[:, 2] * boxes[:, 3], 1e-9)[:, None]
    visible = 1 - (shared * in_front).max(axis=1, initial=0)
    height, width = image.shape[:2]
    right = boxes[:, 0] + boxes[:, 2]
    cut = (boxes[:, 0] <= 1) | (boxes[:, 1] <= 1) | (right >= width - 1) | (bottoms >= height - 1)
    return visible * np.where(cut, _CUT, 1.0)


def quality_of(image: np.ndarray, box: Box, visible: float) -> float:
    """How good a picture of a person is: its size × its visibility² × its sharpness (which counts half).

    Args:
        image: The frame, (H, W, 3) uint8 RGB.
        box: A box within the frame.
        visible: See `visible_shares`.

    Returns:
        0 to 1.
    """
    left, top, width, height = box
    grey = cv2.cvtColor(image[top : top + height, left : left + width], cv2.COLOR_RGB2GRAY)
    scale = LARGE_ENOUGH / max(height, LARGE_ENOUGH)
    if scale < 1:
        grey = cv2.resize(grey, (max(round(width * scale), 1), LARGE_ENOUGH), interpolation=cv2.INTER_AREA)
    variance = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    sharp = variance / (variance + _HALF_SHARP)
    return min(height / LARGE_ENOUGH, 1.0) * visible**2 * (0.5 + 0.5 * sharp)


def choose(looks: Sequence[Look], most: int, least: int) -> list[Look]:
    """The best pictures of one person: good ones that show different views.

    The first is the best. Each further one has the largest product of its quality and its novelty: how far
    its vector is from those that are chosen already, and a little of how far its time is.

    Args:
        looks: With vectors.
        most: At most so many.
        least: So many, if there are, even if they are poor or show the same view.

    Returns:
        The chosen ones, the best first.
    """
    ordered = sorted(looks, key=lambda look: (-look.quality, look.time))
    if len(ordered) <= least:
        return ordered
    vectors = np.stack([look.vector for look in ordered if look.vector is not None])
    times = np.array([look.time for look in ordered])
    qualities = np.array([look.quality for look in ordered])
    apart = np.abs(times[:, None] - times[None]) / max(float(np.ptp(times)), 1e-9)
    alike = vectors @ vectors.T
    chosen = [0]
    while len(chosen) < min(most, len(ordered)):
        nearest = alike[:, chosen].max(axis=1)
        gains = qualities * (1.01 - nearest + _TIME_COUNTS * apart[:, chosen].min(axis=1))
        gains[chosen] = -1.0
        best = int(gains.argmax())
        poor = qualities[best] < _POOR * qualities[0] or nearest[best] > _SAME_VIEW
        if poor and len(chosen) >= least:
            break
        chosen.append(best)
    return [ordered[number] for number in sorted(chosen)]
