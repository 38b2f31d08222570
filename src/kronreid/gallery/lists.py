"""Lists of pictures as entries of a gallery."""

from pathlib import Path

from kronreid.data.lists import LIST_SUFFIXES, Row, Skipped, read_rows
from kronreid.data.lists.rows import require_usable
from kronreid.errors import InputError
from kronreid.gallery.entries import Entry, checked

__all__ = ["LIST_SUFFIXES", "read_list"]


def read_list(path: Path) -> tuple[list[Entry], list[Skipped]]:
    """The entries of a CSV or Parquet list, a COCO or a MOT file: see `kronreid.data.lists.read_rows`.

    Returns:
        The entries, and the records that were skipped: they are not usable, or say something that a gallery
        cannot store, such as a time that is none.

    Raises:
        InputError: The file is missing, is none of these, or none of its records is usable.
    """
    content = read_rows(path)
    entries: list[Entry] = []
    skipped = list(content.skipped)
    for row in content.rows:
        try:
            entries.append(_entry(row))
        except InputError as error:
            skipped.append(Skipped(f"row {row.number}", str(error)))
    require_usable(path, entries, skipped)
    return entries, skipped


def _entry(row: Row) -> Entry:
    entry = Entry(row.path, row.box, row.camera, row.time, row.identity, row.source, row.attributes)
    return checked(entry, {})
