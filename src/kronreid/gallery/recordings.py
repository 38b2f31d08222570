"""The recordings that a gallery's tracklets come from: whether they are being followed, and where they are.

``kronreid track`` keeps a small file for each recording in a folder of the gallery, and writes it anew every
few seconds. It names the source and counts its frames. There is nothing about people in it. Whoever shows the
cameras reads it, and finds in it the video that a tracklet was seen in.
"""

import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.data.files import written_whole
from kronreid.data.plain import read_plain
from kronreid.errors import InputError
from kronreid.options import checked

if TYPE_CHECKING:
    from kronreid.gallery.gallery import Gallery

log = logging.getLogger(__name__)

#: How often a recording that is being followed is written, and after which time without that it is not being
#: followed any more, in seconds.
EVERY_SECONDS, SILENT_SECONDS = 5.0, 30.0
#: The most bytes of a file, and the most files that are read, the newest first.
_BYTES, _FILES = 65_536, 5_000
_SUFFIX = ".json"


@dataclass(frozen=True)
class RecordingState:
    """What is known of a recording.

    Attributes:
        camera: Its camera.
        source: The name of its source, without a password.
        live: Whether it is a stream or a webcam.
        began: When following it last began, in seconds since 1970.
        updated: When this was written.
        over: Whether the process that followed it has stopped following it.
        frames: Number of frames read since `began`.
        dropped: Number of frames that a live source dropped.
        damaged: Number of frames that could not be decoded.
        frames_per_second: How many were read in the last seconds.
        error: Why it ended before its end; "" if it did not.
        path: The video or the folder of frames; "" for a live source.
        start: When its first frame was taken, in seconds since 1970.
        rate: The frames per second that were asked for; None for all.
        size: The size of the video's file in bytes; None for any other source.
    """

    camera: str
    source: str
    live: bool
    began: float
    updated: float
    over: bool = False
    frames: int = 0
    dropped: int = 0
    damaged: int = 0
    frames_per_second: float = 0.0
    error: str = ""
    path: str = ""
    start: float | None = None
    rate: float | None = None
    size: int | None = None

    @property
    def running(self) -> bool:
        """Whether it is being followed now."""
        return not self.over and abs(time.time() - self.updated) < SILENT_SECONDS


class Recordings:
    """The recordings of a gallery. Each has the name of its folder of crops.

    Args:
        gallery: The gallery. One that is no folder and has no `state` folder keeps nothing.
    """

    def __init__(self, gallery: "Gallery") -> None:
        base = gallery.folder
        self.folder = None if base is None else base / f"{gallery.place['collection']}.recordings"

    def write(self, name: str, recording: RecordingState) -> None:
        """Write what is known of a recording, in place of what was known.

        Raises:
            InputError: It cannot be written.
        """
        if self.folder is not None:
            with written_whole(self.folder / f"{name}{_SUFFIX}") as new:
                new.write_text(dumps(asdict(recording)) + "\n")

    def all(self) -> dict[str, RecordingState]:
        """What is known of each recording, by its name, the one written last first."""
        found = {file.stem: recording for file in self._files() if (recording := _read(file))}
        return dict(sorted(found.items(), key=lambda one: (-one[1].updated, one[0])))

    def one(self, name: str) -> RecordingState | None:
        """What is known of a recording; None for nothing."""
        if self.folder is None or name in (".", "..") or Path(name).name != name:
            return None
        return _read(self.folder / f"{name}{_SUFFIX}")

    def forget(self, names: Collection[str]) -> list[RecordingState]:
        """Forget all recordings but those with these names and those that are being followed.

        Returns:
            What is known of the ones that are left.
        """
        left = []
        for file in list(self._files()):
            recording = _read(file)
            if file.stem not in names and not (recording and recording.running):
                file.unlink(missing_ok=True)
            elif recording:
                left.append(recording)
        return left

    def _files(self) -> Iterator[Path]:
        """The newest files."""
        dated = []
        try:
            for file in self.folder.glob(f"*{_SUFFIX}") if self.folder is not None else ():
                dated.append((file.lstat().st_mtime, file))
        except OSError as error:
            log.warning("%s: cannot be read (%s)", self.folder, error.strerror or error)
        yield from (file for _, file in sorted(dated, reverse=True)[:_FILES])


def _read(file: Path) -> RecordingState | None:
    """A recording's file; None if it is missing or damaged."""
    try:
        return checked(RecordingState, dict(loads(read_plain(file, _BYTES, follow=False))), str(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError, InputError) as error:
        log.warning("%s: is damaged and ignored (%s)", file, error)
        return None
