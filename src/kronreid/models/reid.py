"""An embedder for other people's trackers: boxes or crops of BGR frames in, vectors out.

Trackers agree on what they need, not on how it is called. `ReID` has the names that these use:

- ``extract_features(detections, frame)``: Roboflow's trackers; early versions have (frame, detections)
- ``get_features(xyxys, img)`` and ``embed(image, boxes=xyxys)``: boxmot, early and late versions
- ``reid(frame, boxes)``: DeepSORT, whose boxes are left, top, width, height
- ``predict(crops)`` or ``reid(crops)``: ports of DeepSORT that cut the boxes out themselves
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kronreid.errors import InputError
from kronreid.models.protocols import Embeds


class ReID:
    """The interfaces under which other people's trackers ask for appearance features.

    Frames and crops are uint8 arrays (H, W, 3) in BGR, as OpenCV reads them. Boxes are in pixels of the frame
    and are clipped to it. All methods return (N, D) float32, L2-normalised: the inner product of two rows is
    their cosine. A box or crop without any pixel has a row of zeros, which is similar to nobody.

    Args:
        embedder: Computes the vectors.
        batch_size: Pictures per pass of the network.

    Example:
        >>> reid = kronreid.load("runs/horeid").as_reid()
        >>> features = reid.get_features(boxes, frame)
    """

    def __init__(self, embedder: Embeds, batch_size: int = 64) -> None:
        self.embedder, self.batch_size = embedder, batch_size

    def __call__(self, pictures: Any, boxes: ArrayLike | None = None) -> np.ndarray:
        """Vectors of crops, or of boxes of a frame.

        Args:
            pictures: N crops, or with `boxes` one frame.
            boxes: (N, 4) left, top, width, height, as DeepSORT has them.
        """
        if boxes is None:
            return self.predict(pictures)
        corners = _boxes(boxes).copy()
        corners[:, 2:] += corners[:, :2]
        return self.get_features(corners, pictures)

    def predict(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors of N crops.

        Raises:
            InputError: A crop is no uint8 array (H, W, 3).
        """
        crops = [_picture(crop, "crop") for crop in crops]
        there = [number for number, crop in enumerate(crops) if crop.size]
        vectors = np.zeros((len(crops), self.embedder.dimension), np.float32)
        if there:
            pictures: list[Any] = [np.ascontiguousarray(crops[number][:, :, ::-1]) for number in there]
            vectors[there] = self.embedder.embed(pictures, self.batch_size)
        return vectors

    def get_features(self, xyxys: ArrayLike, img: np.ndarray) -> np.ndarray:
        """Vectors of boxes of a frame.

        Args:
            xyxys: (N, 4) or more columns: left, top, right, bottom.
            img: The frame.

        Raises:
            InputError: The frame is no uint8 array (H, W, 3), or the boxes have fewer than four columns.
        """
        frame = _picture(img, "frame")
        height, width = frame.shape[:2]
        corners = np.nan_to_num(_boxes(xyxys), nan=0.0, posinf=1e9, neginf=-1e9)
        corners = np.clip(np.rint(corners), 0, [width, height, width, height]).astype(int)
        return self.predict([frame[top:bottom, left:right] for left, top, right, bottom in corners])

    def embed(self, image: np.ndarray, boxes: ArrayLike | None = None) -> np.ndarray:
        """Vectors of boxes of a frame; without boxes, of the whole picture. See `get_features`."""
        return self.predict([image]) if boxes is None else self.get_features(boxes, image)

    def extract_features(self, detections: Any, frame: Any) -> np.ndarray:
        """Vectors of detections in a frame. The two arguments may come in either order.

        Args:
            detections: (N, 4) left, top, right, bottom; or an object that has them as ``xyxy``, like
                `supervision.Detections`.
            frame: The frame.
        """
        if isinstance(detections, np.ndarray) and detections.ndim == 3:
            detections, frame = frame, detections
        return self.get_features(getattr(detections, "xyxy", detections), frame)


def _picture(array: Any, what: str) -> np.ndarray:
    picture = np.asarray(array)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(what, f"expected uint8 (H, W, 3) in BGR order, got {picture.dtype} {picture.shape}")
    return picture


def _boxes(boxes: ArrayLike) -> np.ndarray:
    """Boxes as (N, 4) float64."""
    found = np.asarray(boxes, np.float64)
    if not found.size:
        return np.empty((0, 4))
    if found.ndim != 2 or found.shape[1] < 4:
        raise InputError("boxes", f"expected (N, 4), got {found.shape}")
    return found[:, :4]
