"""CUHK03 (Li et al., CVPR 2014): as first published, and in the new protocol of Zhong et al. (CVPR 2017).

Both read pictures that `kronreid.data.extract` took out of ``cuhk-03.mat``. There are 1,467 people in five
pairs of cameras, of each at most five pictures per camera, once with boxes drawn by hand (``labeled``) and
once with those of a detector (``detected``). Cameras are numbered 1 and 2 in every pair, as all of the field
does.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kronreid.data.extract import KINDS, MAT, SPLITS, Splits, picture_folder
from kronreid.data.names import CUHK03
from kronreid.data.records import Picture, ReIDDataset
from kronreid.errors import InputError, one_line

FIELDS = ("filelist", "labels", "camId", "train_idx", "query_idx", "gallery_idx")


def protocol_file(kind: str) -> str:
    """The name of the new protocol's official file."""
    return f"cuhk03_new_protocol_config_{kind}.mat"


def looks_like(root: Path) -> list[str]:
    """What the root holds of ``cuhk03-labeled``, ``cuhk03-detected`` and the same in the new protocol."""
    original = find(root, MAT) or find(root, SPLITS)
    new = [kind for kind in KINDS if find(root, protocol_file(kind))]
    return [f"cuhk03-{kind}" for kind in KINDS if original] + [f"cuhk03-np-{kind}" for kind in new]


def find(root: Path, name: str) -> Path | None:
    """A file in the root or in a folder there (``cuhk03_release``); None without one."""
    return next((path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), None)


def read_classic(root: Path, kind: str, split: int = 0) -> ReIDDataset:
    """CUHK03 with one of its 20 published divisions: 100 people test, all others train (1,367).

    The owners drew their 100 test people from the first three pairs of cameras and set 100 more aside to
    validate; as in open-reid and since, these train, too. All pictures of the test people ask and all are
    searched: the protocol ``cuhk03-classic`` draws from the other camera. People are numbered through the
    pairs, from 1; they have the same numbers in the new protocol.

    Args:
        root: Where `extract` put the pictures: ``images_labeled``, ``images_detected`` and `SPLITS`.
        kind: ``labeled`` or ``detected``.
        split: 0 to 19.

    Raises:
        InputError: Nothing has been extracted, or not all of it; there is no such split.
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


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def read_new_protocol(root: Path, kind: str) -> ReIDDataset:
    """CUHK03 as Zhong et al. divided it: 767 people train, 700 test, one query per person and camera.

    Args:
        root: A folder with ``cuhk03_new_protocol_config_<kind>.mat`` and the extracted pictures.
        kind: ``labeled`` or ``detected``.

    Raises:
        InputError: The file is missing or is another one, or pictures that it lists are missing.
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
    """The columns of the new protocol's file, each flat."""
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
