"""Market-1501 and DukeMTMC-reID, which share folders and names; and own pictures laid out like them."""

import logging
import re
from dataclasses import replace
from pathlib import Path

from kronreid.data.readers.names import MARKET_NAME, homes, read_names
from kronreid.data.records import DISTRACTOR, Picture, ReIDDataset
from kronreid.errors import InputError

log = logging.getLogger(__name__)

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
TRAIN, QUERY, GALLERY = FOLDERS
#: Folders of the archives, where somebody unpacked them into a folder of their own.
MARKET_HOME, DUKE_HOME = "Market-1501-v15.09.15", "DukeMTMC-reID"
#: distractors_500k.zip unpacks to a folder ``images``; many rename it, or unpack it into one of its name.
DISTRACTORS = ("distractors_500k", "images")
DUKE_NAME = re.compile(r"\d{4}_c\d_f\d+")
DUKE_EXAMPLE = "0005_c2_f0046985.jpg"


def looks_like(root: Path) -> list[str]:
    """``market1501`` and ``dukemtmc``, whose folders tell them apart by the pictures' names."""
    places = homes(root, (MARKET_HOME, DUKE_HOME), (TRAIN, GALLERY))
    duke = {_has_duke_names(place) for place in places}
    return ["market1501"] * (False in duke) + ["dukemtmc"] * (True in duke)


def _has_duke_names(home: Path) -> bool:
    for folder in FOLDERS:
        if (home / folder).is_dir():
            for path in (home / folder).iterdir():
                if MARKET_NAME.match(path.name):
                    return DUKE_NAME.match(path.name) is not None
    return False


def read_market1501(root: Path, more_distractors: bool = False) -> ReIDDataset:
    """Market-1501 (Zheng et al., ICCV 2015): ``bounding_box_train``, ``query``, ``bounding_box_test``.

    File names are ``<identity>_c<camera>…``; identity −1 is junk and 0000 a distractor, both only in the
    gallery. Names that do not parse are skipped, counted and listed, as long as others do. The hand-drawn
    boxes in ``gt_bbox``, where that folder is, serve multi-query.

    Args:
        root: The folder, or the one that holds ``Market-1501-v15.09.15``.
        more_distractors: Add the pictures of ``distractors_500k.zip`` to the gallery, from a folder
            ``distractors_500k`` or ``images``, whatever identity their names say.

    Raises:
        InputError: A folder is missing or holds no picture whose name parses.
    """
    home = (homes(root, (MARKET_HOME,), FOLDERS) or [root])[0]
    train, query, gallery = _read_parts(home, "Market-1501", MARKET_NAME, "0002_c1s1_000451_03.jpg")
    more = read_names(home / "gt_bbox") if (home / "gt_bbox").is_dir() else ()
    asked = {(picture.identity, picture.camera) for picture in query}
    multi_query = tuple(picture for picture in more if (picture.identity, picture.camera) in asked)
    name = "market1501"
    if more_distractors:
        name = "market1501+500k"
        gallery += _distractors(home)
    return ReIDDataset(name, "market1501", root, train, query, gallery, multi_query)


def _distractors(home: Path) -> tuple[Picture, ...]:
    for folder in DISTRACTORS:
        if (home / folder).is_dir():
            log.info("%s: reading the names of the distractors", home / folder)
            return tuple(replace(picture, identity=DISTRACTOR) for picture in read_names(home / folder))
    raise InputError(
        f"{home}: no folder {' nor '.join(DISTRACTORS)}; unpack distractors_500k.zip there, or read without "
        "its pictures as layout market1501"
    )


def read_dukemtmc(root: Path) -> ReIDDataset:
    """DukeMTMC-reID (Ristani et al. 2016, Zheng et al. 2017): Market-1501's folders, names like
    ``0005_c2_f0046985.jpg``, no junk and no distractors of identity 0.

    The owners of the recordings withdrew them in 2019, because the people in them had not agreed to it. It is
    read for comparison with what has been published.

    Args:
        root: The folder, or the one that holds ``DukeMTMC-reID``.

    Raises:
        InputError: A folder is missing or holds no picture whose name parses.
    """
    home = (homes(root, (DUKE_HOME,), FOLDERS) or [root])[0]
    train, query, gallery = _read_parts(home, "DukeMTMC-reID", DUKE_NAME, DUKE_EXAMPLE)
    log.info("%s: DukeMTMC-reID was withdrawn by its owners in 2019; it is read for comparison only", root)
    return ReIDDataset("dukemtmc", "dukemtmc", root, train, query, gallery)


def _read_parts(
    home: Path, title: str, pattern: re.Pattern[str], example: str
) -> tuple[tuple[Picture, ...], ...]:
    missing = [folder for folder in FOLDERS if not (home / folder).is_dir()]
    if missing:
        raise InputError(f"{home}: no folder {' nor '.join(missing)}; {title} has {', '.join(FOLDERS)}")
    train, query, gallery = (read_names(home / folder, pattern, example) for folder in FOLDERS)
    train = tuple(picture for picture in train if picture.identity > 0)
    if not train:
        raise InputError(f"{home / TRAIN}: no picture of a real identity (all −1 or 0000)")
    return train, query, gallery
