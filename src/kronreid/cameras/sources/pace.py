"""Choosing frames for a wanted rate."""

import math


class Pace:
    """Chooses the frames that a wanted rate needs: the first one of each interval of 1/rate seconds.

    The intervals begin with the first frame of the source, so that a source that is read again from a later
    frame gives the same frames.

    Args:
        rate: Frames per second; None chooses all.
    """

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._last: int | None = None

    def due(self, seconds: float) -> bool:
        """Whether to take a frame, given the seconds since the first frame of the source."""
        if self.rate is None:
            return True
        interval = math.floor(seconds * self.rate + 1e-4)
        if interval == self._last:
            return False
        self._last = interval
        return True
