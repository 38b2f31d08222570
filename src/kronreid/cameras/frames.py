"""Frames of a video source, and what every source has."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        image: (H, W, 3) uint8, RGB, upright.
        time: When it was taken, in seconds since 1970 (UTC).
        number: Its number in the source, from 0; frames that were skipped or dropped count.
    """

    image: np.ndarray
    time: float
    number: int


class Source(Protocol):
    """A video file, a folder of frames, a MOT sequence, a webcam or a stream.

    Attributes:
        name: The file, folder or address, without a password.
        camera: The camera's name.
        live: Whether frames come whether or not they are taken: a live source drops the frames for which
            there was no time, and counts them.
        length: Number of frames; None if it is unknown.
        dropped: Frames that were dropped so far.
        damaged: Frames that could not be decoded and were skipped so far.
        reconnected: How often the connection of a live source was lost and came back so far.
    """

    name: str
    camera: str
    live: bool
    length: int | None
    dropped: int
    damaged: int

    @property
    def reconnected(self) -> int: ...

    def frames(self, start: float | None = None) -> Iterator[Frame]:
        """The frames in order, with times that never decrease.

        Args:
            start: Leave out frames that were taken before this time. A live source ignores it.

        Raises:
            InputError: The source cannot be read at all. One damaged frame is skipped.
        """

    def close(self) -> None:
        """Release the file or the connection. `frames` ends then."""
