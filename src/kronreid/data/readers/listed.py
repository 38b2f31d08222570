"""One's own pictures by a list: CSV or Parquet."""

import logging
from pathlib import Path

from kronreid.data.lists import Row, read_rows
from kronreid.data.readers.names import some
from kronreid.data.records import NO_CAMERA, Picture, ReIDDataset, number_labels
from kronreid.data.values import label
from kronreid.errors import InputError

log = logging.getLogger(__name__)

PARTS = ("train", "query", "gallery")


def is_list(path: Path) -> bool:
    """Is it the name of a list?"""
    return path.suffix.lower() in (".csv", ".parquet") and not path.is_dir()


def read_listed(path: Path) -> ReIDDataset:
    """A list with the columns ``path`` (relative to the list), ``identity``, ``camera`` and ``split``.

    ``split`` is train, query or gallery. With columns ``x``, ``y``, ``w`` and ``h`` (or ``box``) a picture is
    that part of its file, in pixels. Identities may be any text: whole numbers from 1 stay what they are,
    others are numbered by their sorted order; −1 is junk. Cameras are numbered likewise; in a list without
    any, only the query picture itself is dropped in evaluation (``no-camera``).

    Raises:
        InputError: A column or a file is missing, or a row says something else; the message names it.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"{path}: layout list is read from a .csv or .parquet file; name that as the root")
    rows = read_rows(path).rows
    if not rows:
        raise InputError(f"{path}: the list is empty")
    for row in rows:
        split = _split(row)
        if split not in PARTS:
            raise InputError(f"{path}: row {row.number}: split {split!r}; {', '.join(PARTS)} expected")
        if row.identity is None:
            raise InputError(f"{path}: row {row.number}: no identity; −1 marks what shows nobody")
    absent = sorted({row.path for row in rows if not row.path.is_file()})
    if absent:
        raise InputError(f"{path}: {len(absent):,} of its files are missing: {some(absent, 3)}")
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
    return ReIDDataset("list", protocol, path, train, query, gallery)


def _split(row: Row) -> str:
    return label(row.attributes.get("split"), "split") or ""
