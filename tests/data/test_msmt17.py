"""MSMT17's lists and folders."""

from pathlib import Path

import pytest

from kronreid.data.readers import read
from kronreid.data.records import identities
from kronreid.errors import InputError

from .miniatures import msmt17


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("below", ["", "MSMT17_V1", "MSMT17_V2"])
def test_train_is_train_and_val_and_people_are_numbered_apart(
    tmp_path: Path, version: int, below: str
) -> None:
    home = msmt17(tmp_path / below, version)
    data = read(tmp_path)
    name = "msmt17" if version == 1 else "msmt17-v2"
    assert (data.name, data.protocol, data.root) == (name, "msmt17", tmp_path)
    assert [(p.identity, p.camera) for p in data.train] == [(1, 1), (2, 5), (1, 14), (2, 7)]
    assert [(p.identity, p.camera) for p in data.query] == [(3, 2), (4, 3)]
    assert [(p.identity, p.camera) for p in data.gallery] == [(3, 3), (3, 2), (4, 15), (5, 15)]
    assert not set(identities(data.train)) & set(identities(data.query + data.gallery))
    folder = "train" if version == 1 else "mask_train_v2"
    assert data.train[0].path == home / folder / "0000" / "0000_000_01_0303morning_0015_0.jpg"
    assert all(p.path.is_file() for p in (*data.train, *data.query, *data.gallery))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def lists(root: Path) -> list[str]:
    return [str(root / f"list_{part}.txt") for part in ("train", "val", "query", "gallery")]


def test_what_is_almost_right_is_refused_in_one_line(tmp_path: Path) -> None:
    def refusal(root: Path) -> str:
        with pytest.raises(InputError) as caught:
            read(root)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    root = msmt17(tmp_path / "list")
    (root / "list_val.txt").unlink()
    assert f"{root}: no list_val.txt; MSMT17 has list_train.txt" in refusal(root)
    root = msmt17(tmp_path / "folder")
    (root / "test").rename(root / "tests")
    assert f"{root}: no test; MSMT17 V1 has" in refusal(root)
    root = msmt17(tmp_path / "other")
    (root / "list_query.txt").write_text("0002_c1s1_000451_03.jpg 1\n")
    first = f"{root}/list_query.txt: no line is usable, first line 1: '0002_c1s1_000451_03.jpg 1' found"
    assert first in refusal(root)
    root = msmt17(tmp_path / "empty")
    (root / "list_query.txt").write_text("\n")
    assert f"{root}/list_query.txt: the list is empty" in refusal(root)
    root = msmt17(tmp_path / "label")
    change(root / "list_gallery.txt", "0103_0.jpg 1", "0103_0.jpg 0")
    assert "0001_001_15_0303afternoon_0103_0.jpg is labelled 0, but" in refusal(root)
    msmt17(tmp_path / "both" / "MSMT17_V1")
    msmt17(tmp_path / "both" / "MSMT17_V2", 2)
    assert "could be read as msmt17, msmt17-v2; choose one with --layout" in refusal(tmp_path / "both")
    msmt17(tmp_path / "twice" / "MSMT17_V1")
    msmt17(tmp_path / "twice" / "MSMT17")
    assert "holds MSMT17_V1 and MSMT17; name one" in refusal(tmp_path / "twice")


@pytest.mark.parametrize(("layout", "folder"), [("msmt17", "train"), ("msmt17-v2", "mask_train_v2")])
def test_the_layout_chooses_between_both_versions(tmp_path: Path, layout: str, folder: str) -> None:
    msmt17(tmp_path / "MSMT17_V1")
    msmt17(tmp_path / "MSMT17_V2", 2)
    data = read(tmp_path, layout)
    assert data.name == layout
    assert {picture.path.parents[1].name for picture in data.train} == {folder}


def test_a_version_is_not_read_as_the_other(tmp_path: Path) -> None:
    for version, other in ((1, "msmt17-v2"), (2, "msmt17")):
        root = msmt17(tmp_path / str(version), version)
        own = "msmt17" if version == 1 else "msmt17-v2"
        with pytest.raises(InputError, match=rf"it has version {version}'s .*: use --layout {own}$"):
            read(root, other)


def test_folders_of_both_versions_in_one_place_are_version_1_unless_named(tmp_path: Path) -> None:
    msmt17(tmp_path)
    msmt17(tmp_path, 2)
    assert read(tmp_path).name == "msmt17"
    assert read(tmp_path, "msmt17-v2").train[0].path.parents[1].name == "mask_train_v2"


def test_lists_whose_labels_are_not_the_names_numbers_are_fine_as_long_as_they_agree(tmp_path: Path) -> None:
    root = msmt17(tmp_path)
    for part in ("query", "gallery"):
        path = root / f"list_{part}.txt"
        swapped = [f"{line[:-1]}{'102'[int(line[-1])]}" for line in path.read_text().splitlines()]
        path.write_text("\n".join(swapped))
    assert [p.identity for p in read(root).query] == [4, 3]


def test_a_line_that_is_not_usable_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = msmt17(tmp_path)
    whole = read(root)
    lines = (root / "list_gallery.txt").read_text().splitlines()
    (root / "test" / lines[0].split()[0]).unlink()
    (root / "list_gallery.txt").write_text("\n".join(["garbage", "", *lines, "0001/x.jpg one"]) + "\n")
    found = read(root)
    assert [picture.path for picture in found.gallery] == [picture.path for picture in whole.gallery[1:]]
    assert found.skipped == 3
    assert f"{root}/list_gallery.txt: 3 lines are skipped: line 1: 'garbage' found" in caplog.text
    assert f"line 3: {lines[0].split()[0]} is not in {root}/test" in caplog.text
