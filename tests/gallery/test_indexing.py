import logging
from pathlib import Path

import pytest

from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.indexing import Changed, entries_of, identified, metadata_from_name, picture_of

from .conftest import paint


def tree(root: Path, *names: str) -> Path:
    """A folder with empty files of these names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("name", "camera", "identity"),
    [
        ("0002_c1s1_000451_03.jpg", "1", "2"),
        ("0000_c4s1_000451_03.jpg", "4", None),
        ("-1_c3s2_000451_03.jpg", "3", None),
        ("anna/7_0001.jpg", "7", "anna"),
        ("anna/cam7_0001.jpg", "7", "anna"),
        ("0012/7_0001.jpg", "7", "12"),
        ("0/7_0001.jpg", "7", "0"),
        ("0000/0000_c4s1_000451_03.jpg", "4", "0"),
        ("-1/7_0001.jpg", "7", None),
        ("0000_c10_f0123.jpg", "10", "0"),
        ("anna/12_c1s1_001051.jpg", "12", "anna"),
        ("query/0046/0046_c1s1_000001_00.jpg", "1", "46"),
        ("bounding_box_test/0046_c1s1_000001_00.jpg", "1", "46"),
        ("bounding_box_test/0000_c1s1_000001_00.jpg", "1", None),
        ("7_0001.jpg", "7", None),
        ("photo.jpg", None, None),
        ("monday/photo.jpg", None, None),
        ("caf\udce9/7_0001.jpg", "7", r"caf\xe9"),
        ("monday/anna/7_0001.jpg", "7", None),
    ],
)
def test_names_tell_camera_and_identity(name, camera, identity):
    entry = metadata_from_name(Path("/crops", name), Path("/crops"))
    assert (entry.camera, entry.identity) == (camera, identity)


def test_files_folders_and_patterns(crops):
    everything, unreadable = entries_of(crops)
    assert not unreadable
    assert len(everything) == 20
    assert entries_of([f"{crops}/*_c2*.png"])[0] == [e for e in everything if e.camera == "2"]
    assert entries_of(everything[0].path)[0] == everything[:1]
    assert entries_of(everything)[0] == everything


def test_a_list_that_cannot_be_read_stops_no_other(tmp_path):
    (tmp_path / "a.csv").write_text("path\n1.jpg\n\nb.jpg,1\n")
    (tmp_path / "B.CSV").write_text("camera\n1\n")
    entries, unreadable = entries_of([tmp_path / "a.csv", tmp_path / "B.CSV", tmp_path / "none.csv"])
    assert [entry.path.name for entry in entries] == ["1.jpg"]
    assert [(one.path.name, one.reason.split(";")[0]) for one in unreadable] == [
        ("a.csv", "row 2: has more values than columns"),
        ("B.CSV", "the list needs a column named path"),
        ("none.csv", "no such list"),
    ]
    for wrong in (tmp_path / "B.CSV", f"{tmp_path}/B*"):
        with pytest.raises(InputError, match=r"B\.CSV: the list needs a column named path"):
            entries_of(wrong)


def test_categories_are_of_lists_that_have_some(tmp_path, crops):
    (tmp_path / "a.csv").write_text("path\n1.jpg\n")
    for wrong in (tmp_path / "a.csv", crops, crops / "*.png"):
        with pytest.raises(InputError, match=r"--category: .*categories"):
            entries_of(wrong, ["car"])


def test_zero_is_a_person_where_it_trains(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tree(
        tmp_path,
        "bounding_box_train/0001_c1s1_000001_00.jpg",
        "bounding_box_test/0000_c2s1_000001_00.jpg",
        "bounding_box_test/-1_c2s1_000001_00.jpg",
    )
    assert [entry.identity for entry in entries_of(root)[0]] == [None, None, "1"]
    assert f"{root}: 2 pictures get no identity" in caplog.text
    tree(root, "bounding_box_train/0000_c1s1_000001_00.jpg")
    assert [entry.identity for entry in entries_of(root)[0]] == [None, "0", "0", "1"]


def test_linked_folders_are_read(tmp_path):
    tree(tmp_path / "store", "anna/3_x.jpg", "deep/ben/4_x.jpg")
    root = tree(tmp_path / "root", "carl/5_x.jpg")
    (root / "anna").symlink_to(tmp_path / "store/anna")
    (root / "loop").symlink_to(root)
    assert [(entry.identity, entry.camera) for entry in entries_of(root)[0]] == [("anna", "3"), ("carl", "5")]
    (root / "more").symlink_to(tmp_path / "store/deep")
    assert len(entries_of(f"{root}/**/*.jpg")[0]) == 3


def test_nothing_found_is_said(tmp_path):
    with pytest.raises(InputError, match="no file fits"):
        entries_of(f"{tmp_path}/*.jpg")
    with pytest.raises(InputError, match="no pictures"):
        entries_of(tmp_path)


def test_identifiers_are_of_content_and_box():
    a, b, c = identified([Entry(Path("/a")), Entry(Path("/b")), Entry(Path("/a"), box=(0, 0, 4, 4))], b"x")
    assert a.id == b.id != c.id
    assert identified([a], b"y")[0].id != a.id


def test_a_stored_picture_is_only_opened_with_its_own_content(tmp_path):
    path = paint(tmp_path / "a.png", 1)
    (entry,) = identified([Entry(path, box=(0, 0, 9, 9))], path.read_bytes())
    assert picture_of(entry).size == (9, 9)
    for exchanged in (paint(tmp_path / "b.png", 2).read_bytes(), b"", b"no picture"):
        path.write_bytes(exchanged)
        with pytest.raises(Changed, match="has changed"):
            picture_of(entry)
    path.unlink()
    with pytest.raises(Changed, match="gone"):
        picture_of(entry)


def test_paint_is_deterministic(tmp_path):
    assert paint(tmp_path / "a.png", 1).read_bytes() == paint(tmp_path / "b.png", 1).read_bytes()
