"""Readers of data sets, on small made-up trees and on the real split."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from kronreid.data.files import find_pictures
from kronreid.data.readers import LAYOUTS, describe, detect, read
from kronreid.data.readers.folders import read_folders
from kronreid.data.readers.market1501 import read_market1501
from kronreid.data.records import DISTRACTOR, JUNK, NO_CAMERA, UNKNOWN, Picture, identities
from kronreid.errors import InputError

from . import miniatures
from .miniatures import GALLERY, QUERY, TRAIN, tree


def refusal(root: Path, layout: str | None = None) -> str:
    """The one line with which `read` refuses."""
    with pytest.raises(InputError) as caught:
        read(root, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def market(root: Path) -> Path:
    return tree(
        root,
        f"{TRAIN}/0002_c1s1_000451_03.jpg",
        f"{TRAIN}/0002_c3s1_000451_01.jpg",
        f"{TRAIN}/0007_c6s2_000451_01.jpg",
        f"{TRAIN}/-1_c2s1_000001_01.jpg",
        f"{TRAIN}/0000_c2s1_000001_01.jpg",
        f"{QUERY}/0001_c1s1_001051_00.jpg",
        f"{GALLERY}/0001_c2s1_001051_00.jpg",
        f"{GALLERY}/0000_c1s1_000151_01.jpg",
        f"{GALLERY}/-1_c5s1_000401_03.jpg",
    )


def test_market1501(tmp_path: Path) -> None:
    data = read_market1501(market(tmp_path))
    assert (data.name, data.protocol, data.root) == ("market1501", "market1501", tmp_path)
    folder = tmp_path / TRAIN
    assert data.train == (
        Picture(folder / "0002_c1s1_000451_03.jpg", 2, 1),
        Picture(folder / "0002_c3s1_000451_01.jpg", 2, 3),
        Picture(folder / "0007_c6s2_000451_01.jpg", 7, 6),
    ), "junk and distractors train nothing"
    assert data.query == (Picture(tmp_path / QUERY / "0001_c1s1_001051_00.jpg", 1, 1),)
    assert {(p.identity, p.camera) for p in data.gallery} == {(1, 2), (DISTRACTOR, 1), (JUNK, 5)}
    assert identities(data.gallery) == [1]


def test_market1501_skips_names_that_do_not_parse(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strange = [f"strange{number}.jpg" for number in range(7)]
    tree(market(tmp_path), *(f"{GALLERY}/{name}" for name in strange), f"{GALLERY}/Thumbs.db")
    with caplog.at_level(logging.WARNING):
        data = read_market1501(tmp_path)
    assert len(data.gallery) == 3
    (record,) = caplog.records
    message = record.getMessage()
    assert str(tmp_path / GALLERY) in message
    assert "7 names" in message
    assert [name in message for name in strange] == [True] * 5 + [False] * 2


def test_market1501_refuses(tmp_path: Path) -> None:
    partial = tree(tmp_path / "a", f"{TRAIN}/0002_c1s1_000451_03.jpg", f"{QUERY}/0001_c1s1_001051_00.jpg")
    assert GALLERY in refusal(partial, "market1501")
    assert str(tmp_path / "b" / TRAIN) in refusal(
        tree(tmp_path / "b", f"{TRAIN}/", f"{QUERY}/", f"{GALLERY}/")
    )
    odd = tree(market(tmp_path / "c"), f"{QUERY}/who.jpg")
    (odd / QUERY / "0001_c1s1_001051_00.jpg").unlink()
    assert str(odd / QUERY / "who.jpg") in refusal(odd)
    nobody = market(tmp_path / "d")
    for path in [*(nobody / TRAIN).glob("0002*"), *(nobody / TRAIN).glob("0007*")]:
        path.unlink()
    assert str(nobody / TRAIN) in refusal(nobody)


def test_market1501_gives_gt_bbox_to_multi_query(tmp_path: Path) -> None:
    root = miniatures.market(tmp_path)
    data = read(root)
    assert [p.path.relative_to(root).as_posix() for p in data.multi_query] == [
        "gt_bbox/0001_c1s1_001051_00.jpg",
        "gt_bbox/0001_c1s1_001076_00.jpg",
    ], "those of a query's person and camera, not of other cameras and of people who train"


@pytest.mark.parametrize("place", ["images", "distractors_500k", "distractors_500k/images"])
def test_market1501_with_more_distractors(tmp_path: Path, place: str) -> None:
    root = miniatures.market(tmp_path)
    if place != "images":
        (root / place).parent.mkdir(exist_ok=True)
        (root / "images").rename(root / place)
    (root / place / "0000_c3s1_000001_00.jpg").rename(root / place / "0005_c3s1_000001_00.jpg")
    plain, more = read(root), read(root, "market1501+500k")
    assert (more.name, more.protocol) == ("market1501+500k", "market1501")
    assert more.gallery[: len(plain.gallery)] == plain.gallery
    assert [(p.identity, p.camera) for p in more.gallery[len(plain.gallery) :]] == [(0, 4), (0, 3)]
    assert "distractors_500k" in refusal(market(tmp_path / "without"), "market1501+500k")


def test_archives_unpack_to_a_folder_of_their_own(tmp_path: Path) -> None:
    miniatures.market(tmp_path / "Market-1501-v15.09.15")
    assert read(tmp_path).query == read(tmp_path / "Market-1501-v15.09.15").query
    miniatures.duke(tmp_path / "DukeMTMC-reID")
    assert detect(tmp_path) == ["market1501", "dukemtmc"]
    assert "market1501, dukemtmc" in refusal(tmp_path)
    assert (read(tmp_path, "market1501").name, read(tmp_path, "dukemtmc").name) == ("market1501", "dukemtmc")


def test_dukemtmc(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        data = read(miniatures.duke(tmp_path / "duke"))
    assert (data.name, data.protocol) == ("dukemtmc", "dukemtmc")
    assert [(p.identity, p.camera) for p in data.query] == [(5, 2)]
    assert {(p.identity, p.camera) for p in data.gallery} == {(5, 5), (5, 2), (4700, 6)}
    assert identities(data.train) == [1, 4]
    assert "withdrawn" in caplog.text
    assert "0005_c2_f0046985.jpg" in refusal(market(tmp_path / "market"), "dukemtmc")


PEOPLE = ("ann", "bob", "cleo", "dan", "eve")


def folders(root: Path, part: str = "") -> Path:
    return tree(
        root, *(f"{part}{name}/{camera}_{shot}.jpg" for name in PEOPLE for camera in (1, 4) for shot in "ab")
    )


def test_folders_are_divided_by_identity(tmp_path: Path) -> None:
    root = tree(folders(tmp_path), ".cache/1_x.jpg", "ann/.1_a.jpg", "ann/notes.txt", "list.txt")
    data = read_folders(root)
    assert (data.name, data.protocol) == ("folders", "cross-camera")
    assert Counter(p.identity for p in data.train) == {1: 4, 2: 4, 3: 4}
    assert {p.path.parent.name for p in data.train} == {"ann", "bob", "cleo"}
    # Of each test identity and camera the first picture is a query, the others are searched.
    assert [p.path.relative_to(root).as_posix() for p in data.query] == [
        "dan/1_a.jpg",
        "dan/4_a.jpg",
        "eve/1_a.jpg",
        "eve/4_a.jpg",
    ]
    assert [p.path.name for p in data.gallery] == ["1_b.jpg", "4_b.jpg"] * 2
    assert [(p.identity, p.camera) for p in data.gallery] == [(p.identity, p.camera) for p in data.query]


def test_folders_with_parts_share_names(tmp_path: Path) -> None:
    tree(
        tmp_path,
        *(f"train/{name}/c1_{shot}.png" for name in ("zoe", "max") for shot in "ab"),
        "query/ann/c2_x.png",
        "gallery/ann/c1_x.png",
        "gallery/bob/c1_x.png",
        "train/.cache/c1_x.png",
    )
    data = read_folders(tmp_path)
    number = {p.path.parent.name: p.identity for p in (*data.train, *data.query, *data.gallery)}
    assert number == {"ann": 1, "bob": 2, "max": 3, "zoe": 4}
    assert [(p.identity, p.camera) for p in data.query] == [(1, 2)]
    assert [(p.identity, p.camera) for p in data.gallery] == [(1, 1), (2, 1)]
    assert len(data.train) == 4


def test_folders_refuse(tmp_path: Path) -> None:
    few = tree(tmp_path / "few", *(f"{name}/1_a.jpg" for name in PEOPLE[:3]))
    assert f"{few}: 3 identity folders" in refusal(few)
    odd = tree(folders(tmp_path / "odd"), "bob/front.jpg")
    assert str(odd / "bob" / "front.jpg") in refusal(odd)
    flat = tree(tmp_path / "flat", "1_a.jpg", "2_a.jpg")
    assert str(flat) in refusal(flat)
    hollow = tree(tmp_path / "hollow", "train/ann/1_a.jpg", "query/ann/1_a.jpg", "gallery/")
    assert str(hollow / "gallery") in refusal(hollow)


def test_flat_folder_has_no_identities(tmp_path: Path) -> None:
    """What a search reads: cameras if the names say so, nothing else."""
    tree(tmp_path, "3_somebody.jpg", "c12_somebody.jpg", "somebody.jpg")
    found = [describe(path) for path in find_pictures(tmp_path)]
    assert [(p.identity, p.camera) for p in found] == [(UNKNOWN, 3), (UNKNOWN, 12), (UNKNOWN, NO_CAMERA)]
    labelled = tree(tmp_path, "0042/5_a.jpg") / "0042" / "5_a.jpg"
    assert describe(labelled) == Picture(labelled, 42, 5)


def test_read_looks_for_the_layout(tmp_path: Path) -> None:
    assert read(market(tmp_path / "market")).name == "market1501"
    assert read(str(folders(tmp_path / "folders"))).name == "folders"


@pytest.mark.parametrize(
    ("make", "layouts"),
    [
        (miniatures.market, ["market1501"]),
        (miniatures.duke, ["dukemtmc"]),
        (miniatures.msmt17, ["msmt17"]),
        (
            miniatures.cuhk03,
            ["cuhk03-labeled", "cuhk03-detected", "cuhk03-np-labeled", "cuhk03-np-detected"],
        ),
    ],
)
def test_layouts_are_told_apart(tmp_path: Path, make: Callable[[Path], Path], layouts: list[str]) -> None:
    assert detect(make(tmp_path / "root")) == layouts
    assert set(layouts) <= set(LAYOUTS)


@pytest.mark.parametrize("name", [f"{TRAIN}/0002_c1s1_000451_03.jpg", f"{GALLERY}/"])
def test_an_incomplete_market1501_is_told_so(tmp_path: Path, name: str) -> None:
    assert f"no folder {QUERY}" in refusal(tree(tmp_path, name)).replace(f"{TRAIN} nor ", "")


def test_splits_are_for_layouts_that_have_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--split 3 \(or data\.split\): layout market1501 has one division"):
        read(market(tmp_path), split=3)


def test_read_refuses(tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refusal(tmp_path / "none")
    assert "empty" in refusal(tree(tmp_path / "empty/").joinpath())
    assert "--layout zoo" in refusal(market(tmp_path / "market"), "zoo")


def test_generated_pedestrians(pedestrians: Path) -> None:
    data = read(pedestrians)
    assert Counter(p.identity for p in data.train) == dict.fromkeys(range(1, 5), 4)
    assert Counter(p.identity for p in data.query) == {5: 2, 6: 2, 7: 2}
    assert Counter(p.identity for p in data.gallery) == {5: 2, 6: 2, 7: 2, DISTRACTOR: 3, JUNK: 2}


def test_real_split(shared: Path) -> None:
    root = shared / "data" / "market1501-split"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    data = read(root)
    assert data.name == "market1501"
    assert (len(data.train), len(identities(data.train))) == (8655, 500)
    assert (len(data.query), len(data.gallery)) == (446, 1334)
    assert len(identities(data.query)) == 100
    assert not set(identities(data.train)) & set(identities(data.query + data.gallery))
    assert {p.camera for p in data.train} == {1, 2, 3, 4, 5, 6}
