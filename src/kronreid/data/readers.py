"""Readers of data sets on disk: Market-1501's layout and plain folders.

`read(root, layout)` is the way in; without a layout it looks which one the folder has.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from kronreid.data.images import SUFFIXES, find_pictures
from kronreid.data.records import NO_CAMERA, UNKNOWN, Picture, ReIDDataset, identities
from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: 0002_c1s1_000451_03.jpg: identity, camera, sequence, frame, box. Also Duke's 0005_c2_f0046985.jpg.
MARKET_NAME = re.compile(r"(?P<identity>-1|\d{1,5})_c(?P<camera>\d+)")
#: root/<identity>/<camera>_<anything>.jpg; a leading letter before the camera's number is common ("c2_…").
FOLDER_NAME = re.compile(r"[A-Za-z]*(?P<camera>\d+)_")


def describe(path: Path) -> Picture:
    """What a picture's name says about it: Market-1501's pattern, or the folder pattern, or nothing."""
    if match := MARKET_NAME.match(path.name):
        return Picture(path, int(match["identity"]), int(match["camera"]))
    match = FOLDER_NAME.match(path.name)
    camera = int(match["camera"]) if match else NO_CAMERA
    return Picture(path, int(path.parent.name) if path.parent.name.isdecimal() else UNKNOWN, camera)


def read_market1501(root: Path) -> ReIDDataset:
    """Market-1501's layout: ``bounding_box_train``, ``query``, ``bounding_box_test``.

    File names are ``<identity>_c<camera>…``; identity −1 is junk and 0000 a distractor, both only in the
    gallery. Names that do not parse are skipped, counted and listed, as long as others do.

    Raises:
        InputError: A folder is missing or holds no picture whose name parses.
    """
    folders = ("bounding_box_train", "query", "bounding_box_test")
    missing = [folder for folder in folders if not (root / folder).is_dir()]
    if missing:
        raise InputError(
            f"{root}: no folder {' nor '.join(missing)}; Market-1501's layout has {', '.join(folders)}"
        )
    parts = {folder: _parse(find_pictures(root / folder)) for folder in folders}
    train = tuple(picture for picture in parts["bounding_box_train"] if picture.identity > 0)
    if not train:
        raise InputError(f"{root / 'bounding_box_train'}: no picture of a real identity (all −1 or 0000)")
    return ReIDDataset("market1501", "market1501", root, train, parts["query"], parts["bounding_box_test"])


def _parse(paths: list[Path]) -> tuple[Picture, ...]:
    pictures = [describe(path) for path in paths if MARKET_NAME.match(path.name)]
    strange = [path for path in paths if not MARKET_NAME.match(path.name)]
    if not pictures:
        raise InputError(
            f"{paths[0]}: the name does not parse, nor does any other in that folder; "
            "expected names like 0002_c1s1_000451_03.jpg"
        )
    if strange:
        shown = ", ".join(path.name for path in strange[:5]) + (", …" if len(strange) > 5 else "")
        log.warning("%s: %d names do not parse and are skipped: %s", strange[0].parent, len(strange), shown)
    return tuple(pictures)


def read_folders(root: Path) -> ReIDDataset:
    """Plain folders: ``root/<identity>/<camera>_<anything>.jpg``.

    Identities are numbered by the sorted order of their folders' names, from 1. Where ``root`` holds
    ``train``, ``query`` and ``gallery`` folders, each is read so and the same name means the same person.
    Without them the first half of the identities trains and the other half tests, the first picture of each
    camera of a test identity being a query, as in Market-1501.

    Raises:
        InputError: No identity folder with pictures, fewer than four identities to divide, or no
            camera in the names.
    """
    given = [root / part for part in ("train", "query", "gallery")]
    if all(folder.is_dir() for folder in given):
        people = sorted({name for folder in given for name in _folder_names(folder)})
        number = {name: index for index, name in enumerate(people, start=1)}
        train, query, gallery = (_identity_folders(folder, number) for folder in given)
        return ReIDDataset("folders", "cross-camera", root, train, query, gallery)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    people = sorted(_folder_names(root))
    pictures = _identity_folders(root, {name: index for index, name in enumerate(people, start=1)})
    known = identities(pictures)
    if len(known) < 4:
        raise InputError(
            f"{root}: {len(known)} identity folders with pictures; at least 4 are needed to train and test"
        )
    training = set(known[: (len(known) + 1) // 2])
    first: set[tuple[int, int]] = set()
    query_list: list[Picture] = []
    gallery_list: list[Picture] = []
    for picture in pictures:
        if picture.identity in training:
            continue
        key = (picture.identity, picture.camera)
        (gallery_list if key in first else query_list).append(picture)
        first.add(key)
    train = tuple(picture for picture in pictures if picture.identity in training)
    return ReIDDataset("folders", "cross-camera", root, train, tuple(query_list), tuple(gallery_list))


def _folder_names(root: Path) -> list[str]:
    return [entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


def _identity_folders(root: Path, number: dict[str, int]) -> tuple[Picture, ...]:
    pictures = []
    for name in sorted(number):
        folder = root / name
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in files:
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            match = FOLDER_NAME.match(path.name)
            if match is None:
                raise InputError(f"{path}: the name must begin with the camera's number, like 1_anything.jpg")
            pictures.append(Picture(path, number[name], int(match["camera"])))
    if not pictures:
        raise InputError(
            f"{root}: no pictures in identity folders; expected {root}/<identity>/<camera>_<anything>.jpg"
        )
    return tuple(pictures)


LAYOUTS: dict[str, Callable[[Path], ReIDDataset]] = {"market1501": read_market1501, "folders": read_folders}


def read(root: str | Path, layout: str | None = None) -> ReIDDataset:
    """Read a data set.

    Args:
        root: Its folder.
        layout: ``market1501`` or ``folders``; None looks which one it is.

    Raises:
        InputError: The root is missing or empty, or is not laid out so.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; --data names the root of a data set")
    if not any(root.iterdir()):
        raise InputError(f"{root}: the folder is empty; --data names the root of a data set")
    if layout is None:
        layout = "market1501" if (root / "bounding_box_test").is_dir() else "folders"
    if layout not in LAYOUTS:
        raise InputError(f"--layout {layout}: unknown; one of {', '.join(LAYOUTS)}")
    return LAYOUTS[layout](root)
