"""Market-1501 and DukeMTMC-reID, which share folders and names; and own pictures laid out like them."""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from kronreid.data.files import is_picture, names_below
from kronreid.data.names import DUKEMTMC, MARKET1501, Kind, parse
from kronreid.data.readers.parts import (
    NOBODY,
    NUMBERED,
    LeftOut,
    homes,
    must_hold,
    read_names,
    say_left_out,
)
from kronreid.data.records import DISTRACTOR, JUNK, Picture, ReIDDataset
from kronreid.errors import InputError

log = logging.getLogger(__name__)

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
TRAIN, QUERY, GALLERY = FOLDERS
#: Folders of the archives, where somebody unpacked them into a folder of their own.
MARKET_HOME, DUKE_HOME = "Market-1501-v15.09.15", "DukeMTMC-reID"
#: Drawn by hand, for multi-query.
BOXES = "gt_bbox"
#: distractors_500k.zip unpacks to a folder ``images``; many rename it, or unpack it into one of its name.
DISTRACTORS = ("distractors_500k", "images")


def looks_like(root: Path) -> list[str]:
    """``market1501`` and ``dukemtmc``, whose folders tell them apart by the pictures' names."""
    places = homes(root, (MARKET_HOME, DUKE_HOME), (TRAIN, GALLERY))
    duke = {_is_duke(place) for place in places}
    return ["market1501"] * (False in duke) + ["dukemtmc"] * (True in duke)


def _is_duke(home: Path) -> bool:
    """Whether every name that gives a person and a camera is one of DukeMTMC-reID's, and there is one."""
    names = (name for folder in FOLDERS for name in names_below(home / folder) if is_picture(name))
    found = False
    for name in names:
        kind = parse(name).kind
        if kind in NUMBERED and kind is not DUKEMTMC:
            return False
        found |= kind is DUKEMTMC
    return found


def market_home(root: Path) -> Path:
    """The folder that holds Market-1501's folders: `root` or one in it."""
    return (homes(root, (MARKET_HOME,), FOLDERS) or [root])[0]


def read_market1501(root: Path, more_distractors: bool = False) -> ReIDDataset:
    """Market-1501 (Zheng et al., ICCV 2015): ``bounding_box_train``, ``query``, ``bounding_box_test``; also
    own pictures in such folders.

    File names begin ``<identity>_c<camera>`` (see `kronreid.data.names`). Identity −1 shows nobody: such
    pictures are junk in the gallery and are left out elsewhere. Identity 0 is Market-1501's sign for
    distractors, which lie in its gallery alone. Where the training or query folder holds pictures of
    identity 0, it is a person like any other and gets the number after the highest one. Names that do not
    parse are left out, counted and listed. The training folder may be missing or empty. The hand-drawn boxes
    in ``gt_bbox``, where that folder is, serve multi-query.

    Args:
        root: The folder, or the one that holds ``Market-1501-v15.09.15``.
        more_distractors: Add the pictures of ``distractors_500k.zip`` to the gallery, from a folder
            ``distractors_500k`` or ``images``, whatever identity their names say.

    Raises:
        InputError: The query or gallery folder is missing or holds no picture of somebody.
    """
    home = market_home(root)
    train, query, gallery, more = _read_parts(home, "Market-1501", NUMBERED, MARKET1501.example)
    asked = {(picture.identity, picture.camera) for picture in query}
    multi_query = tuple(picture for picture in more if (picture.identity, picture.camera) in asked)
    if more:
        log.info(
            "%s: %s of its %s pictures are of a query's person and camera; multi-query uses those",
            home / BOXES,
            f"{len(multi_query):,}",
            f"{len(more):,}",
        )
    name = "market1501"
    if more_distractors:
        name = "market1501+500k"
        gallery += _distractors(home)
    return ReIDDataset(name, "market1501", root, train, query, gallery, multi_query)


def _distractors(home: Path) -> tuple[Picture, ...]:
    for name in DISTRACTORS:
        folder = home / name
        if folder.is_dir():
            log.info("%s: reading the names of the distractors", folder)
            pictures, left_out = read_names(folder)
            must_hold(folder, pictures, left_out, f"names like {MARKET1501.example} are expected")
            say_left_out(folder, len(pictures), left_out)
            return tuple(replace(picture, identity=DISTRACTOR) for picture in pictures)
    raise InputError(
        home,
        f"no folder {' nor '.join(DISTRACTORS)}; unpack distractors_500k.zip there, or read "
        "without its pictures as layout market1501",
    )


def read_dukemtmc(root: Path) -> ReIDDataset:
    """DukeMTMC-reID (Ristani et al. 2016, Zheng et al. 2017): Market-1501's folders, names like
    ``0005_c2_f0046985.jpg``, no junk and no distractors of identity 0.

    The owners of the recordings withdrew them in 2019, because the people in them had not agreed to it. It is
    read for comparison with what has been published. The training folder may be missing or empty.

    Args:
        root: The folder, or the one that holds ``DukeMTMC-reID``.

    Raises:
        InputError: The query or gallery folder is missing or holds no picture whose name parses.
    """
    home = (homes(root, (DUKE_HOME,), FOLDERS) or [root])[0]
    train, query, gallery, _ = _read_parts(home, "DukeMTMC-reID", (DUKEMTMC,), DUKEMTMC.example)
    log.info("%s: DukeMTMC-reID was withdrawn by its owners in 2019; it is read for comparison only", root)
    return ReIDDataset("dukemtmc", "dukemtmc", root, train, query, gallery)


def _read_parts(
    home: Path, title: str, kinds: Collection[Kind], example: str
) -> tuple[tuple[Picture, ...], ...]:
    """The pictures of the training, query and gallery folders and of ``gt_bbox``."""
    missing = [folder for folder in (QUERY, GALLERY) if not (home / folder).is_dir()]
    if missing:
        raise InputError(home, f"no folder {' nor '.join(missing)}; {title} has {', '.join(FOLDERS)}")
    parts: dict[str, list[Picture]] = {}
    left_out: dict[str, LeftOut] = {}
    for folder in (*FOLDERS, BOXES):
        parts[folder], left_out[folder] = read_names(home / folder, kinds)
        if folder != GALLERY:
            left_out[folder][NOBODY] = [one.path for one in parts[folder] if one.identity == JUNK]
            parts[folder] = [one for one in parts[folder] if one.identity != JUNK]
        if folder in (QUERY, GALLERY):
            must_hold(home / folder, parts[folder], left_out[folder], f"names like {example} are expected")
        say_left_out(home / folder, len(parts[folder]), left_out[folder])
    zeros = sum(one.identity == DISTRACTOR for folder in (TRAIN, QUERY) for one in parts[folder])
    if zeros:
        number = max(one.identity for part in parts.values() for one in part) + 1
        log.info(
            "%s: identity 0 is a person here, not a distractor: %s and %s have %s pictures of it; its number "
            "is %d",
            *(home, TRAIN, QUERY, f"{zeros:,}", number),
        )
        for folder, part in parts.items():
            parts[folder] = [
                replace(one, identity=number) if one.identity == DISTRACTOR else one for one in part
            ]
    return tuple(tuple(part) for part in parts.values())
