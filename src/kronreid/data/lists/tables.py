"""CSV and Parquet lists: one picture, or one box of a picture, per row."""

import csv
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from kronreid.data.lists.files import read_lines
from kronreid.data.lists.rows import Row, Skipped
from kronreid.data.records import Box
from kronreid.data.values import SIDES, is_absent, label, picture_path, read_box, shown
from kronreid.errors import InputError
from kronreid.extras import explained
from kronreid.text import plain_cell

log = logging.getLogger(__name__)

_FIELDS = {"path", "box", "camera", "time", "identity", "source", "attributes", "id", *SIDES}
#: Columns whose names may be written with capitals and spaces.
_KNOWN = {*_FIELDS, "split"}
#: Other names of the column ``path``, as `_plain` writes them.
_PATHS = {
    "file",
    "filename",
    "filepath",
    "image",
    "imagefile",
    "imagename",
    "imagepath",
    "img",
    "imgpath",
    "picture",
}
#: The possible delimiters of a row. The comma is used if the header does not decide.
_DELIMITERS = ",;\t|"

#: The values of a row by column name, or the row's error.
_Values: TypeAlias = Mapping[str, Any] | InputError


def read_csv(path: Path) -> Iterator[Row | Skipped]:
    """The rows of a CSV file. The header decides the delimiter: comma, semicolon, tab or bar."""
    return _records(path, csv_values(path))


def read_parquet(path: Path) -> Iterator[Row | Skipped]:
    """The rows of a Parquet file."""
    with explained(str(path)):
        from kronreid.data.lists.parquet import parquet_values  # loading pyarrow takes half a second

    return _records(path, parquet_values(path))


def csv_values(path: Path) -> Iterator[_Values]:
    """The rows of a CSV file, as values by column name. Surplus values of a row have the name None.

    Raises:
        InputError: The file cannot be read, or its header has no column for the path.
    """
    lines = read_lines(path)
    lines = lines[1:] if lines and lines[0].lower().startswith("sep=") else lines  # written by Excel
    header = next((line for line in lines if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda sign: len((_KNOWN | _PATHS) & {*map(_plain, header.split(sign))}))
    names: list[str | None] | None = None
    for values in _csv_rows(lines, delimiter):
        if isinstance(values, InputError):
            yield values
        elif names is None:
            names = column_names(path, values)
        else:
            row: dict[Any, Any] = {name: value for name, value in zip(names, values) if name is not None}
            if any(more := values[len(names) :]):
                row[None] = more
            yield row


def _csv_rows(lines: Sequence[str], delimiter: str) -> Iterator[list[str] | InputError]:
    """The rows that are not blank. An unclosed quote spoils only its own line."""
    lines = [*lines, "\n"]  # so that an unclosed quote in the last line is noticed
    start = 0
    while start < len(lines):
        first = end = start
        reader = csv.reader(map(lines.__getitem__, range(start, len(lines))), delimiter=delimiter)
        try:
            while (values := next(reader, None)) is not None:
                first, end = end, start + reader.line_num
                if end - first > 1:  # a value of several lines; strict parsing raises if its quote is faulty
                    next(csv.reader(lines[first:end], delimiter=delimiter, strict=True))
                if any(value.strip() for value in values):
                    yield [plain_cell(value) for value in values]
                first = end
            return
        except csv.Error as error:
            yield InputError("is not a row of CSV", str(error))
            start = first + 1


def column_names(path: Path, header: Sequence[str]) -> list[str | None]:
    """The names of the columns. Known names are normalised; a column without a name is None.

    Raises:
        InputError: No column, or more than one, can be the path, or two columns have one of these names.
    """
    names: list[str | None] = []
    for name in map(str.strip, header):
        plain = name.lower()
        known = plain in _KNOWN and (name == plain or plain not in header)
        names.append((plain if known else name) or None)
    if "path" not in names:
        others = [number for number, name in enumerate(names) if name and _plain(name) in _PATHS]
        if len(others) != 1:
            found = ", ".join(shown(name) for name in names[:20] if name)
            raise InputError(
                path, f"the list needs a column named path; its columns are {found or 'unnamed'}"
            )
        log.info("%s has no column named path; using the column %s", path, names[others[0]])
        names[others[0]] = "path"
    if twice := [name for name in _KNOWN if names.count(name) > 1]:
        raise InputError(path, f"two columns are named {twice[0]}")
    return names


def _plain(name: str) -> str:
    return re.sub(r"[\s_\"-]", "", name).lower()


def _records(path: Path, rows: Iterator[_Values]) -> Iterator[Row | Skipped]:
    folder = path.absolute().parent
    for number, row in enumerate(rows, start=1):
        try:
            if isinstance(row, InputError):
                raise row
            yield _row(number, folder, row)
        except InputError as error:
            yield Skipped(f"row {number}", str(error))


def _row(number: int, folder: Path, row: Mapping[str, Any]) -> Row:
    if is_absent(row.get("path")):
        raise InputError("", "has no path; the list needs a column named path")
    if None in row:
        raise InputError("", "has more values than columns")
    more = {name: value for name, value in row.items() if name not in _FIELDS}
    time = row.get("time")
    return Row(
        number,
        folder / picture_path(row["path"]),
        box=_box(row),
        camera=label(row.get("camera"), "camera"),
        identity=label(row.get("identity"), "identity"),
        time=None if is_absent(time) else time,
        source=label(row.get("source"), "source"),
        attributes={
            name: value
            for name, value in (_attributes(row.get("attributes")) | more).items()
            if not is_absent(value)
        },
    )


def _attributes(value: Any) -> dict[str, Any]:
    """The column ``attributes``: a JSON object as text, or a struct or map of Parquet."""
    if is_absent(value):
        return {}
    decoded = value
    if isinstance(value, str | bytes):
        with suppress(ValueError, RecursionError):
            decoded = json.loads(value)
    if not isinstance(decoded, dict):
        raise InputError(f"attributes {shown(value)}", "must be a JSON object; or use a column for each")
    return decoded


def _box(row: Mapping[str, Any]) -> Box | None:
    box = read_box(row.get("box"))
    sides = {name: row[name] for name in SIDES if name in row}
    return read_box(sides) if box is None and sides else box
