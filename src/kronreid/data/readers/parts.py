"""What readers share: the pictures of a folder by their names, those left out, and where a data set lies."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from kronreid.data.files import pictures_below, some
from kronreid.data.names import DUKEMTMC, MARKET1501, MSMT17, PERSON, Kind, parse
from kronreid.data.records import Picture
from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: Kinds of names that give a person's number and a camera.
NUMBERED = (MARKET1501, DUKEMTMC, MSMT17, PERSON)

#: Pictures that are left out, by reason.
LeftOut = dict[str, list[Path]]
NO_NAME = "with names that do not parse"
NOBODY = "of nobody (−1)"


def read_names(folder: Path, kinds: Collection[Kind] = NUMBERED) -> tuple[list[Picture], LeftOut]:
    """The pictures below a folder, as their names describe them, and those with names of other kinds."""
    pictures, strange = [], []
    for path in pictures_below(folder):
        said = parse(path.name)
        if said.kind in kinds and said.identity is not None and said.camera is not None:
            pictures.append(Picture(path, int(said.identity), said.camera))
        else:
            strange.append(path)
    return pictures, {NO_NAME: strange}


def say_left_out(folder: Path, kept: int, left_out: LeftOut) -> None:
    """Log one line about the pictures of a folder that are not used, if there are any."""
    if total := sum(map(len, left_out.values())):
        log.warning(
            "%s: not using %s of its %s pictures: %s",
            *(folder, f"{total:,}", f"{kept + total:,}", _list(folder, left_out)),
        )


def must_hold(folder: Path, pictures: Sequence[Picture], left_out: LeftOut, expected: str) -> None:
    """Check that a folder has usable pictures.

    Raises:
        InputError: There is none. The message says what the folder holds, and what is `expected`.
    """
    if pictures:
        return
    total = sum(map(len, left_out.values()))
    if not total:
        raise InputError(folder, f"no pictures in it; {expected}")
    raise InputError(folder, f"no usable picture among {total:,}: {_list(folder, left_out)}; {expected}")


def _list(folder: Path, left_out: LeftOut) -> str:
    found = [(reason, paths) for reason, paths in left_out.items() if paths]
    return "; ".join(f"{len(paths):,} {reason} ({some(paths, below=folder)})" for reason, paths in found)


def homes(root: Path, folders: Sequence[str], markers: Sequence[str]) -> list[Path]:
    """Those of `root` and its given `folders` that hold a file or folder with a name of `markers`.

    Archives unpack to a folder of their own, so the root of a data set is often one level below the folder
    that was made for it.
    """
    places = [root, *(root / folder for folder in folders)]
    return [place for place in places if any((place / marker).exists() for marker in markers)]
