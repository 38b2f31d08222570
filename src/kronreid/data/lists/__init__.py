"""Lists of pictures: CSV and Parquet, and boxes in full frames as MOT and COCO have them."""

from collections.abc import Callable, Iterable
from pathlib import Path

from kronreid.data.lists.coco import read_coco
from kronreid.data.lists.mot import read_mot
from kronreid.data.lists.rows import ListContent, Row, Skipped, collect
from kronreid.data.lists.tables import read_csv, read_parquet
from kronreid.errors import InputError

__all__ = ["LIST_SUFFIXES", "ListContent", "Row", "Skipped", "read_rows"]

_READERS: dict[str, Callable[[Path], Iterable[Row | Skipped]]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".json": read_coco,
    ".txt": read_mot,
}
#: Endings of the lists that `read_rows` reads, in lower case.
LIST_SUFFIXES = tuple(_READERS)


def read_rows(path: Path) -> ListContent:
    """Read a list of pictures. The ending of its name, in any case, tells what kind of list it is.

    * ``*.csv`` and ``*.parquet``: a column ``path`` (relative to the list), and any of ``camera``, ``time``,
      ``identity``, ``source``, ``box`` (``x,y,width,height``, or the four columns ``x``, ``y``, ``w``, ``h``
      or ``x``, ``y``, ``width``, ``height``) and ``attributes`` (JSON); other columns become attributes.
    * ``*.json``: COCO; each annotation with a box of a person.
    * ``gt.txt`` or ``det.txt`` of a MOT sequence.

    Raises:
        InputError: The file is missing, is none of these, or none of its records is usable.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such list")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: a list is .csv, .parquet, COCO's .json or MOT's gt.txt")
    return collect(path, reader(path))
