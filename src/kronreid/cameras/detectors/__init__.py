"""Detectors: they find people in frames."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Detections:
    """The people found in one frame.

    Attributes:
        boxes: (N, 4) float32: left, top, width and height in pixels of the frame.
        scores: (N,) float32, 0 to 1.
    """

    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """Finds people in the frames of one source, which are given in order."""

    def __call__(self, image: np.ndarray) -> Detections:
        """Find the people in a frame (H, W, 3) uint8 RGB."""
