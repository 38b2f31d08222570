"""Streets in memory: people of two colours each walk past, and a detector that knows where they are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pytest

from kronreid.cameras.detectors import Detections
from kronreid.cameras.frames import Frame
from kronreid.data.images import as_list, open_rgb

#: Where a person is at a time: left, top, width and height; None for nowhere.
Walk: TypeAlias = Callable[[float], tuple[float, float, float, float] | None]

WIDTH, HEIGHT = 320, 180
START = 1_700_000_000.0


def walk(start: float, end: float, x: tuple[float, float], bottom: float = 170, height: float = 90) -> Walk:
    """From the first x to the second one between two times; nobody before and after."""

    def at(time: float) -> tuple[float, float, float, float] | None:
        if not start <= time < end:
            return None
        share = (time - start) / (end - start)
        return x[0] + share * (x[1] - x[0]), bottom - height, 0.4 * height, height

    return at


def looks_like(person: int, height: int, width: int) -> np.ndarray:
    """A picture of a person: the upper and the lower half in a colour each, with stripes."""
    colours = np.random.default_rng(person).integers(30, 226, (2, 3))
    picture = np.repeat(colours, [height // 2, height - height // 2], axis=0)[:, None].repeat(width, axis=1)
    picture[::6] = picture[::6] * 0.8
    return picture.astype(np.uint8)


@dataclass
class Street:
    """A source of frames in which people walk; the first two pixels of each frame hold its number.

    Attributes:
        walks: Where the people are, those behind first.
        seconds: How long it lasts.
        hidden: Boxes of things in front of everybody: left, top, width and height.
        stops: Raises an error after so many frames.
    """

    walks: Sequence[Walk]
    seconds: float
    rate: float = 10.0
    hidden: Sequence[tuple[int, int, int, int]] = ()
    name: str = "street.mp4"
    camera: str = "street"
    live: bool = False
    dropped: int = 0
    reconnected: int = 0
    damaged: int = 0
    times: Callable[[float], float] = field(default=lambda seconds: START + seconds)

    @property
    def length(self) -> int:
        return round(self.seconds * self.rate)

    def boxes(self, number: int) -> list[tuple[float, float, float, float] | None]:
        return [walk(number / self.rate) for walk in self.walks]

    def image(self, number: int) -> np.ndarray:
        image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        for person, box in enumerate(self.boxes(number)):
            if box is not None:
                paste(image, box, looks_like(person, round(box[3]), round(box[2])))
        for box in self.hidden:
            paste(image, box, np.full((round(box[3]), round(box[2]), 3), 90, np.uint8))
        image[0, 0], image[0, 1] = number % 256, number // 256
        return image

    def frames(self, start: float | None = None) -> Iterator[Frame]:
        for number in range(self.length):
            time = self.times(number / self.rate)
            if start is None or time >= start:
                yield Frame(self.image(number), time, number)

    def close(self) -> None:
        pass


def paste(image: np.ndarray, box: Sequence[float], picture: np.ndarray) -> None:
    left, top = round(box[0]), round(box[1])
    right, bottom = min(left + picture.shape[1], WIDTH), min(top + picture.shape[0], HEIGHT)
    if right > max(left, 0) and bottom > max(top, 0):
        image[max(top, 0) : bottom, max(left, 0) : right] = picture[
            max(-top, 0) : bottom - top, max(-left, 0) : right - left
        ]


class Known:
    """A detector that knows where people are: it finds those of whom at least a third can be seen."""

    def __init__(self, street: Street, seen: float = 0.35) -> None:
        self.street, self.seen = street, seen
        self.asked: list[int] = []

    def __call__(self, image: np.ndarray) -> Detections:
        number = int(image[0, 0, 0]) + 256 * int(image[0, 1, 0])
        self.asked.append(number)
        boxes = self.street.boxes(number)
        covers = np.full(image.shape[:2], -1)
        for person, box in enumerate(boxes):
            if box is not None:
                mark(covers, box, person)
        for thing in self.street.hidden:
            mark(covers, thing, -2)
        found = []
        for person, box in enumerate(boxes):
            if box is None:
                continue
            left, right = max(box[0], 0), min(box[0] + box[2], WIDTH)
            if (covers == person).sum() >= self.seen * box[2] * box[3]:
                found.append((left, box[1], right - left, box[3]))
        return Detections(np.array(found, np.float32).reshape(-1, 4), np.ones(len(found), np.float32))


def mark(covers: np.ndarray, box: Sequence[float], value: int) -> None:
    left, top, width, height = (round(side) for side in box)
    covers[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = value


class Colours:
    """An embedder: the mean colours of the upper and of the lower half of a picture."""

    dimension = 6
    fingerprint = "c0ffee"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def embed(self, images, batch_size=64, progress=False):
        pictures = [np.asarray(open_rgb(image).resize((4, 8)), np.float32) for image in as_list(images)]
        self.batches.append(len(pictures))
        halves = [np.concatenate([one[:4].mean((0, 1)), one[4:].mean((0, 1))]) - 128 for one in pictures]
        return np.stack([half / np.linalg.norm(half) for half in halves])


@pytest.fixture
def colours() -> Colours:
    return Colours()
