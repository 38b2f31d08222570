"""The frames of a recording around a moment, decoded in a process of its own.

Whoever shows a recording to others does not want a damaged or hostile video in its own process. So a child
decodes it, with limits on processor time and memory, and it is killed when it takes too long.
"""

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from kronreid.cameras.frames import Frame
from kronreid.cameras.identity import recording_name
from kronreid.cameras.looks import encoded
from kronreid.cameras.sources import FrameFolder, VideoFile
from kronreid.data.decoding import NICE, child
from kronreid.errors import InputError

#: Seconds of the recording that are shown before and after the moment, and frames of each second.
BEFORE, AFTER, PER_SECOND = 2.0, 3.0, 5.0
#: Larger frames are scaled down to this side, in pixels; the quality of their JPEG files.
SIDE, QUALITY = 960, 85
#: Processor seconds and bytes of memory of the child.
CPU_SECONDS, MEMORY = 20, 4_000_000_000
#: Frames whose times differ by less are the same one, in seconds.
_SAME = 2e-3
_LENGTH = struct.Struct("<Q")
_TOO_MUCH = "cannot be decoded with the memory and time there are for it"


@dataclass(frozen=True)
class Place:
    """Where a recording is, and how it was read.

    Attributes:
        path: The video or the folder of frames.
        source: The name that it was followed under.
        camera: Its camera.
        start: When its first frame was taken.
        rate: The frames per second that were asked for; None for all.
        name: Its name; see `recording_name`.
        size: The video's size in bytes; None if it is not known.
    """

    path: str
    source: str
    camera: str
    start: float | None
    rate: float | None
    name: str
    size: int | None


@dataclass(frozen=True)
class Still:
    """A frame.

    Attributes:
        time: When it was taken, in seconds since 1970.
        jpeg: The picture.
    """

    time: float
    jpeg: bytes


@dataclass(frozen=True)
class Stills:
    """The frames around a moment.

    Attributes:
        width: Of the frames in the recording, in pixels.
        height: The same.
        stills: The frames in order, scaled down if they are large.
    """

    width: int
    height: int
    stills: list[Still]


def stills(place: Place, time: float, seconds: float) -> Stills:
    """The frames of a recording around a moment.

    Args:
        place: The recording. No link is followed to it.
        time: The moment, in seconds since 1970.
        seconds: The child is killed after so many.

    Raises:
        InputError: The recording is gone, is another one now, cannot be read, or takes too long.
    """
    command, options = child(__name__)
    job = json.dumps({"place": asdict(place), "time": time}).encode()
    try:
        done = subprocess.run(command, **options, input=job, capture_output=True, timeout=max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        raise InputError(place.source, "takes too long to read") from None
    if done.returncode < 0:
        raise InputError(place.source, _TOO_MUCH)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    (length,) = _LENGTH.unpack_from(done.stdout)
    told = json.loads(done.stdout[_LENGTH.size : _LENGTH.size + length])
    if "error" in told:
        raise InputError(place.source, told["error"])
    found, at = [], _LENGTH.size + length
    for moment, size in told["stills"]:
        found.append(Still(moment, done.stdout[at : at + size]))
        at += size
    return Stills(told["width"], told["height"], found)


# ── the child ───────────────────────────────────────────────────────────────────────────────────────


def work() -> None:
    """Read a job from the standard input, and answer on the standard output."""
    _limit()
    job = json.loads(sys.stdin.buffer.read())
    head: dict[str, object]
    jpegs: list[bytes] = []
    try:
        found = _stills(Place(**job["place"]), job["time"])
    except InputError as error:
        head = {"error": error.what}
    except MemoryError:
        head = {"error": _TOO_MUCH}
    else:
        jpegs = [still.jpeg for still in found.stills]
        times = [(still.time, len(still.jpeg)) for still in found.stills]
        head = {"width": found.width, "height": found.height, "stills": times}
    text = json.dumps(head).encode()
    sys.stdout.buffer.write(b"".join([_LENGTH.pack(len(text)), text, *jpegs]))


def _limit() -> None:
    """Make way for the process that asks, and take no more than there is."""
    with contextlib.suppress(ImportError, OSError, ValueError, AttributeError):  # not on every system
        import resource

        os.nice(NICE)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _stills(place: Place, time: float) -> Stills:
    path = Path(place.path)
    before = _status(path)
    if path.is_file() and place.size is not None and before[0] != place.size:
        raise InputError(path, "has changed since its people were followed")
    kind = FrameFolder if path.is_dir() else VideoFile
    source = kind(path, place.camera, place.start, place.rate, follow=False)
    source.name = place.source
    if recording_name(source) != place.name:
        raise InputError(path, "has changed since its people were followed")
    found = list(_around(source.frames(time - BEFORE - _SAME), time))
    if not any(abs(frame.time - time) <= 1 / PER_SECOND for frame in found):
        raise InputError(path, "does not show this moment any more")
    if _status(path) != before:
        raise InputError(path, "has changed meanwhile")
    height, width = found[0].image.shape[:2]
    return Stills(
        width, height, [Still(frame.time, encoded(_small(frame.image), QUALITY)) for frame in found]
    )


def _status(path: Path) -> tuple[int, ...]:
    """What changes when another file is put in the place of this one.

    Raises:
        InputError: It is gone, or a link.
    """
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        raise InputError(path, f"is gone ({getattr(error, 'strerror', None) or error})") from None
    if path.is_symlink():
        raise InputError(path, "is a link now")
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def _around(frames: Iterator[Frame], time: float) -> Iterator[Frame]:
    """Those of the frames that are shown: that of the moment, and others at even times around it."""
    number = round(-BEFORE * PER_SECOND)
    for frame in frames:
        if frame.time > time + AFTER:
            return
        if frame.time < time + number / PER_SECOND - _SAME:
            continue
        yield frame
        number = int(np.floor((frame.time - time) * PER_SECOND + _SAME)) + 1


def _small(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return image
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
