"""Feeds: a thread for each source reads its frames and finds the people in them."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import Empty, Full, Queue

from kronreid.cameras.detectors import Detections, Detector
from kronreid.cameras.frames import Frame, Source
from kronreid.errors import InputError

#: A chunk ends after so many frames, seconds of the source, or pixels.
MOST_FRAMES, MOST_SECONDS, MOST_PIXELS = 8, 0.5, 8_000_000
#: Chunks of one source that wait to be taken.
_WAITING = 2
_LOOK_AGAIN_SECONDS = 0.2


@dataclass
class Chunk:
    """Successive frames of one source with the people found in them.

    Where chunks end depends on nothing but the frames, so that a recording gives the same chunks each time.
    """

    frames: list[Frame] = field(default_factory=list)
    detections: list[Detections] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def is_full(self) -> bool:
        """Whether no more frames belong into it."""
        image = self.frames[0].image
        return (
            len(self) >= MOST_FRAMES
            or self.frames[-1].time - self.frames[0].time >= MOST_SECONDS
            or (len(self) + 1) * image.shape[0] * image.shape[1] > MOST_PIXELS
        )


class Feed:
    """Reads a source in a thread of its own, and detects there.

    A file is read as fast as chunks are taken. A live source drops the frames for which there is no time.

    Args:
        source: The source.
        detector: Its own detector.
        since: Leave out earlier frames.
        warm: Read so many seconds before `since` as well, for the detector alone, which may have to get to
            know the scene.
        arrived: A semaphore that is released for each chunk and when the feed ends.

    Attributes:
        ended: Whether everything has been taken.
        error: Why reading ended before the end of the source; None if it did not.
        decoding: Seconds that reading and decoding took.
        detecting: Seconds that detecting took.
        frames: Number of frames read.
    """

    def __init__(
        self,
        source: Source,
        detector: Detector,
        since: float | None,
        warm: float,
        arrived: threading.Semaphore,
    ) -> None:
        self.source = source
        self._detector, self._since, self._warm, self._arrived = detector, since, warm, arrived
        self._chunks: Queue[Chunk | None] = Queue(_WAITING)
        self._stopped = threading.Event()
        self.ended = False
        self.error: BaseException | None = None
        self.decoding = self.detecting = 0.0
        self.frames = 0
        self._thread = threading.Thread(target=self._run, name=f"read {source.name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self) -> Chunk | None:
        """The next chunk; None if none has arrived, or none will.

        Raises:
            Exception: A bug in the source or in the detector.
        """
        if self.ended:
            return None
        try:
            chunk = self._chunks.get_nowait()
        except Empty:
            return None
        if chunk is None:
            self.ended = True
            if self.error is not None and not isinstance(self.error, InputError):
                raise self.error
        return chunk

    def stop(self) -> None:
        """Stop reading; what waits is dropped."""
        self._stopped.set()
        self.source.close()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            chunk = Chunk()
            for frame in self._timed():
                before = time.perf_counter()
                found = self._detector(frame.image)
                self.detecting += time.perf_counter() - before
                self.frames += 1
                if self._since is not None and frame.time < self._since:
                    continue
                chunk.frames.append(frame)
                chunk.detections.append(found)
                if chunk.is_full:
                    self._put(chunk)
                    chunk = Chunk()
            if len(chunk):
                self._put(chunk)
        except BaseException as error:
            self.error = error
        finally:
            self._put(None)

    def _timed(self) -> Iterator[Frame]:
        """The frames, while counting the seconds that reading takes."""
        start = None if self._since is None else self._since - self._warm
        frames = iter(self.source.frames(start))
        while not self._stopped.is_set():
            before = time.perf_counter()
            frame = next(frames, None)
            self.decoding += time.perf_counter() - before
            if frame is None:
                return
            yield frame

    def _put(self, chunk: Chunk | None) -> None:
        while not self._stopped.is_set():
            try:
                self._chunks.put(chunk, timeout=_LOOK_AGAIN_SECONDS)
            except Full:
                continue
            self._arrived.release()
            return
