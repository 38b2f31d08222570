"""What every list gives: rows, and the records that were skipped because they are not usable."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kronreid.data.records import Box
from kronreid.errors import InputError


@dataclass(frozen=True)
class Row:
    """One picture of a list.

    Attributes:
        number: Which record of the list, from 1: a row, a line of a MOT file, an annotation of COCO.
        path: The file; those of a list are relative to it.
        box: The part of the file that shows the person; None for all of it.
        camera: Name or number of the camera; None where unknown, like all below.
        identity: Who it shows.
        time: When it was taken, as the list has it: `kronreid.data.values.moment` reads it.
        source: Where it comes from: a recording, a delivery.
        visibility: How much of the person is not hidden, 0 to 1, where MOT says so.
        attributes: All other columns, as the list has them: `kronreid.data.values.attributes` reads them.
    """

    number: int
    path: Path
    box: Box | None = None
    camera: str | None = None
    identity: str | None = None
    time: Any = None
    source: str | None = None
    visibility: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """A record that cannot be used.

    Attributes:
        where: Which record, as ``row 3``, ``line 12`` or ``annotation 17``.
        reason: What is wrong with it, in one line.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class ListContent:
    """What a list holds.

    Attributes:
        rows: Its usable records.
        skipped: The records that are not usable. One bad record never refuses the whole list.
    """

    rows: list[Row]
    skipped: list[Skipped]


def collect(path: Path, records: Iterable[Row | Skipped]) -> ListContent:
    """Divide the records of a list into usable ones and skipped ones.

    Raises:
        InputError: There are records, and none of them is usable; the message has the first one's reason.
    """
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for record in records:
        if isinstance(record, Row):
            rows.append(record)
        else:
            skipped.append(record)
    require_usable(path, rows, skipped)
    return ListContent(rows, skipped)


def require_usable(path: Path, usable: Sequence[object], skipped: Sequence[Skipped]) -> None:
    """Check that something of a list is left.

    Raises:
        InputError: Records were skipped, and none is usable; the message has the first one's reason.
    """
    if skipped and not usable:
        others = f" (and {len(skipped) - 1:,} more like it; none is usable)" if len(skipped) > 1 else ""
        raise InputError(f"{path}: {skipped[0]}{others}")
