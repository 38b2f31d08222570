"""The manifest of a folder of crops, ``crops.csv``, which describes its files and is a list for galleries."""

import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kronreid.data.files import find_pictures, written_whole
from kronreid.data.lists import Row
from kronreid.data.lists.tables import csv_values
from kronreid.data.names import DIVISIONS
from kronreid.data.records import format_box
from kronreid.errors import InputError
from kronreid.text import CsvWriter

NAME = "crops.csv"
#: ``identity`` is the folder, ``person`` the list's label, and ``scope`` where the label is valid (`Row`).
COLUMNS = ("path", "identity", "camera", "time", "source", "frame", "frame_box", "person", "scope")
#: Numbers with more digits are treated as names, because a picture's numbers have 64 bits.
LONGEST_NUMBER = 18
#: Longer texts are replaced by their hash, because CSV readers limit the length of a value.
LONGEST_TEXT = 10_000


class Manifest:
    """The files of a folder of crops, the folders of its people and the numbers of its cameras.

    A crop's name follows from its content: ``<person>/<camera>_<frame>_<hash of the frame's path and the
    box>.jpg``, or ``<camera>_<frame>_<hash>.jpg`` without an identity. The manifest records which number each
    camera and which folder each person has. Later runs keep both.

    Args:
        out: The folder. Its manifest is read if there is one.

    Raises:
        InputError: The manifest is damaged, or the folder has pictures but no manifest.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.rows: dict[str, tuple[str, ...]] = {}
        self._cameras: dict[str, int] = {}
        self._folders: dict[tuple[str, str], str] = {}
        self._taken = {NAME, *DIVISIONS}
        self._real: dict[Path, str] = {}
        path = out / NAME
        if path.is_file():
            for values in csv_values(path):
                self._read(path, values)
        elif _has_pictures(out):
            raise InputError(
                out, f"has pictures but no {NAME} that describes them; choose another folder for crops"
            )

    def _read(self, path: Path, values: Any) -> None:
        """Read one row of the manifest."""
        row = {} if isinstance(values, InputError) else {name: values.get(name) or "" for name in COLUMNS}
        folder, _, name = row.get("path", "").rpartition("/")
        number = re.match(r"([0-9]+)_", name)
        if number is None or not row["camera"]:
            raise InputError(path, f"row {len(self.rows) + 1} is damaged; repair it or choose another folder")
        self.rows[row["path"]] = tuple(row.values())
        self._cameras.setdefault(row["camera"], int(number[1]))
        if folder:
            self._folders.setdefault((row["scope"], _same(row["person"])), folder)
            self._taken.add(_folded(folder))

    def name(self, rows: Sequence[Row]) -> list[str]:
        """The names of the crops of `rows`, which must have boxes. Names are relative paths with ``/``."""
        self._number_cameras({_camera(row) for row in rows})
        return [self._name(row) for row in rows]

    def _number_cameras(self, cameras: Iterable[str]) -> None:
        """Number new cameras. A label that is a whole number stays; others get the next free number."""
        new = sorted(
            set(cameras) - self._cameras.keys(), key=lambda one: (not one.isdecimal(), len(one), one)
        )
        taken = set(self._cameras.values())
        free = 1
        for camera in new:
            if camera.isdecimal() and len(camera) <= LONGEST_NUMBER and int(camera) not in taken:
                number = int(camera)
            else:
                while free in taken:
                    free += 1
                number = free
            self._cameras[camera] = number
            taken.add(number)

    def _name(self, row: Row) -> str:
        camera = _camera(row)
        person, scope = _text(row.identity or ""), _text(str(row.scope or ""))
        folder = self._folder(person, scope) if person else ""
        box = format_box(row.box)
        what = hashlib.sha256(f"{self._real_path(row.path)}\0{box}".encode("utf-8", "surrogatepass"))
        frame = row.attributes.get("frame")
        stem = f"{frame:06d}" if isinstance(frame, int) else _plain(row.path.stem)
        stem = f"_{stem}" if re.match("[cC][0-9]", stem) else stem  # 1_c2… would be a name of Market-1501
        name = f"{self._cameras[camera]}_{stem}_{what.hexdigest()[:12]}.jpg"
        path = f"{folder}/{name}" if folder else name
        values = (
            *(path, folder, camera, _time(row.time), _text(row.source or "")),
            *(_text(str(row.path.absolute())), box, person, scope),
        )
        self.rows.setdefault(path, values)
        return path

    def _folder(self, person: str, scope: str) -> str:
        """A person's folder: ``MOT17-02-5`` for ``MOT17-02/5``, with ``-2`` appended if it is taken."""
        known = self._folders.get((scope, _same(person)))
        if known is None:
            plain, number = _plain(person), 1
            known = plain
            while _folded(known) in self._taken:
                number += 1
                known = f"{plain}-{number}"
            self._folders[scope, _same(person)] = known
            self._taken.add(_folded(known))
        return known

    def _real_path(self, path: Path) -> str:
        """A frame's path with links to folders resolved, so that two paths to one frame give one crop."""
        if path.parent not in self._real:
            self._real[path.parent] = os.path.realpath(path.parent)
        return f"{self._real[path.parent]}/{path.name}"

    def save(self, without: Iterable[str] = ()) -> None:
        """Write the manifest atomically.

        Args:
            without: Names of crops to leave out because their files were not written.

        Raises:
            InputError: The manifest cannot be written.
        """
        for name in without:
            self.rows.pop(name, None)
        text = io.StringIO(newline="")
        writer = CsvWriter(text)
        for row in (COLUMNS, *self.rows.values()):
            writer.row(row)
        with written_whole(self.out / NAME) as new:
            new.write_text(text.getvalue(), encoding="utf-8", newline="")


def _has_pictures(folder: Path) -> bool:
    try:
        return folder.is_dir() and bool(find_pictures(folder))
    except InputError:
        return False


def _camera(row: Row) -> str:
    """A row's camera: its label, otherwise its source, otherwise 0."""
    return _same(_text((row.camera if row.camera != "-1" else None) or row.source or "0"))


def _plain(text: str) -> str:
    """Text as the name of a file or folder: letters, digits, dots and dashes, at most 100 bytes."""
    plain = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", text)).strip(".-")
    return plain.encode()[:100].decode(errors="ignore").strip(".-") or "-"


def _folded(folder: str) -> str:
    """A folder's name as a case-insensitive file system compares it, with numbers normalised."""
    return _same(unicodedata.normalize("NFC", folder).casefold())


def _same(name: str) -> str:
    """A person or a camera without leading zeros: 007 becomes 7."""
    return str(int(name)) if name.isdecimal() and len(name) <= LONGEST_NUMBER else name


def _text(text: str) -> str:
    """Text that a CSV file in UTF-8 can hold and that reads back unchanged."""
    plain = text.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace").replace("\0", "\\0")
    return plain if len(plain) < LONGEST_TEXT else hashlib.sha256(plain.encode()).hexdigest()


def _time(time: Any) -> str:
    return time.isoformat() if isinstance(time, datetime) else _text("" if time is None else str(time))
