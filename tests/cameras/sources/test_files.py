"""Video files: times, numbers, damage, resuming, and what is refused."""

import logging
import os
import struct
from datetime import datetime, timezone
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.cameras.frames import Frame
from kronreid.cameras.sources import open_source
from kronreid.errors import InputError

from ..videos import told, write_video

NOON = "2026-03-01T12:00:00"
NOON_SECONDS = datetime(2026, 3, 1, 12, tzinfo=timezone.utc).timestamp()


def numbers(frames: list[Frame]) -> list[int]:
    return [frame.number for frame in frames]


def after_noon(frames: list[Frame]) -> list[float]:
    return [round(frame.time - NOON_SECONDS, 3) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 frames at 10 per second, with three keyframes and B-frames."""
    return write_video(tmp_path_factory.mktemp("video") / "door.mp4", created=f"{NOON}Z")


def test_all_frames_with_their_times(video: Path) -> None:
    source = open_source(str(video))
    assert (source.name, source.camera, source.live, source.length) == (str(video), "door", False, 12)
    frames = list(source.frames())
    assert numbers(frames) == [told(frame.image) for frame in frames] == list(range(12))
    assert after_noon(frames) == [round(number / 10, 3) for number in range(12)]
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert (source.dropped, source.damaged) == (0, 0)
    assert len(list(source.frames())) == 12, "it can be read again"


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.ts", "libx264"), ("a.mov", "mjpeg")],
)
def test_formats(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, codec=codec)
    frames = list(open_source(str(path), start=NOON).frames())
    assert numbers(frames) == [told(frame.image) for frame in frames] == list(range(12))
    assert after_noon(frames) == pytest.approx([number / 10 for number in range(12)], abs=0.002)


def test_a_frame_rate_that_changes(tmp_path: Path) -> None:
    times = [0, 0.1, 0.2, 0.3, 0.8, 1.3, 3.3, 3.35, 3.4, 3.45]
    path = write_video(tmp_path / "a.mkv", frames=10, times=times)
    frames = list(open_source(str(path), start=NOON).frames())
    assert after_noon(frames) == pytest.approx(times, abs=0.002)


@pytest.mark.parametrize(
    ("rate", "kept"),
    [(5, [0, 2, 4, 6, 8, 10]), (10, list(range(12))), (50, list(range(12))), (2, [0, 5, 10]), (0.5, [0])],
)
def test_a_wanted_rate(video: Path, rate: float, kept: list[int]) -> None:
    assert numbers(list(open_source(str(video), rate=rate).frames())) == kept


@settings(max_examples=25)
@given(start=st.floats(-1, 2), rate=st.sampled_from([None, 3.0, 5.0]))
def test_reading_from_a_time_on_gives_the_same_frames(video: Path, start: float, rate: float | None) -> None:
    source = open_source(str(video), rate=rate)
    whole = [frame for frame in source.frames() if frame.time >= NOON_SECONDS + start]
    part = list(source.frames(NOON_SECONDS + start))
    assert [(one.number, one.time) for one in part] == [(one.number, one.time) for one in whole]
    assert [told(frame.image) for frame in part] == numbers(part)


def test_a_long_video_is_decoded_from_the_keyframe_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", frames=30, rate=5, gop=5, created=NOON)
    source = open_source(str(path))
    assert source._keyframe_before(NOON_SECONDS + 5) == 20  # type: ignore[attr-defined]
    frames = list(source.frames(NOON_SECONDS + 5))
    assert numbers(frames) == [told(frame.image) for frame in frames] == list(range(25, 30))


def test_where_the_times_come_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stated = write_video(tmp_path / "a_2026-03-01_13-00-00.mp4", frames=2, created=f"{NOON}Z")
    named = write_video(tmp_path / "b_2026-03-01_12-00-00.avi", frames=2, codec="mpeg4")
    neither = write_video(tmp_path / "c.avi", frames=10, codec="mpeg4")
    os.utime(neither, (NOON_SECONDS + 1, NOON_SECONDS + 1))
    for path in (stated, named, neither):
        assert next(iter(open_source(str(path)).frames())).time == pytest.approx(NOON_SECONDS, abs=0.01)
    assert "has no time; the first frame is assumed to be of 2026-03-01T12:00:00" in caplog.text
    for start in ("2027-01-01", 1798761600, "2027-01-01T01:00:00+01:00"):
        source = open_source(str(stated), start=start)
        assert next(iter(source.frames())).time == 1798761600


def test_cameras_are_called_after_their_files(tmp_path: Path) -> None:
    for name, camera in {
        "door_2026-03-01_12-00-00.mp4": "door",
        "2026-03-01_12-00-00.mp4": "yard",
        "hall.mp4": "hall",
    }.items():
        (tmp_path / "yard").mkdir(exist_ok=True)
        path = write_video(tmp_path / "yard" / name, frames=1)
        assert open_source(str(path)).camera == camera
        assert open_source(str(path), camera="c7").camera == "c7"


def turned(path: Path, matrix: tuple[int, ...]) -> Path:
    """Write the matrix of rotation into the header of an MP4 file's track."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "brightest"),
    [
        ((0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30), "right"),  # 90° clockwise
        ((-(1 << 16), 0, 0, 0, -(1 << 16), 0, 0, 0, 1 << 30), "bottom"),
        ((0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 0, 1 << 30), "left"),
    ],
)
def test_rotation_is_honoured(tmp_path: Path, matrix: tuple[int, ...], brightest: str) -> None:
    """The upper half is bright before the rotation."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        image = np.zeros((32, 64, 3), np.uint8)
        image[:16] = 250
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    (frame,) = open_source(str(turned(path, matrix))).frames()
    height, width = frame.image.shape[:2]
    assert (height, width) == ((32, 64) if brightest == "bottom" else (64, 32))
    halves = {
        "bottom": frame.image[height // 2 :],
        "left": frame.image[:, : width // 2],
        "right": frame.image[:, width // 2 :],
    }
    assert halves[brightest].mean() > 200 > 2 * (frame.image.mean() - halves[brightest].mean() / 2)


def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """Two recordings of one camera in one file, as a recorder writes it whose clock was set."""
    parts = [
        write_video(tmp_path / "1.ts", frames=8, times=[100 + n / 10 for n in range(8)]),
        write_video(tmp_path / "2.ts", frames=8, times=[20 + n / 10 for n in range(8)], first=8),
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    source = open_source(str(path), start=NOON)
    frames = list(source.frames())
    assert numbers(frames) == [told(frame.image) for frame in frames] == list(range(16))
    assert after_noon(frames) == pytest.approx([n / 10 for n in range(16)], abs=0.15)
    assert after_noon(frames) == sorted(after_noon(frames))
    again = list(source.frames(frames[11].time))
    assert [(one.number, one.time) for one in again] == [(one.number, one.time) for one in frames[11:]]


@settings(max_examples=40)
@given(data=st.data(), format=st.sampled_from(["mkv", "ts", "mp4", "avi"]))
def test_damage_costs_frames_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, damageable: dict[str, bytes], data: st.DataObject, format: str
) -> None:
    """Whatever bytes are changed or cut off: frames that come are in order, and errors are one line."""
    content = bytearray(damageable[format])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.integers(1, 60))
        content[at : at + length] = data.draw(st.binary(min_size=length, max_size=length))
    del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.mktemp("damaged") / f"a.{format}"
    path.write_bytes(content)
    try:
        frames = list(open_source(str(path), start=NOON).frames())
    except InputError as error:
        frames, line = [], str(error)
    else:
        line = str(path)
    assert line.startswith(str(path))
    assert "\n" not in line
    assert numbers(frames) == sorted(set(numbers(frames)))
    assert after_noon(frames) == sorted(after_noon(frames))


@pytest.fixture(scope="module")
def damageable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    codecs = {"mkv": "libx264", "ts": "libx264", "mp4": "libx264", "avi": "mpeg4"}
    return {
        name: write_video(folder / f"a.{name}", codec=codec).read_bytes() for name, codec in codecs.items()
    }


def test_damaged_frames_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "a.avi", frames=12, codec="mjpeg")
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content)) if content[at : at + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 12
    for number in (3, 7):
        size = starts[number + 1] - starts[number] - 20  # no JPEG any more
        content[starts[number] : starts[number] + size] = bytes(size)
    path.write_bytes(content)
    source = open_source(str(path))
    frames = list(source.frames())
    assert numbers(frames) == [told(frame.image) for frame in frames]
    assert numbers(frames) == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]
    assert source.damaged == 2
    assert "2 damaged frames were skipped" in caplog.text


def test_a_truncated_video_gives_what_it_has(tmp_path: Path) -> None:
    for name in ("a.mkv", "a.ts"):
        path = write_video(tmp_path / name, frames=30, size=(320, 240), codec="mpeg4")
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
        frames = list(open_source(str(path)).frames())
        assert numbers(frames) == [told(frame.image) for frame in frames] == list(range(len(frames)))
        assert 5 < len(frames) < 30


def test_closing_ends_the_frames(video: Path) -> None:
    source = open_source(str(video))
    frames = source.frames()
    next(frames)
    source.close()
    assert list(frames) == []
    assert len(list(source.frames())) == 12


def without_video(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_unknown_codec(path: Path) -> Path:
    write_video(path, codec="mpeg4", frames=2)
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"XQZ7"))
    return path


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video " * 100)
    without_video(tmp_path / "sound.m4a")
    with_unknown_codec(tmp_path / "codec.avi")
    os.mkfifo(tmp_path / "pipe.mp4")
    cases = {
        "gone.mp4": "no such file",
        "empty.mp4": "is empty",
        "text.mp4": "is not a video that can be read",
        "sound.m4a": r"has no video track \(it has audio\)",
        "codec.avi": "its codec is not supported",
        "pipe.mp4": "no plain file",
        "a\0b": "no such file",
    }
    for name, line in cases.items():
        with pytest.raises(InputError, match=line) as error:
            open_source(str(tmp_path / name))
        assert str(error.value).startswith(str(tmp_path / name)), name
    with pytest.raises(InputError, match=r"rate 0: ?must be|rate 0"):
        open_source(str(tmp_path / "text.mp4"), rate=0)


def test_a_file_that_names_other_files_is_not_followed(tmp_path: Path, video: Path) -> None:
    """Playlists and lists of FFmpeg, under names of videos; and its protocols as names."""
    playlists = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n{video}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{video}'\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\na=x:{video}\n",
    ]
    for text in playlists:
        path = tmp_path / "list.mp4"
        path.write_text(text)
        with pytest.raises(InputError, match="is not a video that can be read"):
            open_source(str(path))
    for name in (f"file:{video}", f"concat:{video}|{video}", f"subfile,,start,0,end,0,,:{video}", "pipe:0"):
        with pytest.raises(InputError, match="no such file"):
            open_source(name)
    for name in ("file:///etc/passwd", "ftp://a/b", "tcp://127.0.0.1:9", "data://text", "crypto+https://a/b"):
        with pytest.raises(InputError, match="streams of this kind are not opened"):
            open_source(name)


def test_a_damaged_file_says_nothing_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """FFmpeg writes to the terminal itself unless it is told not to."""
    caplog.set_level(logging.CRITICAL)
    path = write_video(tmp_path / "a.mkv")
    path.write_bytes(path.read_bytes()[:-50] + b"x" * 50)
    list(open_source(str(path)).frames())
    assert capfd.readouterr() == ("", "")
