"""CSV lists as spreadsheets, pandas and people write them."""

import csv
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from kronreid.data.lists import read_rows
from kronreid.data.lists.rows import Skipped

WANTED = [("a.jpg", "door", "anna", (1, 2, 3, 4), {"colour": "red, dark"}), ("ü.jpg", "1", "7", None, {})]
HEADER = ["path", "camera", "identity", "box", "colour"]
ROWS = [["a.jpg", "door", "anna", "1,2,3,4", "red, dark"], ["ü.jpg", "1", "7", "", ""]]


def values(path: Path) -> list[tuple]:
    rows = read_rows(path).rows
    home = path.parent
    return [(r.path.relative_to(home).as_posix(), r.camera, r.identity, r.box, r.attributes) for r in rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_spreadsheet_can_write_a_list(tmp_path: Path, delimiter: str, encoding: str, end: str) -> None:
    with (tmp_path / "l.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=end).writerows([HEADER, *ROWS])
    assert values(tmp_path / "l.csv") == WANTED


@pytest.mark.parametrize("name", ["LIST.CSV", "list.Csv", "list.tsv"])
@pytest.mark.parametrize(
    "header",
    [
        ["Path", "Camera", "IDENTITY", "Box", "colour"],
        [" path ", " camera", "identity ", "box", " colour "],
        ["file", "camera", "identity", "box", "colour"],
        ["File Name", "camera", "identity", "box", "colour"],
        ["image_path", "camera", "identity", "box", "colour"],
    ],
)
def test_headers_are_read_as_they_are_meant(tmp_path: Path, name: str, header: list[str]) -> None:
    with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";").writerows([header, *ROWS])
    assert values(tmp_path / name) == WANTED


def test_the_exact_name_of_a_column_wins(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("Path,path,file\nA,a.jpg,f\n")
    (row,) = read_rows(tmp_path / "l.csv").rows
    assert (row.path.name, row.attributes) == ("a.jpg", {"Path": "A", "file": "f"})


def test_what_spreadsheets_add_does_no_harm(tmp_path: Path) -> None:
    text = "sep=;\n\n;path;camera;\n0;a.jpg;1;;;\n;;;\n1;b.jpg;2;\n"
    (tmp_path / "l.csv").write_text(text)
    content = read_rows(tmp_path / "l.csv")
    assert [(r.number, r.path.name, r.camera, r.attributes) for r in content.rows] == [
        (1, "a.jpg", "1", {}),
        (2, "b.jpg", "2", {}),
    ]
    assert not content.skipped


@pytest.mark.parametrize(
    "bad",
    [
        '"b.jpg,1,2',
        'b.jpg,"1,2',
        'b.jpg,1,"2',
        '"b.jpg"x"y,1,"2',
        "b.jpg,1,2,3",
        ",1,2",
        '"x",1,"' + "y" * 200_000,
    ],
)
def test_a_row_that_is_not_closed_or_too_long_spoils_no_other(tmp_path: Path, bad: str) -> None:
    text = f'path,camera,note\na.jpg,1,"two\nlines"\n{bad}\nc.jpg,3,x\n"d.jpg",4,"y"\n'
    (tmp_path / "l.csv").write_text(text)
    content = read_rows(tmp_path / "l.csv")
    assert [(row.path.name, row.camera, row.attributes["note"]) for row in content.rows] == [
        ("a.jpg", "1", "two\nlines"),
        ("c.jpg", "3", "x"),
        ("d.jpg", "4", "y"),
    ]
    assert [one.where for one in content.skipped] == ["row 2"]


def test_names_that_are_no_utf8_still_name_their_files(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"path\n\xfc.jpg\n")
    (row,) = read_rows(tmp_path / "l.csv").rows
    assert bytes(row.path).endswith(b"\xfc.jpg")


def test_parquet_has_the_same_headers(tmp_path: Path) -> None:
    table = pyarrow.table(
        {" Image Path": ["a.jpg", None], "Camera": [1, 2], "": [0, 1], "Colour": ["red", "x"]}
    )
    parquet.write_table(table, tmp_path / "l.Parquet")
    content = read_rows(tmp_path / "l.Parquet")
    assert values(tmp_path / "l.Parquet") == [("a.jpg", "1", None, None, {"Colour": "red"})]
    (skipped,) = content.skipped
    assert isinstance(skipped, Skipped)
    assert str(skipped).startswith("row 2: has no path")
