"""MOT's files as its editions, its successors and annotation tools write them."""

import logging
from pathlib import Path

import pytest

from kronreid.data.lists import read_rows
from kronreid.errors import InputError

from ..miniatures import tree


def mot(root: Path, text: str | bytes, frames: str = "img1/{:06d}.jpg", numbers: range = range(1, 4)) -> Path:
    """A sequence S with empty frames; returns its gt.txt."""
    tree(root / "S", "gt/", *(frames.format(number) for number in numbers))
    path = root / "S" / "gt" / "gt.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def found(path: Path, *categories: str) -> list[tuple]:
    """Frame, file, track and box of each row."""
    return [
        (row.attributes["frame"], row.path.name, row.identity, row.box)
        for row in read_rows(path, categories).rows
    ]


TWO = [(1, "000001.jpg", "S/5", (9, 19, 30, 60)), (2, "000002.jpg", "S/5", (10, 20, 30, 60))]


@pytest.mark.parametrize(
    "text",
    [
        "1,5,10,20,30,60,1,-1,-1,-1\n2,5,11,21,30,60,1,-1,-1,-1\n",  # MOT15
        "1,5,10,20,30,60,1,-7.2,1.5,0\n2,5,11,21,30,60,1,1,0.5,0\n1,6,1,1,9,9,0,2.5,3.25,0\n",  # in the world
        "1,5,10,20,30,60,1,1,0.9\n2,5,11,21,30,60,1,1,1\n1,6,1,1,9,9,1,3,1\n1,7,1,1,9,9,0,1,1\n",  # MOT17
        "1,5,10,20,30,60,1,1,0.9,-1\n2,5,11,21,30,60,1,1,1,-1\n1,6,1,1,9,9,1,3,1,-1\n",
        "1,5,10,20,30,60\n2,5,11,21,30,60\n",
        "1 5 10 20 30 60 1 1 1\n2\t5 11 21 30 60 1 1 1\n",
        "1;5;10;20;30;60;1;1;1\n2;5;11;21;30;60;1;1;1\n",
        " 1.0, 5.0, 10, 20, 30, 60, 1, 1, 1,\r\n\r\n2, 5, 11, 21, 30, 60, 1, 1, 1, \r\n\r\n",
        "\ufeff# frame, id, x, y, w, h\n1,5,10,20,30,60,1,1,1\n2,5,11,21,30,60,1,1,1",
    ],
)
def test_every_edition_is_read(tmp_path: Path, text: str) -> None:
    path = mot(tmp_path, text)
    assert found(path) == TWO
    assert not read_rows(path).skipped


def test_what_the_flag_and_class_leave_out_is_counted(tmp_path: Path) -> None:
    path = mot(
        tmp_path, "1,5,10,20,30,60,1,1,0.25\n1,6,1,1,9,9,1,3,1\n1,7,1,1,9,9,0,1,1\n1,8,1,1,9,9,1,7,1\n"
    )
    content = read_rows(path)
    assert content.left_out == {"of class 3 (car)": 1, "with flag 0": 1, "of class 7 (static person)": 1}
    assert [row.visibility for row in content.rows] == [0.25]
    path.write_text("1,6,1,1,9,9,1,3,1\n1,7,1,1,9,9,0,1,1\n")
    with pytest.raises(
        InputError, match=r"gt\.txt: has no usable boxes; left out: 1 of class 3 \(car\), 1 with"
    ):
        read_rows(path)


@pytest.mark.parametrize(
    "columns", ["-1,10,20,30,60,0.9", "-1,10,20,30,60,-0.4,-1,-1,-1", "-1,10,20,30,60,1"]
)
def test_detections_are_of_nobody(tmp_path: Path, columns: str) -> None:
    tree(tmp_path / "S", "det/", "img1/000001.jpg")
    (tmp_path / "S/det/det.txt").write_text(f"1,{columns}\n1,-1,1,1,9,9,0,-1,-1,-1\n")
    rows = read_rows(tmp_path / "S/det/det.txt").rows
    assert [(row.identity, row.box) for row in rows] == [(None, (9, 19, 30, 60)), (None, (0, 0, 9, 9))]


def test_flags_of_classes_that_have_none_do_not_count(tmp_path: Path) -> None:
    path = mot(tmp_path, "1,1,1,1,9,9,1,1,1\n1,2,1,1,9,9,0,1,1\n1,3,1,1,9,9,0,3,1\n1,4,1,1,9,9,0,7,1\n")
    assert [row[2] for row in found(path)] == ["S/1"]
    assert [row[2] for row in found(path, "car")] == ["S/3"]
    assert [row[2] for row in found(path, "static person", "pedestrian")] == ["S/1", "S/4"]


def test_tracks_count_from_0(tmp_path: Path) -> None:
    assert [row[2] for row in found(mot(tmp_path, "1,0,1,1,9,9,1,1,1\n1,-1,1,1,9,9,1,1,1\n"))] == [
        "S/0",
        None,
    ]


BAD = [
    ("1,5,10,20,0.3,60,1,1,1", "covers no pixel"),
    ("1,5,10,20,30,0,1,1,1", "covers no pixel"),
    ("1,5,10,20,-3,5,1,1,1", "covers no pixel"),
    ("1,5,nan,20,30,60,1,1,1", "four finite numbers"),
    ("1,5,1,2,inf,60,1,1,1", "four finite numbers"),
    ("nan,5,10,20,30,60,1,1,1", "frame,track,left"),
    ("inf,5,10,20,30,60,1,1,1", "frame,track,left"),
    ("1.5,5,10,20,30,60,1,1,1", "frame,track,left"),
    ("1e300,5,10,20,30,60,1,1,1", "frame,track,left"),
    ("1,5,10,20,30", "frame,track,left"),
    ("1,,10,20,30,60,1,1,1", "frame,track,left"),
    ("1_0,5,10,20,30,60,1,1,1", "frame,track,left"),
    ("garbage", "frame,track,left"),
    ("frame,id,x,y,w,h,flag,class,visibility", "frame,track,left"),
    ("9,5,10,20,30,60,1,1,1", "has no picture in"),
    ("-1,5,10,20,30,60,1,1,1", "has no picture in"),
    ("1,5,10,20,30,60,nan,1,1", "flag nan"),
    ("1,5,10,20,30,60,1,nan,1", "class nan"),
    ("1,5,10,20,30,60,1,1.5,1", "class 1.5"),
    ("\0\0\0", "frame,track,left"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_line_is_skipped_and_named(tmp_path: Path, line: str, reason: str) -> None:
    path = mot(tmp_path, f"1,5,10,20,30,60,1,1,1\n\n{line}\n2,5,11,21,30,60,1,1,1\n")
    assert found(path) == TWO
    (skipped,) = read_rows(path).skipped
    assert skipped.where == "line 3"
    assert reason in skipped.reason
    path.write_text(line + "\n" + line)
    with pytest.raises(InputError, match=r"gt\.txt: "):
        read_rows(path)


def test_a_line_without_a_class_among_others_is_skipped(tmp_path: Path) -> None:
    path = mot(tmp_path, "1,5,10,20,30,60,1,1,1\n2,5,11,21,30,60,1\n")
    assert found(path) == TWO[:1]
    assert str(read_rows(path).skipped[0]) == "line 2: class missing: must be a whole number"


@pytest.mark.parametrize(
    ("frames", "numbers", "expected"),
    [
        ("img1/{:08d}.jpg", range(1, 4), "00000001.jpg"),  # DanceTrack
        ("img1/{}.PNG", range(1, 120), "1.PNG"),
        ("img1/frame_{:06d}.PNG", range(3), "frame_000000.PNG"),  # CVAT: files count from 0
        ("img1/cam1_{:05d}_v2.webp", range(1, 4), "cam1_00001_v2.webp"),
        ("img1/MOT17-02-{:06d}.jpeg", range(1, 4), "MOT17-02-000001.jpeg"),
        ("img1/f{0:06d}_17{0:03d}5.jpg", range(1, 4), "f000001_170015.jpg"),  # number and time
    ],
)
def test_frames_are_found_by_the_numbers_in_their_names(
    tmp_path: Path, frames: str, numbers: range, expected: str
) -> None:
    path = mot(tmp_path, "1,5,1,1,9,9,1,1,1\n3,5,1,1,9,9,1,1,1\n", frames, numbers)
    tree(tmp_path / "S/img1", "notes.txt", ".hidden_7.jpg", "cover.jpg")
    assert [name for _, name, *_ in found(path)] == [
        expected,
        frames.removeprefix("img1/").format(numbers[2]),
    ]


@pytest.mark.parametrize(
    ("frames", "pictures", "expected"),
    [
        ([1, 2], range(1, 4), {1: 1, 2: 2}),
        ([1, 3], range(3), {1: 0, 3: 2}),
        ([2], range(3), {2: 1}),  # MOT counts from 1
        ([0, 1], range(3), {0: 0, 1: 1}),
        ([0, 2], range(1, 4), {0: 1, 2: 3}),
        ([0, 1, 2, 3], range(1, 4), {1: 1, 2: 2, 3: 3}),  # a line with frame 0 among others from 1
        ([0, 1, 2, 3], range(3), {1: 0, 2: 1, 3: 2}),
        ([301, 302], range(301, 400), {301: 301, 302: 302}),
        ([1, 2, 9], range(1, 4), {1: 1, 2: 2}),
    ],
)
def test_frames_count_from_0_or_1(
    tmp_path: Path, frames: list[int], pictures: range, expected: dict[int, int]
) -> None:
    path = mot(tmp_path, "".join(f"{frame},5,1,1,9,9,1,1,1\n" for frame in frames), "img1/{}.jpg", pictures)
    content = read_rows(path)
    assert {row.attributes["frame"]: int(row.path.stem) for row in content.rows} == expected
    assert len(content.skipped) == len(frames) - len(expected)


def test_a_shift_between_frames_and_files_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    read_rows(mot(tmp_path, "1,5,1,1,9,9,1,1,1\n", "img1/frame_{:06d}.png", range(3)))
    assert caplog.messages == [f"{tmp_path}/S/gt/gt.txt: frame 1 is assumed to be img1/frame_000000.png"]


def test_a_number_that_two_pictures_have_is_not_guessed(tmp_path: Path) -> None:
    path = mot(tmp_path, "1,5,1,1,9,9,1,1,1\n2,5,1,1,9,9,1,1,1\n")
    tree(tmp_path / "S/img1", "000001.png")
    content = read_rows(path)
    assert [row.path.name for row in content.rows] == ["000002.jpg"]
    assert "frame 1: several pictures have this number: 000001.jpg; 000001.png" in str(content.skipped[0])
    (tmp_path / "S/seqinfo.ini").write_text("[sequence]\nIMDIR = img1\nimext=JPG\n")
    assert [row.path.name for row in read_rows(path).rows] == ["000001.jpg", "000002.jpg"]


@pytest.mark.parametrize(
    "info",
    [
        "[Sequence]\nimDir=frames\nimExt=.png\n",
        "[SEQUENCE]\r\nIMDIR = frames\r\nIMEXT = .PNG\r\n",
        "imdir=frames\n",
        "\ufeff[Sequence]\nname=50%\nimDir=frames\nimDir=frames\n",
    ],
)
def test_seqinfo_in_any_spelling(tmp_path: Path, info: str) -> None:
    path = mot(tmp_path, "1,5,1,1,9,9,1,1,1\n", "frames/{:06d}.png")
    (tmp_path / "S/seqinfo.ini").write_text(info)
    assert [row.path.parent.name for row in read_rows(path).rows] == ["frames"]


@pytest.mark.parametrize(
    "info", ["", "garbage", "\0", "[Sequence]\nimDir=\nimExt=\n", f"imDir={'x' * 300}\n"]
)
def test_a_damaged_seqinfo_does_no_harm(tmp_path: Path, info: str) -> None:
    path = mot(tmp_path, "1,5,1,1,9,9,1,1,1\n")
    (tmp_path / "S/seqinfo.ini").write_text(info)
    assert len(read_rows(path).rows) == 1


def test_no_frames_are_said(tmp_path: Path) -> None:
    path = mot(tmp_path, "1,5,1,1,9,9,1,1,1\n", numbers=range(0))
    with pytest.raises(InputError, match="no folder img1 with the frames"):
        read_rows(path)
    tree(tmp_path / "S", "img1/cover.jpg")
    with pytest.raises(InputError, match="has no pictures with numbers in their names"):
        read_rows(path)
    tree(tmp_path / "S", "img1/000100.jpg")
    with pytest.raises(InputError, match="line 1: frame 1: has no picture in"):
        read_rows(path)


def test_cvats_labels_name_the_classes(tmp_path: Path) -> None:
    path = mot(
        tmp_path,
        "1,1,1,1,9,9,1,1,1\n1,2,1,1,9,9,1,3,1\n1,3,1,1,9,9,1,2,1\n",
        "img1/frame_{:06d}.PNG",
        range(2),
    )
    (path.parent / "labels.txt").write_text("car\ndog\nPerson\n")
    assert [row[2] for row in found(path)] == ["S/2"]
    assert read_rows(path).left_out == {"of class 1 (car)": 1, "of class 2 (dog)": 1}
    assert [row[2] for row in found(path, "dog", "1")] == ["S/1", "S/3"]
    with pytest.raises(
        InputError, match=r"--category cat: .*gt.* has only the categories 1 car, 2 dog, 3 Person"
    ):
        read_rows(path, ["cat"])
    (path.parent / "labels.txt").write_text("car\ndog\nhorse\n")
    with pytest.raises(InputError, match=r"labels\.txt: none .* people: 1 car, 2 dog, 3 horse; choose some"):
        read_rows(path)


def test_classes_that_are_not_numbered_as_mots_are_asked_for(tmp_path: Path) -> None:
    path = mot(tmp_path, "1,1,1,1,9,9,1,0,1\n1,2,1,1,9,9,1,1,1\n1,3,1,1,9,9,1,17,1\n")
    with pytest.raises(InputError, match=r"gt\.txt: its classes 0, 1, 17 are not MOT's .*--category"):
        read_rows(path)
    assert [row[2] for row in found(path, "0")] == ["S/1"]
    assert [row[2] for row in found(path, "17", "pedestrian")] == ["S/2", "S/3"]
    sound = "".join(f"1,{track},1,1,9,9,1,1,1\n" for track in range(40))
    path.write_text(f"{sound}1,99,1,1,9,9,1,17,1\n")
    assert len(read_rows(path).rows) == 40, "one strange number is a mistake"


def test_categories_of_a_file_without_classes_are_refused(tmp_path: Path) -> None:
    path = mot(tmp_path, "1,5,10,20,30,60,1,-1,-1,-1\n")
    with pytest.raises(InputError, match=r"--category: .* has no classes"):
        read_rows(path, ["pedestrian"])


def test_other_ground_truth_beside_gt(tmp_path: Path) -> None:
    path = mot(tmp_path, "1,5,10,20,30,60,1,1,1\n")
    (path.parent / "gt_half.txt").write_text("1,5,10,20,30,60,1,1,1\n1,6,10,20,30,60,0,1,1\n")
    assert found(path.parent / "gt_half.txt") == TWO[:1]
    path.write_text("1,5,10,20,30,60,1,1,1\n2,5,11,21,30,60,1,1,1\n3,5,12,22,30,60,1,1,1\n")
    (path.parent / "gt_val_half.txt").write_text("1,5,11,21,30,60,1,1,1\n2,5,12,22,30,60,1,1,1\n")
    with pytest.raises(InputError, match=r"gt_val_half\.txt: numbers its frames differently from gt\.txt"):
        read_rows(path.parent / "gt_val_half.txt")


def test_a_list_may_lie_beside_the_frames(tmp_path: Path) -> None:
    tree(tmp_path / "S", "img1/1.jpg")
    (tmp_path / "S" / "gt.txt").write_text("1,5,10,20,30,60,1,1,1\n")
    assert [row.identity for row in read_rows(tmp_path / "S" / "gt.txt").rows] == ["S/5"]


def test_utf16_is_read(tmp_path: Path) -> None:
    assert found(mot(tmp_path, "1,5,10,20,30,60,1,1,1\r\n2,5,11,21,30,60,1,1,1".encode("utf-16"))) == TWO
