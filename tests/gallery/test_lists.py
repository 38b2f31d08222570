import json
import os
from pathlib import Path

import numpy
import pytest

from kronreid.errors import InputError
from kronreid.gallery.entries import LONGEST_ATTRIBUTES, LONGEST_TEXT, Entry
from kronreid.gallery.lists import read_list


def test_csv_with_every_column(tmp_path):
    (tmp_path / "list.csv").write_text(
        "path,camera,time,identity,source,x,y,width,height,attributes,colour\n"
        'a/1.jpg,3,1970-01-02,anna,monday,1,2,3,4,"{""track"": 7}",red\n'
        "/b.jpg,,,,,,,,,,\n"
    )
    (first, second), skipped = read_list(tmp_path / "list.csv")
    assert skipped == []
    assert first == Entry(
        tmp_path / "a/1.jpg", (1, 2, 3, 4), "3", 86400.0, "anna", "monday", {"track": 7, "colour": "red"}
    )
    assert second == Entry(Path("/b.jpg"))


def test_parquet_keeps_types(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(
        {"path": ["1.jpg", "2.jpg"], "camera": [3, None], "time": [1.5, None], "height_cm": [180, 175]}
    )
    parquet.write_table(table, tmp_path / "list.parquet")
    (first, second), _ = read_list(tmp_path / "list.parquet")
    assert first == Entry(tmp_path / "1.jpg", camera="3", time=1.5, attributes={"height_cm": 180})
    assert second == Entry(tmp_path / "2.jpg", attributes={"height_cm": 175})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", "name\n1.jpg\n", "needs a column named path"),
        (
            "list.csv",
            "path,time\n1.jpg,soon\n2.jpg,soon\n",
            r"row 1: time 'soon'.* \(1 more records are skipped",
        ),
        ("list.csv", "path,box\n1.jpg,wide\n", "row 1: box 'wide'"),
        ("list.csv", "path,attributes\n1.jpg,[1]\n", "row 1: attributes"),
        ("list.csv", "path\n1.jpg,2\n", "row 1: has more values"),
        ("list.parquet", "no", "is not a readable Parquet file"),
        ("list.json", "{}", "not COCO"),
        ("list.xml", "", "a list must be"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_list(tmp_path / name)


def test_a_row_that_cannot_be_stored_is_skipped(tmp_path):
    (tmp_path / "list.csv").write_text(
        "path,time,identity,camera,numbers\n"
        "1.jpg,soon,1,1,\n"
        "2.jpg,2024-05-01,-1,-1.0,7.0\n"
        f'3.jpg,,3,,"{"x" * LONGEST_ATTRIBUTES}"\n'
        f"4.jpg,,{'x' * (LONGEST_TEXT + 1)},,\n"
        '5.jpg,,5,,"7.50"\n'
    )
    entries, skipped = read_list(tmp_path / "list.csv")
    assert entries == [
        Entry(tmp_path / "2.jpg", time=1714521600, attributes={"numbers": 7}),
        Entry(tmp_path / "5.jpg", identity="5", attributes={"numbers": "7.50"}),
    ]
    assert [record.where for record in skipped] == ["row 1", "row 3", "row 4"]
    assert "numbers is the largest" in skipped[1].reason
    assert skipped[2].reason == "identity: 65,536 bytes are more than the 65,535 allowed"


def test_csv_and_parquet_store_the_same(tmp_path):
    """What pandas writes of one table with gaps."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(
        {
            "path": ["1.jpg", "2.jpg"],
            "identity": [1, None],
            "camera": [None, -1],
            "score": numpy.array([0.1, numpy.nan], numpy.float32),
            "count": [1, None],
            "seen": [True, False],
            "empty": [numpy.nan, numpy.nan],
            "note": ["007", None],
        }
    )
    table.to_csv(tmp_path / "list.csv")
    table.to_parquet(tmp_path / "list.parquet")
    expected = [
        Entry(
            tmp_path / "1.jpg",
            identity="1",
            attributes={"score": 0.1, "count": 1, "seen": True, "note": "007"},
        ),
        Entry(tmp_path / "2.jpg", attributes={"seen": False}),
    ]
    for name in ("list.csv", "list.parquet"):
        assert read_list(tmp_path / name) == (expected, [])


def test_records_that_are_not_usable_come_beside_the_entries(tmp_path):
    (tmp_path / "list.csv").write_text("path,time,box\n1.jpg,1,\n2.jpg,soon,\n3.jpg,,wide\n4.jpg,4,\n")
    entries, skipped = read_list(tmp_path / "list.csv")
    assert [(entry.path.name, entry.time) for entry in entries] == [("1.jpg", 1.0), ("4.jpg", 4.0)]
    assert {one.where for one in skipped} == {"row 2", "row 3"}


def test_mot_takes_pedestrians_and_names_tracks(tmp_path):
    sequence = tmp_path / "MOT17-02"
    (sequence / "img1").mkdir(parents=True)
    for frame in (1, 2):
        (sequence / "img1" / f"{frame:06d}.jpg").touch()
    (sequence / "gt").mkdir()
    (sequence / "gt" / "gt.txt").write_text(
        "2,5,11,21,30,60,1,1,0.9\n1,5,10,20,30,60,1,1,1\n1,6,1,1,9,9,0,1,1\n1,7,1,1,9,9,1,3,1\n"
    )
    entries, _ = read_list(sequence / "gt" / "gt.txt")
    assert [(e.path.name, e.box, e.identity) for e in entries] == [
        ("000001.jpg", (9, 19, 30, 60), "MOT17-02/5"),
        ("000002.jpg", (10, 20, 30, 60), "MOT17-02/5"),
    ]
    assert entries[0].attributes == {"frame": 1, "track": "MOT17-02/5"}
    (sequence / "gt" / "gt.txt").write_text("1,2,3\n")
    with pytest.raises(InputError, match="line 1"):
        read_list(sequence / "gt" / "gt.txt")


def test_coco_takes_persons(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "f.jpg").touch()
    content = {
        "images": [{"id": 1, "file_name": "f.jpg"}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 8, "image_id": 1, "category_id": 1, "bbox": [1.2, 2.0, 3.4, 4.0]},
            {"id": 9, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]},
        ],
    }
    (tmp_path / "day.json").write_text(json.dumps(content))
    (entry,), _ = read_list(tmp_path / "day.json")
    assert entry == Entry(
        tmp_path / "images" / "f.jpg", (1, 2, 3, 4), source="day", attributes={"annotation": 8}
    )


def test_real_mot_sequences_are_read():
    shared = os.environ.get("KRONREID_SHARED")
    if not shared:
        pytest.skip("KRONREID_SHARED does not name the folder of shared data")
    files = sorted(Path(shared, "data", "mot17_mini").rglob("gt.txt"))
    assert files
    for file in files:
        assert read_list(file)[0]
