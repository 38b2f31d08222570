"""Video files."""

import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from kronreid.cameras.frames import Frame
from kronreid.cameras.sources.containers import MOST_FAILURES, opened_file, reason, upright
from kronreid.cameras.sources.pace import Pace
from kronreid.cameras.sources.times import began, camera_named
from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: A clock that goes back by more seconds than this was set back; less is a fault of one packet.
_STEP = 1.0
#: The frame rate of a video that has neither times nor a rate.
_USUAL_RATE = 25


class VideoFile:
    """A video file. Its frames have the times of the container, whatever the frame rate.

    Args:
        path: The file.
        camera: The camera's name; None takes the file's name without a time in it.
        start: When the first frame was taken, in seconds since 1970; None takes the container's time, else
            the time in the file's name, else the file's date less the video's duration.
        rate: Frames per second to return; None returns all.
        follow: Whether the path may be a link.

    Attributes:
        length: The number of frames that the container states, or what its duration suggests.
        damaged: Frames that could not be decoded so far.

    Raises:
        InputError: It is no video that can be decoded.
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
        self.path, self.name, self.rate = path, str(path), rate
        self._follow = follow
        self.camera = camera or camera_named(path, path.stem)
        self.dropped = self.damaged = self.reconnected = 0
        self._closed = False
        with opened_file(path, follow) as (container, stream):
            seconds = _duration(container, stream)
            per_second = stream.average_rate or stream.guessed_rate
            self.length = stream.frames or (round(seconds * per_second) if seconds and per_second else None)
            created = {**container.metadata, **stream.metadata}.get("creation_time")
        if start is None:
            start = began(path, path.stem, created, path.stat().st_mtime - seconds)
        self.start = start

    def close(self) -> None:
        """See `Source.close`."""
        self._closed = True

    def frames(self, start: float | None = None) -> Iterator[Frame]:
        """See `Source.frames`."""
        pace, latest, any_frame = Pace(self.rate), self.start, False
        self._closed, self.damaged = False, 0
        skip = 0 if start is None else self._keyframe_before(start)
        with opened_file(self.path, self._follow) as (container, stream):
            for decoded in _Reading(self, container, stream, skip).frames():
                if self._closed:
                    return
                any_frame = True
                latest = max(latest, self.start + decoded.seconds)
                if not pace.due(decoded.seconds) or (start is not None and latest < start):
                    continue
                image = self._pixels(decoded.frame)
                if image is not None:
                    yield Frame(image, latest, decoded.number)
        if self.damaged:
            log.warning("%s: %s damaged frames were skipped", self.name, f"{self.damaged:,}")
        if not any_frame and start is None:
            raise InputError(self.name, "none of its frames can be decoded; it is damaged")

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray | None:
        try:
            return upright(frame)
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return None

    def _keyframe_before(self, wanted: float) -> int:
        """The number of packets before the keyframe from which all frames of a time on can be decoded."""
        margin = _STEP + (1 / self.rate if self.rate else 0)
        found = 0
        with opened_file(self.path, self._follow) as (container, stream):
            timeline = _Timeline(stream)
            for number, packet in enumerate(_packets(container, stream, self.name)):
                timeline.take(packet)
                if packet.is_keyframe:
                    if self.start + timeline.seconds(timeline.stamp(packet)) > wanted - margin:
                        break
                    found = number
        return found


@dataclass(frozen=True)
class _Decoded:
    """A frame, its number, and its time in seconds after the first one."""

    frame: av.VideoFrame
    number: int
    seconds: float


class _Timeline:
    """The times of the packets and frames of one video, also where its clock was set back.

    Args:
        stream: The video.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.base = stream.time_base or Fraction(1, 90_000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(_USUAL_RATE)
        self.step = max(round(1 / (rate * self.base)), 1)
        self.zero = stream.start_time
        self.shift = 0
        self._last: int | None = None
        self._end = self.zero or 0  # right after the latest packet

    def stamp(self, timed: "Packet[VideoStream] | av.VideoFrame") -> int:
        """The time of a packet or a frame in ticks; one without a time follows the one before."""
        ticks = timed.pts if timed.pts is not None else timed.dts
        return self._end if ticks is None else ticks + self.shift

    def is_set_back(self, packet: "Packet[VideoStream]") -> bool:
        """Whether the clock was set back before the next packet."""
        order = packet.dts if packet.dts is not None else packet.pts
        return order is not None and self._last is not None and (self._last - order) * self.base > _STEP

    def take(self, packet: "Packet[VideoStream]") -> None:
        """Take note of the next packet. If the clock was set back, the video continues right after."""
        if self.is_set_back(packet):
            self.shift += self._end - self.stamp(packet)
        stamp = self.stamp(packet)
        if self.zero is None:
            self.zero = stamp
        self._last = packet.dts if packet.dts is not None else packet.pts
        self._end = max(self._end, stamp + (packet.duration or self.step))

    def seconds(self, stamp: int) -> float:
        """The seconds from the first frame to a time in ticks."""
        return max(float((stamp - (self.zero or 0)) * self.base), 0.0)


class _Reading:
    """Decodes a video from one of its packets on.

    A frame's number is the number of frames that come before it in time. It is counted by packets, so that a
    damaged frame counts, and a video that is read from a later keyframe numbers its frames as before.

    Args:
        source: Its counts of damaged frames grow.
        container: The opened container.
        stream: Its video.
        skip: Number of packets that are not decoded; a keyframe follows them.
    """

    def __init__(self, source: VideoFile, container: InputContainer, stream: VideoStream, skip: int) -> None:
        self.source, self.container, self.stream, self.skip = source, container, stream, skip
        self.context = stream.codec_context
        self.context.thread_type = "AUTO"  # a live source has no frames to wait for, and keeps one thread
        self.timeline = _Timeline(stream)
        self.number = skip
        self._waiting: list[int] = []  # a heap of the times of packets whose frames did not come yet

    def frames(self) -> Iterator[_Decoded]:
        """The frames in order."""
        for index, packet in enumerate(_packets(self.container, self.stream, self.source.name)):
            if index >= self.skip and self.timeline.is_set_back(packet):
                yield from self._decode(None)
                self.context.flush_buffers()
                self.number += len(self._waiting)
                self._waiting.clear()
            self.timeline.take(packet)
            if index < self.skip:
                continue
            if not packet.is_discard:
                heapq.heappush(self._waiting, self.timeline.stamp(packet))
            yield from self._decode(packet)
        yield from self._decode(None)

    def _decode(self, packet: "Packet[VideoStream] | None") -> Iterator[_Decoded]:
        try:
            frames = self.context.decode(packet)
        except (av.FFmpegError, ValueError):
            self.source.damaged += 1
            return
        for frame in frames:
            stamp, before = self.timeline.stamp(frame), len(self._waiting)
            while self._waiting and self._waiting[0] <= stamp:
                heapq.heappop(self._waiting)
            self.number += max(before - len(self._waiting), 1)
            if frame.is_corrupt:
                self.source.damaged += 1
            else:
                yield _Decoded(frame, self.number - 1, self.timeline.seconds(stamp))


def _packets(container: InputContainer, stream: VideoStream, name: str) -> "Iterator[Packet[VideoStream]]":
    """The packets of a video; places that are damaged are passed over."""
    failures = 0
    while failures < MOST_FAILURES:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    failures = 0
                    yield packet
            return
        except av.error.EOFError:
            return
        except (av.FFmpegError, OSError) as error:
            failures += 1
            if failures == 1:
                log.warning("%s: is damaged (%s)", name, reason(error))


def _duration(container: InputContainer, stream: VideoStream) -> float:
    """The duration in seconds; 0 if the container does not state it."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else 0.0
