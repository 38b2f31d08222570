"""Folders of frames: numbers, times in names, and MOT sequences."""

from datetime import datetime, timezone
from pathlib import Path

import pytest

from kronreid.cameras.sources import open_source
from kronreid.errors import InputError

from ..videos import told, write_frames

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc).timestamp()


def frames_of(folder: Path, **options: object) -> list[tuple[int, float, int]]:
    """(number, seconds after noon, number that the picture tells) of the frames."""
    source = open_source(str(folder), **options)  # type: ignore[arg-type]
    return [(one.number, round(one.time - NOON, 3), told(one.image)) for one in source.frames()]


def sequence(folder: Path, settings: str = "frameRate=20\nname=MOT17-09\n") -> Path:
    write_frames(folder / "img1", [f"{number:06d}.png" for number in range(1, 7)])
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nimDir=img1\n{settings}")
    return folder


def test_numbered_frames(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", [f"cam2_{number}.png" for number in (8, 9, 10, 12)])
    expected = [(0, 0.0, 0), (1, 0.5, 1), (2, 1.0, 2), (4, 2.0, 3)]
    assert frames_of(folder, start=NOON, rate=2) == expected
    source = open_source(str(folder), start=NOON, rate=2)
    assert (source.live, source.length, source.camera, source.name) == (False, 5, "f", str(folder))
    assert [frame.number for frame in source.frames(NOON + 1)] == [2, 4]
    with pytest.raises(InputError, match=r"f: its frames have no times in their names .* give their rate"):
        open_source(str(folder))


@pytest.mark.parametrize(
    "pattern",
    [
        "{:%Y-%m-%d_%H-%M-%S}.png",
        "{:%Y%m%dT%H%M%SZ}.png",
        "door_{:%Y%m%d%H%M%S}_x.png",
        "{:.0f}.png",
        "{:.0f}000.png",
    ],
)
def test_times_in_names(tmp_path: Path, pattern: str) -> None:
    seconds = [0, 1, 2, 7, 9]
    moments = [NOON + second for second in seconds]
    if "%" in pattern:
        names = [pattern.format(datetime.fromtimestamp(moment, timezone.utc)) for moment in moments]
    else:
        names = [pattern.format(moment) for moment in moments]
    folder = write_frames(tmp_path / "f", names)
    assert frames_of(folder) == [(n, float(second), n) for n, second in enumerate(seconds)]
    assert [number for number, _, _ in frames_of(folder, rate=0.5)] == [0, 2, 3, 4]
    assert frames_of(folder, start=NOON + 100)[-1] == (4, 109.0, 4)


def test_one_time_in_all_names_is_the_beginning(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", [f"2026-03-01_12-00-00_f{number}.png" for number in range(3)])
    assert frames_of(folder, rate=10) == [(0, 0.0, 0), (1, 0.1, 1), (2, 0.2, 2)]


def test_mot_sequences(tmp_path: Path) -> None:
    folder = sequence(tmp_path / "MOT17-09-FRCNN")
    expected = [(n, round(n / 20, 3), n) for n in range(6)]
    for path in (folder, folder / "img1"):
        assert frames_of(path, start=NOON) == expected
        assert open_source(str(path)).camera == "MOT17-09"
        assert [n for n, _, _ in frames_of(path, start=NOON, rate=10)] == [0, 2, 4]
    (folder / "seqinfo.ini").unlink()
    assert frames_of(folder, start=NOON, rate=20) == expected


@pytest.mark.parametrize("rate", ["0", "-3", "fast", "nan", "inf", ""])
def test_a_wrong_rate_in_seqinfo(tmp_path: Path, rate: str) -> None:
    folder = sequence(tmp_path / "A", f"frameRate={rate}\n")
    with pytest.raises(InputError, match=r"seqinfo\.ini: frameRate '.*' must be a number above 0"):
        open_source(str(folder))


def test_a_damaged_frame_is_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_frames(tmp_path / "f", [f"{number}.png" for number in range(4)])
    (folder / "2.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no frame")
    source = open_source(str(folder), rate=5)
    assert [frame.number for frame in source.frames()] == [0, 1, 3]
    assert source.damaged == 1
    assert "2.png: is not a picture" in caplog.text
    for path in folder.glob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of its frames can be read"):
        list(source.frames())


def test_closing_ends_the_frames(tmp_path: Path) -> None:
    source = open_source(str(write_frames(tmp_path / "f", ["1.png", "2.png"])), rate=5)
    frames = source.frames()
    next(frames)
    source.close()
    assert list(frames) == []


def test_folders_without_frames(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: has no pictures; name a folder of frames") as error:
        open_source(str(tmp_path / "empty"))
    assert str(error.value).startswith(f"{tmp_path}/empty: has no pictures")
    sequence(tmp_path / "train" / "A")
    with pytest.raises(InputError, match=r"train: holds several sequences; name one of them"):
        open_source(str(tmp_path / "train"))


def test_img_dir_never_leaves_the_folder(tmp_path: Path) -> None:
    write_frames(tmp_path / "away", ["1.png"])
    folder = write_frames(tmp_path / "A", ["1.png", "2.png"])
    (folder / "seqinfo.ini").write_text("imDir=../away\nframeRate=10\n")
    assert len(frames_of(folder)) == 2
