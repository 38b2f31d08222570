"""Counts beside published figures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kronreid.data.check import check, describe, must_be_usable
from kronreid.data.readers import LAYOUTS, read
from kronreid.data.readers.layout import Count, Published
from kronreid.errors import InputError

from . import miniatures
from .miniatures import tree


def counts(layout: str) -> dict[str, Count]:
    """What is published of a layout."""
    published = LAYOUTS[layout].published
    assert published is not None
    return published.parts


def test_counts_of_a_part_and_what_is_missing(tmp_path: Path) -> None:
    root = miniatures.market(tmp_path)
    found = check(root)
    assert found.parts == {
        "train": Count(4, 2, 4),
        "query": Count(2, 2, 2),
        "gallery": Count(5, 2, 3),
        "all": Count(11, 4, 5),
    }
    assert (found.junk, found.distractors, found.verdict) == (1, 1, "less")
    assert any("2 pictures in gt_bbox" in remark for remark in found.remarks)
    assert any("market1501+500k" in remark for remark in found.remarks)
    must_be_usable(found)
    assert found.to_json()["published"]["query"] == {"pictures": 3368, "identities": 750, "cameras": 6}
    for path in (root / "gt_bbox").iterdir():
        path.unlink()
    (root / "gt_bbox").rmdir()
    assert any("there is no folder gt_bbox" in remark for remark in check(root).remarks)


def test_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = miniatures.msmt17(tmp_path / "msmt17")
    exact = {"train": Count(4, 2, 4), "query": Count(2, 2, None), "gallery": Count(None, 3, 3)}
    verdicts = {}
    for name, parts in (
        ("agrees", exact),
        ("less", {**exact, "query": Count(3, 2, None)}),
        ("differs", {**exact, "query": Count(3, 2, None), "train": Count(3, 2, 4)}),
    ):
        published = replace(LAYOUTS["msmt17"], published=Published("MSMT17", parts))
        monkeypatch.setitem(LAYOUTS.things, "msmt17", published)
        verdicts[name] = check(root)
    assert {name: found.verdict for name, found in verdicts.items()} == {name: name for name in verdicts}
    must_be_usable(verdicts["less"])
    with pytest.raises(InputError, match=r"has the layout of MSMT17.*, but more"):
        must_be_usable(verdicts["differs"])
    assert any("withdrew" in remark for remark in check(miniatures.duke(tmp_path / "duke")).remarks)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (miniatures.market, "0001_c7s1_001051_01.jpg"),
        (miniatures.market, "0001_c12s1_001051_01.jpg"),
        (miniatures.market, "1502_c2s1_001051_01.jpg"),
        (miniatures.market, "0001_c2_f001051.jpg"),
        (miniatures.duke, "7141_c2_f0046985.jpg"),
    ],
)
def test_own_pictures_in_the_folders_of_a_data_set(
    tmp_path: Path, make: Callable[[Path], Path], name: str
) -> None:
    root = tree(make(tmp_path), f"bounding_box_test/{name}")
    found = check(root)
    like = "Market-1501" if make is miniatures.market else "DukeMTMC-reID"
    assert (found.verdict, found.title) == ("own", f"own pictures laid out like {like}")
    assert any("names, people, cameras or counts differ from" in remark for remark in found.remarks)
    assert found.to_json()["published"] == {}
    must_be_usable(found)


def test_more_pictures_than_published_are_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = miniatures.market(tmp_path)
    assert check(root).verdict == "less"
    fewer = {**counts("market1501"), "train": Count(3, 2, 4)}
    published = replace(LAYOUTS["market1501"], published=Published("Market-1501", fewer))
    monkeypatch.setitem(LAYOUTS.things, "market1501", published)
    found = check(root)
    assert found.verdict == "own"
    must_be_usable(found)


def test_own_pictures(tmp_path: Path) -> None:
    found = check(miniatures.people_list(tmp_path / "people.csv"))
    assert (found.verdict, found.parts["query"], found.parts["all"]) == (
        "own",
        Count(3, 3, 1),
        Count(10, 5, 2),
    )
    must_be_usable(found)
    tree(tmp_path, "a.jpg")
    (tmp_path / "one.csv").write_text("path,identity,split\na.jpg,1,train\na.jpg,2,gallery\n")
    found = check(tmp_path / "one.csv")
    assert "no query pictures" in found.remarks
    with pytest.raises(InputError, match="has neither two people to train on nor"):
        must_be_usable(found)


def test_official_market1501_lists(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File names with the identities and cameras of the official lists, without the 36,036 files."""
    from scipy.io import loadmat

    folder = shared / "data" / "market1501_labels"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")

    def column(name: str) -> list[int]:
        content = loadmat(folder / f"{name}.mat")
        return next(value for key, value in content.items() if not key.startswith("__")).reshape(-1).tolist()

    files = {}
    for part, who, where in (
        ("bounding_box_train", "train_label", "train_cam"),
        ("query", "queryID", "queryCam"),
        ("bounding_box_test", "testID", "testCam"),
    ):
        (tmp_path / part).mkdir()
        names: list[Path] = []
        for number, (identity, camera) in enumerate(zip(column(who), column(where))):
            # Training labels count from 0 or 1 through the people; which, is nothing to this test.
            name = identity + 1 if who == "train_label" else identity
            text = "-1" if name == -1 else f"{name:04d}"
            names.append(tmp_path / part / f"{text}_c{camera}s1_{number:06d}_00.jpg")
        names[0].touch()
        files[tmp_path / part] = names
    monkeypatch.setattr("kronreid.data.readers.parts.pictures_below", lambda folder: files.get(folder, []))
    found = check(tmp_path)
    assert found.verdict == "agrees"
    assert (found.junk, found.distractors) == (3819, 2798)
    must_be_usable(found)


def test_every_published_division_adds_up() -> None:
    sums = {
        layout: sum(counts(layout)[part].pictures or 0 for part in ("train", "query", "gallery"))
        for layout in ("dukemtmc", "msmt17", "cuhk03-np-labeled", "cuhk03-np-detected")
    }
    # As the papers and the archives give them for the whole.
    assert sums == {
        "dukemtmc": 36411,
        "msmt17": 126441,
        "cuhk03-np-labeled": 14096,
        "cuhk03-np-detected": 14097,
    }


def test_a_description_never_gives_a_part_the_name_of_the_whole(tmp_path: Path) -> None:
    dataset = read(miniatures.market(tmp_path / "small"), "market1501")
    found = describe(dataset, 0, "market1501", "query", "gallery")
    assert (found.verdict, found.pictures) == ("less", {"train": 4, "query": 2, "gallery": 5})
    assert found.name == "small: fewer pictures than Market-1501 (Zheng et al., ICCV 2015), in its layout"
    assert replace(found, verdict="agrees").name == "Market-1501 (Zheng et al., ICCV 2015)"
    assert replace(found, verdict="own", title="own pictures").name == "small (own pictures)"
