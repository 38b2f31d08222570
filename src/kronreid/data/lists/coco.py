"""Reading the boxes of COCO annotations."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kronreid.data.lists.categories import choose
from kronreid.data.lists.files import folders_in, is_file, is_folder
from kronreid.data.lists.rows import LeftOut, Record, Row, Skipped, box_of
from kronreid.data.lists.turned import Stored, stored
from kronreid.data.records import Box
from kronreid.data.values import label, shown
from kronreid.errors import InputError

log = logging.getLogger(__name__)

#: Usual names of a folder of pictures, beside the annotations or beside their folder.
FOLDERS = ("images", "Images", "img", "imgs", "JPEGImages", "data")
#: The largest number of other folders that are searched.
MOST_OTHERS = 100


def read_coco(path: Path, categories: Sequence[str] = ()) -> Iterator[Record]:
    """Yield a record for each annotation of a person, or of the given categories.

    ``track_id`` or ``instance_id``, which are extensions of COCO, give the identity: the file's name and the
    number. Groups (``iscrowd``) and annotations marked with ``ignore`` are left out. Boxes are in pixels of
    the upright picture. If the list's width and height are those of the stored pixels instead, the boxes are
    rotated with the picture.

    Args:
        path: The annotations.
        categories: Names or numbers of categories; empty for people.

    Raises:
        InputError: The file is not COCO's format, or it is unclear which categories are people.
    """
    content = _content(path)
    annotations = content["annotations"]
    names = _by_number(content, "categories", "name")
    wanted = _wanted(path, names, annotations, categories)
    images = _by_number(content, "images", "file_name")
    pictures = _Pictures(path)
    records: list[tuple[str, Record]] = []
    for number, annotation in enumerate(annotations, start=1):
        try:
            if not isinstance(annotation, dict):
                raise InputError(shown(annotation), "an annotation is an object")
            record: Record = _left_out(annotation, names, wanted) or (
                _row(path, number, annotation, images, pictures)
            )
        except InputError as error:
            record = Skipped(_where(number, annotation), str(error))
        records.append((str(record.path) if isinstance(record, Row) else "", record))
    pictures.tell()
    yield from (record for _, record in sorted(records, key=lambda one: one[0]))


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not readable JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(path, "is not COCO: it must be an object with images and annotations")
    for name in ("images", "annotations"):
        if not isinstance(content.get(name), list):
            raise InputError(path, f"is not COCO: it has no list of {name}")
    return content


@dataclass
class _Numbered:
    """An image or a category: its first entry, and all names that its number has in the file."""

    entry: Mapping[str, Any]
    names: set[str] = field(default_factory=set)


def _by_number(content: Mapping[str, Any], what: str, name: str) -> dict[str, _Numbered]:
    """The entries of a list of the file by ``id``. Entries without an id cannot be referred to."""
    found: dict[str, _Numbered] = {}
    entries = content.get(what)
    for entry in entries if isinstance(entries, list) else []:
        number = _number(entry.get("id")) if isinstance(entry, dict) else None
        if number is not None:
            known = found.setdefault(number, _Numbered(entry))
            if isinstance(entry.get(name), str) and entry[name].strip():
                known.names.add(entry[name])
    return found


def _number(value: Any) -> str | None:
    """An ``id`` as text; None if it is neither a number nor text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return label(value)
    except InputError:  # infinity, or text that is not valid Unicode
        return None


def _the_name(numbered: Mapping[str, _Numbered], number: str | None, what: str, name: str) -> str:
    """The name of a numbered entry.

    Raises:
        InputError: There is no such entry, or it has no name or several names.
    """
    if number is None:
        raise InputError("", f"has no number of its {what}")
    if number not in numbered:
        raise InputError(f"{what} {shown(number)}", "is not in the file's list")
    names = sorted(numbered[number].names)
    if not names:
        raise InputError(f"{what} {shown(number)}", f"has no {name}")
    if len(names) > 1:
        raise InputError(f"{what} {shown(number)}", f"is listed as {shown(names[0])} and {shown(names[1])}")
    return names[0]


def _wanted(
    path: Path, names: Mapping[str, _Numbered], annotations: Sequence[Any], categories: Sequence[str]
) -> set[str] | None:
    """The categories to take; None if the file has no categories, so that every box is a person."""
    clear = {number: sorted(one.names)[0] for number, one in names.items() if len(one.names) == 1}
    if clear:
        return choose(path, clear, categories)
    found = {_number(one.get("category_id")) for one in annotations if isinstance(one, dict)}
    numbers = sorted(number for number in found if number is not None)
    if categories:
        return choose(path, {number: number for number in numbers}, categories)
    if numbers:
        raise InputError(
            path,
            f"does not name its categories; choose those that are people with --category, from the "
            f"numbers {', '.join(numbers[:20])}",
        )
    log.info("%s has no categories, so every box is treated as a person", path)
    return None


def _left_out(
    annotation: Mapping[str, Any], names: Mapping[str, _Numbered], wanted: set[str] | None
) -> LeftOut | None:
    if wanted is not None:
        number = _number(annotation.get("category_id"))
        if number not in wanted:
            return LeftOut(f"of category {_the_name(names, number, 'category', 'name')}")
    if annotation.get("iscrowd") not in (None, 0, "0"):
        return LeftOut("groups of people (iscrowd)")
    if annotation.get("ignore") not in (None, 0, "0"):
        return LeftOut("to be ignored (ignore)")
    return None


def _row(
    path: Path,
    number: int,
    annotation: Mapping[str, Any],
    images: Mapping[str, _Numbered],
    pictures: "_Pictures",
) -> Row:
    image = _number(annotation.get("image_id"))
    name = _the_name(images, image, "image", "file_name")
    box = _box(annotation.get("bbox"))
    picture = pictures.find(name)
    assert image is not None
    tracks = (_number(annotation.get(key)) for key in ("track_id", "instance_id"))
    track = next((one for one in tracks if one not in (None, "-1")), None)
    identifier = annotation.get("id")
    return Row(
        number,
        picture,
        box=pictures.upright(box, picture, images[image].entry),
        identity=None if track is None else f"{path.stem}/{track}",
        source=path.stem,
        scope=path.absolute(),
        attributes={} if _number(identifier) is None else {"annotation": identifier},
    )


def _box(value: Any) -> Box:
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise InputError(f"bbox {shown(value)}", "must be four numbers: x, y, width and height")
    return box_of(*value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _where(number: int, annotation: Any) -> str:
    identifier = _number(annotation.get("id")) if isinstance(annotation, dict) else None
    return f"annotation {number}" + (f" (id {shown(identifier)})" if identifier is not None else "")


class _Pictures:
    """The pictures of a file of annotations: where they are, and how they are rotated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders = _folders(path.absolute())
        self.others = _others(path.absolute(), self.folders)
        self._found: dict[str, Path | None] = {}
        self._stored: dict[Path, Stored | None] = {}
        self._turned: set[Path] = set()
        self._other: set[Path] = set()

    def find(self, name: str) -> Path:
        """The first file found for a picture.

        Raises:
            InputError: There is none; the message lists the searched folders.
        """
        if name not in self._found:
            spellings = [name] if "\\" not in name else [name, name.replace("\\", "/")]
            candidates = (folder / one for folder in self.folders for one in spellings)
            self._found[name] = next((file for file in candidates if is_file(file)), None)
            if self._found[name] is None:
                self._found[name] = self._beside(name, spellings)
        found = self._found[name]
        if found is None:
            home = self.path.absolute().parent
            places = [os.path.relpath(folder, home) for folder in self.folders if folder != home]
            raise InputError(
                "",
                f"no picture {shown(name)}; put it in {home} or, relative to it, in {', '.join(places)} or a "
                "folder beside these",
            )
        return found

    def _beside(self, name: str, spellings: list[str]) -> Path | None:
        """The file in another folder beside the list or its folder, if exactly one folder has it.

        Raises:
            InputError: Several folders have it.
        """
        files = (folder / one for folder in self.others for one in spellings)
        found = [file for file in files if is_file(file)]
        if len(found) > 1:
            first, second = (os.path.relpath(file.parent, self.path.absolute().parent) for file in found[:2])
            raise InputError(
                "", f"picture {shown(name)} is in {first} and in {second}; name the list after its folder"
            )
        return found[0] if found else None

    def upright(self, box: Box, picture: Path, image: Mapping[str, Any]) -> Box:
        """A box in pixels of the upright picture, also if it was drawn in the stored one."""
        size: tuple[Any, Any] = (image.get("width"), image.get("height"))
        if not all(_is_number(side) and side > 0 for side in size):
            return box
        if picture not in self._stored:
            self._stored[picture] = stored(picture)
        known = self._stored[picture]
        if known is None or size == known.upright_size:
            return box
        if size == known.size:
            self._turned.add(picture)
            return known.turn(box)
        self._other.add(picture)
        return box

    def tell(self) -> None:
        """Log the decisions about rotated boxes."""
        if self._turned:
            log.info(
                "%s: boxes are in stored pixels and were rotated (pictures: %d)", self.path, len(self._turned)
            )
        if self._other:
            log.warning(
                "%s: pictures differ in size from the list; their boxes are unchanged (pictures: %d)",
                self.path,
                len(self._other),
            )


def _others(path: Path, known: Sequence[Path]) -> list[Path]:
    """Other folders in the file's folder and in its parent, at most `MOST_OTHERS`."""
    found = [folder for home in (path.parent, path.parent.parent) for folder in folders_in(home)]
    return [folder for folder in dict.fromkeys(found) if folder not in known][:MOST_OTHERS]


def _folders(path: Path) -> list[Path]:
    """The existing folders that may contain the pictures, without duplicates.

    In the file's folder and in its parent these are ``images`` and the like, the folder itself, and folders
    named like the file or a part of its name (``val2017``).
    """
    parts = [path.stem, *reversed(re.split(r"[_.-]", path.stem))]
    places = []
    for home in (path.parent, path.parent.parent):
        images = [home / name for name in FOLDERS]
        places += [folder / part for folder in images for part in parts if part]
        places += [*images, *(home / part for part in parts if part), home]
    return [folder for folder in dict.fromkeys(places) if is_folder(folder)]
