"""What every reader of a data set returns: pictures with an identity and a camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Identity of a detection that is no good picture of anybody: ignored in evaluation (Market-1501's −1).
JUNK = -1
#: Identity of pictures of people who are nobody's match: kept as wrong answers (Market-1501's 0000).
DISTRACTOR = 0
#: Identity of a picture without a label, camera of a picture without a camera.
UNKNOWN = -2
NO_CAMERA = -1


@dataclass(frozen=True)
class Picture:
    """One picture of one person.

    Attributes:
        path: The file.
        identity: Who it shows; `JUNK`, `DISTRACTOR` and `UNKNOWN` are special.
        camera: Which camera took it, `NO_CAMERA` where that is not known.
    """

    path: Path
    identity: int
    camera: int


@dataclass(frozen=True)
class ReIDDataset:
    """A data set with its official division.

    Attributes:
        name: The layout it was read by.
        protocol: How it is usually evaluated (docs/protocols.md).
        root: The folder it was read from.
        train: Pictures to train on.
        query: Pictures to search with.
        gallery: Pictures to search in; identities do not occur in `train`.
    """

    name: str
    protocol: str
    root: Path
    train: tuple[Picture, ...]
    query: tuple[Picture, ...]
    gallery: tuple[Picture, ...]


def identities(pictures: Sequence[Picture]) -> list[int]:
    """The real identities among `pictures`, sorted: junk, distractors and unknown ones left out."""
    return sorted({picture.identity for picture in pictures} - {JUNK, DISTRACTOR, UNKNOWN})
