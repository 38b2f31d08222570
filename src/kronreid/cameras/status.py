"""What a gallery knows of a recording while it is followed; see `kronreid.gallery.recordings`."""

import time
from contextlib import suppress
from dataclasses import replace

from kronreid.cameras.frames import Source
from kronreid.cameras.sources import FrameFolder, VideoFile
from kronreid.gallery import Gallery
from kronreid.gallery.entries import path_to_text
from kronreid.gallery.recordings import EVERY_SECONDS, Recordings, RecordingState


class Status:
    """Writes every few seconds how far the following of a source is.

    Args:
        gallery: The gallery. It notes a file or folder as one that may be opened later.
        name: The name of the recording's folder of crops.
        source: The source, which begins to be followed.

    Raises:
        InputError: Something cannot be written.
    """

    def __init__(self, gallery: Gallery, name: str, source: Source) -> None:
        self._recordings, self._name, self._source = Recordings(gallery), name, source
        now = time.time()
        state = RecordingState(source.camera, source.name, source.live, began=now, updated=now)
        if isinstance(source, VideoFile | FrameFolder):
            path = source.path.absolute()
            gallery.note_recording(path)
            state = replace(state, path=path_to_text(path), start=source.start, rate=source.rate)
        self._state = state
        self._write(state)

    def note(self, frames: int, error: BaseException | None, over: bool) -> None:
        """Write how far it is, if the last time is long enough ago or it is over.

        Args:
            frames: Number of frames read so far.
            error: Why reading ended before its end.
            over: Whether nothing follows.
        """
        before, now = self._state, time.time()
        seconds = now - before.updated
        if before.over or not (over or not 0 <= seconds < EVERY_SECONDS):
            return
        per_second = (frames - before.frames) / seconds if seconds > 0 else 0.0
        if over:
            per_second = frames / max(now - before.began, 1e-3)
        self._write(
            replace(
                before,
                updated=now,
                over=over,
                frames=frames,
                dropped=self._source.dropped,
                damaged=self._source.damaged,
                frames_per_second=round(per_second, 2),
                error=str(error) if error is not None else "",
            )
        )

    def _write(self, state: RecordingState) -> None:
        if isinstance(self._source, VideoFile):
            with suppress(OSError):  # it may be gone meanwhile
                state = replace(state, size=self._source.path.stat().st_size)
        self._state = state
        self._recordings.write(self._name, state)
