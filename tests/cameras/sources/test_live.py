"""Live sources: a stream that is cut and comes back, dropped frames, and times that never decrease."""

import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kronreid.cameras.sources import live, open_source
from kronreid.cameras.sources.live import WAITING, Clock, LiveSource
from kronreid.errors import InputError

from ..streams import serving
from ..videos import DARKEST, STEP, told, write_video


@contextmanager
def opened(address: str, rate: float | None = None) -> Iterator[LiveSource]:
    source = open_source(address, rate=rate)
    assert isinstance(source, LiveSource)
    try:
        yield source
    finally:
        source.close()
        if source._thread is not None:
            source._thread.join(10)
            assert not source._thread.is_alive()


def part(first: int, frames: int = 6) -> bytes:
    """A part of a stream whose frames tell their numbers."""
    file = io.BytesIO()
    write_video(file, frames=frames, first=first, format="mpegts", codec="mpeg4", rate=25)
    return file.getvalue()


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(live, "LONGEST_PAUSE", 0.04)


@pytest.mark.usefixtures("short_pauses")
def test_a_stream_that_is_cut_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    before = time.time()
    with serving(part(0), part(6), part(12)) as server, opened(server.address) as source:
        frames = []
        for frame in source.frames():
            frames.append(frame)
            if len(frames) + source.dropped == 18:
                break
        assert source.connections == 3
    assert [told(frame.image) for frame in frames] == [frame.number for frame in frames]
    assert frames[-1].number == 17
    times = [frame.time for frame in frames]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= time.time()
    assert source.live
    assert source.length is None
    assert source.name == f"http://anna@127.0.0.1:{server.server.server_port}/live?token=***"
    assert source.camera == f"127.0.0.1:{server.server.server_port}/live"
    assert "the connection is lost" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.usefixtures("short_pauses")
def test_pauses_grow_while_there_is_no_stream(caplog: pytest.LogCaptureFixture) -> None:
    with serving(part(0)) as server, opened(server.address) as source:
        frames = source.frames()
        next(frames)
        while server.asked < 6:
            time.sleep(0.005)
        server.parts.append(part(6))
        for frame in frames:
            if told(frame.image) == 11:
                break
    assert "503" in caplog.text or "5XX" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.usefixtures("short_pauses")
def test_a_live_source_drops_the_oldest_frames_and_counts_them() -> None:
    with serving(part(0, 30)) as server, opened(server.address) as source:
        frames = source.frames()
        taken = [next(frames)]
        while server.asked < 3:  # the stream has ended: all its frames have arrived
            time.sleep(0.005)
        while taken[-1].number < 29:
            taken.append(next(frames))
        assert source.dropped == 30 - len(taken) >= 30 - WAITING - 1
        assert {frame.number for frame in taken} >= set(range(30 - WAITING, 30))
        assert [told(frame.image) for frame in taken] == [frame.number for frame in taken]
        source.close()
        assert list(frames) == []


def test_pictures_of_a_camera_that_sends_them_one_by_one() -> None:
    """Motion JPEG: most webcams with a web server send it."""
    sent = b""
    for number in range(8):
        file = io.BytesIO()
        Image.new("RGB", (64, 48), (DARKEST + STEP * number,) * 3).save(file, "JPEG")
        head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(file.getvalue())}\r\n\r\n"
        sent += head.encode() + file.getvalue() + b"\r\n"
    with serving(sent) as server, opened(server.address) as source:
        numbers = []
        for frame in source.frames():
            numbers.append(told(frame.image))
            if numbers[-1] == 7:
                break
    assert numbers == sorted(numbers)


def test_closing_before_the_first_frame() -> None:
    with serving(part(0)) as server, opened(server.address) as source:
        source.close()
        assert list(source.frames()) == []


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # nobody listens
        for address in (f"http://a:hunter2@127.0.0.1:{port}/x", f"rtsp://a:hunter2@127.0.0.1:{port}/x"):
            with pytest.raises(InputError, match=r"://a@127\.0\.0\.1:\d+/x: cannot be opened") as error:
                open_source(address)
            assert "hunter2" not in str(error.value)
    for content in (b"", b"no video" * 500, b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"):
        with serving(content) as server, pytest.raises(InputError) as error:
            open_source(server.address)
        assert "hunter2" not in str(error.value)
        assert "\n" not in str(error.value)
    with serving() as server, pytest.raises(InputError, match="cannot be opened"):
        open_source(server.address)
    with pytest.raises(InputError, match=r"/dev/video97: cannot be opened"):
        open_source("/dev/video97")
    with pytest.raises(InputError, match=r"rtsp://a@b/c: is live, so its times"):
        open_source("rtsp://a:hunter2@b/c", start="2026-03-01")


def test_a_recording_on_a_server_is_no_stream() -> None:
    file = io.BytesIO()
    write_video(file, format="matroska")
    with serving(file.getvalue(), file.getvalue(), file.getvalue()) as server:
        server.length = True
        with pytest.raises(InputError, match="is a recording and no stream; download it"):
            open_source(server.address)


def test_bugs_of_the_thread_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Clock) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Clock, "restart", broken)
    with (
        serving(part(0)) as server,
        opened(server.address) as source,
        pytest.raises(RuntimeError, match="a bug"),
    ):
        next(source.frames())


@settings(max_examples=50)
@given(
    steps=st.lists(
        st.tuples(
            st.floats(0, 30),  # seconds until the next frame arrives
            st.one_of(
                st.none(), st.floats(-1e6, 1e6)
            ),  # how far the source's clock moves; None: as it should
            st.floats(-1e5, 1e5),  # how far this computer's clock is set
        ),
        max_size=30,
    )
)
def test_times_never_decrease(steps: list[tuple[float, float | None, float]]) -> None:
    """Whatever clock is set in whatever direction."""
    with pytest.MonkeyPatch.context() as patch:
        now = {"wall": 1e9, "monotonic": 0.0}
        clocks = SimpleNamespace(time=lambda: now["wall"], monotonic=lambda: now["monotonic"])
        patch.setattr(live, "time", clocks)
        clock, stated, latest = Clock(), 0.0, 0.0
        for elapsed, moved, set_by in steps:
            now["monotonic"] += elapsed
            now["wall"] += elapsed + set_by
            stated += elapsed if moved is None else moved
            found = clock.time(stated)
            assert found >= latest
            latest = found


def test_frames_that_arrive_in_bursts_are_even() -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = 1e9
        patch.setattr(live, "time", SimpleNamespace(time=lambda: now, monotonic=lambda: now))
        clock, times = Clock(), []
        for number in range(50):
            now = 1e9 + 5 * (number // 5) / 25 + 0.2  # five frames at once
            times.append(clock.time(number / 25))
    later = [b - a for a, b in pairwise(times[5:])]
    assert later == pytest.approx([1 / 25] * len(later), abs=1e-3)
