"""Lists of pictures as entries of a gallery."""

from pathlib import Path

from kronreid.data.lists import LIST_SUFFIXES, read_rows
from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.filters import parse_time

__all__ = ["LIST_SUFFIXES", "read_list"]


def read_list(path: Path) -> list[Entry]:
    """The entries of a CSV or Parquet list, a COCO or a MOT file: see `kronreid.data.lists.read_rows`.

    Raises:
        InputError: The file is missing or is none of these; the message names the row.
    """
    entries = []
    for row in read_rows(path).rows:
        try:
            time = parse_time(row.time) if row.time is not None else None
        except InputError as error:
            raise InputError(f"{path}: row {row.number}: {error}") from None
        entries.append(Entry(row.path, row.box, row.camera, time, row.identity, row.source, row.attributes))
    return entries
