"""What kronreid knows of a layout, the way in which a data set lies on the disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kronreid.data.names import Kind
from kronreid.data.records import ReIDDataset


@dataclass(frozen=True)
class Count:
    """Pictures, people and cameras of a part; None where nothing is published."""

    pictures: int | None
    identities: int | None
    cameras: int | None


@dataclass(frozen=True)
class Published:
    """What the owners of a data set, or the paper that divided it, say about it.

    Attributes:
        title: Its name and who published it.
        parts: The counts of ``train``, ``query`` and ``gallery``, and of ``all`` of them together. Junk and
            distractors are pictures, not people.
    """

    title: str
    parts: dict[str, Count]


@dataclass(frozen=True)
class Original:
    """What tells the owners' pictures from own pictures in the same folders.

    Attributes:
        title: The name of the data set.
        kind: The kind of name that all its pictures have.
        people: The highest number of a person.
        cameras: The highest number of a camera.
    """

    title: str
    kind: Kind
    people: int
    cameras: int


def never(root: Path) -> bool:
    """Looks like nothing."""
    return False


def _nothing(dataset: ReIDDataset) -> list[str]:
    return []


@dataclass(frozen=True)
class Layout:
    """A layout, which a reader reads.

    Attributes:
        read: The reader. It takes the root, and the number of the division as `split` if the layout has
            `splits`.
        protocol: How the data set is usually evaluated, a name of `kronreid.evaluation.PROTOCOLS`.
        looks_like: Whether a root is laid out so, as far as names of files and folders tell. A layout that
            never looks so is read only if it is named.
        splits: Whether the data set has several divisions into training and test.
        count_splits: How many a root has, for a layout with `splits`. Without it, they are only read one by
            one.
        published: What is published about the data set; None for a layout of own pictures.
        original: For a layout that own pictures may have as well, what tells the published ones.
        remarks: What ``kronreid data check`` says about a data set that was read.
    """

    read: Callable[..., ReIDDataset]
    protocol: str
    looks_like: Callable[[Path], bool] = never
    splits: bool = False
    count_splits: Callable[[Path], int] | None = None
    published: Published | None = None
    original: Original | None = None
    remarks: Callable[[ReIDDataset], list[str]] = _nothing
