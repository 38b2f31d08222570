"""Lists of pictures: CSV and Parquet tables, and the boxes of MOT and COCO in full frames."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kronreid.data.lists.coco import read_coco
from kronreid.data.lists.mot import read_mot
from kronreid.data.lists.rows import LeftOut, ListContent, Record, Row, Skipped, collect, counted, some_of
from kronreid.data.lists.tables import read_csv, read_parquet
from kronreid.errors import InputError

__all__ = [
    "LIST_SUFFIXES",
    "TABLE_SUFFIXES",
    "LeftOut",
    "ListContent",
    "Record",
    "Row",
    "Skipped",
    "collect",
    "counted",
    "read_rows",
    "some_of",
]

_TABLES: dict[str, Callable[[Path], Iterable[Record]]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
_BOXES: dict[str, Callable[[Path, Sequence[str]], Iterable[Record]]] = {".json": read_coco, ".txt": read_mot}
#: Suffixes of lists that are tables, in lower case.
TABLE_SUFFIXES = tuple(_TABLES)
#: Suffixes of all lists that `read_rows` reads, in lower case.
LIST_SUFFIXES = (*_TABLES, *_BOXES)


def read_rows(path: Path, categories: Sequence[str] = ()) -> ListContent:
    """Read a list of pictures. Its suffix, in upper or lower case, determines its format.

    * ``*.csv``, ``*.tsv`` and ``*.parquet``: a column ``path`` (relative to the list), and any of ``camera``,
      ``time``, ``identity``, ``source``, ``box`` (``x,y,width,height``, or the four columns ``x``, ``y``,
      ``w``, ``h`` or ``x``, ``y``, ``width``, ``height``) and ``attributes`` (JSON); other columns become
      attributes.
    * ``*.json``: COCO; each annotation is a box of a person.
    * ``gt.txt`` or ``det.txt`` of a MOT sequence.

    Args:
        path: The list.
        categories: Names or numbers of the categories of COCO or classes of MOT to take; empty for people.

    Raises:
        InputError: The file is missing, has another format or none of the categories, or no usable record.
    """
    if not path.is_file():
        raise InputError(path, "no such list")
    suffix = path.suffix.lower()
    if suffix in _BOXES:
        return collect(path, _BOXES[suffix](path, categories))
    if suffix not in _TABLES:
        raise InputError(path, f"a list must be {', '.join(_TABLES)}, COCO's .json or MOT's gt.txt")
    if categories:
        raise InputError("--category", f"{path} has no categories; only COCO and MOT have them")
    return collect(path, _TABLES[suffix](path))
