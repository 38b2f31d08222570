"""Drawing what was found: videos with boxes and identities, and with people made unrecognisable."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

import av
import cv2
import numpy as np
from PIL import Image

from kronreid.cameras.detectors import Detections
from kronreid.cameras.frames import Frame
from kronreid.cameras.looks import inside
from kronreid.data.files import writing
from kronreid.data.images import unrecognisable

Who: TypeAlias = Literal["nobody", "others", "all"]

#: Digits of an identifier that are drawn.
DIGITS = 8
#: Around a box, this share of its size is blurred as well; and after the last box, so many seconds.
_AROUND, _AFTER_SECONDS = 0.1, 1.0
_TIME_BASE = Fraction(1, 1000)


@dataclass(frozen=True)
class Blur:
    """Who is blurred.

    Attributes:
        who: ``nobody``, ``all``, or ``others``: everybody but those of `show`.
        show: The beginnings of the identifiers of tracklets that are shown.
    """

    who: Who = "nobody"
    show: tuple[str, ...] = ()

    def covers(self, name: str) -> bool:
        """Whether the person of a tracklet is blurred; "" is an unknown one."""
        shown = bool(name) and any(name.startswith(beginning) for beginning in self.show)
        return self.who == "all" or (self.who == "others" and not shown)


class Film:
    """A video of what was found. It is a Matroska file, which can be read even if writing was interrupted.

    Args:
        path: The file; its folder is created.
        blur: Who is blurred.

    Raises:
        InputError: The file cannot be written.
    """

    def __init__(self, path: Path, blur: Blur) -> None:
        self._path, self._blur = path, blur
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = av.open(str(path), "w", format="matroska")
        self._stream: av.VideoStream | None = None
        self._start = 0.0
        self._last = -1
        self._hidden: dict[str, tuple[float, np.ndarray]] = {}

    def add(self, frame: Frame, detections: Detections, names: list[str]) -> None:
        """Add a frame.

        Args:
            frame: The frame.
            detections: The people in it.
            names: The identifier of each one's tracklet; "" where it is unknown.
        """
        image = frame.image.copy()
        now = {
            name: (frame.time, box) for name, box in zip(names, detections.boxes) if self._blur.covers(name)
        }
        unknown = [box for name, box in zip(names, detections.boxes) if not name and self._blur.covers(name)]
        self._hidden = {
            name: one for name, one in self._hidden.items() if frame.time - one[0] < _AFTER_SECONDS
        }
        self._hidden = {name: one for name, one in (self._hidden | now).items() if name}
        for box in [*unknown, *(box for _, box in self._hidden.values())]:
            _tile(image, box)
        for name, box in zip(names, detections.boxes):
            _frame(image, box, name)
        self._write(image, frame.time)

    def close(self) -> None:
        """Finish the file."""
        with writing(self._path):
            if self._stream is not None:
                for packet in self._stream.encode(None):
                    self._file.mux(packet)
                self._stream = None
            self._file.close()

    def _write(self, image: np.ndarray, time: float) -> None:
        height, width = (side - side % 2 for side in image.shape[:2])
        if self._stream is None:
            self._stream = self._file.add_stream("h264", rate=1000)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.codec_context.time_base = _TIME_BASE
            self._start = time
        if (width, height) != (self._stream.width, self._stream.height):
            image = cv2.resize(image, (self._stream.width, self._stream.height))
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        picture.pts = self._last = max(round((time - self._start) / _TIME_BASE), self._last + 1)
        picture.time_base = _TIME_BASE
        with writing(self._path):
            for packet in self._stream.encode(picture):
                self._file.mux(packet)


def _tile(image: np.ndarray, box: np.ndarray) -> None:
    """Replace what is in and around a box by a few tiles of one colour each."""
    margin = _AROUND * box[2:]
    within = inside(np.concatenate([box[:2] - margin, box[2:] + 2 * margin]), image)
    if within is None:
        return
    left, top, width, height = within
    part = image[top : top + height, left : left + width]
    part[:] = unrecognisable(Image.fromarray(part))


def _frame(image: np.ndarray, box: np.ndarray, name: str) -> None:
    """Draw a box, in the colour of its identity, and the identity above it."""
    digits = int(name[:6] or "808080", 16)
    colour = tuple(64 + (digits >> shift & 255) * 3 // 4 for shift in (16, 8, 0))
    left, top, right, bottom = (round(float(value)) for value in (*box[:2], *(box[:2] + box[2:])))
    cv2.rectangle(image, (left, top), (right, bottom), colour, 2)
    if name:
        place = (left, top - 4 if top > 14 else top + 12)
        cv2.putText(image, name[:DIGITS], place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
