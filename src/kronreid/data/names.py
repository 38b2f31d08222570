"""Parsing the names of pictures and videos: which person a picture shows, which camera took it, and when.

Only this module parses names; docs/datasets.md has the same table. The first entry of `GRAMMAR` that matches
a whole name is used. Times stand in the names of videos and frames, see `time_in`.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

#: A number in a name. It has at most 18 digits, to fit into 64 bits.
_NUMBER = r"[0-9]{1,18}"
#: A name may have one suffix, several (``a.jpg.jpg``) or none.
_ENDINGS = r"(?:\.\w+)*"


@dataclass(frozen=True)
class Kind:
    """One kind of name.

    Attributes:
        name: Name of the kind; for the names of a data set, its layout.
        example: An example.
        pattern: Matches whole names, with the groups ``identity`` (in all kinds but ``camera``) and
            ``camera``.
    """

    name: str
    example: str
    pattern: re.Pattern[str]


def _kind(name: str, example: str, pattern: str) -> Kind:
    return Kind(name, example, re.compile(pattern, re.ASCII | re.IGNORECASE | re.DOTALL))


MARKET1501 = _kind(
    "market1501",
    "0002_c1s1_000451_03.jpg",
    rf"(?P<identity>-1|[0-9]{{4}})_c(?P<camera>[0-9])s[0-9]_[0-9]{{6}}_[0-9]{{2}}{_ENDINGS}",
)
DUKEMTMC = _kind(
    "dukemtmc",
    "0005_c2_f0046985.jpg",
    rf"(?P<identity>[0-9]{{4}})_c(?P<camera>[1-8])_f[0-9]{{7}}{_ENDINGS}",
)
MSMT17 = _kind(
    "msmt17",
    "0000_000_01_0303morning_0015_0.jpg",
    rf"(?P<identity>[0-9]{{4}})_[0-9]{{3,}}_(?P<camera>[0-9]{{2}})_[0-9]{{4}}[A-Z]+_[0-9]+_[0-9]+(?:_ex)?{_ENDINGS}",
)
CUHK03 = _kind(
    "cuhk03",
    "1_001_2_06.png",
    r"(?P<identity>(?P<pair>[0-9])_(?P<person>[0-9]{3}))_(?P<camera>[12])_(?P<column>[0-9]{2})\.png",
)
#: Own pictures, VeRi's 0002_c002_00030600_0.jpg, and Market-1501's pattern with other cameras.
PERSON = _kind(
    "person",
    "0065_c10_f0123.jpg",
    rf"(?P<identity>-1|{_NUMBER})_c(?P<camera>{_NUMBER})(?:[^0-9].*)?",
)
CAMERA = _kind("camera", "12_000451.jpg", rf"[A-Z]*(?P<camera>{_NUMBER})_.*")

#: From the most specific kind to the least.
GRAMMAR = (MARKET1501, DUKEMTMC, MSMT17, CUHK03, PERSON, CAMERA)

#: Names of folders that divide a data set. They never name a person.
DIVISIONS = frozenset(
    {
        *("train", "train_all", "val", "test", "query", "gallery", "multi-query"),
        *("bounding_box_train", "bounding_box_test", "gt_bbox", "images", "distractors_500k"),
        *("mask_train_v2", "mask_test_v2", "images_labeled", "images_detected"),
    }
)

#: A date and a time of day: 2026-03-01_12-30-00, 20260301T123000.250Z, PXL_20260301_123000250.
_TIME = re.compile(
    r"(?<![0-9])(?P<date>(?P<year>(?:19|20)[0-9]{2})(?P<dash>[-_.]?)(?P<month>[0-9]{2})(?P=dash)(?P<day>[0-9]{2}))"
    r"[T _.-]{0,3}(?P<hour>[0-9]{2})(?P<colon>[-_.:h]?)(?P<minute>[0-9]{2})"
    r"(?:(?:(?P=colon)|[-_.:m])(?P<second>[0-9]{2})(?:[.,]?(?P<fraction>[0-9]{3}(?:[0-9]{3})?))?)?"
    r"(?P<zone>Z|\+[0-9]{2}:?[0-9]{2}|-[0-9]{2}:[0-9]{2})?(?![0-9])",
    re.ASCII,
)
#: Seconds or milliseconds since 1970, from 2001 to 2033.
_SINCE_1970 = re.compile(r"(?<![0-9])(1[0-9]{9})(?:\.?([0-9]{3}))?(?![0-9])", re.ASCII)


@dataclass(frozen=True)
class Said:
    """The content of a name.

    Attributes:
        kind: The entry of `GRAMMAR` that matched; None if none did.
        identity: The person, as `label` writes it; None if the name does not say it.
        camera: The camera's number; None if the name does not say it.
    """

    kind: Kind | None = None
    identity: str | None = None
    camera: int | None = None


def parse(name: str, person: str | None = None) -> Said:
    """Parse a file name.

    Args:
        name: The name with its suffix.
        person: The folder's name, if the picture is in a person's folder. The picture then shows this person,
            whatever its own name says. A name that begins with another person's number is parsed as
            ``<camera>_<anything>``, unless the number has four or more digits, as data sets number people. In
            the folder ``anna``, ``12_c1s1_001051.jpg`` is from camera 12, and ``0046_c1s1_000451_03.jpg`` is
            from camera 1.
    """
    for kind in GRAMMAR:
        match = kind.pattern.fullmatch(name)
        if match is None:
            continue
        text = match.groupdict().get("identity")
        camera = int(match["camera"])
        if person is None:
            return Said(kind, None if text is None else label(text), camera)
        if text is None or label(text) == label(person) or _names_a_person(text):
            return Said(kind, label(person), camera)
    return Said(None, None if person is None else label(person))


def _names_a_person(text: str) -> bool:
    """Whether the first number of a name cannot be a camera: it is −1 or has four or more digits."""
    return text == "-1" or (is_number(text) and len(text) >= 4)


def label(person: str) -> str:
    """Normalise a person's name: a whole number loses its leading zeros, other text is unchanged."""
    return str(int(person)) if is_number(person) else person


def is_number(text: str) -> bool:
    """Whether a person's name is a number: −1, or at most 18 decimal digits."""
    return re.fullmatch(rf"-1|{_NUMBER}", text) is not None


def person_folder(path: Path, root: Path) -> str | None:
    """The name of the person's folder of a picture; None if it is not in one.

    A person's folder is in `root` or in a division of it, like ``root/anna/`` and ``root/train/anna/``.

    Args:
        path: The picture.
        root: The folder of the data set.
    """
    folder = path.parent
    above = folder.parent
    if is_division(folder.name) or folder == root:
        return None
    if above == root or (above.parent == root and is_division(above.name)):
        return folder.name
    return None


def is_division(name: str) -> bool:
    """Whether a folder of this name divides a data set and does not name a person."""
    return name.lower() in DIVISIONS


def describe(path: Path, root: Path | None = None) -> Said:
    """The identity and camera of a picture, from its name and its folder.

    In a person's folder (see `person_folder`) the folder gives the identity if the picture's name begins with
    a camera or the folder's name is a number. Elsewhere the picture's name gives it, or else a folder whose
    name is a number.

    Args:
        path: The picture.
        root: The folder in which it was found; None for a picture that was named directly.

    Returns:
        What is known. The identity may be −1 (nobody) or 0.
    """
    folder = path.parent.name
    person = person_folder(path, root) if root is not None else None
    if person is None and is_number(folder):
        alone = parse(path.name)
        if alone.identity is not None and _names_a_person(path.name.partition("_")[0]):
            return alone
        person = folder
    said = parse(path.name, person)
    if person is not None and said.camera is None and not is_number(person):
        return Said()
    return said


def time_in(name: str) -> tuple[float, str] | None:
    """The time in the name of a video, a frame or a folder.

    The time is a date with a time of day (``door_2026-03-01_12-30-00.mp4``, ``20260301T123000Z.jpg``) or the
    seconds or milliseconds since 1970 (``1772368200123.jpg``). It is UTC unless the name has a time zone.

    Returns:
        The seconds since 1970, and the name without the time. None if the name has no time.
    """
    for match in _TIME.finditer(name):
        numbers = {key: int(match[key] or 0) for key in ("year", "month", "day", "hour", "minute", "second")}
        try:
            taken = datetime(**numbers, tzinfo=timezone(_offset(match["zone"])))
        except ValueError:  # there is no such day, hour or zone
            continue
        return taken.timestamp() + float(f"0.{match['fraction'] or 0}"), _without(name, match)
    for match in _SINCE_1970.finditer(name):
        return int(match[1]) + int(match[2] or 0) / 1000, _without(name, match)
    return None


def _offset(zone: str | None) -> timedelta:
    """A time zone like ``+02:00`` as its distance from UTC."""
    if zone is None or zone == "Z":
        return timedelta(0)
    digits = zone[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -offset if zone[0] == "-" else offset


def _without(name: str, match: re.Match[str]) -> str:
    return name[: match.start()] + name[match.end() :]
