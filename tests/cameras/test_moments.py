"""The frames of a recording around a moment, and recordings that are not what they were."""

import io
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kronreid.cameras import moments
from kronreid.cameras.identity import recording_name
from kronreid.cameras.moments import Place, stills
from kronreid.cameras.sources import FrameFolder, VideoFile
from kronreid.errors import InputError

from .videos import told, write_frames, write_video

CREATED = "2026-03-01T12:00:00Z"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """4 seconds of 10 frames each, with a keyframe every 4 frames."""
    return write_video(tmp_path / "door.mp4", frames=39, created=CREATED)


def place_of(source: VideoFile | FrameFolder) -> Place:
    size = source.path.stat().st_size if source.path.is_file() else None
    name = recording_name(source)
    return Place(str(source.path), source.name, source.camera, source.start, source.rate, name, size)


def numbers(found: moments.Stills) -> list[int]:
    return [told(np.asarray(Image.open(io.BytesIO(still.jpeg)))) for still in found.stills]


def test_the_frames_around_a_moment_come_from_a_process_of_its_own(video: Path) -> None:
    source = VideoFile(video)
    found = stills(place_of(source), source.start + 2.5, 60)
    assert (found.width, found.height) == (64, 48)
    assert numbers(found) == [5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37]
    assert [round(still.time - source.start, 3) for still in found.stills][:2] == [0.5, 0.7]


@pytest.mark.parametrize("at", [0.0, 0.1, 1.3, 3.8])
@pytest.mark.parametrize("rate", [None, 5.0])
def test_the_frame_of_the_moment_is_always_among_them(video: Path, at: float, rate: float | None) -> None:
    source = VideoFile(video, rate=rate)
    frame = next(frame for frame in source.frames() if frame.time >= source.start + at - 1e-6)
    found = moments._stills(place_of(source), frame.time)
    times = [still.time for still in found.stills]
    assert times[int(np.argmin(np.abs(np.array(times) - frame.time)))] == frame.time
    assert times == sorted(set(times))
    assert len(times) <= 26


def test_a_folder_of_frames_has_moments(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "yard", [f"f_{number:03d}.jpg" for number in range(9)])
    source = FrameFolder(folder, rate=2.0)
    found = moments._stills(place_of(source), source.start + 2.0)
    assert numbers(found) == list(range(9))


def test_large_frames_are_scaled_down(tmp_path: Path) -> None:
    source = VideoFile(write_video(tmp_path / "big.mp4", frames=2, size=(1280, 720), created=CREATED))
    found = moments._stills(place_of(source), source.start)
    assert (found.width, found.height) == (1280, 720)
    assert Image.open(io.BytesIO(found.stills[0].jpeg)).size == (960, 540)


def another(video: Path) -> None:
    write_video(video, frames=39, created=CREATED, first=1)


def same_beginning(video: Path) -> None:
    write_video(video, frames=12, created=CREATED)


def linked(video: Path) -> None:
    video.rename(video.with_name("moved.mp4"))
    video.symlink_to(video.with_name("moved.mp4"))


def pipe(video: Path) -> None:
    video.unlink()
    os.mkfifo(video)


def folder(video: Path) -> None:
    video.unlink()
    video.mkdir()


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "another video": (another, "has changed since its people were followed"),
    "a shorter one": (same_beginning, "has changed since its people were followed"),
    "no video": (lambda video: video.write_bytes(b"hello" * 999), "has changed since"),
    "gone": (Path.unlink, "is gone"),
    "a link": (linked, "is a link now"),
    "a pipe": (pipe, "cannot be read"),
    "a folder": (folder, "has no pictures"),
    "a device": (lambda video: (video.unlink(), video.symlink_to("/dev/zero")), "is a link now"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_recording_that_is_another_one_now_is_not_shown(video: Path, change: str) -> None:
    source = VideoFile(video)
    place = place_of(source)
    make, words = CHANGES[change]
    make(video)
    with pytest.raises(InputError, match=words):
        moments._stills(place, source.start + 2.5)
    if change == "a shorter one":  # without its size, what is left of it says so
        with pytest.raises(InputError, match="does not show this moment any more"):
            moments._stills(replace(place, size=None), source.start + 2.5)
    if change == "no video":
        with pytest.raises(InputError, match="is not a video that can be read"):
            moments._stills(replace(place, size=None), source.start + 2.5)


def test_a_frame_that_is_a_link_is_not_shown(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "yard", [f"f_{number:03d}.png" for number in range(5)])
    secret = shutil.copy(folder / "f_002.png", tmp_path / "secret.png")
    source = FrameFolder(folder, rate=2.0)
    place = place_of(source)
    (folder / "f_002.png").unlink()
    (folder / "f_002.png").symlink_to(secret)
    assert 2 not in numbers(moments._stills(place, source.start + 1.5))


def test_the_child_is_killed_when_it_takes_too_long(video: Path) -> None:
    source = VideoFile(video)
    with pytest.raises(InputError, match="takes too long to read"):
        stills(place_of(source), source.start, 0.0)


def test_a_child_that_the_system_kills_is_one_line_and_a_bug_is_none(video: Path, monkeypatch) -> None:
    source = VideoFile(video)
    place = place_of(source)
    with monkeypatch.context() as patched:
        patched.setattr(moments.sys, "path", ["/nowhere"])  # it cannot even be loaded
        with pytest.raises(RuntimeError, match="ModuleNotFoundError"):
            stills(place, source.start, 60)
    killed = subprocess.CompletedProcess([], -signal.SIGXCPU, b"", b"")
    monkeypatch.setattr(moments.subprocess, "run", lambda *given, **options: killed)
    with pytest.raises(InputError, match="cannot be decoded with the memory and time there are for it"):
        stills(place, source.start, 60)
