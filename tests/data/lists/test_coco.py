"""COCO's annotations as data sets and tools write them."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kronreid.data.images import open_rgb
from kronreid.data.lists import read_rows
from kronreid.errors import InputError

from ..miniatures import tree

PERSON = [{"id": 1, "name": "person"}]


def box(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": [number, 2, 3, 4], **more}


def coco(root: Path, annotations: list[Any], **more: Any) -> Path:
    """A file of annotations for one picture, f.jpg, which is empty."""
    tree(root, "f.jpg")
    content = {"images": [{"id": 1, "file_name": "f.jpg"}], "categories": PERSON, "annotations": annotations}
    (root / "day.json").write_text(json.dumps({**content, **more}))
    return root / "day.json"


def found(path: Path, *categories: str) -> list[Any]:
    return [row.attributes.get("annotation") for row in read_rows(path, categories).rows]


BAD = [
    (box(bbox=[1, 2, 3, 0]), "covers no pixel"),
    (box(bbox=[1, 2, 0.4, 50]), "covers no pixel"),
    (box(bbox=[1, 2, -3, 4]), "covers no pixel"),
    (box(bbox=None), "bbox None"),
    (box(bbox=[]), "four numbers"),
    (box(bbox=[1, 2, 3, 4, 5]), "four numbers"),
    (box(bbox=["1", "2", "3", "4"]), "four numbers"),
    (box(bbox=[1, 2, True, 4]), "four numbers"),
    (box(bbox="1,2,3,4"), "four numbers"),
    (box(bbox=[1, float("nan"), 3, 4]), "four finite numbers"),
    (box(bbox=[1, 2, float("inf"), 4]), "four finite numbers"),
    (box(bbox=[10**400, 2, 3, 4]), "four finite numbers"),
    (box(image_id=9), "image '9': is not in the file's list"),
    (box(image_id=None), "has no number of its image"),
    (box(image_id=[1]), "has no number of its image"),
    (box(image_id=2), "image '2': has no file_name"),
    (box(image_id=3), "image '3': is listed as 'a.jpg' and 'b.jpg'"),
    (box(image_id=4), "no picture 'away.jpg'"),
    (box(image_id=5), "no picture '"),
    (box(category_id=9), "category '9': is not in the file's list"),
    (box(category_id=None), "has no number of its category"),
    (box(category_id={}), "has no number of its category"),
    (box(category_id=7), "category '7': has no name"),
    (box(category_id=8), "category '8': is listed as 'car' and 'person'"),
    ("text", "an annotation is an object"),
    (None, "an annotation is an object"),
    ([1, 2, 3, 4], "an annotation is an object"),
]
IMAGES = [
    {"id": 1, "file_name": "f.jpg"},
    {"id": 2},
    {"file_name": "f.jpg"},
    {"id": 3, "file_name": "a.jpg"},
    {"id": 3, "file_name": "b.jpg"},
    {"id": 4, "file_name": "away.jpg"},
    {"id": 5, "file_name": "\ud800" + "x" * 300},
    {"id": None, "file_name": "f.jpg"},
    "f.jpg",
    None,
]
CATEGORIES = [
    *PERSON,
    {"id": 7},
    {"id": 8, "name": "person"},
    {"id": 8, "name": "car"},
    {"name": "person"},
    "x",
    None,
]


@pytest.mark.parametrize(("annotation", "reason"), BAD)
def test_a_bad_annotation_is_skipped_and_named(tmp_path: Path, annotation: Any, reason: str) -> None:
    path = coco(tmp_path, [box(5), annotation, box(6)], images=IMAGES, categories=CATEGORIES)
    content = read_rows(path)
    assert [row.box for row in content.rows] == [(5, 2, 3, 4), (6, 2, 3, 4)]
    (skipped,) = content.skipped
    assert skipped.where == ("annotation 2 (id '1')" if isinstance(annotation, dict) else "annotation 2")
    assert reason in skipped.reason
    assert len(str(skipped)) < 1000
    path = coco(tmp_path, [annotation, annotation], images=IMAGES, categories=CATEGORIES)
    with pytest.raises(
        InputError, match=r"day\.json: annotation 1.*1 more records are skipped; none is usable"
    ):
        read_rows(path)


def test_what_an_annotation_may_lack(tmp_path: Path) -> None:
    sound = [box(), box(), {"image_id": "1", "category_id": 1.0, "bbox": [0.6, 1.4, 2.5, 3.6]}, box(id=[3])]
    content = read_rows(coco(tmp_path, sound))
    assert [(row.box, row.attributes, row.source, row.identity) for row in content.rows] == [
        ((1, 2, 3, 4), {"annotation": 1}, "day", None),
        ((1, 2, 3, 4), {"annotation": 1}, "day", None),
        ((1, 1, 2, 4), {}, "day", None),
        ((1, 2, 3, 4), {}, "day", None),
    ]
    assert not content.skipped


def test_tracks_are_identities_of_their_file(tmp_path: Path) -> None:
    path = coco(
        tmp_path,
        [box(track_id=12), box(instance_id=13), box(track_id=None, instance_id="a"), box(track_id=-1)],
    )
    assert [row.identity for row in read_rows(path).rows] == ["day/12", "day/13", "day/a", None]
    assert {row.scope for row in read_rows(path).rows} == {path}


def test_groups_and_what_is_to_be_ignored_are_left_out(tmp_path: Path) -> None:
    groups = [box(2, iscrowd=1, bbox=None), box(3, ignore=1), box(4, iscrowd=True)]
    content = read_rows(coco(tmp_path, [box(1, iscrowd=0, ignore=0), *groups]))
    assert len(content.rows) == 1
    assert content.left_out == {"groups of people (iscrowd)": 2, "to be ignored (ignore)": 1}


@pytest.mark.parametrize(
    "name",
    ["person", "Person", "PERSON", " pedestrian", "Pedestrians", "people", "rider", "Man", "person_sitting"],
)
def test_people_go_by_many_names(tmp_path: Path, name: str) -> None:
    categories = [{"id": 3, "name": name}, {"id": 4, "name": "car"}]
    path = coco(tmp_path, [box(1, category_id=3), box(2, category_id=4)], categories=categories)
    assert found(path) == [1]
    assert read_rows(path).left_out == {"of category car": 1}


NOT = [
    "car",
    "personal bag",
    "no person",
    "person group",
    "crowd",
    "cyclist",
    "head",
    "1",
    "persona non grata",
]


@pytest.mark.parametrize("name", NOT)
def test_nothing_else_is_people(tmp_path: Path, name: str) -> None:
    path = coco(tmp_path, [box()], categories=[{"id": 1, "name": name}])
    with pytest.raises(
        InputError,
        match=rf"day\.json: none of its categories .* 1 {name}; choose some with --category|: {name};",
    ):
        read_rows(path)
    assert found(path, name.upper()) == [1]
    assert found(path, "1") == [1]


def test_categories_are_chosen_by_name_or_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["person", "rider", "traffic light", "3"]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    path = coco(tmp_path, [box(n, category_id=n) for n in (1, 2, 3, 4)], categories=categories)
    assert found(path) == [1, 2]
    assert found(path, "Traffic_Light", "1") == [1, 3]
    assert found(path, "3") == [4], "a name before a number"
    assert not caplog.messages
    assert found(path, "person", "bus") == [1]
    assert caplog.messages == [f"{path} has no category bus"]
    with pytest.raises(
        InputError, match=r"--category bus: .*day\.json has only the categories 1 person, 2 rider,"
    ):
        read_rows(path, ["bus"])
    for empty in ("", "  "):
        with pytest.raises(InputError, match="--category: is empty"):
            read_rows(path, ["person", empty])


@pytest.mark.parametrize("categories", [[], None, {}, [{"id": 1}], ["person"]])
def test_a_file_that_names_no_categories(
    tmp_path: Path, categories: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = coco(tmp_path, [box(1), box(2, category_id=4), "x"], categories=categories)
    with pytest.raises(
        InputError, match=r"does not name its categories; .* --category, from the numbers 1, 4"
    ):
        read_rows(path)
    assert found(path, "4") == [2]
    caplog.set_level(logging.INFO)
    path = coco(tmp_path, [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4]}], categories=categories)
    assert found(path) == [1]
    assert caplog.messages == [f"{path} has no categories, so every box is treated as a person"]


@pytest.mark.parametrize(
    ("annotations", "picture"),
    [
        ("x.json", "f.jpg"),
        ("x.json", "images/f.jpg"),
        ("x.json", "Images/f.jpg"),
        ("labels.json", "data/f.jpg"),
        ("annotations/x.json", "f.jpg"),
        ("annotations/x.json", "images/f.jpg"),
        ("annotations/instances_val2017.json", "val2017/f.jpg"),
        ("annotations/instances_val2017.json", "images/val2017/f.jpg"),
        ("annotations/val.json", "images/val/f.jpg"),
        ("val/_annotations.coco.json", "val/f.jpg"),
        ("annotations/person_keypoints_train2017.json", "images/train2017/f.jpg"),
    ],
)
@pytest.mark.parametrize("name", ["{}", "sub/{}", "sub\\{}"])
def test_pictures_are_found_where_cocos_layout_has_them(
    tmp_path: Path, annotations: str, picture: str, name: str
) -> None:
    name = name.format("f.jpg")
    file = tmp_path / picture.replace("f.jpg", name.replace("\\", "/"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    path = tmp_path / annotations
    path.parent.mkdir(exist_ok=True)
    content = {"images": [{"id": 1, "file_name": name}], "categories": PERSON, "annotations": [box()]}
    path.write_text(json.dumps(content))
    (row,) = read_rows(path).rows
    assert row.path.resolve() == file.resolve()


def test_where_pictures_must_lie_is_said(tmp_path: Path) -> None:
    tree(tmp_path, "annotations/", "images/train/")
    path = coco(tmp_path / "annotations", [box()], images=[{"id": 1, "file_name": "g.jpg"}])
    with pytest.raises(
        InputError, match=r"no picture 'g\.jpg'; put it in .*annotations or, .*\.\./images, \.\."
    ):
        read_rows(path)


@pytest.mark.parametrize(
    "content", ["{}", "[]", "null", "1", '{"images": []}', '{"images": {}, "annotations": []}']
)
def test_other_json_is_not_cocos(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=r"x\.json: is not COCO"):
        read_rows(tmp_path / "x.json")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b'{"images": \xff}']
)
def test_what_is_no_json_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json: is not readable JSON"):
        read_rows(tmp_path / "x.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_any_unicode_is_read(tmp_path: Path, encoding: str) -> None:
    path = coco(tmp_path, [box()])
    path.write_text(path.read_text(), encoding=encoding)
    assert found(path) == [1]


SIZES = {"stored": (60, 40), "upright": (40, 60), "other": (120, 80), "none": (None, None), "zero": (0, 0)}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_boxes_lie_as_the_width_and_height_say(
    tmp_path: Path, orientation: int, size: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    picture = Image.new("RGB", (60, 40))
    box_stored, lies = (10, 4, 20, 8), orientation > 4
    picture.paste("white", (10, 4, 30, 12))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / f"g{suffix}", exif=exif)
    width, height = SIZES[size]
    images = [{"id": 1, "file_name": f"g{suffix}", "width": width, "height": height}]
    path = coco(tmp_path, [box(bbox=box_stored)], images=images)
    (row,) = read_rows(path).rows
    turned = lies and size == "stored"
    if turned:
        white = open_rgb(row.path).convert("L").point(lambda value: 255 * (value > 128)).getbbox()
        x, y, w, h = row.box
        assert (x, y, x + w, y + h) == white
    else:
        assert row.box == box_stored
    differs = size == "other" or (size == "upright" and not lies)
    assert ("boxes are in stored pixels and were rotated (pictures: 1)" in caplog.text) == turned
    assert (
        "pictures differ in size from the list; their boxes are unchanged (pictures: 1)" in caplog.text
    ) == differs


def test_pictures_in_a_folder_of_another_name(tmp_path: Path) -> None:
    """``annotations/people.json`` beside ``val2017``, as COCO lies but for the file's name."""
    for name in ("val2017/a.jpg", "train2017/b.jpg", "train2017/c.jpg", "val2017/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "annotations").mkdir()
    content = {
        "categories": [{"id": 1, "name": "person"}],
        "images": [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate("abcd")],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [0, 0, 9, 9]} for number in range(4)
        ],
    }
    (tmp_path / "annotations" / "people.json").write_text(json.dumps(content))
    found = read_rows(tmp_path / "annotations" / "people.json")
    assert [row.path for row in found.rows] == [tmp_path / "train2017/b.jpg", tmp_path / "val2017/a.jpg"]
    assert [str(record) for record in found.skipped] == [
        "annotation 3 (id '2'): picture 'c.jpg' is in ../train2017 and in ../val2017; name the list after "
        "its folder",
        "annotation 4 (id '3'): no picture 'd.jpg'; put it in "
        f"{tmp_path / 'annotations'} or, relative to it, in .. or a folder beside these",
    ]
