"""Own pictures in a list: CSV or Parquet."""

import logging
from pathlib import Path

from kronreid.data.lists import TABLE_SUFFIXES, Record, Row, Skipped, collect, read_rows, some_of
from kronreid.data.lists.files import is_file
from kronreid.data.readers.layout import Layout
from kronreid.data.records import NO_CAMERA, Picture, ReIDDataset, number_labels
from kronreid.data.values import label, shown
from kronreid.errors import InputError

log = logging.getLogger(__name__)

PARTS = ("train", "query", "gallery")


def is_list(path: Path) -> bool:
    """Whether a path has the name of a list."""
    return path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir()


def read_listed(path: Path) -> ReIDDataset:
    """Read a list with the columns ``path`` (relative to the list), ``identity``, ``camera`` and ``split``.

    ``split`` is train, query or gallery. The columns ``x``, ``y``, ``w`` and ``h`` (or ``box``) give the part
    of the file, in pixels, that shows the person. Identities may be any text. Whole numbers from 1 stay as
    they are, others are numbered in sorted order, and −1 is junk. Cameras are numbered in the same way. A
    list without cameras is evaluated by ``no-camera``, which drops only the query picture itself.

    A row without a split or an identity is skipped, and so is one whose file is missing. One warning gives
    their number.

    Raises:
        InputError: No row is usable; the message says what is wrong with the first one.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise InputError(
            path, f"layout list is read from a {', '.join(TABLE_SUFFIXES)} file; name that as the root"
        )
    read = read_rows(path)
    there: dict[Path, bool] = {}
    content = collect(path, [*read.skipped, *(_checked(row, there) for row in read.rows)])
    rows = content.rows
    if content.skipped:
        log.warning("%s: %d rows are skipped: %s", path, len(content.skipped), some_of(content.skipped))
    people = number_labels((row.identity for row in rows if row.identity is not None), lowest=1)
    cameras = number_labels((row.camera for row in rows if row.camera is not None), lowest=0)

    def picture(row: Row) -> Picture:
        assert row.identity is not None
        camera = NO_CAMERA if row.camera is None else cameras[row.camera]
        return Picture(row.path, people[row.identity], camera, row.box)

    train, query, gallery = (tuple(picture(row) for row in rows if _split(row) == part) for part in PARTS)
    train = tuple(one for one in train if one.identity > 0)
    both = {one.identity for one in train} & {one.identity for one in (*query, *gallery)}
    if both:
        log.warning("%s: %d people are both in train and in query or gallery", path, len(both))
    protocol = "cross-camera" if any(row.camera is not None for row in rows) else "no-camera"
    return ReIDDataset("list", protocol, path, train, query, gallery, skipped=len(content.skipped))


def _checked(row: Row, there: dict[Path, bool]) -> Record:
    """The row, or the reason why it is skipped."""
    if row.path not in there:
        there[row.path] = is_file(row.path)
    try:
        split = _split(row)
    except InputError as error:
        return Skipped(f"row {row.number}", str(error))
    if not split:
        reason = f"no split; {', '.join(PARTS)} expected"
    elif split not in PARTS:
        reason = f"split {shown(row.attributes['split'])}; {', '.join(PARTS)} expected"
    elif row.identity is None:
        reason = "no identity; −1 marks what shows nobody"
    elif not there[row.path]:
        reason = f"{row.path}: no such file"
    else:
        return row
    return Skipped(f"row {row.number}", reason)


def _split(row: Row) -> str:
    """The part of the data set, in lower case; empty if the row does not say it."""
    return (label(row.attributes.get("split"), "split") or "").lower()


LAYOUT = Layout(read_listed, "cross-camera", is_list)
