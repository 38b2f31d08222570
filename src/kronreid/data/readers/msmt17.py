"""MSMT17, versions 1 and 2: folders of pictures, and the lists that divide them.

Version 2 shows the same pictures with masked faces. It is a data set of its own: both papers' numbers are of
version 1, and a network that was trained or tested on masked faces must not stand beside them.
"""

import logging
import re
from functools import partial
from pathlib import Path

from kronreid.data.lists import Skipped, some_of
from kronreid.data.lists.files import is_file
from kronreid.data.names import MSMT17
from kronreid.data.readers.layout import Count, Layout, Published
from kronreid.data.readers.parts import homes
from kronreid.data.records import Picture, ReIDDataset
from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: The lists, and the folder with the pictures of each.
LISTS = {
    "list_train.txt": "train",
    "list_val.txt": "train",
    "list_query.txt": "test",
    "list_gallery.txt": "test",
}
#: The folders of each version.
FOLDERS = {
    1: {"train": "train", "test": "test"},
    2: {"train": "mask_train_v2", "test": "mask_test_v2"},
}
HOMES = ("MSMT17_V1", "MSMT17_V2", "MSMT17")
#: The names of the layouts.
NAMES = {1: "msmt17", 2: "msmt17-v2"}
LINE = re.compile(r"(?P<path>\S.*\.\w+)\s+(?P<label>\d+)")
EXAMPLE = f"0000/{MSMT17.example} 0"


def looks_like(root: Path, version: int) -> bool:
    """Whether a root has any of the lists or a folder of version 2, and is of this version.

    Lists without folders count as version 1.
    """
    found = homes(root, HOMES, (*LISTS, *FOLDERS[2].values()))
    return any(_is_second(home) == (version == 2) for home in found)


def read_msmt17(root: Path, version: int) -> ReIDDataset:
    """Read MSMT17 (Wei et al., CVPR 2018) as it is distributed: version 1 (``train``, ``test``) or version 2
    (``mask_train_v2``, ``mask_test_v2``), with ``list_train.txt``, ``list_val.txt``, ``list_query.txt`` and
    ``list_gallery.txt``.

    The training pictures are those of train and val together, as in published numbers: 32,621 pictures of
    1,041 people. Both halves of the data set number their people from 0. Here they are numbered from 1, and
    those of the test follow those of the training. The camera is the third field of a picture's name.

    Args:
        root: The folder with the lists, or the one that holds ``MSMT17_V1`` or ``MSMT17_V2``.
        version: 1 or 2.

    Raises:
        InputError: A list or folder is missing, no line of a list is usable, or labels and names disagree
            about who is who.
    """
    found = homes(root, HOMES, tuple(LISTS))
    found = [home for home in found if _is_second(home) == (version == 2)] or found
    if len(found) > 1:
        raise InputError(root, f"holds {' and '.join(place.name for place in found)}; name one as the root")
    home = found[0] if found else root
    missing = [name for name in LISTS if not (home / name).is_file()]
    if missing:
        raise InputError(home, f"no {' nor '.join(missing)}; MSMT17 has {', '.join(LISTS)}")
    folders = {half: _folder(home, half, version) for half in FOLDERS[version]}
    read = {name: _read_list(home / name, folders[half]) for name, half in LISTS.items()}
    parts = {name: rows for name, (rows, _) in read.items()}
    train = _renumber(home, ("list_train.txt", "list_val.txt"), parts, 1)
    after = max(picture.identity for picture in train["list_train.txt"] + train["list_val.txt"]) + 1
    test = _renumber(home, ("list_query.txt", "list_gallery.txt"), parts, after)
    return ReIDDataset(
        NAMES[version],
        "msmt17",
        root,
        train["list_train.txt"] + train["list_val.txt"],
        test["list_query.txt"],
        test["list_gallery.txt"],
        skipped=sum(skipped for _, skipped in read.values()),
    )


def _is_second(home: Path) -> bool:
    """Whether a folder has pictures of version 2 and none of version 1."""
    there = {path.name.lower() for path in home.iterdir() if path.is_dir()} if home.is_dir() else set()
    return bool(there & set(FOLDERS[2].values())) and not there & set(FOLDERS[1].values())


def _folder(home: Path, half: str, version: int) -> Path:
    """The folder of a half of the data set, like ``train`` or ``mask_train_v2``, in upper or lower case."""
    wanted = FOLDERS[version][half]
    found = [path for path in home.iterdir() if path.is_dir() and path.name.lower() == wanted]
    if len(found) == 1:
        return found[0]
    other = 3 - version
    hint = ""
    if any(path.name.lower() == FOLDERS[other][half] for path in home.iterdir()):
        hint = f"; it has version {other}'s {FOLDERS[other][half]}: use --layout {NAMES[other]}"
    raise InputError(
        home,
        f"{'no' if not found else 'several'} {wanted}; MSMT17 V1 has train and test, V2 mask_train_v2 and "
        f"mask_test_v2{hint}",
    )


def _read_list(path: Path, folder: Path) -> tuple[list[tuple[Path, int, int, int]], int]:
    """(picture, label, identity in its name, camera) of every usable line, and the number of the others.

    Raises:
        InputError: No line is usable.
    """
    rows: list[tuple[Path, int, int, int]] = []
    skipped: list[Skipped] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        row = LINE.fullmatch(line.strip())
        name = MSMT17.pattern.fullmatch(row["path"].rpartition("/")[2]) if row else None
        if row is None or name is None:
            skipped.append(Skipped(f"line {number}", f"{line.strip()[:80]!r} found, {EXAMPLE!r} expected"))
        elif not is_file(folder / row["path"]):
            skipped.append(Skipped(f"line {number}", f"{row['path']} is not in {folder}"))
        else:
            rows.append((folder / row["path"], int(row["label"]), int(name["identity"]), int(name["camera"])))
    if not rows:
        what = f"no line is usable, first {skipped[0]}" if skipped else "the list is empty"
        raise InputError(path, f"{what}; unpack all of the archive, of the same version as the lists")
    if skipped:
        log.warning("%s: %d lines are skipped: %s", path, len(skipped), some_of(skipped))
    return rows, len(skipped)


def _renumber(
    home: Path, names: tuple[str, ...], parts: dict[str, list[tuple[Path, int, int, int]]], start: int
) -> dict[str, tuple[Picture, ...]]:
    """The pictures of some lists, with people numbered from `start`. Labels and names have to agree."""
    name_of: dict[int, int] = {}
    label_of: dict[int, int] = {}
    for name in names:
        for path, label, identity, _ in parts[name]:
            named, labelled = name_of.setdefault(label, identity), label_of.setdefault(identity, label)
            if (named, labelled) != (identity, label):
                raise InputError(
                    home / name,
                    f"{path.name} is labelled {label}, but in other lines label {label} is person {named} "
                    f"and person {identity} is labelled {labelled}; lists of one version?",
                )
    return {
        name: tuple(Picture(path, start + label, camera) for path, label, _, camera in parts[name])
        for name in names
    }


def _layout(version: int) -> Layout:
    """Wei et al., CVPR 2018; train with val (30,248 + 2,373 pictures). Both versions have the same counts."""
    return Layout(
        partial(read_msmt17, version=version),
        "msmt17",
        partial(looks_like, version=version),
        published=Published(
            f"MSMT17 V{version} (Wei et al., CVPR 2018)",
            {
                "train": Count(32621, 1041, 15),
                "query": Count(11659, 3060, 15),
                "gallery": Count(82161, 3060, 15),
            },
        ),
    )


V1, V2 = _layout(1), _layout(2)
