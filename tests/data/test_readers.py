"""Readers of data sets, on small made-up trees and on the real split."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from kronreid.data.check import check, must_be_usable
from kronreid.data.files import find_pictures
from kronreid.data.readers import LAYOUTS, Layout, describe, detect, read
from kronreid.data.readers.folders import read_folders
from kronreid.data.readers.market1501 import read_market1501
from kronreid.data.records import DISTRACTOR, JUNK, Picture, ReIDDataset, identities
from kronreid.data.samplers import PKBatchSampler
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
    ), "junk trains nothing"
    assert data.query == (Picture(tmp_path / QUERY / "0001_c1s1_001051_00.jpg", 1, 1),)
    assert {(p.identity, p.camera) for p in data.gallery} == {(1, 2), (DISTRACTOR, 1), (JUNK, 5)}
    assert identities(data.gallery) == [1]


def test_market1501_skips_names_that_do_not_parse(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strange = [f"strange{number}.jpg" for number in range(7)]
    tree(market(tmp_path), *(f"{GALLERY}/{name}" for name in strange), f"{GALLERY}/Thumbs.db")
    with caplog.at_level(logging.WARNING):
        data = read_market1501(tmp_path)
    assert len(data.gallery) == 3
    of_train, of_gallery = [record.getMessage() for record in caplog.records]
    expected = "not using 1 of its 4 pictures: 1 of nobody (−1) (-1_c2s1_000001_01.jpg)"
    assert of_train == f"{tmp_path / TRAIN}: {expected}"
    assert of_gallery.startswith(
        f"{tmp_path / GALLERY}: not using 7 of its 10 pictures: 7 with names that do not"
    )
    assert [name in of_gallery for name in strange] == [True] * 5 + [False] * 2


def test_market1501_refuses(tmp_path: Path) -> None:
    partial = tree(tmp_path / "a", f"{TRAIN}/0002_c1s1_000451_03.jpg", f"{QUERY}/0001_c1s1_001051_00.jpg")
    assert GALLERY in refusal(partial, "market1501")
    hollow = tree(tmp_path / "b", f"{TRAIN}/", f"{QUERY}/", f"{GALLERY}/")
    assert refusal(hollow).startswith(f"{hollow / QUERY}: no pictures in it")
    odd = tree(market(tmp_path / "c"), f"{QUERY}/who.jpg")
    (odd / QUERY / "0001_c1s1_001051_00.jpg").unlink()
    assert refusal(odd).startswith(
        f"{odd / QUERY}: no usable picture among 1: 1 with names that do not parse (who.jpg)"
    )


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
    assert f"{few}: folders with pictures of 3 people" in refusal(few)
    nowhere = tree(tmp_path / "nowhere", *(f"{name}/front.jpg" for name in PEOPLE))
    assert "5 with names that tell no camera (ann/front.jpg, bob/front.jpg," in refusal(nowhere)
    images = tree(
        tmp_path / "images",
        *(f"{part}/{name}/1_a.jpg" for part in ("train", "val", "test") for name in PEOPLE),
    )
    assert "it has test, train, val, but not both query and gallery" in refusal(images)
    deep = tree(tmp_path / "deep", *(f"monday/{name}/1_a.jpg" for name in PEOPLE))
    assert "5 deeper than in a person's folder (monday/ann/1_a.jpg" in refusal(deep)
    flat = tree(tmp_path / "flat", "1_a.jpg", "2_a.jpg")
    assert str(flat) in refusal(flat)
    hollow = tree(tmp_path / "hollow", "train/ann/1_a.jpg", "query/ann/1_a.jpg", "gallery/")
    assert str(hollow / "gallery") in refusal(hollow)


def test_folders_say_what_they_leave_out(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    root = tree(
        folders(tmp_path / "plain"),
        "bob/front.jpg",
        "loose.jpg",
        "ann/more/1_z.jpg",
        "-1/1_x.jpg",
        "val/eve/1_a.jpg",
    )
    data = read(root)
    assert len(data.train) + len(data.query) + len(data.gallery) == 4 * len(PEOPLE)
    (line,) = said()
    assert line == (
        f"{root}: not using 5 of its 25 pictures: 1 with names that tell no camera (bob/front.jpg); "
        "1 in no person's folder (loose.jpg); 1 deeper than in a person's folder (ann/more/1_z.jpg); "
        "1 in folders that divide a data set (val/eve/1_a.jpg); 1 of nobody (−1) (-1/1_x.jpg)"
    )
    root = tmp_path / "divided"
    for part in ("train", "query", "gallery", "val", "train_all"):
        for person in ("-1", "0", "0000", "ann"):
            tree(root, f"{part}/{person}/1_a.jpg", f"{part}/{person}/2_a.jpg")
    data = read(root)
    number = {one.path.parent.name: one.identity for one in data.gallery}
    assert number == {"-1": JUNK, "0": 1, "0000": 2, "ann": 3}, "0 and 0000 are people, −1 is nobody"
    for pictures in (data.train, data.query):
        assert Counter(one.identity for one in pictures) == {1: 2, 2: 2, 3: 2}
    assert said() == [
        *(
            f"{root / part}: not using 2 of its 8 pictures: 2 of nobody (−1) (-1/1_a.jpg, -1/2_a.jpg)"
            for part in ("train", "query")
        ),
        f"{root}: train, query, gallery are read, and nothing else there (train_all, val)",
    ]


def test_folders_of_market1501s_pictures(tmp_path: Path) -> None:
    """The camera stands behind the person's number, and in own crops before the frame's name."""
    tree(
        tmp_path,
        "train/0002/0002_c1s1_000451_03.jpg",
        "train/anna/0046_c6s1_000451_03.jpg",
        "query/0046/0046_c1s1_000001_00.jpg",
        "gallery/0046/0046_c3s1_000001_00.jpg.jpg",
        "gallery/anna/12_c1s1_001051.jpg",
        "gallery/12/12_c1s1_001051.jpg",
    )
    data = read(tmp_path)
    assert [one.camera for one in (*data.train, *data.query)] == [1, 6, 1]
    cameras = {one.path.parent.name: one.camera for one in data.gallery}
    assert cameras == {"0046": 3, "12": 1, "anna": 12}


def test_own_pictures_in_market1501s_folders(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """Cameras from 10 on and people from 0 are read, and nothing is taken for DukeMTMC."""
    for person in range(6):
        part = TRAIN if person < 3 else QUERY
        tree(tmp_path, *(f"{part}/{person:04d}_c{camera}_f0123.jpg" for camera in (1, 8, 10)))
        tree(tmp_path, *(f"{GALLERY}/{person:04d}_c{camera}_f0124.jpg" for camera in (9, 11) if person > 2))
    assert detect(tmp_path) == ["market1501"]
    data = read(tmp_path)
    assert Counter(one.identity for one in data.train) == {1: 3, 2: 3, 6: 3}
    assert {one.camera for one in data.train} == {1, 8, 10}
    assert {one.camera for one in data.gallery} == {9, 11}
    assert [line for line in said() if "identity 0 is a person" in line and "its number is 6" in line]


@pytest.mark.parametrize("part", [TRAIN, QUERY])
def test_zero_is_a_person_where_it_trains_or_asks(tmp_path: Path, part: str) -> None:
    root = tree(market(tmp_path), f"{part}/0000_c2s1_000001_01.jpg")
    data = read(root)
    pictures = (*data.train, *data.query, *data.gallery)
    assert {one.identity for one in pictures if one.path.name.startswith("0000")} == {8}, (
        "the number after the highest one; its gallery picture is the same person's"
    )
    assert {one.identity for one in data.gallery} == {8, 1, JUNK}


@pytest.mark.parametrize("missing", ["folder", "pictures"])
@pytest.mark.parametrize("make", [miniatures.market, miniatures.duke])
def test_training_pictures_may_be_missing(tmp_path: Path, make: Callable[[Path], Path], missing: str) -> None:
    whole = make(tmp_path / "whole")
    shutil.copytree(whole, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / TRAIN)
    if missing == "pictures":
        tree(tmp_path / "part", f"{TRAIN}/")
    data, all_of_it = read(tmp_path / "part"), read(whole)
    assert (data.name, data.train) == (all_of_it.name, ())
    assert len(data.query) == len(all_of_it.query)
    assert len(data.gallery) == len(all_of_it.gallery)
    must_be_usable(check(tmp_path / "part"))
    with pytest.raises(InputError, match=r"^--data \(or data\.root\): has no training pictures"):
        PKBatchSampler(data.train, 2, 2, 1)


@pytest.mark.parametrize("part", ["", "train/"])
def test_folders_and_lists_without_training_pictures(tmp_path: Path, part: str) -> None:
    root = tree(tmp_path / "folders", "query/ann/1_a.jpg", "gallery/ann/2_a.jpg", *([part] if part else []))
    (root / "list.csv").write_text(
        "path,identity,camera,split\nquery/ann/1_a.jpg,ann,1,query\ngallery/ann/2_a.jpg,ann,2,gallery\n"
    )
    for data in (read(root), read(root / "list.csv")):
        assert data.train == ()
        assert [(one.identity, one.camera) for one in (*data.query, *data.gallery)] == [(1, 1), (1, 2)]


def test_duke_is_what_has_dukes_names_alone(tmp_path: Path) -> None:
    root = tree(miniatures.duke(tmp_path), f"{QUERY}/readme_.jpg")
    assert detect(root) == ["dukemtmc"]
    for number, own in enumerate(("0005_c9_f0046985.jpg", "0005_c2_f046985.jpg", "5_c2_f0046985.jpg")):
        other = tmp_path / f"own{number}"
        for part in (TRAIN, QUERY, GALLERY):
            shutil.copytree(root / part, other / part)
        tree(other, f"{GALLERY}/{own}")
        assert detect(other) == ["market1501"]


def test_parts_and_people_may_be_links(tmp_path: Path) -> None:
    store = folders(tmp_path / "store")
    root = tree(tmp_path / "root", "gallery/")
    for part, person in (("train", "ann"), ("query", "dan"), ("gallery", "dan"), ("gallery", "eve")):
        (root / part).mkdir(exist_ok=True)
        (root / part / person).symlink_to(store / person)
    data = read(root)
    assert [len(part) for part in (data.train, data.query, data.gallery)] == [4, 4, 8]
    real = market(tmp_path / "market")
    linked = tmp_path / "linked"
    linked.mkdir()
    for part in (TRAIN, QUERY, GALLERY):
        (linked / part).symlink_to(real / part)
    assert [one.path.name for one in read(linked).gallery] == [one.path.name for one in read(real).gallery]


def test_flat_folder_has_no_identities(tmp_path: Path) -> None:
    """What a search reads: cameras if the names say so, nothing else."""
    tree(tmp_path, "3_somebody.jpg", "c12_somebody.jpg", "somebody.jpg")
    found = [describe(path, tmp_path) for path in find_pictures(tmp_path)]
    assert [(one.identity, one.camera) for one in found] == [(None, 3), (None, 12), (None, None)]


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
    assert "--layout (or data.layout): 'zoo' is unknown" in refusal(market(tmp_path / "market"), "zoo")


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


@pytest.mark.parametrize("name", ["0002_c1s1_000451_03.jpg", "0005_c2_f0046985.jpg"])
def test_what_else_lies_there_is_said_once(name: str, tmp_path: Path, said: Callable[[], list[str]]) -> None:
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        tree(tmp_path, f"{folder}/{name}", f"{folder}/Thumbs.db")
    read(tmp_path)
    lines = [line for line in said() if "not a picture, by its suffix" in line]
    assert len(lines) == len(set(lines)) == 3


def test_a_layout_of_ones_own(own_entries: None, tmp_path: Path) -> None:
    """It may be read from a file; its name is the registry's, whatever its reader says."""
    pictures = (Picture(tmp_path / "a.jpg", 1, 1),)

    def read_own(root: Path, split: int = 0) -> ReIDDataset:
        return ReIDDataset("another", "cross-camera", root, pictures * (split + 1), pictures, pictures)

    def looks_like(root: Path) -> bool:
        return root.name == "own.json" or (root / "own.json").is_file()

    LAYOUTS.add("own", Layout(read_own, "cross-camera", looks_like, splits=True))
    LAYOUTS.add("named", Layout(read_own, "cross-camera"))
    root = tree(market(tmp_path / "market"), "own.json")
    assert detect(root) == ["market1501", "own"]
    assert "could be read as market1501, own; choose one with --layout" in refusal(root)
    assert read(root, usual="own").name == "own"
    assert (read(root / "own.json").name, detect(root / "own.json")) == ("own", ["own"])
    assert len(read(root, "own", split=2).train) == 3
    assert read(root, "named").name == read(root / "own.json", "named").name == "named"
    with pytest.raises(InputError, match="layout named has one division"):
        read(root, "named", split=1)
    assert "no such folder or file" in refusal(tmp_path / "none", "named")
    assert "the folder is empty" in refusal(tree(tmp_path, "empty/") / "empty", "named")
