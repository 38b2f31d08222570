"""Lists of pictures as entries of a gallery."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kronreid.data.lists import LIST_SUFFIXES, Record, Row, Skipped, collect, read_rows
from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.filters import parse_time

__all__ = ["LIST_SUFFIXES", "read_list"]


def read_list(path: Path, categories: Sequence[str] = ()) -> tuple[list[Entry], list[Skipped]]:
    """The entries of a CSV or Parquet list, a COCO or a MOT file: see `kronreid.data.lists.read_rows`.

    Args:
        path: The list.
        categories: Categories of COCO and classes of MOT to take instead of people.

    Returns:
        The entries, and the records that are not usable.

    Raises:
        InputError: The file is missing, is none of these, or none of its records is usable.
    """
    read = read_rows(path, categories)
    content = collect(path, [*read.skipped, *map(_with_time, read.rows)])
    entries = [
        Entry(row.path, row.box, row.camera, row.time, row.identity, row.source, row.attributes)
        for row in content.rows
    ]
    return entries, content.skipped


def _with_time(row: Row) -> Record:
    """The row with its time in seconds."""
    try:
        return row if row.time is None else replace(row, time=parse_time(row.time))
    except InputError as error:
        return Skipped(f"row {row.number}", str(error))
