"""The motion detector on drawn people who walk in front of a wall."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from kronreid.cameras.detectors import Detections
from kronreid.cameras.detectors.boxes import overlaps
from kronreid.cameras.detectors.motion import Motion, MotionOptions
from kronreid.data.generated.figure import draw_person
from kronreid.data.generated.person import make_person
from kronreid.data.generated.stage import Pose

SIZE = (320, 180)


@dataclass(frozen=True)
class Walk:
    """Someone who walks: who, where the feet are at the first frame, pixels per frame, and the height."""

    seed: int
    x: float
    y: float
    speed: float
    height: float
    first: int = 5


def wall(noise: int, size: tuple[int, int] = SIZE) -> Image.Image:
    random = np.random.default_rng(7)
    grey = random.integers(110, 170, (size[1] // 20, size[0] // 20, 3)).astype(np.uint8)
    image = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)
    grain = np.random.default_rng(noise).normal(0, 3, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def video(walks: Sequence[Walk], frames: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames, and the true boxes (N, 4) of the people in each: left, top, right, bottom."""
    for number in range(frames):
        image, boxes = wall(number), []
        for walk in walks:
            if number < walk.first:
                continue
            foot = walk.x + walk.speed * (number - walk.first), walk.y
            pose = Pose(math.copysign(math.pi / 2, walk.speed or 1), number / 2, 0.4, 0, 0.1, 1)
            before = np.asarray(image).copy()
            draw_person(ImageDraw.Draw(image, "RGBA"), make_person(walk.seed, 0), pose, foot, walk.height)
            y, x = np.nonzero((np.asarray(image) != before).any(axis=2))
            if len(x):
                boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
        yield np.asarray(image), np.array(boxes, float).reshape(-1, 4)


def corners(found: Detections) -> np.ndarray:
    return np.concatenate([found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]], axis=1)


def rates(walks: Sequence[Walk], frames: int) -> tuple[float, float]:
    """Recall and precision, at an intersection over union of 0.6."""
    detector = Motion()
    people = found = right = 0
    for image, boxes in video(walks, frames):
        detections = detector(image)
        union, _ = overlaps(boxes, corners(detections))
        people += len(boxes)
        found += len(detections)
        right += int((union.max(axis=1, initial=0) >= 0.6).sum())
    return right / people, right / max(found, 1)


def test_walking_people_are_found() -> None:
    recall, precision = rates([Walk(1, 20, 120, 6, 80), Walk(2, 300, 170, -7, 110, 9)], 25)
    assert recall >= 0.8
    assert precision >= 0.8


def test_people_side_by_side_are_told_apart() -> None:
    recall, precision = rates([Walk(3, 40, 150, 5, 100), Walk(4, 85, 150, 5, 100)], 25)
    assert recall >= 0.8
    assert precision >= 0.8


def test_someone_who_stops_stays_for_a_while() -> None:
    detector = Motion()
    frames = list(video([Walk(5, 150, 150, 0, 100)], 45))
    found = [len(detector(image)) for image, _ in frames]
    assert found[:5] == [0] * 5
    assert found[6:] == [1] * 39


def test_nobody_is_found_where_nothing_moves() -> None:
    detector = Motion()
    assert [len(detector(np.asarray(wall(number)))) for number in range(15)] == [0] * 15


def test_light_that_changes_is_nobody() -> None:
    detector = Motion()
    for number in range(10):
        detector(np.asarray(wall(number)))
    for number in range(10, 20):
        bright = np.clip(np.asarray(wall(number)).astype(int) + 60, 0, 255).astype(np.uint8)
        assert len(detector(bright)) == 0


@pytest.mark.parametrize("scale", [0.5, 2.5])
def test_boxes_are_in_pixels_of_the_frame(scale: float) -> None:
    detector = Motion()
    size = (round(SIZE[0] * scale), round(SIZE[1] * scale))
    frames = list(video([Walk(6, 60, 150, 6, 110)], 15))
    boxes = frames[-1][1]
    for image, _ in frames:
        found = detector(cv2.resize(image, size))
        assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
    union, _ = overlaps(boxes * scale, corners(found))
    assert union.max() >= 0.6
    assert ((found.scores > 0) & (found.scores <= 1)).all()


def test_a_camera_that_changes_its_resolution_begins_again() -> None:
    detector = Motion()
    for number in range(5):
        detector(np.asarray(wall(number)))
    for number in range(5):
        assert len(detector(np.asarray(wall(number, (400, 240))))) == 0


def test_the_least_height_and_the_warm_up() -> None:
    walks = [Walk(7, 60, 150, 6, 60)]
    small = Motion(MotionOptions(min_height=0.5))
    late = Motion(MotionOptions(warm_up=15))
    for number, (image, _) in enumerate(video(walks, 20)):
        assert len(small(image)) == 0
        found = late(image)
        assert len(found) == (1 if number >= 15 else 0), number
