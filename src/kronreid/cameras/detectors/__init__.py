"""Detectors: they find people in frames."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kronreid.errors import InputError
from kronreid.options import checked
from kronreid.plugins import load_plugin


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
    """Make a detector. It serves one source; detectors of several sources share their network.

    Args:
        text: ``motion``, an ONNX file, a detector of the Hugging Face hub (``org/name``) or its folder, or a
            function of one's own that makes a detector (``module:function``).
        options: The options of the detector by name, see docs/cameras.md.

    Raises:
        InputError: There is no such detector, its outputs are not understood, or an option is unknown or out
            of range.
    """
    source = f"detector {text}"
    if text == "motion":
        from kronreid.cameras.detectors.motion import Motion, MotionOptions

        return Motion(checked(MotionOptions, options, source))
    if _is_function(text):
        return _made(text, options)
    from kronreid.cameras.detectors.tiles import NetworkDetector, NetworkOptions

    network_options = checked(NetworkOptions, options, source)
    if text.lower().endswith(".onnx"):
        from kronreid.cameras.detectors.onnx import open_network

        return NetworkDetector(open_network(Path(text)), network_options)
    from kronreid.models.hub import is_hub_id

    if text and (Path(text).is_dir() or is_hub_id(text)):
        from kronreid.cameras.detectors.hub import open_hub

        return NetworkDetector(open_hub(text), network_options)
    raise InputError(
        source, "is unknown; use motion, an .onnx file, org/name of the hub, or module:function of your own"
    )


def _is_function(text: str) -> bool:
    module, colon, function = text.rpartition(":")
    return bool(colon and module and function.isidentifier())


def _made(text: str, options: dict[str, Any]) -> Detector:
    """The detector that a function of one's own makes."""
    module, _, name = text.rpartition(":")
    function = getattr(load_plugin(module, f"detector {text}"), name, None)
    if not callable(function):
        raise InputError(f"detector {text}", f"{module} has no function {name}")
    detector = checked(function, options, f"detector {text}")
    if not callable(detector):
        raise InputError(f"detector {text}", f"must return a detector, not {type(detector).__name__}")
    return detector
