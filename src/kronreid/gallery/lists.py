"""Lists of pictures as entries of a gallery."""

from collections.abc import Sequence
from pathlib import Path

from kronreid.data.lists import LIST_SUFFIXES, Record, Skipped, collect, read_rows
from kronreid.errors import InputError
from kronreid.gallery.entries import Entry, checked

__all__ = ["LIST_SUFFIXES", "read_list"]


def read_list(path: Path, categories: Sequence[str] = ()) -> tuple[list[Entry], list[Skipped]]:
    """The entries of a CSV or Parquet list, a COCO or a MOT file: see `kronreid.data.lists.read_rows`.

    Args:
        path: The list.
        categories: Categories of COCO and classes of MOT to take instead of people.

    Returns:
        The entries, and the records that are not usable or hold a value that a gallery cannot store, such as
        a time that is none.

    Raises:
        InputError: The file is missing, has none of these formats, or none of its records is usable.
    """
    read = read_rows(path, categories)
    entries: list[Entry] = []
    records: list[Record] = [*read.skipped]
    for row in read.rows:
        entry = Entry(row.path, row.box, row.camera, row.time, row.identity, row.source, row.attributes)
        try:
            entries.append(checked(entry, {}))
            records.append(row)
        except InputError as error:
            records.append(Skipped(f"row {row.number}", str(error)))
    return entries, collect(path, records).skipped
