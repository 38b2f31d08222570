"""Market-1501 and DukeMTMC-reID, which have the same folders, and own pictures that are laid out so."""

import logging
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from kronreid.data.files import is_picture, names_below
from kronreid.data.names import DUKEMTMC, MARKET1501, Kind, parse
from kronreid.data.readers.layout import Count, Layout, Original, Published, never
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
#: The folders to which the archives unpack.
MARKET_HOME, DUKE_HOME = "Market-1501-v15.09.15", "DukeMTMC-reID"
#: Its pictures are for multi-query; their boxes were drawn by hand.
BOXES = "gt_bbox"
#: distractors_500k.zip unpacks to a folder ``images``. Many rename it, or unpack it into one of its own name.
DISTRACTORS = ("distractors_500k", "images")


def looks_like_market1501(root: Path) -> bool:
    """Whether a root has Market-1501's folders, and names that are not DukeMTMC-reID's."""
    return not all(map(_is_duke, _homes(root)))


def looks_like_dukemtmc(root: Path) -> bool:
    """Whether a root has Market-1501's folders, and DukeMTMC-reID's names."""
    return any(map(_is_duke, _homes(root)))


def _homes(root: Path) -> list[Path]:
    return homes(root, (MARKET_HOME, DUKE_HOME), (TRAIN, GALLERY))


def _is_duke(home: Path) -> bool:
    """Whether there are names that give a person and a camera, and all of them are DukeMTMC-reID's."""
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
    """Read Market-1501 (Zheng et al., ICCV 2015), or own pictures in its folders: ``bounding_box_train``,
    ``query`` and ``bounding_box_test``.

    File names begin with ``<identity>_c<camera>`` (see `kronreid.data.names`). Pictures of identity −1 show
    nobody: they are junk in the gallery and are left out elsewhere. Identity 0 marks Market-1501's
    distractors, which are in the gallery only. If the training or query folder holds pictures of identity 0,
    this is a person like any other and gets the number after the highest one. Pictures whose names do not
    parse are left out, counted and listed. The training folder may be missing or empty. The pictures of the
    folder ``gt_bbox``, whose boxes were drawn by hand, are for multi-query.

    Args:
        root: The folder, or the one that holds ``Market-1501-v15.09.15``.
        more_distractors: Add the pictures of ``distractors_500k.zip`` to the gallery. They are in a folder
            ``distractors_500k`` or ``images``, and are distractors whatever identity their names give.

    Raises:
        InputError: The query or gallery folder is missing or holds no usable picture.
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
    """Read DukeMTMC-reID (Ristani et al. 2016, Zheng et al. 2017). It has Market-1501's folders, names like
    ``0005_c2_f0046985.jpg``, no junk and no distractors of identity 0.

    The owners withdrew the recordings in 2019, because the people in them had not agreed to be recorded. The
    data set is read for comparison with published numbers. The training folder may be missing or empty.

    Args:
        root: The folder, or the one that holds ``DukeMTMC-reID``.

    Raises:
        InputError: The query or gallery folder is missing, or holds no picture whose name parses.
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


def _market_remarks(dataset: ReIDDataset) -> list[str]:
    if dataset.multi_query:
        remarks = [f"{len(dataset.multi_query):,} pictures in {BOXES} for multi-query"]
    else:
        remarks = [f"there is no folder {BOXES} with more query pictures: multi-query equals single query"]
    home = market_home(dataset.root)
    if dataset.name == "market1501" and (found := [name for name in DISTRACTORS if (home / name).is_dir()]):
        remarks.append(f"{found[0]} has more distractors: --layout market1501+500k adds them to the gallery")
    return remarks


#: Of its readme.txt and lists.
_COUNTS = {"train": Count(12936, 751, 6), "query": Count(3368, 750, 6), "gallery": Count(19732, 750, 6)}
MARKET = Layout(
    read_market1501,
    "market1501",
    looks_like_market1501,
    published=Published("Market-1501 (Zheng et al., ICCV 2015)", _COUNTS),
    original=Original("Market-1501", MARKET1501, people=1501, cameras=6),
    remarks=_market_remarks,
)
MARKET_500K = replace(
    MARKET,
    read=partial(read_market1501, more_distractors=True),
    looks_like=never,
    published=Published(
        "Market-1501 with 500,000 distractors (Zheng et al., ICCV 2015)",
        {**_COUNTS, "gallery": Count(None, 750, 6)},
    ),
)
#: Zheng, Zheng, Yang, ICCV 2017. 408 people of the gallery have no query.
DUKE = Layout(
    read_dukemtmc,
    "dukemtmc",
    looks_like_dukemtmc,
    published=Published(
        "DukeMTMC-reID (Ristani et al. 2016; Zheng et al., ICCV 2017)",
        {"train": Count(16522, 702, 8), "query": Count(2228, 702, 8), "gallery": Count(17661, 1110, 8)},
    ),
    original=Original("DukeMTMC-reID", DUKEMTMC, people=7140, cameras=8),
    remarks=lambda dataset: [
        "its owners withdrew it in 2019: use it only for comparison with published numbers"
    ],
)
