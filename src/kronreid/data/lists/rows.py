"""The records of lists: rows, skipped records and records that are left out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from kronreid.data.records import Box
from kronreid.data.values import shown
from kronreid.errors import InputError

#: Larger than any width or height of a picture in pixels.
LARGEST = 10**9


@dataclass(frozen=True)
class Row:
    """One picture of a list.

    Attributes:
        number: Number of the record, from 1: a row, a line of a MOT file, an annotation of COCO.
        path: The file. Relative paths in a list are relative to the list.
        box: The part of the file that shows the person; None for the whole file.
        camera: Name or number of the camera; None if unknown, as all below.
        identity: The person.
        time: When it was taken, as the list has it; `kronreid.data.values.moment` converts it.
        source: Where it comes from, like a recording or a delivery.
        visibility: The visible share of the person, 0 to 1, if MOT states it.
        scope: Where the identity is valid: the folder of a MOT sequence, or the COCO file that numbers its
            tracks. None if the identity means the same person in every list.
        attributes: All other columns, as the list has them; `kronreid.data.values.attributes` converts them.
    """

    number: int
    path: Path
    box: Box | None = None
    camera: str | None = None
    identity: str | None = None
    time: Any = None
    source: str | None = None
    visibility: float | None = None
    scope: Path | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """A record that cannot be used.

    Attributes:
        where: The record, like ``row 3``, ``line 12`` or ``annotation 17``.
        reason: The problem, in one line.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class LeftOut:
    """A valid record that is not wanted: a box of a car, or one that its data set marks to be ignored.

    Attributes:
        reason: Its kind, in words that follow a count: ``of category car``.
    """

    reason: str


Record: TypeAlias = Row | Skipped | LeftOut


@dataclass(frozen=True)
class ListContent:
    """The content of a list. Each record is in exactly one of the three.

    Attributes:
        rows: The usable records.
        skipped: The unusable records. A bad record does not make the whole list unusable.
        left_out: Number of valid records that are not wanted, by reason.
    """

    rows: list[Row]
    skipped: list[Skipped]
    left_out: Counter[str]


def collect(path: Path, records: Iterable[Record]) -> ListContent:
    """Divide the records of a list into usable ones, skipped ones and those that are left out.

    Raises:
        InputError: No record is usable. The message has the reason of the first one, or counts what was left
            out.
    """
    rows: list[Row] = []
    skipped: list[Skipped] = []
    left_out: Counter[str] = Counter()
    for record in records:
        if isinstance(record, LeftOut):
            left_out[record.reason] += 1
        elif isinstance(record, Skipped):
            skipped.append(record)
        elif "\0" in str(record.path):
            skipped.append(
                Skipped(f"record {record.number}", f"path {shown(str(record.path))}: has a NUL character")
            )
        else:
            rows.append(record)
    if not rows:
        raise InputError(path, _nothing(skipped, left_out))
    return ListContent(rows, skipped, left_out)


def _nothing(skipped: Sequence[Skipped], left_out: Counter[str]) -> str:
    """The reason why a list has no usable record."""
    if left_out:
        first = f"; {len(skipped):,} records are skipped, first {skipped[0]}" if skipped else ""
        return f"has no usable boxes; left out: {counted(left_out)}{first}"
    if not skipped:
        return "the list is empty"
    more = f" ({len(skipped) - 1:,} more records are skipped; none is usable)" if len(skipped) > 1 else ""
    return f"{skipped[0]}{more}"


def counted(left_out: Counter[str]) -> str:
    """Counts by reason, like ``12 of category car, 3 groups of people (iscrowd)``."""
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())


def some_of(problems: Sequence[object], count: int = 3) -> str:
    """The first `count` of many problems, in one line."""
    more = f"; and {len(problems) - count:,} more" if len(problems) > count else ""
    return "; ".join(map(str, problems[:count])) + more


def box_of(left: float, top: float, width: float, height: float) -> Box:
    """Round a box to whole pixels.

    Raises:
        InputError: A number is not finite or too large, or the box is less than half a pixel wide or high.
    """
    numbers = (left, top, width, height)
    if not all(-LARGEST < number < LARGEST for number in numbers):  # false for NaN, too
        raise InputError(f"box {shown(list(numbers))}", "must be four finite numbers")
    box = (round(left), round(top), round(width), round(height))
    if box[2] <= 0 or box[3] <= 0:
        raise InputError(f"box {shown(list(numbers))}", "covers no pixel")
    return box
