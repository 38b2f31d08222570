"""CUHK03 (Li et al., CVPR 2014): as first published, and in the new protocol of Zhong et al. (CVPR 2017).

Both readers take the pictures that `kronreid.data.extract` took out of ``cuhk-03.mat``. There are 1,467
people in five pairs of cameras, with at most five pictures of each person and camera. Boxes were drawn by
hand in one half of the data set (``labeled``) and by a detector in the other (``detected``). Cameras are
numbered 1 and 2 in every pair, as is usual.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kronreid.data.extract import MAT, SPLITS, Splits, picture_folder
from kronreid.data.names import CUHK03
from kronreid.data.readers.layout import Count, Layout, Published
from kronreid.data.records import Picture, ReIDDataset
from kronreid.errors import InputError, one_line

FIELDS = ("filelist", "labels", "camId", "train_idx", "query_idx", "gallery_idx")


def protocol_file(kind: str) -> str:
    """The name of the new protocol's official file."""
    return f"cuhk03_new_protocol_config_{kind}.mat"


def looks_classic(root: Path) -> bool:
    """Whether a root has the file of CUHK03, or what `extract` makes of it."""
    return bool(find(root, MAT) or find(root, SPLITS))


def looks_new(root: Path, kind: str) -> bool:
    """Whether a root has the new protocol's official file for ``labeled`` or ``detected`` boxes."""
    return bool(find(root, protocol_file(kind)))


def find(root: Path, name: str) -> Path | None:
    """Look for a file in the root or in a folder there (``cuhk03_release``); None if there is none."""
    return next((path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), None)


def read_classic(root: Path, kind: str, split: int = 0) -> ReIDDataset:
    """Read CUHK03 with one of its 20 published divisions: 100 people for the test, 1,367 for training.

    The owners drew their 100 test people from the first three pairs of cameras and set 100 more aside for
    validation. Here these train too, as in open-reid and since. All pictures of the test people are both
    queries and gallery: the protocol ``cuhk03-classic`` draws from the other camera. People are numbered
    through the pairs, from 1. They have the same numbers in the new protocol.

    Args:
        root: Where `extract` put the pictures: ``images_labeled``, ``images_detected`` and `SPLITS`.
        kind: ``labeled`` or ``detected``.
        split: 0 to 19.

    Raises:
        InputError: The pictures have not been extracted, or not all of them, or there is no such split.
    """
    if not (root / SPLITS).is_file():
        if mat := find(root, MAT):
            raise InputError(mat, f"its pictures have not been extracted; run kronreid data extract {root}")
        raise InputError(root, f"neither {MAT} nor {SPLITS}, which kronreid data extract makes of it")
    splits = Splits.read(root / SPLITS)
    if not 0 <= split < len(splits.test):
        raise InputError(
            f"--split {split} (or data.split)", f"{root / SPLITS} has splits 0 to {len(splits.test) - 1}"
        )
    folder = picture_folder(root, kind)
    names = [match for name in _names(folder) if (match := CUHK03.pattern.fullmatch(name))]
    if len(names) != splits.pictures[kind]:
        raise InputError(
            folder,
            f"{len(names):,} pictures found, {splits.pictures[kind]:,} expected; run kronreid "
            f"data extract {root} again",
        )
    before = np.cumsum([0, *splits.people]).tolist()
    test = {before[pair - 1] + person for pair, person in splits.test[split]}
    pictures = [
        Picture(folder / name[0], before[int(name["pair"]) - 1] + int(name["person"]), int(name["camera"]))
        for name in names
    ]
    train = tuple(picture for picture in pictures if picture.identity not in test)
    asked = tuple(picture for picture in pictures if picture.identity in test)
    return ReIDDataset(f"cuhk03-{kind}", "cuhk03-classic", root, train, asked, asked)


def count_splits(root: Path) -> int:
    """The number of divisions of an extracted root; CUHK03 has 20."""
    return len(Splits.read(root / SPLITS).test)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def read_new_protocol(root: Path, kind: str) -> ReIDDataset:
    """Read CUHK03 as Zhong et al. divided it: 767 people for training, 700 for the test, and one query for
    each person and camera.

    Args:
        root: A folder with ``cuhk03_new_protocol_config_<kind>.mat`` and the extracted pictures.
        kind: ``labeled`` or ``detected``.

    Raises:
        InputError: The file is missing or is another one, or pictures in its list are missing.
    """
    path = find(root, protocol_file(kind))
    if path is None:
        raise InputError(root, f"no {protocol_file(kind)}, the official file of the new protocol")
    content = _load(path)
    names = [str(name[0]) if len(name) else "" for name in content["filelist"]]
    labels, cameras = content["labels"].astype(int), content["camId"].astype(int)
    if not len(names) == len(labels) == len(cameras):
        raise InputError(
            path, f"{len(names)} files, {len(labels)} labels and {len(cameras)} cameras do not fit"
        )
    person_of: dict[int, tuple[str, str]] = {}
    for row, (name, label, camera) in enumerate(zip(names, labels.tolist(), cameras.tolist()), start=1):
        match = CUHK03.pattern.fullmatch(name)
        if match is None:
            raise InputError(path, f"file {row} is {name!r}, a name like 1_001_1_01.png expected")
        person = (match["pair"], match["person"])
        if int(match["camera"]) != camera or person_of.setdefault(label, person) != person:
            raise InputError(
                path, f"file {row}: label {label} and camera {camera} contradict its name {name}"
            )
    folder = picture_folder(root, kind)
    there = set(_names(folder))
    absent = [name for name in names if name not in there]
    if absent:
        mat = find(root, MAT)
        advice = f"run kronreid data extract {root}" if mat else f"{MAT} is needed in {root} to extract them"
        raise InputError(
            folder,
            f"{len(absent):,} of the {len(names):,} pictures of {path.name} are missing, first "
            f"{absent[0]}; {advice}",
        )
    parts = []
    for field in FIELDS[3:]:
        rows = content[field].astype(int) - 1  # MATLAB counts from 1
        if not len(rows) or rows.min() < 0 or rows.max() >= len(names):
            raise InputError(path, f"{field} counts from 1 to {len(names)}; {content[field]} found")
        parts.append(tuple(Picture(folder / names[row], int(labels[row]), int(cameras[row])) for row in rows))
    return ReIDDataset(f"cuhk03-np-{kind}", "cuhk03-np", root, *parts)


def _load(path: Path) -> dict[str, np.ndarray]:
    """The columns of the new protocol's file, one-dimensional."""
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(path)
    except Exception as error:  # scipy raises anything on a damaged file
        raise InputError(path, f"not a MATLAB file that can be read ({one_line(error)})") from None
    missing = [field for field in FIELDS if field not in content]
    if missing:
        found = ", ".join(name for name in content if not name.startswith("__"))
        raise InputError(path, f"no {', '.join(missing)} in it, found {found or 'nothing'}; another file?")
    return {field: np.asarray(content[field]).reshape(-1) for field in FIELDS}


def _classic(kind: str, title: str, pictures: int) -> Layout:
    test = Count(None, 100, 2)
    counts = {"all": Count(pictures, 1467, 2), "train": Count(None, 1367, 2), "query": test, "gallery": test}
    return Layout(
        partial(read_classic, kind=kind),
        "cuhk03-classic",
        looks_classic,
        splits=True,
        count_splits=count_splits,
        published=Published(f"CUHK03, {title} (Li et al., CVPR 2014)", counts),
    )


def _new_protocol(kind: str, title: str, train: int, gallery: int) -> Layout:
    counts = {"train": Count(train, 767, 2), "query": Count(1400, 700, 2), "gallery": Count(gallery, 700, 2)}
    return Layout(
        partial(read_new_protocol, kind=kind),
        "cuhk03-np",
        partial(looks_new, kind=kind),
        published=Published(f"CUHK03, {title}, new protocol (Zhong et al., CVPR 2017)", counts),
    )


#: The cells of cuhk-03.mat.
LABELED, DETECTED = _classic("labeled", "labelled", 14096), _classic("detected", "detected", 14097)
#: The lists of Zhong et al.
NEW_LABELED = _new_protocol("labeled", "labelled", 7368, 5328)
NEW_DETECTED = _new_protocol("detected", "detected", 7365, 5332)
