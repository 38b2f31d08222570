"""The motion detector: what differs from the background of a fixed camera, cut into people.

It needs no weights. It finds people who move, also many who stop for a while, and takes all else that moves
for people as well. While it runs, it learns how tall people are at each place of the frame
(`kronreid.cameras.detectors.ground`).
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from kronreid.cameras.detectors import Detections
from kronreid.cameras.detectors.ground import Blob, Ground
from kronreid.options import Positive, Share

#: Frames are scaled down to at most this height.
HEIGHT = 360
#: Someone who stops becomes part of the background after about this many frames.
HISTORY = 500
#: The share of the time that a colour has been seen at a place before it is background.
BACKGROUND = 0.7
#: If more of a frame differs, the light has changed or the camera has moved.
CHANGED = 0.7
#: A person's width is about this share of the height; what is twice as wide is two people.
WIDTH = 0.4
#: Two people are told apart if so few pixels differ between them, as a share of those of each.
VALLEY = 0.7
#: What is wider than this share of a person's height is more than one person, whatever is between.
BROAD = 0.75
#: Fragments are one person if together they are at most so high and so wide, as shares of a person's height,
#: and no further apart than the third number.
ONE_HIGH, ONE_WIDE, ONE_GAP = 1.12, 0.5, 0.12


@dataclass(frozen=True)
class MotionOptions:
    """Options of the motion detector.

    Attributes:
        min_height: The smallest height of a person, as a share of the frame's height.
        warm_up: Number of frames at the beginning that only show the background.
    """

    min_height: Share = 0.08
    warm_up: Positive = 2


class Motion:
    """Detects people as what moves in the frames of one fixed camera; see `Detector`.

    Args:
        options: The options.
    """

    def __init__(self, options: MotionOptions | None = None) -> None:
        self.options = options or MotionOptions()
        self._seen = 0
        self._size: tuple[int, ...] = ()

    def __call__(self, image: np.ndarray) -> Detections:
        """See `Detector`."""
        if image.shape != self._size:  # the first frame, or the camera changed its resolution
            self._start(image.shape)
        scale, size = _scaled(image.shape)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        self._seen += 1
        differs = self._background.apply(small, learningRate=max(1 / (10 * self._seen), 1 / HISTORY))
        if self._seen <= self.options.warm_up:
            return _detections([], [], 1.0)
        mask = _cleaned((differs == 255).astype(np.uint8))
        if mask.mean() > CHANGED:
            self._start(image.shape)
            return _detections([], [], 1.0)
        people, scores = [], []
        for box in _merged(_blobs(mask), self._ground):
            for person in _split(box, mask, self._ground):
                left, top, width, height = person
                if height < self.options.min_height * size[1] or height < width / 1.5:
                    continue
                people.append(person)
                scores.append(min(0.4 + float(mask[top : top + height, left : left + width].mean()), 1.0))
        self._ground.learn(people)
        return _detections([self._ground.completed(person) for person in people], scores, scale)

    def _start(self, shape: tuple[int, ...]) -> None:
        """Forget the background, and how tall people are."""
        self._seen, self._size = 0, shape
        width, height = _scaled(shape)[1]
        self._ground = Ground(height, width)
        self._background = cv2.createBackgroundSubtractorMOG2(HISTORY, varThreshold=16, detectShadows=True)
        self._background.setBackgroundRatio(BACKGROUND)


def _scaled(shape: tuple[int, ...]) -> tuple[float, tuple[int, int]]:
    """How far frames are scaled down, and their width and height then."""
    scale = min(HEIGHT / shape[0], 1.0)
    return scale, (max(round(shape[1] * scale), 1), max(round(shape[0] * scale), 1))


def _detections(boxes: list[Blob], scores: list[float], scale: float) -> Detections:
    found = np.array(boxes, np.float32).reshape(-1, 4) / scale
    return Detections(found, np.array(scores, np.float32))


def _cleaned(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W) of 0 and 1 without specks, whose parts that are close to each other touch."""
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    unit = max(mask.shape[0] // 72, 1)
    return cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((2 * unit + 1, unit + 1), np.uint8))


def _blobs(mask: np.ndarray) -> list[Blob]:
    """The boxes of the connected parts of a mask: left, top, width, height."""
    _, _, found, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    least = mask.size / 20_000
    return [(int(x), int(y), int(w), int(h)) for x, y, w, h, area in found[1:] if area >= least]


def _merged(blobs: list[Blob], ground: Ground) -> list[Blob]:
    """Boxes in which the fragments of one person are joined: one above the other, one inside another, or all
    that are together as large as a person there."""
    boxes = sorted(blobs, key=lambda box: -box[2] * box[3])
    joined = True
    while joined:
        joined = False
        for number, one in enumerate(boxes):
            other = next((other for other in boxes[number + 1 :] if _same_person(one, other, ground)), None)
            if other is not None:
                boxes[number] = _union(one, other)
                boxes.remove(other)
                joined = True
                break
    return boxes


def _same_person(one: Blob, other: Blob, ground: Ground) -> bool:
    """Whether two boxes are parts of one person."""
    if ground.known and _fit(one, other, ground):
        return True
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    if across < 0.5 * min(one[2], other[2]):
        return False
    gap = max(one[1], other[1]) - min(one[1] + one[3], other[1] + other[3])
    whole = _union(one, other)
    return gap < 0.15 * whole[3] and whole[3] < 5 * whole[2]


def _fit(one: Blob, other: Blob, ground: Ground) -> bool:
    """Whether two boxes are together no larger than a person who stands there."""
    _, top, width, height = _union(one, other)
    person = ground.height(top + height)
    gap = width - one[2] - other[2]
    return height <= ONE_HIGH * person and width <= ONE_WIDE * person and gap <= ONE_GAP * person


def _union(one: Blob, other: Blob) -> Blob:
    left, top = min(one[0], other[0]), min(one[1], other[1])
    right, bottom = max(one[0] + one[2], other[0] + other[2]), max(one[1] + one[3], other[1] + other[3])
    return left, top, right - left, bottom - top


def _split(box: Blob, mask: np.ndarray, ground: Ground) -> list[Blob]:
    """The people in a box: one, or several side by side, cut where the fewest pixels of a column differ.

    A box that is wide enough for two people may also show one who takes a long step. It is cut only if fewer
    pixels differ in the middle than on both sides, or if it is too wide for any step.
    """
    left, top, width, height = box
    person = _height(box, ground)
    count = round(width / (WIDTH * person))
    if count < 2:
        return [box]
    columns = mask[top : top + height, left : left + width].sum(axis=0).astype(float)
    share = width / count
    cuts = [0]
    for number in range(1, count):
        begin, end = round(share * (number - 0.35)), round(share * (number + 0.35))
        cuts.append(begin + int(columns[begin : end + 1].argmin()))
    cuts.append(width)
    tops = [columns[begin:end].max(initial=0) for begin, end in pairwise(cuts)]
    step = not ground.known or width < BROAD * person
    if count == 2 and step and columns[cuts[1]] > VALLEY * min(tops):
        return [box]
    return [part for begin, end in pairwise(cuts) if (part := _tight(left + begin, end - begin, box, mask))]


def _height(box: Blob, ground: Ground) -> float:
    """How tall the people in a box are: about as high as it is, unless one stands behind another."""
    height = box[3]
    if not ground.known:
        return height
    expected = ground.height(box[1] + height)
    if height > 1.25 * expected:
        return expected
    return max(min(expected, 1.1 * height), 0.6 * expected)


def _tight(left: int, width: int, box: Blob, mask: np.ndarray) -> Blob | None:
    """The part of a box between two columns without its empty rows."""
    rows = np.flatnonzero(mask[box[1] : box[1] + box[3], left : left + width].any(axis=1))
    if not len(rows) or not width:
        return None
    return left, box[1] + int(rows[0]), width, int(rows[-1] - rows[0]) + 1
