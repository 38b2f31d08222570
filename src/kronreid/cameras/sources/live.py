"""Live sources: streams and webcams, whose frames come whether or not they are taken."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from kronreid.cameras.frames import Frame
from kronreid.cameras.sources.addresses import camera_of, is_address, shown
from kronreid.cameras.sources.containers import closing, opened_stream, reason, upright, video_of
from kronreid.cameras.sources.pace import Pace
from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: Frames that wait to be taken. When there is no place, the oldest is dropped.
WAITING = 8
#: Seconds before the first attempt to connect again, and the longest pause. Each is twice the one before.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: Frames that come later than this after their time have a wrong time.
LATEST = 10.0


class _Waiting(NamedTuple):
    """A frame that waits to be taken."""

    frame: av.VideoFrame
    time: float
    number: int


class LiveSource:
    """A stream or a webcam. A thread receives its frames; when the connection is lost, it connects again.

    Args:
        text: The address, or the device of a webcam.
        camera: The camera's name; None takes the address without user and parameters, or the device's name.
        rate: Frames per second to return; None returns all.

    Attributes:
        damaged: Frames that could not be decoded so far.
        connections: Times that the source was connected.

    Raises:
        InputError: It cannot be reached, or has no video that can be decoded.
    """

    live = True
    length: int | None = None

    def __init__(self, text: str, camera: str | None = None, rate: float | None = None) -> None:
        self._text, self.name, self.rate = text, shown(text), rate
        self.camera = camera or (camera_of(text) if is_address(text) else text.rpartition("/")[2])
        self.dropped = self.damaged = self.connections = 0
        self._clock, self._pace, self._number = Clock(), Pace(rate), 0
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._first: InputContainer | None = opened_stream(text)
        try:
            video_of(self._first, self.name)
        except InputError:
            self._first.close()
            raise
        if self._first.duration:
            self._first.close()
            raise InputError(self.name, "is a recording and no stream; download it and name the file")

    def close(self) -> None:
        """See `Source.close`."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is None and self._first is not None:
            self._first.close()
            self._first = None

    @property
    def reconnected(self) -> int:
        """See `Source`."""
        return max(self.connections - 1, 0)

    def frames(self, start: float | None = None) -> Iterator[Frame]:
        """See `Source.frames`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._receive, name=f"receive {self.name}", daemon=True)
            self._thread.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._failure or self._stop.is_set())
                if self._failure is not None:
                    raise self._failure
                if self._stop.is_set():
                    return
                taken = self._waiting.popleft()
            try:
                image = upright(taken.frame)
            except (av.FFmpegError, ValueError):
                self.damaged += 1
                continue
            yield Frame(image, taken.time, taken.number)

    def _receive(self) -> None:
        """Receive frames until the source is closed. The thread's own bugs are raised by `frames`."""
        try:
            pause = FIRST_PAUSE
            while not self._stop.is_set():
                number = self._number
                why = self._connection()
                if self._stop.is_set():
                    return
                pause = FIRST_PAUSE if self._number > number else min(2 * pause, LONGEST_PAUSE)
                log.warning("%s: the connection is lost (%s); trying again in %.0f s", self.name, why, pause)
                self._stop.wait(pause)
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _connection(self) -> str:
        """Receive the frames of one connection; returns why it ended."""
        try:
            container = self._first or opened_stream(self._text)
            self._first = None
            with closing(container):
                stream = video_of(container, self.name)
                self.connections += 1
                self._clock.restart()
                for packet in container.demux(
                    stream
                ):  # the last one is empty, and the decoder gives what it has
                    if self._stop.is_set():
                        break
                    for frame in self._decoded(stream, packet):
                        self._offer(frame)
        except InputError as error:
            return error.what
        except (av.FFmpegError, OSError) as error:
            return reason(error)
        return "the stream ended"

    def _decoded(self, stream: VideoStream, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            frames = stream.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        self.damaged += len(frames) - len(whole)
        return whole

    def _offer(self, frame: av.VideoFrame) -> None:
        """Put a frame into the queue if it is due. The oldest is dropped if the queue is full."""
        number, moment = self._number, self._clock.time(frame.time if frame.pts is not None else None)
        self._number += 1
        if not self._pace.due(moment - self._clock.first):
            return
        with self._changed:
            if len(self._waiting) == WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(_Waiting(frame, moment, number))
            self._changed.notify()


class Clock:
    """The times of a live source's frames: this computer's clock, made even by the source's own.

    Frames arrive unevenly, but state how far they are apart. A frame's time is therefore that of the first
    one plus the difference that the source states. Where that would be later than now or far in the past,
    the source's clock was set or runs differently, and the time of arrival counts. Times never decrease, even
    if this computer's clock is set back.
    """

    def __init__(self) -> None:
        self.first = self._latest = self._wall = time.time()
        self._monotonic = time.monotonic()
        self._offset: float | None = None

    def restart(self) -> None:
        """Forget the source's clock, after it was connected again."""
        self._offset = None

    def time(self, stated: float | None) -> float:
        """The time of a frame that arrives now, in seconds since 1970.

        Args:
            stated: Its time by the source's clock, in seconds; None if it states none.
        """
        now = self._now()
        if stated is None:
            found = now
        else:
            if self._offset is None or not now - LATEST <= stated + self._offset <= now:
                self._offset = now - stated
            found = stated + self._offset
        self._latest = max(self._latest, found)
        return self._latest

    def _now(self) -> float:
        """This computer's clock, which follows when it is set forward and goes on when it is set back."""
        now = max(self._wall + time.monotonic() - self._monotonic, time.time())
        self._wall, self._monotonic = now, time.monotonic()
        return now
