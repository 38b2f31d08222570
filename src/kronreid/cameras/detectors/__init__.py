"""Detectors: they find people in frames."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kronreid.errors import InputError
from kronreid.options import checked


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


def named(text: str, **options: Any) -> Detector:
    """Make a detector. A detector serves one source.

    Args:
        text: ``motion``.
        options: The options of the detector by name.

    Raises:
        InputError: There is no such detector, or an option is unknown or out of range.
    """
    if text == "motion":
        from kronreid.cameras.detectors.motion import Motion, MotionOptions

        return Motion(checked(MotionOptions, options, "detector motion"))
    raise InputError(f"detector {text}", "is unknown; use motion")
