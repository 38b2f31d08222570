"""People cut out of full frames."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kronreid.cli import main
from kronreid.data.crops import CutReport, cut_out, find_boxes, find_sources
from kronreid.data.images import open_rgb
from kronreid.data.lists import read_rows
from kronreid.data.manifest import NAME
from kronreid.data.readers import describe, read
from kronreid.data.records import ReIDDataset
from kronreid.errors import InputError
from kronreid.gallery import read_list
from kronreid.gallery.indexing import metadata_from_name
from kronreid.locks import LOCK, alone
from kronreid.text import plain_cell

from .miniatures import people_list


def sequence(root: Path, name: str, lines: str, frames: int = 2) -> Path:
    """A MOT sequence whose pixels tell where they are: red is x, green is y, blue the frame."""
    folder = root / name
    for part in ("img1", "gt"):
        (folder / part).mkdir(parents=True)
    y, x = np.mgrid[:100, :120]
    for frame in range(1, frames + 1):
        pixels = np.stack([x, y, np.full_like(x, frame)], 2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "img1" / f"{frame:06d}.png")
    (folder / "seqinfo.ini").write_text("[Sequence]\nimExt=.png\n")
    (folder / "gt" / "gt.txt").write_text(lines)
    return folder


MOT = "1,5,11,21,30,60,1,1,1\n2,5,13,21,30,60,1,1,0.4\n1,6,101,1,40,30,1,1,0.9\n1,9,500,1,5,5,1,1,1\n"


def files(folder: Path) -> list[str]:
    """The files of a folder of crops; the hash of a crop's name is left away."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [re.sub(r"_[0-9a-f]{12}(?=\.jpg$)", "", name) for name in names if name not in (NAME, LOCK)]


def crop(out: Path, *sources: Path, **options: Any) -> CutReport:
    return cut_out(find_boxes(find_sources(sources), **options).rows, out, progress=False)


def picture(path: Path, size: tuple[int, int] = (50, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def boxes(path: Path, text: str, header: str = "path,identity,camera,x,y,w,h") -> Path:
    """A list, and the pictures that it names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{header}\n{text}")
    for line in text.splitlines():
        picture(path.parent / line.split(",")[0])
    return path


def test_mot_becomes_folders(tmp_path: Path) -> None:
    for name in ("A-2", "A-10"):
        sequence(tmp_path / "mot", name, MOT)
    out = tmp_path / "out"
    report = crop(out, tmp_path / "mot")
    assert (report.written, report.existing, report.people, len(report.failed)) == (6, 0, 4, 2)
    assert "outside" in report.failed[0]
    assert files(out) == [
        f"A-{name}-{who}/{camera}_{frame:06d}.jpg"
        for name, camera in (("10", 2), ("2", 1))
        for who, frame in ((5, 1), (5, 2), (6, 1))
    ]
    # Box 13,21 in MOT, which counts from 1: the corner pixel is x 12, y 20, within what JPEG changes.
    (second,) = (out / "A-2-5").glob("1_000002_*.jpg")
    corner = open_rgb(second)
    assert corner.size == (30, 60)
    np.testing.assert_allclose(corner.getpixel((0, 0))[:2], (12, 20), atol=4)
    (other,) = (out / "A-2-6").iterdir()
    assert open_rgb(other).size == (20, 30), "cut off at the border"
    assert read(out).name == "folders"
    assert [describe(path).camera for path in sorted((out / "A-2-5").iterdir())] == [1, 1]


def test_sequences_behind_links_are_found_once(tmp_path: Path) -> None:
    store = sequence(tmp_path / "store", "A", MOT).parent
    sequence(store, "B", MOT)
    root = tmp_path / "root"
    root.mkdir()
    for name, target in (("linked", store), ("again", store / "B"), ("loop", root)):
        (root / name).symlink_to(target)
    found = find_sources([root, store / "A", store / "A" / "gt" / "gt.txt"])
    assert [path.relative_to(root).as_posix() for path in found] == ["again/gt/gt.txt", "linked/A/gt/gt.txt"]


def test_it_goes_on_and_writes_nothing_twice(tmp_path: Path) -> None:
    source, out = sequence(tmp_path, "A", MOT), tmp_path / "out"
    crop(out, source)
    first, second = sorted(out.glob("A-5/*.jpg"))
    first.unlink()
    second.write_bytes(b"mine")
    manifest = (out / NAME).read_text()
    for given in (source, source / "gt" / "gt.txt"):
        report = crop(out, given)
        assert (report.written, report.existing) == ((1, 2) if given == source else (0, 3))
    assert second.read_bytes() == b"mine"
    with Image.open(first) as image:
        image.load()
    assert (out / NAME).read_text() == manifest


def test_small_and_hidden_people_are_left_out(tmp_path: Path) -> None:
    source = [sequence(tmp_path, "A", MOT) / "gt" / "gt.txt"]
    assert [row.number for row in find_boxes(source, min_height=40).rows] == [1, 2]
    found = find_boxes(source, min_height=40, min_visibility=0.5)
    assert [row.number for row in found.rows] == [1]
    assert found.left_out == {"less than 40 pixels high": 2, "less than 0.5 visible": 1}
    with pytest.raises(InputError, match=r"has no usable boxes; left out: 4 less than 400 pixels high"):
        find_boxes(source, min_height=400)


def test_coco_without_identities_lies_flat(tmp_path: Path) -> None:
    picture(tmp_path / "f1.jpg")
    annotations = [{"id": n, "image_id": 1, "bbox": [n, 2, 10, 20]} for n in (1, 2, 2)]
    content = {"images": [{"id": 1, "file_name": "f1.jpg"}], "annotations": annotations}
    (tmp_path / "day.json").write_text(json.dumps(content))
    report = crop(tmp_path / "out", tmp_path / "day.json")
    assert (report.written, report.people) == (2, 0), "the same box twice is one crop"
    assert files(tmp_path / "out") == ["1_f1.jpg", "1_f1.jpg"]


def test_a_list_keeps_its_people_and_cameras(tmp_path: Path) -> None:
    crop(tmp_path / "out", people_list(tmp_path / "people.csv"))
    assert {"ann/1_north.jpg", "cleo/2_south.jpg"} <= set(files(tmp_path / "out"))
    data = read(tmp_path / "out")
    assert (len(data.train), len(data.query), len(data.gallery)) == (6, 4, 0)


def test_one_person_of_two_lists_is_one_person_of_two_cameras(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for camera in ("entrance", "exit", "Entrance 2", "1"):  # one run each
        report = crop(out, boxes(tmp_path / camera / "l.csv", f"0001.jpg,anna,{camera},1,2,10,20\n"))
        assert (report.written, report.existing) == (1, 0)
    assert files(out) == [f"anna/{camera}_0001.jpg" for camera in (1, 2, 3, 4)]
    report = crop(out, *tmp_path.glob("*/l.csv"))
    assert (report.written, report.existing) == (0, 4)
    with (out / NAME).open(newline="") as file:
        cameras = {row["camera"]: row["path"][5] for row in csv.DictReader(file)}
    assert cameras == {"entrance": "1", "exit": "2", "Entrance 2": "3", "1": "4"}


def test_cameras_keep_their_own_numbers(tmp_path: Path) -> None:
    cameras = {"door": 4, "3": 3, "07": 7, "1": 1, "-1": 0, "": 0, "9" * 30: 2}
    rows = [f"{number}.jpg,anna,{camera},1,2,10,20\n" for number, camera in enumerate(cameras)]
    crop(tmp_path / "out", boxes(tmp_path / "l.csv", "".join(rows)))
    expected = [f"anna/{number}_{stem}.jpg" for stem, number in enumerate(cameras.values())]
    assert files(tmp_path / "out") == sorted(expected)


def test_different_crops_never_share_a_file(tmp_path: Path) -> None:
    """Equal names of folders, sequences, frames, people and cameras, in one run and in several."""
    out = tmp_path / "out"
    for day in ("monday", "tuesday"):
        sequence(tmp_path / day, "A", MOT)
        boxes(
            tmp_path / day / "l.csv", "f.jpg,anna,1,1,2,10,20\nf.jpg,anna,1,2,2,10,20\nf.jpg,,1,1,2,10,20\n"
        )
        assert crop(out, tmp_path / day, tmp_path / day / "l.csv").written == 6
    report = crop(out, *tmp_path.glob("*/l.csv"), *tmp_path.glob("*day"))
    assert (report.written, report.existing) == (0, 12)
    together = tmp_path / "together"
    assert crop(together, *tmp_path.glob("*/l.csv"), *tmp_path.glob("*day")).written == 12
    for folder in (out, together):
        people = {path.name for path in folder.iterdir() if path.is_dir()}
        assert people == {"anna", "A-5", "A-6", "A-5-2", "A-6-2"}, "a track is a person of its sequence only"
        assert len(list(folder.glob("anna/1_*.jpg"))) == 4
        assert len(list(folder.glob("1_*.jpg"))) == 2


def test_people_whose_names_need_one_folder_get_two(tmp_path: Path) -> None:
    names = [
        "a/b",
        "a-b",
        "A-B",
        "../a b",
        "crops.csv",
        "train",
        "Test",
        "0012",
        "\u00e9",
        "e\u0301",
        "x" * 300,
        "x" * 301,
        "-5",
        "5",
        ".",
    ]
    rows = [f"f.jpg,{name},1,0,0,5,{height}\n" for height, name in enumerate(names, start=2)]
    out, path = tmp_path / "out", boxes(tmp_path / "l.csv", "".join(rows[::2]))
    assert crop(out, path).written == 8
    boxes(path, "".join(rows))
    report = crop(out, path)
    assert (report.written, report.existing, report.people) == (7, 8, len(names))
    with (out / NAME).open(newline="") as file:
        listed = [{key: plain_cell(cell) for key, cell in row.items()} for row in csv.DictReader(file)]
    assert {row["person"]: open_rgb(out / row["path"]).height for row in listed} == {
        name: height for height, name in enumerate(names, start=2)
    }
    assert len({row["identity"].casefold() for row in listed}) == len(names)
    assert {path.parent for path in out.rglob("*.jpg")} == {out / row["identity"] for row in listed}
    assert names_of_people(read(out)) == len(names), "train is no part of a data set here"


def names_of_people(data: ReIDDataset) -> int:
    return len({one.identity for one in (*data.train, *data.query, *data.gallery)})


def test_a_person_with_zeros_before_the_number_is_the_same(tmp_path: Path) -> None:
    path = boxes(tmp_path / "l.csv", "f.jpg,0007,01,1,2,10,20\ng.jpg,7,1,1,2,10,20\n")
    crop(tmp_path / "out", path)
    assert files(tmp_path / "out") == ["0007/1_f.jpg", "0007/1_g.jpg"]
    assert crop(tmp_path / "out", path).existing == 2


def test_names_of_frames_are_read_back(tmp_path: Path) -> None:
    """No name is taken for one of Market-1501, and none is too long or leaves the folder."""
    stems = ["c2s1_000451", "c3", "0002_c1s1_00", "y" * 250, "a b", "ü" * 120, "-", "\\x", "_", "12", "1.2"]
    rows = [f"{stem}.jpg,anna,7,1,2,10,20\n" for stem in stems]
    crop(tmp_path / "out", boxes(tmp_path / "l.csv", "".join(rows)))
    crops = list((tmp_path / "out" / "anna").iterdir())
    assert len(crops) == len(stems)
    for path in crops:
        entry = metadata_from_name(path, tmp_path / "out")
        assert (describe(path).camera, entry.camera, entry.identity) == (7, "7", "anna")


def test_one_frame_by_two_ways_is_one_crop(tmp_path: Path) -> None:
    path = boxes(tmp_path / "day" / "l.csv", "f.jpg,anna,1,1,2,10,20\n")
    (tmp_path / "link").symlink_to(path.parent)
    assert crop(tmp_path / "out", path).written == 1
    assert crop(tmp_path / "out", tmp_path / "link" / "l.csv", path).existing == 1


class Stopped(BaseException):
    """Nothing catches it, as nothing catches the end of a process."""


@pytest.mark.parametrize("moment", range(9))
def test_it_may_be_stopped_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Each file appears by a rename: the process ends before the first rename, the second, and so on."""
    paths = [
        boxes(tmp_path / name / "l.csv", f"f.jpg,anna,{name},1,2,10,20\ng.jpg,bob,{name},1,2,10,20\n")
        for name in "ba"
    ]
    out, whole, left = tmp_path / "out", tmp_path / "whole", [moment]
    replace = Path.replace

    def rename(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Stopped
        left[0] -= 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", rename)
    try:
        for path in paths:
            crop(out, path)
    except Stopped:
        pass
    left[0] = -1
    for path in reversed(paths):
        crop(out, path)
    for path in paths:
        crop(whole, path)
    assert files(out) == files(whole)
    with (out / NAME).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {p.relative_to(out).as_posix() for p in out.glob("*/*.jpg")}
    assert len({(row["camera"], row["path"].split("/")[1][0]) for row in rows}) == 2


def test_what_is_no_crop_is_not_in_the_manifest(tmp_path: Path) -> None:
    path = boxes(tmp_path / "l.csv", "f.jpg,anna,1,1,2,10,20\nf.jpg,bob,1,60,2,10,20\n")
    assert len(crop(tmp_path / "out", path).failed) == 1
    assert [row.identity for row in read_rows(tmp_path / "out" / NAME).rows] == ["anna"]
    path.write_text("path,identity,x,y,w,h\naway.jpg,anna,1,2,3,4\n")
    assert crop(tmp_path / "out", path).failed == [f"{tmp_path / 'away.jpg'}: no such file"]
    assert [row.identity for row in read_rows(tmp_path / "out" / NAME).rows] == ["anna"]


def test_the_manifest_is_a_list_for_a_gallery(tmp_path: Path) -> None:
    path = boxes(
        tmp_path / "l.csv",
        "f.jpg,anna,door,2026-05-01T10:00:00,monday,1,2,10,20\nf.jpg,,door,,,5,2,10,20\n",
        "path,identity,camera,time,source,x,y,w,h",
    )
    out = tmp_path / "out"
    crop(out, path)
    entries, unreadable = read_list(out / NAME)
    assert not unreadable
    assert [(e.identity, e.camera, e.time, e.source, e.box) for e in entries] == [
        ("anna", "door", 1777629600.0, "monday", None),
        (None, "door", None, None, None),
    ]
    assert all(entry.path.is_file() for entry in entries)
    assert entries[0].attributes["frame_box"] == "1,2,10,20"
    assert entries[0].attributes["frame"] == str(tmp_path / "f.jpg")


@pytest.mark.parametrize(
    "text", ["person,path\n1,x.jpg\n", "garbage", "path,camera\nx/y.jpg,1\n", "path\n1_x.jpg,3\n"]
)
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    path = boxes(tmp_path / "l.csv", "f.jpg,anna,1,1,2,10,20\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NAME).write_text(text)
    with pytest.raises(InputError, match=r"out/crops\.csv: "):
        crop(tmp_path / "out", path)
    assert (tmp_path / "out" / NAME).read_text() == text


@pytest.mark.parametrize("name", ["anna/1_000001.jpg", "1_f1.jpg", "anna/mine.png"])
def test_a_folder_with_other_pictures_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    path = boxes(tmp_path / "l.csv", "f.jpg,anna,1,1,2,10,20\n")
    picture(tmp_path / "out" / name)
    with pytest.raises(InputError, match=r"out: has pictures but no crops\.csv"):
        crop(tmp_path / "out", path)
    assert files(tmp_path / "out") == [name]


def test_two_processes_do_not_cut_into_one_folder(tmp_path: Path) -> None:
    path = boxes(tmp_path / "l.csv", "f.jpg,anna,1,1,2,10,20\n")
    with (
        alone(tmp_path / "out", "busy"),
        pytest.raises(InputError, match="another process is writing crops to this folder"),
    ):
        crop(tmp_path / "out", path)
    assert crop(tmp_path / "out", path).written == 1


def test_junk_and_rows_without_a_box_are_not_cut(tmp_path: Path) -> None:
    path = boxes(tmp_path / "l.csv", "a.jpg,-1,1,0,0,5,5\na.jpg,3,1,0,0,5,5\na.jpg,3,1,,,,\n")
    found = find_boxes([path])
    assert [row.identity for row in found.rows] == ["3"]
    assert found.skipped == [f"{path}: row 3: has no box to crop"]
    assert found.left_out == {"without a person (identity −1)": 1}
    path.write_text("path,identity\na.jpg,1\n")
    with pytest.raises(InputError, match=r"l\.csv: row 1: has no box to crop"):
        find_boxes([path])


def test_a_source_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    for name in ("A", "B", "C"):
        sequence(tmp_path / "mot", name, MOT)
    (tmp_path / "mot/A/gt/gt.txt").write_text("")
    shutil.rmtree(tmp_path / "mot/C/img1")
    found = find_boxes(find_sources([tmp_path / "mot"]))
    assert {row.source for row in found.rows} == {"B"}
    assert ["the list is empty" in found.skipped[0], "no folder img1" in found.skipped[1]] == [True, True]
    with pytest.raises(InputError, match=r"A/gt/gt\.txt: the list is empty"):
        find_boxes(find_sources([tmp_path / "mot" / "A"]))


def test_categories_are_handed_on(tmp_path: Path) -> None:
    source = sequence(tmp_path, "A", "1,5,11,21,30,60,1,3,1\n1,6,11,21,30,60,1,1,1\n")
    assert [row.identity for row in find_boxes(find_sources([source]), categories=["car"]).rows] == ["A/5"]


def test_what_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such file"):
        find_sources([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"no gt/gt\.txt below it"):
        find_sources([tmp_path])
    path = boxes(tmp_path / "l.csv", "f.jpg,anna,1,1,2,10,20\n")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        crop(tmp_path / "file", path)


def test_the_command_tells_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        "f.jpg,anna,1,1,2,10,20",
        "f.jpg,anna,1,1,2,0,20",
        "f.jpg,bob,1,90,2,10,20",
        "f.jpg,-1,1,1,2,10,20",
    ]
    path, out = boxes(tmp_path / "l.csv", "\n".join([*rows, *["f.jpg,anna,1"] * 6])), tmp_path / "out"
    arguments = ["crop", str(path), "--out", str(out)]
    assert main(arguments) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith(f"skipped: {path}: row 2: box")
    assert lines[5:7] == [
        "skipped: 2 more",
        f"failed: {tmp_path / 'f.jpg'}: the box (90, 2, 10, 20) lies outside the picture (50, 50)",
    ]
    assert lines[7:] == [
        "left out: 1 without a person (identity −1)",
        f"1 written, 0 were there, 1 failed, 7 skipped: {out}, 1 people",
    ]
    for more, message in (
        (["--category", "car"], "--category: .*l.csv has no categories"),
        (["--category", ""], "--category"),
        (["--min-height", "-1"], "--min-height -1: a number of 0 or more"),
        (
            ["--min-height", "99"],
            "has no usable boxes; left out: 2 less.*7 records are skipped, first row 2",
        ),
        (["--min-visibility", "nan"], "--min-visibility nan"),
    ):
        assert main([*arguments, *more]) == 2
        assert re.search(message, capsys.readouterr().err)


def test_real_sequences(shared: Path, tmp_path: Path) -> None:
    sources = find_sources([shared / "data" / "mot17_mini"])
    found = find_boxes(sources, min_height=80, min_visibility=0.5)
    assert not found.skipped
    some = found.rows[:: len(found.rows) // 20]
    report = cut_out(some, tmp_path, progress=False)
    assert (report.written, report.failed) == (len(some), [])
