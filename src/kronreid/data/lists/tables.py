"""CSV and Parquet lists: one picture, or one box of a picture, per row."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kronreid.data.lists.rows import Row, Skipped
from kronreid.data.records import Box, parse_box
from kronreid.errors import InputError

#: The columns of a box; w and h may be called width and height.
_SIDES = {"x": "x", "y": "y", "w": "width", "h": "height", "width": "width", "height": "height"}
_FIELDS = {"path", "box", "camera", "time", "identity", "source", "attributes", "id", *_SIDES}


def read_csv(path: Path) -> Iterator[Row | Skipped]:
    """The rows of a CSV file."""
    return _records(path, _csv(path))


def read_parquet(path: Path) -> Iterator[Row | Skipped]:
    """The rows of a Parquet file."""
    return _records(path, _parquet(path))


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            yield from csv.DictReader(file)
        except csv.Error as error:
            raise InputError(f"{path}: not a CSV file that can be read ({error})") from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: not a Parquet file that can be read ({error})") from error


def _records(path: Path, values: Iterator[Mapping[str, Any]]) -> Iterator[Row | Skipped]:
    folder = path.absolute().parent
    for number, row in enumerate(values, start=1):
        try:
            yield _row(number, folder, row)
        except InputError as error:
            yield Skipped(f"row {number}", str(error))


def _row(number: int, folder: Path, row: Mapping[str, Any]) -> Row:
    if not row.get("path"):
        raise InputError("no path; the list needs a column named path")
    if None in row:
        raise InputError("more values than columns")
    attributes = row.get("attributes")
    try:
        decoded = json.loads(attributes) if attributes else {}
    except json.JSONDecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise InputError(f"attributes {attributes!r}: a JSON object expected, or a column for each")
    more = {name: value for name, value in row.items() if name not in _FIELDS and not _is_empty(value)}
    time = row.get("time")
    return Row(
        number,
        folder / row["path"],
        box=_box(row),
        camera=label(row.get("camera")),
        identity=label(row.get("identity")),
        time=None if _is_empty(time) else time,
        source=label(row.get("source")),
        attributes={**decoded, **more},
    )


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value != value  # the last: NaN, how pandas writes nothing


def label(value: Any) -> str | None:
    """A label as text; 7.0, which is what pandas makes of 7 in a column with gaps, as 7."""
    if _is_empty(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _box(row: Mapping[str, Any]) -> Box | None:
    if row.get("box"):
        return parse_box(str(row["box"]))
    given = {side: row[name] for name, side in _SIDES.items() if not _is_empty(row.get(name))}
    if not given:
        return None
    sides = ("x", "y", "width", "height")
    missing = [side for side in sides if side not in given]
    if missing:
        raise InputError(f"box: {', '.join(given)} given, but not {', '.join(missing)}")
    return parse_box(",".join(str(given[side]) for side in sides))
