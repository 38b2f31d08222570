"""How tall people are in a fixed camera's frames, by where their feet are.

On flat ground, the height of a person in the frame is a straight line of the row of the feet, whatever the
lens. The line is learned from people who can be seen alone and whole. Then it tells fragments from people,
one person from two, and how far down somebody reaches whose feet are hidden.
"""

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

#: Left, top, width and height in pixels.
Blob: TypeAlias = tuple[int, int, int, int]

#: So many people are remembered, and so many are needed.
_MOST, _LEAST = 400, 15
#: The line is drawn anew after so many frames.
_EVERY = 5
#: Before much has been seen, the line rises like this, as if the camera hung at 3 m; and how many people that
#: counts for, who stand apart by a tenth of the frame's height.
_SLOPE, _COUNTS = 0.6, 10
#: Heights below and above the line by more than these shares are of parts of people, or of several.
_LOW, _HIGH = -0.12, 0.2
#: Of a person who is seen whole, the width has these shares of the height.
_NARROW, _WIDE = 0.2, 0.6
#: The border of a frame cuts what is as near as this, in pixels.
_BORDER = 2
#: A person who is less than this share of the expected height is not seen whole; a body is grown at most by
#: the second number.
_SHORT, _GROWN = 0.8, 2.2
#: A person who is seen whole is at least this wide, and on average as wide as the second number, as shares of
#: the height.
_SLIM, _USUAL = 0.25, 0.3


class Ground:
    """The line of one camera.

    Args:
        height: Of the frames.
        width: Of the frames.
    """

    def __init__(self, height: int, width: int) -> None:
        self._size = height, width
        self._feet: deque[float] = deque(maxlen=_MOST)
        self._heights: deque[float] = deque(maxlen=_MOST)
        self._frames = 0
        self._line: tuple[float, float] | None = None

    @property
    def known(self) -> bool:
        """Whether enough people have been seen."""
        return self._line is not None

    def height(self, foot: float) -> float:
        """The height of a person whose feet are at a row."""
        assert self._line is not None
        return max(self._line[0] * foot + self._line[1], 1.0)

    def learn(self, people: Sequence[Blob]) -> None:
        """Take note of the people of a frame."""
        for number, person in enumerate(people):
            others = [*people[:number], *people[number + 1 :]]
            if self._whole(person) and not any(_near(person, other) for other in others):
                self._feet.append(person[1] + person[3])
                self._heights.append(person[3])
        self._frames += 1
        if self._frames % _EVERY == 0 and len(self._feet) >= _LEAST:
            self._draw()

    def completed(self, person: Blob) -> Blob:
        """A person whose feet or sides are hidden, as large as the person is."""
        left, top, width, height = person
        bottom = top + height
        if self._line is None or bottom >= self._size[0] - _BORDER:
            return person
        if top > _BORDER and height < _SHORT * self.height(bottom):
            slope, offset = self._line
            foot = min((top + offset) / (1 - slope), self._size[0])
            if bottom < foot <= top + _GROWN * height:
                height = int(foot - top)
        if left > _BORDER and left + width < self._size[1] - _BORDER and width < _SLIM * height:
            middle, width = left + width / 2, int(_USUAL * height)
            left = int(middle - width / 2)
        return left, top, width, height

    def _whole(self, person: Blob) -> bool:
        left, top, width, height = person
        inside = left > _BORDER and top > _BORDER and left + width < self._size[1] - _BORDER
        return (
            inside and top + height < self._size[0] - _BORDER and _NARROW * height <= width <= _WIDE * height
        )

    def _draw(self) -> None:
        """The line through the people seen, without those who do not fit."""
        feet, heights = np.array(self._feet), np.array(self._heights)
        keep = np.ones(len(feet), bool)
        weight = _COUNTS * (0.1 * self._size[0]) ** 2
        self._line = None
        for _ in range(4):
            x, y = feet[keep] - feet[keep].mean(), heights[keep] - heights[keep].mean()
            slope = float(((x * y).sum() + weight * _SLOPE) / ((x * x).sum() + weight))
            offset = float(heights[keep].mean() - slope * feet[keep].mean())
            expected = np.maximum(slope * feet + offset, 1.0)
            apart = (heights - expected) / expected
            keep = (apart > _LOW) & (apart < _HIGH)
            if keep.sum() < 0.6 * _LEAST:
                return
        if 0.1 < slope < 0.95:
            self._line = slope, offset


def _near(one: Blob, other: Blob) -> bool:
    """Whether two boxes are less than a width apart."""
    left, top, width, height = one
    return (
        left - width < other[0] + other[2]
        and other[0] < left + 2 * width
        and top < other[1] + other[3]
        and other[1] < top + height
    )
