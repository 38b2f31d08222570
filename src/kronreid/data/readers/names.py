"""What file names say, and where below its root a data set may lie."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from kronreid.data.files import find_pictures
from kronreid.data.records import NO_CAMERA, UNKNOWN, Picture
from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: 0002_c1s1_000451_03.jpg: identity, camera, sequence, frame, box. Also Duke's 0005_c2_f0046985.jpg.
MARKET_NAME = re.compile(r"(?P<identity>-1|\d{1,5})_c(?P<camera>\d+)")
#: root/<identity>/<camera>_<anything>.jpg; a leading letter before the camera's number is common ("c2_…").
FOLDER_NAME = re.compile(r"[A-Za-z]*(?P<camera>\d+)_")


def describe(path: Path) -> Picture:
    """What a picture's name says about it: Market-1501's pattern, or the folder pattern, or nothing."""
    if match := MARKET_NAME.match(path.name):
        return Picture(path, int(match["identity"]), int(match["camera"]))
    match = FOLDER_NAME.match(path.name)
    camera = int(match["camera"]) if match else NO_CAMERA
    return Picture(path, int(path.parent.name) if path.parent.name.isdecimal() else UNKNOWN, camera)


def read_names(
    folder: Path, pattern: re.Pattern[str] = MARKET_NAME, example: str = "0002_c1s1_000451_03.jpg"
) -> tuple[Picture, ...]:
    """The pictures below a folder by their names. Names that do not fit are skipped, counted and listed, as
    long as others do.

    Raises:
        InputError: No folder, no pictures, or no name fits.
    """
    paths = find_pictures(folder)
    pictures = [describe(path) for path in paths if pattern.match(path.name)]
    strange = [path for path in paths if not pattern.match(path.name)]
    if not pictures:
        raise InputError(
            f"{paths[0]}: the name does not parse, nor does any other in that folder; "
            f"expected names like {example}"
        )
    if strange:
        log.warning("%s: %d names do not parse and are skipped: %s", folder, len(strange), some(strange))
    return tuple(pictures)


def some(paths: Sequence[Path | str], count: int = 5) -> str:
    """The first names of many, for a message."""
    return ", ".join(Path(path).name for path in paths[:count]) + (", …" if len(paths) > count else "")


def homes(root: Path, folders: Sequence[str], markers: Sequence[str]) -> list[Path]:
    """`root` and its given `folders`, those that hold a file or folder named as one of `markers`.

    Archives unpack to a folder of their own, so a data set's root is often one level below the folder that
    somebody made for it.
    """
    places = [root, *(root / folder for folder in folders)]
    return [place for place in places if any((place / marker).exists() for marker in markers)]
