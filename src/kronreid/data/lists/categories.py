"""Which categories of boxes are people."""

import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: Names of people's categories in the known data sets, as `_plain` writes them. COCO, CrowdHuman, VOC,
#: Objects365: person; Caltech, CityPersons, EuroCity, KITTI, MOT: pedestrian; BDD100K, EuroCity, Cityscapes:
#: rider, whose box is that of the human; WiderPerson: pedestrians, riders; KAIST, VisDrone: people; KITTI and
#: CityPersons: people who sit; OpenImages: man, woman, boy, girl; sets labelled in Chinese and Korean. Not:
#: cyclist (KITTI's box holds the bicycle, too) and groups of people.
PEOPLE = frozenset(
    (
        *("person", "persons", "people", "pedestrian", "pedestrians", "human", "humans"),
        *("man", "men", "woman", "women", "boy", "boys", "girl", "girls", "child", "children"),
        *("rider", "riders", "person sitting", "sitting person", "other person"),
        *("人", "行人", "사람", "보행자"),
    )
)


def choose(path: Path, names: Mapping[str, str], wanted: Sequence[str]) -> set[str]:
    """The numbers of the categories that are people, or that have one of the wanted names or numbers.

    Args:
        path: The file, for messages.
        names: Name of each category by its number as text.
        wanted: What ``--category`` was given; empty for people.

    Raises:
        InputError: No category fits, or a wanted name is empty.
    """
    if not wanted:
        chosen = {number for number, name in names.items() if _plain(name) in PEOPLE}
        if not chosen:
            raise InputError(
                path,
                f"none of its categories is known to be people: {_listed(names)}; --category says "
                "which ones are",
            )
        return chosen
    found = {text: _named(names, text) for text in wanted}
    unknown = [text for text, numbers in found.items() if not numbers]
    if len(unknown) == len(found):
        raise InputError(
            f"--category {' '.join(unknown)}", f"{path} has only the categories {_listed(names)}"
        )
    if unknown:
        log.warning("%s: no category %s in it", path, ", ".join(unknown))
    return set().union(*found.values())


def _named(names: Mapping[str, str], text: str) -> set[str]:
    if not text.strip():
        raise InputError("--category", "an empty name; a category's name or number is expected")
    return {number for number, name in names.items() if _plain(name) == _plain(text)} or (
        {text.strip()} & set(names)
    )


def _plain(name: str) -> str:
    """A name without case, and with one space where it has spaces, underscores, dots or dashes."""
    return re.sub(r"[\s_.-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def _listed(names: Mapping[str, str], count: int = 20) -> str:
    listed = [name if name == number else f"{number} {name}" for number, name in names.items()]
    return ", ".join(listed[:count]) + (", …" if len(listed) > count else "") if listed else "(none)"
