"""Landmarks of bodies from a COCO keypoint file or a pose estimator's JSON, for HOReID's Figure 5.

The paper takes 16 landmarks of OpenPose and does not name them. COCO has 17 keypoints, five of them in the
face, and none on the trunk. Here the 16 are `LANDMARKS`. What a file lacks is computed from its neighbours:
the head from eyes and ears, the neck from the shoulders, the middle of the hips from the hips.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kronreid.data.images import ImageLike, open_rgb
from kronreid.data.records import Picture
from kronreid.errors import InputError, one_line

#: The 16 landmarks, from the head down; right and left are the person's.
LANDMARKS = (
    "head",
    "nose",
    "neck",
    "right shoulder",
    "left shoulder",
    "right elbow",
    "left elbow",
    "right wrist",
    "left wrist",
    "middle of hips",
    "right hip",
    "left hip",
    "right knee",
    "left knee",
    "right ankle",
    "left ankle",
)
_FACE = ("left eye", "right eye", "left ear", "right ear")
#: The keypoints of each format, by their number.
COCO = (
    *("nose", *_FACE, "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist"),
    *("right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle"),
)
_OPENPOSE_ARMS = (
    *("nose", "neck", "right shoulder", "right elbow", "right wrist"),
    *("left shoulder", "left elbow", "left wrist"),
)
_OPENPOSE_LEGS = ("right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle")
_OPENPOSE_FACE = ("right eye", "left eye", "right ear", "left ear")
OPENPOSE_18 = (*_OPENPOSE_ARMS, *_OPENPOSE_LEGS, *_OPENPOSE_FACE)
#: The last six of the 25 are on the feet.
OPENPOSE_25 = (*_OPENPOSE_ARMS, "middle of hips", *_OPENPOSE_LEGS, *_OPENPOSE_FACE, *("",) * 6)
_BY_COUNT = {17: COCO, 18: OPENPOSE_18, 25: OPENPOSE_25}
#: What stands in for a landmark that a file lacks: the mean of these.
_MEANS = {
    "head": _FACE,
    "neck": ("right shoulder", "left shoulder"),
    "middle of hips": ("right hip", "left hip"),
}


def landmarks_of(picture: ImageLike, source: Path) -> np.ndarray:
    """The landmarks of a picture.

    Args:
        picture: A path, or a `Picture`, whose box is then subtracted.
        source: A COCO keypoint file, a list of results in COCO's format, an OpenPose file, or a folder with
            an OpenPose file ``<picture's name>_keypoints.json`` for each picture. If there are several
            people, the one with the most keypoints counts.

    Returns:
        (16, 2) float64: x and y of `LANDMARKS` as fractions of the picture. NaN where one was not found or
        lies outside.

    Raises:
        InputError: The source cannot be read, or has no person for the picture.
    """
    path = picture.path if isinstance(picture, Picture) else picture
    if not isinstance(path, str | Path):
        raise InputError("--keypoints", "landmarks belong to files; name the pictures by their paths")
    path = Path(path)
    file = source / f"{path.stem}_keypoints.json" if source.is_dir() else source
    people = [_named(person, file) for person in _people(_read(file), path, file)]
    if not people:
        raise InputError(file, f"has no person for {path.name}")
    best = max(people, key=len)
    left, top, width, height = (picture.box if isinstance(picture, Picture) else None) or (0, 0, 0, 0)
    if not width:
        width, height = open_rgb(path).size
    found = np.full((len(LANDMARKS), 2), np.nan)
    for number, name in enumerate(LANDMARKS):
        used = [best[each] for each in _MEANS.get(name, ()) if each in best]
        points = [best[name]] if name in best else used
        if points:
            x, y = (np.mean(points, axis=0) - (left, top)) / (width, height)
            if 0 <= x < 1 and 0 <= y < 1:
                found[number] = x, y
    return found


def landmark_features(maps: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The feature at each landmark: that of the place in which it lies.

    Args:
        maps: (D, h, w).
        landmarks: (L, 2) fractions; NaN for one that was not found.

    Returns:
        (L, D) float64; NaN for one that was not found.
    """
    found = np.full((len(landmarks), len(maps)), np.nan)
    for number, (x, y) in enumerate(landmarks):
        if np.isfinite(x):
            found[number] = maps[:, int(y * maps.shape[1]), int(x * maps.shape[2])]
    return found


def landmark_similarities(
    maps_a: np.ndarray, maps_b: np.ndarray, landmarks_a: np.ndarray, landmarks_b: np.ndarray
) -> np.ndarray:
    """The matrix of HOReID's Figure 5: cosines of the features at all landmarks of two pictures.

    Args:
        maps_a: Ĝ (D, h, w) of the first picture.
        maps_b: Ĝ of the second.
        landmarks_a: (L, 2) of the first, see `landmarks_of`.
        landmarks_b: (L, 2) of the second.

    Returns:
        (L, L), −1 to 1; NaN where one of the two was not found.
    """
    features = []
    for maps, landmarks in ((maps_a, landmarks_a), (maps_b, landmarks_b)):
        rows = landmark_features(maps, landmarks)
        features.append(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
    return features[0] @ features[1].T


def correspondences_found(similarities: np.ndarray) -> tuple[float, float, float]:
    """How well landmarks find one another: figures of a matrix of `landmark_similarities`.

    Returns:
        The mean similarity of the same landmarks, that of different ones, and the share of landmarks whose
        most similar one in the other picture is the same. Landmarks that either picture lacks do not count.
    """
    same = np.isfinite(np.diag(similarities))
    if not same.any():
        return float("nan"), float("nan"), float("nan")
    square = similarities[np.ix_(same, same)]
    others = square[~np.eye(len(square), dtype=bool)]
    right = square.argmax(axis=1) == np.arange(len(square))
    return float(np.diag(square).mean()), float(others.mean()) if len(others) else float("nan"), right.mean()


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"--keypoints {file}", "no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"--keypoints {file}", f"is no JSON that can be read ({one_line(error)})") from None


def _people(content: Any, picture: Path, file: Path) -> Iterator[tuple[Sequence[Any], Sequence[str] | None]]:
    """The keypoints of each person in a picture, and their names if the file has some."""
    if isinstance(content, dict) and isinstance(content.get("people"), list):  # OpenPose: one file a picture
        for person in content["people"]:
            values = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
            if values and isinstance(values, list):
                yield values, None
        return
    if isinstance(content, list):  # an estimator's results in COCO's format
        ids: set[Any] = {picture.name, picture.stem}
        ids |= {int(picture.stem)} if picture.stem.isdecimal() else set()
        annotations, names = content, None
    elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
        images = [image for image in content.get("images", []) if isinstance(image, dict)]
        ids = {image.get("id") for image in images if Path(str(image.get("file_name"))).name == picture.name}
        annotations = content["annotations"]
        kinds = [each for each in content.get("categories", []) if isinstance(each, dict)]
        names = next((each["keypoints"] for each in kinds if each.get("keypoints")), None)
    else:
        raise InputError(
            f"--keypoints {file}", "a COCO keypoint file, COCO results or an OpenPose file is expected"
        )
    for one in annotations:
        values = one.get("keypoints") if isinstance(one, dict) and one.get("image_id") in ids else None
        if values and isinstance(values, list):
            yield values, names


def _named(person: tuple[Sequence[Any], Sequence[str] | None], file: Path) -> Mapping[str, np.ndarray]:
    """The keypoints of a person that were found, by name: those with a visibility or confidence above 0."""
    values, names = person
    try:
        points = np.array(values, dtype=np.float64).reshape(-1, 3)
    except (ValueError, TypeError):
        raise InputError(f"--keypoints {file}", "keypoints are not triples of numbers") from None
    known = [str(name).replace("_", " ") for name in names] if names else _BY_COUNT.get(len(points))
    if known is None or len(known) != len(points):
        raise InputError(
            f"--keypoints {file}",
            f"{len(points)} keypoints of a person; COCO has 17 and OpenPose 18 or 25, others need names in "
            "categories",
        )
    return {name: point[:2] for name, point in zip(known, points) if name and point[2] > 0}
