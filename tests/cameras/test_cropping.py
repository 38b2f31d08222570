"""People cut out of videos and frames by a detector."""

import csv
import re
from datetime import datetime, timezone
from pathlib import Path

import av
import numpy as np
import pytest

from kronreid.cameras import cropping
from kronreid.cameras.cropping import FramesReport, crop_frames
from kronreid.cameras.detectors import Detections
from kronreid.cameras.frames import Frame
from kronreid.cameras.sources import open_source
from kronreid.cli import main
from kronreid.data.images import open_rgb
from kronreid.data.manifest import NAME
from kronreid.data.readers import describe
from kronreid.errors import InputError
from kronreid.gallery import read_list

from .videos import write_frames, write_video

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc).timestamp()


def two(image: np.ndarray) -> Detections:
    """Two people in each frame: one in the middle, one at the border."""
    boxes = np.array([[10, 5, 12, 30], [-4.2, 20, 14, 40]], np.float32)
    return Detections(boxes, np.array([0.9, 0.8], np.float32))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "door.mp4", frames=6, created="2026-03-01T12:00:00")


def crop(out: Path, *paths: Path, rate: float | None = None, min_height: int = 0) -> FramesReport:
    sources = [(open_source(str(path), rate=rate), two) for path in paths]
    return crop_frames(sources, out, min_height, progress=False)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def test_crops_have_camera_frame_and_time(tmp_path: Path, video: Path) -> None:
    out = tmp_path / "out"
    report = crop(out, video)
    assert report == FramesReport(written=12, frames=6)
    listed = rows(out)
    assert {row["path"] for row in listed} == {path.name for path in out.glob("*.jpg")}
    assert [row["frame"] for row in listed[::2]] == [f"{video}#{number:06d}" for number in range(6)]
    assert [row["time"] for row in listed[:4]] == [
        *["2026-03-01T12:00:00+00:00"] * 2,
        *["2026-03-01T12:00:00.100000+00:00"] * 2,
    ]
    assert {row["camera"] for row in listed} == {"door"}
    assert {row["frame_box"] for row in listed} == {"10,5,12,30", "0,20,10,28"}
    assert {open_rgb(path).size for path in out.glob("*.jpg")} == {(12, 30), (10, 28)}
    names = [re.sub(r"_[0-9a-f]{12}(?=\.jpg$)", "", row["path"]) for row in listed]
    assert names == [f"1_{number:06d}.jpg" for number in range(6) for _ in range(2)]
    assert describe(out / listed[0]["path"]).camera == 1
    entries, unreadable = read_list(out / NAME)
    assert not unreadable
    assert [(entry.camera, entry.time) for entry in entries[2:4]] == [("door", pytest.approx(NOON + 0.1))] * 2
    assert entries[0].source == str(video)


def test_it_goes_on_and_writes_nothing_twice(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(cropping, "TOGETHER", 4)

    class Stopped(BaseException):
        pass

    frames = 0

    def stops(image: np.ndarray) -> Detections:
        nonlocal frames
        frames += 1
        if frames == 4:
            raise Stopped
        return two(image)

    with pytest.raises(Stopped):
        crop_frames([(open_source(str(video)), stops)], out, progress=False)
    before = {row["path"] for row in rows(out)}
    assert before == {path.name for path in out.glob("*.jpg")}
    assert len(before) == 6, "what was found before is written"
    report = crop(out, video)
    assert (report.written, report.existing) == (6, 6)
    assert before < {row["path"] for row in rows(out)} == {path.name for path in out.glob("*.jpg")}
    assert crop(out, video) == FramesReport(existing=12, frames=6)


def test_several_sources_a_rate_and_a_minimum(tmp_path: Path, video: Path) -> None:
    folder = write_frames(tmp_path / "yard", [f"2026-03-01_12-00-0{number}.png" for number in range(3)])
    report = crop(tmp_path / "out", video, folder, rate=5, min_height=29)
    assert report == FramesReport(written=3 + 3, frames=3 + 3)
    assert {row["camera"] for row in rows(tmp_path / "out")} == {"door", "yard"}


def test_a_source_that_fails_stops_no_other(tmp_path: Path, video: Path) -> None:
    folder = write_frames(tmp_path / "yard", ["1.png"])
    source = open_source(str(folder), rate=5)
    (folder / "1.png").write_bytes(b"gone")
    report = crop_frames([(source, two), (open_source(str(video)), two)], tmp_path / "out", progress=False)
    assert (report.written, report.damaged) == (12, 1)
    assert report.failed == [f"{folder}: none of its frames can be read"]


class Live:
    """A live source with one frame."""

    name, camera, live, length = "rtsp://anna@cam1/live", "cam1", True, None
    dropped, damaged, reconnected = 3, 1, 0

    def __init__(self, time: float) -> None:
        self.time = time

    def frames(self, start: float | None = None):  # type: ignore[no-untyped-def]
        yield Frame(np.zeros((60, 80, 3), np.uint8), self.time, 0)

    def close(self) -> None:
        pass


def test_frames_of_a_live_source_are_told_apart_by_their_times(tmp_path: Path) -> None:
    """Their numbers begin again with each run."""
    for time in (NOON, NOON + 1):
        report = crop_frames([(Live(time), two)], tmp_path, progress=False)
        assert report == FramesReport(written=2, frames=1, damaged=1, dropped=3)
    assert len(list(tmp_path.glob("*.jpg"))) == 4


def walking(path: Path) -> Path:
    """A video of someone in red who walks across a grey wall."""
    random = np.random.default_rng(0)
    wall = np.kron(random.integers(80, 150, (9, 16, 1)), np.ones((10, 10, 3))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for number in range(25):
            image = wall.copy()
            if number >= 5:
                image[20:75, 5 * number : 5 * number + 20] = (200, 20, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, out = walking(tmp_path / "hall_2026-03-01_12-00-00.mp4"), tmp_path / "out"
    arguments = ["crop", str(video), "--detector", "motion", "--out", str(out), "--rate", "5"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert re.search(r"^\d+ written, 0 were there: .*/out; 13 frames, 0 damaged, 0 dropped\n$", said)
    listed = rows(out)
    assert len(listed) >= 7
    assert {row["camera"] for row in listed} == {"hall"}
    for row in listed:
        left, top, width, height = map(int, row["frame_box"].split(","))
        number = int(row["frame"].rpartition("#")[2])
        assert abs(left - 5 * number) <= 6
        assert abs(top - 20) <= 6
        assert abs(width - 20) <= 10
        assert abs(height - 55) <= 10
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"0 written, {len(listed)} were there")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["gone.mp4", "--detector", "motion"], "gone.mp4: no such file or folder"),
        (["{video}", "--detector", "motoin"], "detector motoin: is unknown"),
        (["{video}", "--detector", "motion", "--set", "x=1"], "detector motion: x is unknown"),
        (["{video}", "--detector", "motion", "--start", "noon"], "time 'noon': write 2024-05-01"),
        (["{video}", "--detector", "motion", "--rate", "0"], "rate 0.0: must be a number above 0"),
        (["{video}", "--detector", "motion", "--category", "car"], "--category: is for lists of boxes"),
        (["{video}", "--rate", "5"], "--rate: is for videos and frames; it needs --detector"),
        (["{video}"], "a video or stream needs --detector"),
        (["ftp://a:secret@b/c", "--detector", "motion"], "ftp://a@b/c: streams of this kind are not opened"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    given = [one.format(video=video) for one in arguments]
    assert main(["crop", *given, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("kronreid: error: ")
    assert line in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_pictures_is_left_as_it_is(tmp_path: Path, video: Path) -> None:
    write_frames(tmp_path / "out", ["1.png"])
    with pytest.raises(InputError, match=r"has pictures but no crops\.csv"):
        crop(tmp_path / "out", video)
