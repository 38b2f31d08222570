"""Faults of sources while people are followed: tracklets stay whole, and nothing is there twice."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from kronreid.cameras.detectors import Detections
from kronreid.cameras.pipeline import Options, Summary, follow
from kronreid.cameras.sources import VideoFile, live, open_source
from kronreid.cameras.sources.live import Clock
from kronreid.gallery import Gallery
from kronreid.gallery.tracklets import Tracklet

from .conftest import HEIGHT, WIDTH, Colours, Street, walk
from .streams import serving
from .test_pipeline import stored

RATE = 10


class Visible:
    """A detector that finds a person on grey ground, and closes the source after so many frames."""

    def __init__(self, source, frames: float = np.inf) -> None:
        self.source, self.left = source, frames

    def __call__(self, image: np.ndarray) -> Detections:
        self.left -= 1
        if self.left == 0:
            self.source.close()
        differs = np.abs(image.astype(int) - 128).max(axis=2) > 12
        rows, columns = (np.flatnonzero(differs.sum(axis=axis) > 8) for axis in (1, 0))
        if not len(rows) or not len(columns):
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        left, top = columns[0], rows[0]
        box = [left, top, columns[-1] + 1 - left, rows[-1] + 1 - top]
        return Detections(np.array([box], np.float32), np.ones(1, np.float32))


def film(street: Street, numbers: range, times: Callable[[float], float] = lambda seconds: seconds) -> bytes:
    """Some frames of a street as a stream."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size, stream.bit_rate = 5, 8_000_000
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in numbers:
            image = street.image(number)
            image[0, :2] = 128
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(1000 * times(number / RATE)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def followed(tmp_path: Path, source, detector: Visible) -> tuple[Summary, list[Tracklet]]:
    with Gallery(tmp_path / "people.gallery", Colours()) as gallery:
        report = follow(gallery, [(source, detector)], Options(tmp_path / "crops", progress=False))
        return report.sources[0], stored(gallery)


@pytest.mark.parametrize(("outage", "expected"), [(2.0, 1), (30.0, 2)])
def test_a_stream_that_is_cut_and_comes_back(tmp_path, monkeypatch, outage, expected):
    """A person is in front of the camera when the connection is lost, and when it is back."""
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(live, "WAITING", 100)
    clock = SimpleNamespace(now=1_700_000_000.0)
    restart = Clock.restart

    def time() -> float:  # a frame arrives each time that somebody asks
        clock.now += 1 / RATE
        return clock.now

    def restarted(self: Clock) -> None:
        clock.now += outage
        restart(self)

    monkeypatch.setattr(live, "time", SimpleNamespace(time=time, monotonic=lambda: 0.0))
    monkeypatch.setattr(Clock, "restart", restarted)
    street = Street([walk(0, 5, (20, 250))], 5, RATE)
    with serving(film(street, range(25)), None, None, film(street, range(25, 50))) as server:
        source = open_source(server.address)
        summary, found = followed(tmp_path, source, Visible(source, frames=50))
        assert server.asked >= 4
    assert (summary.frames, summary.dropped, summary.damaged, summary.error) == (50, 0, 0, None)
    assert (summary.reconnected, summary.tracklets, summary.short) == (1, expected, 0)
    assert len({tracklet.id for tracklet in found}) == expected
    assert found[-1].end - found[0].start == pytest.approx(4.9 + outage, abs=0.2)
    if expected == 2:
        assert found[1].start - found[0].end == pytest.approx(outage, abs=0.3)


def recorded(street: Street, fault: str) -> bytes:
    """A recording of a street that has a fault."""
    frames, turn = range(street.length), street.length // 8
    if fault == "the clock steps back":
        return film(street, frames[:turn], lambda seconds: seconds + 100) + film(street, frames[turn:])
    if fault == "the rate changes":
        return film(street, frames, lambda seconds: max(seconds, 2 * seconds - 2))
    content = bytearray(film(street, frames))
    at = len(content) // 16
    content[at : at + 4_000] = np.random.default_rng(0).bytes(4_000)
    return bytes(content)


@pytest.mark.parametrize("fault", ["a damaged part", "the rate changes", "the clock steps back"])
def test_a_video_with_a_fault(tmp_path, fault):
    """Somebody is there when it happens, and somebody else comes later."""
    street = Street([walk(0, 4, (20, 250)), walk(13, 16, (250, 20))], 17, RATE)
    path = tmp_path / "door.ts"
    path.write_bytes(recorded(street, fault))
    source = VideoFile(path, start=1_700_000_000.0)
    summary, found = followed(tmp_path, source, Visible(source))
    assert summary.error is None
    lost = street.length - summary.frames
    assert 0 < lost < 20 if fault == "a damaged part" else lost == 0
    assert summary.tracklets == len(found) == 2
    assert found[0].end < found[1].start
    again, same = followed(tmp_path, VideoFile(path, start=1_700_000_000.0), Visible(source))
    assert again.already
    assert [one.id for one in same] == [one.id for one in found]
