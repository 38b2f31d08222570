"""Selecting the categories of boxes that are people."""

import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: Names of the categories of people in known data sets, as `_plain` writes them. COCO, CrowdHuman, VOC and
#: Objects365 have person; Caltech, CityPersons, EuroCity, KITTI and MOT have pedestrian; BDD100K, EuroCity
#: and Cityscapes have rider, with a box around the human only; WiderPerson has pedestrians and riders;
#: KAIST and VisDrone have people; KITTI and CityPersons have sitting people; OpenImages has man, woman, boy
#: and girl. The last names are Chinese and Korean. Not included are cyclist (KITTI's box contains the
#: bicycle) and groups.
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
        names: Name of each category, by its number as text.
        wanted: The values of ``--category``; empty for people.

    Raises:
        InputError: No category matches, or a wanted name is empty.
    """
    if not wanted:
        chosen = {number for number, name in names.items() if _plain(name) in PEOPLE}
        if not chosen:
            raise InputError(
                path,
                f"none of its categories is known to be people: {_listed(names)}; choose some with "
                "--category",
            )
        return chosen
    found = {text: _named(names, text) for text in wanted}
    unknown = [text for text, numbers in found.items() if not numbers]
    if len(unknown) == len(found):
        raise InputError(
            f"--category {' '.join(unknown)}", f"{path} has only the categories {_listed(names)}"
        )
    if unknown:
        log.warning("%s has no category %s", path, ", ".join(unknown))
    return set().union(*found.values())


def _named(names: Mapping[str, str], text: str) -> set[str]:
    if not text.strip():
        raise InputError("--category", "is empty; give the name or number of a category")
    return {number for number, name in names.items() if _plain(name) == _plain(text)} or (
        {text.strip()} & set(names)
    )


def _plain(name: str) -> str:
    """A name in lower case, with runs of spaces, underscores, dots and dashes replaced by one space."""
    return re.sub(r"[\s_.-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def _listed(names: Mapping[str, str], count: int = 20) -> str:
    listed = [name if name == number else f"{number} {name}" for number, name in names.items()]
    return ", ".join(listed[:count]) + (", …" if len(listed) > count else "") if listed else "(none)"
