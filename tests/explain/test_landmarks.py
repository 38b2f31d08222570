"""Landmarks from COCO and OpenPose files, and the similarities of what lies there."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kronreid.data.records import Picture
from kronreid.errors import InputError
from kronreid.explain.landmarks import (
    COCO,
    LANDMARKS,
    OPENPOSE_18,
    OPENPOSE_25,
    correspondences_found,
    landmark_features,
    landmark_similarities,
    landmarks_of,
)

#: Where each keypoint lies in a picture of 100 × 200, in pixels.
AT = {name: (3.0 * number + 2, 6.0 * number + 3) for number, name in enumerate((*COCO, *LANDMARKS))}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "0001_c1.jpg"
    Image.new("RGB", (100, 200)).save(path)
    return path


def keypoints(names: tuple[str, ...], missing: tuple[str, ...] = ()) -> list[float]:
    triples = [(*AT.get(name, (0, 0)), float(name in AT and name not in missing)) for name in names]
    return [number for triple in triples for number in triple]


def coco(picture: Path, values: list[float], **more: object) -> dict:
    return {
        "images": [{"id": 7, "file_name": f"sub/{picture.name}"}, {"id": 8, "file_name": "other.jpg"}],
        "annotations": [
            {"image_id": 8, "keypoints": [1.0] * 51},
            {"image_id": 7, "keypoints": [0.0] * 51},
            {"image_id": 7, "keypoints": values},
        ],
        **more,
    }


def expected(name: str) -> np.ndarray:
    means = {
        "head": ("left eye", "right eye", "left ear", "right ear"),
        "neck": ("left shoulder", "right shoulder"),
        "middle of hips": ("left hip", "right hip"),
    }
    return np.mean([AT[each] for each in means.get(name, (name,))], axis=0) / (100, 200)


def test_there_are_16_as_in_the_paper() -> None:
    assert len(LANDMARKS) == len(set(LANDMARKS)) == 16
    assert (len(COCO), len(OPENPOSE_18), len(OPENPOSE_25)) == (17, 18, 25)


def test_coco_keypoints(picture: Path, tmp_path: Path) -> None:
    file = tmp_path / "keypoints.json"
    file.write_text(json.dumps(coco(picture, keypoints(COCO))))
    found = landmarks_of(picture, file)
    np.testing.assert_allclose(found, [expected(name) for name in LANDMARKS])
    names = [{"keypoints": [name.replace(" ", "_") for name in COCO[::-1]]}]
    file.write_text(json.dumps(coco(picture, keypoints(COCO[::-1]), categories=names)))
    np.testing.assert_allclose(landmarks_of(picture, file), found)
    for identity in (picture.name, picture.stem):  # results of an estimator
        file.write_text(json.dumps([{"image_id": identity, "keypoints": keypoints(COCO), "score": 0.9}]))
        np.testing.assert_allclose(landmarks_of(picture, file), found)


@pytest.mark.parametrize("names", [OPENPOSE_18, OPENPOSE_25])
def test_openpose_files(picture: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    people = [{"pose_keypoints_2d": []}, {"pose_keypoints_2d": keypoints(names)}]
    (tmp_path / f"{picture.stem}_keypoints.json").write_text(json.dumps({"people": people}))
    for source in (tmp_path, tmp_path / f"{picture.stem}_keypoints.json"):
        found = dict(zip(LANDMARKS, landmarks_of(picture, source), strict=True))
        np.testing.assert_allclose(found["neck"], np.array(AT["neck"]) / (100, 200))
        hips = AT["middle of hips"] if names is OPENPOSE_25 else 100 * expected("middle of hips") * (1, 2)
        np.testing.assert_allclose(found["middle of hips"], np.array(hips) / (100, 200))


def test_what_was_not_found_or_lies_outside_is_left_out(picture: Path, tmp_path: Path) -> None:
    file = tmp_path / "keypoints.json"
    values = keypoints(COCO, missing=("left wrist", "left shoulder", "left hip", "right hip"))
    file.write_text(json.dumps(coco(picture, values)))
    found = dict(zip(LANDMARKS, landmarks_of(picture, file), strict=True))
    assert {name for name, at in found.items() if np.isnan(at).any()} == {
        "left wrist",
        "left shoulder",
        "middle of hips",
        "left hip",
        "right hip",
    }
    np.testing.assert_allclose(found["neck"], np.array(AT["right shoulder"]) / (100, 200))
    box = Picture(picture, 1, 1, (2, 3, 90, 130))  # a part of the file
    inside = landmarks_of(box, file)
    np.testing.assert_allclose(inside[1], (np.array(AT["nose"]) - (2, 3)) / (90, 130))
    assert np.isnan(inside[-1]).all(), "the ankles are below the box"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("3", "a COCO keypoint file, COCO results or an OpenPose file is expected"),
        ('{"people": []}', "has no person for 0001_c1.jpg"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 1]}]}', "1 keypoints of a person; COCO has 17"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "not triples of numbers"),
        ('{"people": [{"pose_keypoints_2d": ["a", "b", "c"]}]}', "not triples of numbers"),
        ('[{"image_id": "other", "keypoints": []}, 5]', "has no person for"),
    ],
)
def test_bad_files_are_named(picture: Path, tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(InputError, match=f"bad.json.*{message}"):
        landmarks_of(picture, file)


def test_features_are_those_of_the_place_and_similarities_are_cosines() -> None:
    maps = np.random.default_rng(0).normal(size=(5, 4, 2))
    landmarks = np.array([(0.49, 0.0), (0.5, 0.99), (np.nan, np.nan)])
    features = landmark_features(maps, landmarks)
    np.testing.assert_array_equal(features[:2], [maps[:, 0, 0], maps[:, 3, 1]])
    assert np.isnan(features[2]).all()
    values = landmark_similarities(maps, 3 * maps, landmarks, landmarks)
    a, b = maps[:, 0, 0], maps[:, 3, 1]
    assert values[0, 1] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    np.testing.assert_allclose(np.diag(values)[:2], 1)
    assert np.isnan(values[2]).all()
    assert np.isnan(values[:, 2]).all()


def test_how_many_landmarks_find_their_own() -> None:
    values = np.array([[0.9, 0.1, np.nan], [0.8, 0.2, np.nan], [np.nan, np.nan, np.nan]])
    assert correspondences_found(values) == pytest.approx((0.55, 0.45, 0.5))
    assert np.isnan(correspondences_found(np.full((2, 2), np.nan))).all()
