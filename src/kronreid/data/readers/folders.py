"""Plain folders: one per person."""

from pathlib import Path

from kronreid.data.files import SUFFIXES
from kronreid.data.readers.names import FOLDER_NAME
from kronreid.data.records import Picture, ReIDDataset, identities
from kronreid.errors import InputError


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
