"""People cut out of full frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kronreid.data.crops import Cut, find_sources, plan, write
from kronreid.data.images import open_rgb
from kronreid.data.readers import describe, read
from kronreid.errors import InputError

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


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_mot_becomes_folders(tmp_path: Path) -> None:
    for name in ("A-2", "A-10"):
        sequence(tmp_path / "mot", name, MOT)
    sources = find_sources([tmp_path / "mot"])
    out = tmp_path / "out"
    report = write(plan(sources), out, progress=False)
    assert (report.written, report.existing, len(report.failed)) == (6, 0, 2)
    assert "outside" in report.failed[0]
    assert names(out) == [
        f"A-{name}-{who}/{camera}_{frame:06d}.jpg"
        for name, camera in (("10", 1), ("2", 2))
        for who, frame in ((5, 1), (5, 2), (6, 1))
    ]
    # Box 13,21 in MOT, which counts from 1: the corner pixel is x 12, y 20, within what JPEG changes.
    corner = open_rgb(out / "A-2-5" / "2_000002.jpg")
    assert corner.size == (30, 60)
    np.testing.assert_allclose(corner.getpixel((0, 0))[:2], (12, 20), atol=4)
    assert open_rgb(out / "A-2-6" / "2_000001.jpg").size == (20, 30), "cut off at the border"
    assert read(out).name == "folders"
    assert [describe(path).camera for path in sorted((out / "A-2-5").iterdir())] == [2, 2]


def test_it_goes_on_and_writes_nothing_twice(tmp_path: Path) -> None:
    cuts = plan([sequence(tmp_path, "A", MOT) / "gt" / "gt.txt"])
    out = tmp_path / "out"
    write(cuts, out, progress=False)
    first, second = out / cuts[0].name, out / cuts[1].name
    first.unlink()
    second.write_bytes(b"mine")
    report = write(cuts, out, progress=False)
    assert (report.written, report.existing) == (1, 2)
    assert second.read_bytes() == b"mine"
    with Image.open(first) as image:
        image.load()
    assert not [name for name in names(out) if name.endswith(".new")]


def test_small_and_hidden_people_are_left_out(tmp_path: Path) -> None:
    source = [sequence(tmp_path, "A", MOT) / "gt" / "gt.txt"]
    assert [cut.name for cut in plan(source, min_height=40)] == ["A-5/1_000001.jpg", "A-5/1_000002.jpg"]
    assert [cut.name for cut in plan(source, min_height=40, min_visibility=0.5)] == ["A-5/1_000001.jpg"]


def test_coco_without_identities_lies_flat(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "f1.jpg")
    boxes = [{"id": n, "image_id": 1, "bbox": [n, 2, 10, 20]} for n in (1, 2)]
    content = {"images": [{"id": 1, "file_name": "f1.jpg"}], "annotations": boxes}
    (tmp_path / "day.json").write_text(json.dumps(content))
    cuts = plan(find_sources([tmp_path / "day.json"]))
    assert [cut.name for cut in cuts] == ["1_f1.jpg", "1_f1_2.jpg"]
    boxes[0]["track_id"] = 4
    (tmp_path / "day.json").write_text(json.dumps(content))
    assert [cut.name for cut in plan([tmp_path / "day.json"])] == ["day-4/1_f1.jpg", "1_f1.jpg"]


def test_a_list_keeps_its_people_and_cameras(tmp_path: Path) -> None:
    cuts = plan([people_list(tmp_path / "people.csv")])
    assert cuts[2] == Cut(tmp_path / "frames" / "north.png", (50, 5, 20, 40), "ann/1_north.jpg")
    assert cuts[-1].name == "cleo/2_south.jpg"
    write(cuts, tmp_path / "out", progress=False)
    data = read(tmp_path / "out")
    assert (len(data.train), len(data.query), len(data.gallery)) == (6, 4, 0)


def test_junk_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,identity,x,y,w,h\na.jpg,-1,0,0,5,5\na.jpg,3,0,0,5,5\n")
    assert [cut.name for cut in plan([tmp_path / "l.csv"])] == ["3/0_a.jpg"]


def test_what_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such file"):
        find_sources([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"no gt/gt\.txt below it"):
        find_sources([tmp_path])
    (tmp_path / "l.csv").write_text("path,identity\na.jpg,1\n")
    with pytest.raises(InputError, match=r"l\.csv: row 1: no box"):
        plan([tmp_path / "l.csv"])
    (tmp_path / "l.csv").write_text("path,identity,x,y,w,h\na.jpg,a/b,0,0,5,5\na.jpg,a-b,0,0,5,5\n")
    with pytest.raises(InputError, match=r"'a/b' and 'a-b' need one folder, a-b"):
        plan([tmp_path / "l.csv"])
    (tmp_path / "l.csv").write_text("path,identity,x,y,w,h\na.jpg,../../b,0,0,5,5\n")
    cuts = plan([tmp_path / "l.csv"])
    assert cuts[0].name == "b/0_a.jpg", "nothing is written outside of the folder"
    report = write(cuts, tmp_path / "out", progress=False)
    assert report.failed == [f"{tmp_path / 'a.jpg'}: no such file"]
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write(cuts, tmp_path / "out", progress=False)


def test_real_sequences(shared: Path, tmp_path: Path) -> None:
    cuts = plan(find_sources([shared / "data" / "mot17_mini"]), min_height=80, min_visibility=0.5)
    some = cuts[:: len(cuts) // 20]
    report = write(some, tmp_path, progress=False)
    assert (report.written, report.failed) == (len(some), [])
