"""The records that all readers of data sets return: pictures with an identity and a camera."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from kronreid.errors import InputError

#: Identity of false and poor detections (Market-1501's −1). Evaluation ignores them.
JUNK = -1
#: Identity of people who match no query (Market-1501's 0000). In evaluation they are wrong answers. Readers
#: number people from 1, so that a person 0 in own pictures does not become a distractor.
DISTRACTOR = 0
#: Camera of a picture whose camera is unknown.
NO_CAMERA = -1

#: Left, top, width, height in pixels of the upright picture.
Box: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """One picture of one person. `open_rgb` and all functions that take pictures accept it.

    Attributes:
        path: The file.
        identity: The person; `JUNK` and `DISTRACTOR` have special meanings.
        camera: The camera; `NO_CAMERA` if it is unknown.
        box: The part of the file that shows the person; None for the whole file.
    """

    path: Path
    identity: int
    camera: int
    box: Box | None = None

    def __str__(self) -> str:
        return f"{self.path}#{format_box(self.box)}" if self.box else str(self.path)


@dataclass(frozen=True)
class ReIDDataset:
    """A data set with its official split.

    Attributes:
        name: The layout by which it was read.
        protocol: The usual evaluation protocol (docs/protocols.md).
        root: The folder or list that was read.
        train: Training pictures; may be empty for a data set that is only used for evaluation.
        query: Query pictures.
        gallery: Gallery pictures, whose identities do not occur in `train`.
        multi_query: More pictures of the query people, like Market-1501's hand-drawn ``gt_bbox``. Multi-query
            protocols average those from a query's camera. May be empty.
        skipped: Number of unusable records in its list.
    """

    name: str
    protocol: str
    root: Path
    train: tuple[Picture, ...]
    query: tuple[Picture, ...]
    gallery: tuple[Picture, ...]
    multi_query: tuple[Picture, ...] = ()
    skipped: int = field(default=0, kw_only=True)


def identities(pictures: Sequence[Picture]) -> list[int]:
    """The sorted identities of `pictures`, without junk and distractors."""
    return sorted({picture.identity for picture in pictures} - {JUNK, DISTRACTOR})


def number_labels(labels: Iterable[str], lowest: int) -> dict[str, int]:
    """Number the labels of people or cameras.

    If all labels are whole numbers of at least `lowest`, they keep their values. Otherwise labels are
    numbered from 1 in sorted order. The label ``-1`` is always −1.

    Args:
        labels: The labels, as text.
        lowest: The lowest number that a label may have.

    Returns:
        The number of each label, and of ``-1``.
    """
    found = {label for label in labels if label != "-1"}
    if all(label.isdecimal() and int(label) >= lowest for label in found):
        numbers = {label: int(label) for label in found}
    else:
        numbers = {label: number for number, label in enumerate(sorted(found), start=1)}
    return {**numbers, "-1": -1}


def format_box(box: Box | None) -> str:
    """A box as text, ``x,y,width,height``; empty for None."""
    return ",".join(map(str, box)) if box else ""


def parse_box(text: str) -> Box | None:
    """Parse the result of `format_box`. Fractions are rounded.

    Raises:
        InputError: The text is not four numbers, or the box has no area.
    """
    if not text:
        return None
    try:
        left, top, width, height = (round(float(part)) for part in text.split(","))
    except (ValueError, OverflowError):
        raise InputError(f"box {text!r}", "give four numbers, like 10,20,64,128 (x,y,width,height)") from None
    if width <= 0 or height <= 0:
        raise InputError(f"box {text!r}", "width and height must be positive")
    return left, top, width, height
