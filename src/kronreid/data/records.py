"""What every reader of a data set returns: pictures with an identity and a camera."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from kronreid.errors import InputError

#: Identity of a detection that is no good picture of anybody: ignored in evaluation (Market-1501's −1).
JUNK = -1
#: Identity of pictures of people who are nobody's match: kept as wrong answers (Market-1501's 0000). Readers
#: give people the numbers from 1, so that a person of identity 0 in own pictures is not taken for one.
DISTRACTOR = 0
#: Camera of a picture without a camera.
NO_CAMERA = -1

#: Left, top, width, height in pixels of the upright picture.
Box: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """One picture of one person. `open_rgb` opens it, and so does everything that takes pictures.

    Attributes:
        path: The file.
        identity: Who it shows; `JUNK` and `DISTRACTOR` are special.
        camera: Which camera took it, `NO_CAMERA` where that is not known.
        box: The part of the file that shows the person; None for all of it.
    """

    path: Path
    identity: int
    camera: int
    box: Box | None = None

    def __str__(self) -> str:
        return f"{self.path}#{format_box(self.box)}" if self.box else str(self.path)


@dataclass(frozen=True)
class ReIDDataset:
    """A data set with its official division.

    Attributes:
        name: The layout it was read by.
        protocol: How it is usually evaluated (docs/protocols.md).
        root: The folder or list it was read from.
        train: Pictures to train on; empty where a data set has none, which is enough for evaluation.
        query: Pictures to search with.
        gallery: Pictures to search in; identities do not occur in `train`.
        multi_query: More pictures of the query people, of which multi-query protocols average those of a
            query's camera: Market-1501's hand-drawn ``gt_bbox``. Empty where a data set has none.
        skipped: How many records of its list cannot be used.
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
    """The real identities among `pictures`, sorted: junk and distractors left out."""
    return sorted({picture.identity for picture in pictures} - {JUNK, DISTRACTOR})


def number_labels(labels: Iterable[str], lowest: int) -> dict[str, int]:
    """A number for each label of people or cameras.

    Whole numbers from `lowest` stay what they are if all labels are such; otherwise labels are numbered from
    1 by their sorted order. ``-1`` stays −1 in either case, and is neither.
    """
    found = {label for label in labels if label != "-1"}
    if all(label.isdecimal() and int(label) >= lowest for label in found):
        numbers = {label: int(label) for label in found}
    else:
        numbers = {label: number for number, label in enumerate(sorted(found), start=1)}
    return {**numbers, "-1": -1}


def format_box(box: Box | None) -> str:
    """``x,y,width,height``; empty for none."""
    return ",".join(map(str, box)) if box else ""


def parse_box(text: str) -> Box | None:
    """The reverse of `format_box`.

    Raises:
        InputError: Not four whole numbers, or no area.
    """
    if not text:
        return None
    try:
        left, top, width, height = (round(float(part)) for part in text.split(","))
    except (ValueError, OverflowError):
        raise InputError(
            f"box {text!r}", "four numbers expected, like 10,20,64,128 (x,y,width,height)"
        ) from None
    if width <= 0 or height <= 0:
        raise InputError(f"box {text!r}", "width and height must be positive")
    return left, top, width, height
