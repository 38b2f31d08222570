"""CSV and Parquet lists: one picture, or one box of a picture, per row."""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kronreid.data.lists.rows import Row, Skipped
from kronreid.data.records import Box
from kronreid.data.values import SIDES, is_absent, label, picture_path, read_box, short
from kronreid.errors import InputError

_FIELDS = {"path", "box", "camera", "time", "identity", "source", "attributes", "id", *SIDES}


def read_csv(path: Path) -> Iterator[Row | Skipped]:
    """The rows of a CSV file."""
    return _records(path, _csv(path))


def read_parquet(path: Path) -> Iterator[Row | Skipped]:
    """The rows of a Parquet file."""
    from kronreid.data.lists.parquet import values_of  # which takes half a second to load pyarrow

    return _records(path, values_of(path))


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            yield from csv.DictReader(file)
        except csv.Error as error:
            raise InputError(f"{path}: not a CSV file that can be read ({error})") from None


def _records(path: Path, values: Iterator[Mapping[str, Any] | InputError]) -> Iterator[Row | Skipped]:
    folder = path.absolute().parent
    for number, row in enumerate(values, start=1):
        try:
            if isinstance(row, InputError):
                raise row
            yield _row(number, folder, row)
        except InputError as error:
            yield Skipped(f"row {number}", str(error))


def _row(number: int, folder: Path, row: Mapping[str, Any]) -> Row:
    if is_absent(row.get("path")):
        raise InputError("no path; the list needs a column named path")
    if None in row:
        raise InputError("more values than columns")
    # A column without a name is the index that pandas writes.
    more = {name: value for name, value in row.items() if name.strip() and name not in _FIELDS}
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
        raise InputError(f"attributes {short(value)}: a JSON object expected, or a column for each")
    return decoded


def _box(row: Mapping[str, Any]) -> Box | None:
    box = read_box(row.get("box"))
    sides = {name: row[name] for name in SIDES if name in row}
    return read_box(sides) if box is None and sides else box
