"""Plain folders, one for each person."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kronreid.data.files import is_picture, pictures_below, some
from kronreid.data.names import is_division, parse
from kronreid.data.readers.layout import Layout
from kronreid.data.readers.parts import NOBODY, LeftOut, must_hold, say_left_out
from kronreid.data.records import JUNK, Picture, ReIDDataset, identities
from kronreid.errors import InputError

log = logging.getLogger(__name__)

PARTS = ("train", "query", "gallery")
TRAIN, QUERY, GALLERY = PARTS

NO_CAMERA_IN_NAME = "with names that tell no camera"
NO_FOLDER = "in no person's folder"
TOO_DEEP = "deeper than in a person's folder"
DIVISION = "in folders that divide a data set"
REASONS = (NO_CAMERA_IN_NAME, NO_FOLDER, TOO_DEEP, DIVISION, NOBODY)


def read_folders(root: Path) -> ReIDDataset:
    """Read plain folders: ``root/<person>/<camera>_<anything>.jpg``, or other names that tell a camera.

    A picture shows the person in whose folder it lies, whatever its name says. The camera is read from its
    name (see `kronreid.data.names`). Every folder is a person, ``0`` and ``0000`` too, except for ``-1``: its
    pictures show nobody, are junk in the gallery and are left out elsewhere. People are numbered from 1, in
    the sorted order of their folders' names.

    If `root` has the folders ``query`` and ``gallery``, the folders of people are in these and in ``train``,
    which may be missing or empty. The same name means the same person. Other folders, such as ``val``, are
    not read. If `root` does not have the two, the first half of the people is for training and the other half
    for the test. The first picture of a test person in each camera is a query, as in Market-1501. Folders
    with names like ``train``, ``val`` and ``test`` are not people then.

    Pictures that are not used (elsewhere, deeper, or without a camera) are counted and listed.

    Raises:
        InputError: No person's folder has a usable picture, or there are fewer than four people to divide.
    """
    if not root.is_dir():
        raise InputError(root, "no such folder")
    if (root / QUERY).is_dir() and (root / GALLERY).is_dir():
        return _divided(root)
    return _undivided(root)


def _divided(root: Path) -> ReIDDataset:
    parts = {part: _find(root / part) for part in PARTS}
    number = _numbers(parts)
    pictures: dict[str, tuple[Picture, ...]] = {}
    for part, found in parts.items():
        pictures[part] = found.numbered(number, keep_junk=part == GALLERY)
        if part != TRAIN:
            must_hold(found.folder, pictures[part], found.left_out, _expected(found.folder))
        say_left_out(found.folder, len(pictures[part]), found.left_out)
    others = sorted(
        entry
        for entry in root.iterdir()
        if entry.name not in PARTS and entry.name[0] != "." and (entry.is_dir() or is_picture(entry.name))
    )
    if others:
        log.warning("%s: %s are read, and nothing else there (%s)", root, ", ".join(PARTS), some(others))
    return ReIDDataset("folders", "cross-camera", root, *pictures.values())


def _undivided(root: Path) -> ReIDDataset:
    found = _find(root)
    pictures = found.numbered(_numbers({"": found}), keep_junk=False)
    divisions = sorted({path.relative_to(root).parts[0] for path in found.left_out[DIVISION]})
    advice = f"; it has {', '.join(divisions)}, but not both query and gallery" if divisions else ""
    must_hold(root, pictures, found.left_out, _expected(root) + advice)
    say_left_out(root, len(pictures), found.left_out)
    known = identities(pictures)
    if len(known) < 4:
        raise InputError(
            root,
            f"folders with pictures of {len(known)} people; at least 4 are needed to train and test{advice}",
        )
    training = set(known[: (len(known) + 1) // 2])
    first: set[tuple[int, int]] = set()
    query: list[Picture] = []
    gallery: list[Picture] = []
    for picture in pictures:
        if picture.identity in training:
            continue
        key = (picture.identity, picture.camera)
        (gallery if key in first else query).append(picture)
        first.add(key)
    train = tuple(picture for picture in pictures if picture.identity in training)
    return ReIDDataset("folders", "cross-camera", root, train, tuple(query), tuple(gallery))


def _expected(folder: Path) -> str:
    return f"{folder}/<person>/<camera>_<anything>.jpg is expected"


@dataclass
class _Found:
    """The pictures below a folder of people, (picture, person, camera) each, and those that are left out."""

    folder: Path
    pictures: list[tuple[Path, str, int]]
    left_out: LeftOut

    def numbered(self, number: Mapping[str, int], keep_junk: bool) -> tuple[Picture, ...]:
        """The pictures with people's numbers; junk is left out unless `keep_junk`."""
        kept = []
        for path, person, camera in self.pictures:
            if number[person] == JUNK and not keep_junk:
                self.left_out[NOBODY].append(path)
            else:
                kept.append(Picture(path, number[person], camera))
        return tuple(kept)


def _numbers(parts: Mapping[str, _Found]) -> dict[str, int]:
    people = {person for found in parts.values() for _, person, _ in found.pictures} - {str(JUNK)}
    return {str(JUNK): JUNK, **{name: number for number, name in enumerate(sorted(people), start=1)}}


def _find(folder: Path) -> _Found:
    found = _Found(folder, [], {reason: [] for reason in REASONS})
    for path in pictures_below(folder):
        person, *deeper = path.relative_to(folder).parts
        camera = parse(path.name, person).camera if len(deeper) == 1 else None
        if not deeper:
            found.left_out[NO_FOLDER].append(path)
        elif is_division(person):
            found.left_out[DIVISION].append(path)
        elif len(deeper) > 1:
            found.left_out[TOO_DEEP].append(path)
        elif camera is None:
            found.left_out[NO_CAMERA_IN_NAME].append(path)
        else:
            found.pictures.append((path, person, camera))
    return found


LAYOUT = Layout(read_folders, "cross-camera")
