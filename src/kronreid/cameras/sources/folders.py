"""Folders of frames: pictures that are numbered or have times in their names, and MOT sequences."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kronreid.cameras.frames import Frame
from kronreid.cameras.sources.pace import Pace
from kronreid.cameras.sources.times import began, camera_named
from kronreid.data.images import open_rgb, read_rgb
from kronreid.data.lists.mot import FRAMES, frames_in, numberings, read_seqinfo
from kronreid.data.names import time_in
from kronreid.data.plain import read_plain
from kronreid.errors import InputError

log = logging.getLogger(__name__)


class FrameFolder:
    """A folder of frames.

    If all names have times, frames have those. Otherwise the frames are numbered, and follow each other at
    the rate that ``seqinfo.ini`` states or that is given; where numbers are missing, so are frames.

    Args:
        path: The folder, or the folder of a MOT sequence, whose frames are in ``img1``.
        camera: The camera's name; None takes the folder's name without a time in it.
        start: When the first frame was taken, in seconds since 1970; None takes the time in the names, else
            the date of the first file.
        rate: Frames per second to return. If the folder does not say how fast its frames follow each other,
            it is that rate.
        follow: Whether frames may be links.

    Attributes:
        damaged: Frames that could not be decoded so far.

    Raises:
        InputError: The folder has no pictures, or its rate is unknown.
    """

    live = False

    def __init__(
        self,
        path: Path,
        camera: str | None = None,
        start: float | None = None,
        rate: float | None = None,
        *,
        follow: bool = True,
    ) -> None:
        self.path, self.name, self._follow = path, str(path), follow
        self.dropped = self.damaged = self.reconnected = 0
        self._closed = False
        sequence, folder = _folders(path)
        settings = read_seqinfo(sequence)
        self.camera = camera or settings.get("name") or camera_named(sequence, sequence.absolute().name)
        pictures = sorted(frames_in(folder), key=_natural)
        if not pictures:
            raise InputError(path, _nothing(folder))
        times = [found[0] for picture in pictures if (found := time_in(picture.stem))]
        own_rate = _frame_rate(sequence, settings)
        self.rate = self._paced = rate
        if len(times) == len(pictures) and (len(set(times)) > 1 or len(times) == 1):
            ordered = sorted(zip(times, range(len(pictures))))
            self.pictures = [(number, pictures[at]) for number, (_, at) in enumerate(ordered)]
            begin = ordered[0][0]
            seconds = [time - begin for time, _ in ordered]
        else:
            per_second = own_rate or rate
            if per_second is None:
                raise InputError(
                    path, "its frames have no times in their names and no seqinfo.ini; give their rate"
                )
            if own_rate is None:
                self._paced = None
            self.pictures = _numbered(pictures)
            seconds = [number / per_second for number, _ in self.pictures]
            stem = sequence.absolute().name if not times else pictures[0].stem
            begin = began(path, stem, None, pictures[0].stat().st_mtime) if start is None else start
        self.start = begin if start is None else start
        self.seconds = seconds
        self.length: int | None = self.pictures[-1][0] + 1

    def close(self) -> None:
        """See `Source.close`."""
        self._closed = True

    def frames(self, start: float | None = None) -> Iterator[Frame]:
        """See `Source.frames`."""
        pace = Pace(self._paced)
        self._closed, self.damaged = False, 0
        for seconds, (number, path) in zip(self.seconds, self.pictures):
            if self._closed:
                return
            time = self.start + seconds
            if not pace.due(seconds) or (start is not None and time < start):
                continue
            try:
                image = self._pixels(path)
            except InputError as error:
                self.damaged += 1
                log.warning("a frame is skipped: %s", error)
                continue
            yield Frame(image, time, number)
        if self.damaged == len(self.pictures):
            raise InputError(self.name, "none of its frames can be read")

    def _pixels(self, path: Path) -> np.ndarray:
        try:
            return np.array(
                open_rgb(path) if self._follow else read_rgb(read_plain(path, follow=False), path)
            )
        except OSError as error:
            raise InputError(path, f"cannot be read ({error.strerror or error})") from None


def _folders(path: Path) -> tuple[Path, Path]:
    """The folder of a sequence and the folder of its frames, which may be the same."""
    inside = path / (read_seqinfo(path).get("imdir") or FRAMES)
    if inside.resolve().parent == path.resolve() and inside.is_dir():
        return path, inside
    above = path.absolute().parent
    if read_seqinfo(above).get("imdir", FRAMES) == path.absolute().name:
        return above, path
    return path, path


def _frame_rate(sequence: Path, settings: dict[str, str]) -> float | None:
    """Frames per second by ``seqinfo.ini``.

    Raises:
        InputError: The rate there is no number above 0.
    """
    text = settings.get("framerate")
    if text is None:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise InputError(sequence / "seqinfo.ini", f"frameRate {text!r} must be a number above 0")
    return rate


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts names by the numbers in them: ``f2`` before ``f10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.stem)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts], path.name


def _numbered(pictures: Sequence[Path]) -> list[tuple[int, Path]]:
    """Pictures in order with numbers from 0: those in their names if they are all different."""
    for numbering in numberings(pictures):
        if len(numbering) == len(pictures):
            first = min(numbering)
            return [(number - first, numbering[number][0]) for number in sorted(numbering)]
    return list(enumerate(pictures))


def _nothing(folder: Path) -> str:
    """What is wrong with a folder without pictures."""
    if any(folder.glob(f"*/{FRAMES}")):
        return "holds several sequences; name one of them"
    return "has no pictures; name a folder of frames or a MOT sequence"
