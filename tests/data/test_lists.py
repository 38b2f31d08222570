"""Lists of pictures: what the gallery's tests do not cover, and the layout ``list``."""

import logging
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from kronreid.data.check import check
from kronreid.data.images import open_rgb
from kronreid.data.lists import Row, read_rows
from kronreid.data.readers import read
from kronreid.data.records import JUNK, NO_CAMERA, Picture
from kronreid.errors import InputError

from .miniatures import people_list, tree


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("x,y,w,h", "1,2,3,4"),
        ("x,y,width,height", "1,2,3,4"),
        ("h,w,y,x", "4.2,3,2,0.9"),
        ("box,x", '"1,2,3,4",'),
    ],
)
def test_boxes_have_several_spellings(tmp_path: Path, header: str, row: str) -> None:
    (tmp_path / "list.csv").write_text(f"path,{header},colour\na.jpg,{row},red\n")
    assert read_rows(tmp_path / "list.csv").rows == [
        Row(1, tmp_path / "a.jpg", (1, 2, 3, 4), attributes={"colour": "red"})
    ]


@pytest.mark.parametrize(("header", "row"), [("x,y", "1,2"), ("x,y,w,h", "1,2,3,"), ("w,h", "3,4")])
def test_half_a_box_is_named(tmp_path: Path, header: str, row: str) -> None:
    (tmp_path / "list.csv").write_text(f"path,{header}\na.jpg,{row}\n")
    with pytest.raises(InputError, match=r"list\.csv: row 1: box: has .*, but not "):
        read_rows(tmp_path / "list.csv")


def test_what_pandas_makes_of_gaps(tmp_path: Path) -> None:
    """A column of numbers with gaps becomes one of floats with NaN."""
    table = pyarrow.table(
        {"path": ["a.jpg", "b.jpg"], "identity": [7.0, float("nan")], "x": [float("nan"), float("nan")]}
    )
    parquet.write_table(table, tmp_path / "list.parquet")
    assert [(row.identity, row.box, row.attributes) for row in read_rows(tmp_path / "list.parquet").rows] == [
        ("7", None, {}),
        (None, None, {}),
    ]


def listed(root: Path, text: str, *files: str) -> Path:
    tree(root, *files)
    (root / "list.csv").write_text(text)
    return root / "list.csv"


def test_a_list_is_a_data_set(tmp_path: Path) -> None:
    path = people_list(tmp_path / "people.csv")
    data = read(path)
    assert (data.name, data.protocol, data.root) == ("list", "cross-camera", path)
    # Names are numbered by their order: ann, bob, cleo, yan, zoe; north, south.
    frames = tmp_path / "frames"
    assert data.query == tuple(
        Picture(frames / "north.png", identity, 1, (x, 5, 20, 40))
        for identity, x in ((1, 50), (2, 75), (3, 100))
    )
    assert [(p.identity, p.camera) for p in data.gallery] == [(1, 2), (2, 2), (3, 2)]
    assert [(p.identity, p.camera) for p in data.train] == [(5, 1), (4, 1), (5, 2), (4, 2)]
    crop = open_rgb(data.query[1])
    assert crop.size == (20, 40)
    assert crop.getcolors() == [(800, (180, 180, 180))], "bob and nothing else"
    assert read(path, "list") == data
    assert str(data.query[0]) == f"{frames / 'north.png'}#50,5,20,40"


def test_whole_numbers_stay_what_they_are(tmp_path: Path) -> None:
    text = "path,identity,camera,split\na.jpg,0012,0,query\nb.jpg,12,3,gallery\nb.jpg,-1,1,gallery\n"
    data = read(listed(tmp_path, text + "b.jpg,7,,train\na.jpg,-1,1,train\n", "a.jpg", "b.jpg"))
    assert [(p.identity, p.camera) for p in data.query + data.gallery] == [(12, 0), (12, 3), (JUNK, 1)]
    assert [(p.identity, p.camera) for p in data.train] == [(7, NO_CAMERA)], "junk trains nothing"
    # 0 is a person of a list, not a distractor: then all are numbered.
    data = read(listed(tmp_path, "path,identity,split\na.jpg,0,query\nb.jpg,4,gallery\nb.jpg,-1,gallery\n"))
    assert [p.identity for p in data.query + data.gallery] == [1, 2, JUNK]
    assert data.protocol == "no-camera"


def test_people_on_both_sides_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read(listed(tmp_path, "path,identity,split\na.jpg,1,query\na.jpg,1,train\na.jpg,2,train\n", "a.jpg"))
    assert "1 people are both in train and in query or gallery" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,identity,split\n", r"list\.csv: the list is empty"),
        ("", r"list\.csv: the list is empty"),
        ("path,identity\na.jpg,1\n", r"list\.csv: row 1: no split; train, query, gallery expected"),
        ("path,identity,split\na.jpg,1,test\n", r"row 1: split 'test'"),
        ("path,identity,split\na.jpg,,train\n", r"row 1: no identity"),
        ("name,identity,split\na.jpg,1,train\n", r"needs a column named path; its columns are 'name', 'id"),
        ("file,image,split\na.jpg,1,train\n", r"needs a column named path"),
        ("path,Path,split\na.jpg,a.jpg,train\n", r"row 1: no identity"),
        ("Path, PATH,split\na.jpg,a.jpg,train\n", r"two columns are named path"),
        ("path,identity,split\nb.jpg,2,train\nc.jpg,2,train\n", r"row 1: .*b\.jpg: no such file \(1 more"),
    ],
)
def test_a_list_that_is_not_a_data_set(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(listed(tmp_path, text, "a.jpg"))


def test_a_list_in_parquets_types(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "path": pyarrow.array([b"a.jpg", b"b.jpg", b"b.jpg"]),
            "identity": pyarrow.array([3.0, 4.0, -1.0]),
            "camera": pyarrow.array([0.0, float("nan"), 1.0]),
            "split": pyarrow.array([b"query", b" gallery ", b"gallery"]),
            "unused": pyarrow.array([float("inf")] * 3),
            "time": pyarrow.array(["noon"] * 3),
        }
    )
    parquet.write_table(table, tmp_path / "list.parquet")
    tree(tmp_path, "a.jpg", "b.jpg")
    data = read(tmp_path / "list.parquet")
    assert [(p.identity, p.camera) for p in data.query + data.gallery] == [(3, 0), (4, NO_CAMERA), (JUNK, 1)]


def test_rows_that_are_no_pictures_of_a_data_set_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        "a.jpg,2,test",
        "a.jpg,,train",
        "b.jpg,2,train",
        ",2,train",
        "a.jpg,2,",
        "a.jpg,2",
        f"{'n' * 300},2,train",
    ]
    sound = ["a.jpg,1,train", "a.jpg,2, Query"]
    path = listed(tmp_path, "\n".join(["path,identity,split", sound[0], *bad, sound[1]]), "a.jpg")
    data = read(path)
    assert (len(data.train), len(data.query), len(data.gallery), data.skipped) == (1, 1, 0, len(bad))
    (warning,) = caplog.messages
    assert f"list.csv: {len(bad)} rows are skipped: row " in warning
    assert warning.endswith("; and 4 more")
    assert check(path).to_json()["skipped"] == len(bad)


def test_the_root_of_layout_list_is_the_list(tmp_path: Path) -> None:
    people_list(tmp_path / "people.csv")
    with pytest.raises(InputError, match="name that as the root"):
        read(tmp_path, "list")
    with pytest.raises(InputError, match=r"none\.csv: no such list"):
        read(tmp_path / "none.csv")
