"""What a data set on disk holds, beside what has been published about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kronreid.data.names import parse
from kronreid.data.readers import LAYOUTS, read
from kronreid.data.readers.layout import Count, Original
from kronreid.data.records import DISTRACTOR, JUNK, NO_CAMERA, Picture, ReIDDataset, identities
from kronreid.errors import InputError

Verdict = Literal["agrees", "less", "differs", "own"]


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes:
        dataset: The data set.
        title: What it is; its layout where that is nobody's data set.
        parts: Counts by part.
        published: The published counts; empty for one's own pictures.
        junk, distractors: Gallery pictures that show nobody, and nobody who is asked for.
        remarks: What is missing, or there to be used.
    """

    dataset: ReIDDataset
    title: str
    parts: dict[str, Count]
    published: dict[str, Count]
    junk: int
    distractors: int
    remarks: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """``agrees`` with what is published, has ``less``, has more and ``differs``, or is one's ``own``."""
        if not self.published:
            return "own"
        pairs = _pairs(self.parts, self.published)
        if any(here > there for here, there in pairs):
            return "differs"
        return "agrees" if all(here == there for here, there in pairs) else "less"

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dump."""
        return {
            "layout": self.dataset.name,
            "title": self.title,
            "protocol": self.dataset.protocol,
            "verdict": self.verdict,
            "parts": {part: vars(count) for part, count in self.parts.items()},
            "published": {part: vars(count) for part, count in self.published.items()},
            "junk": self.junk,
            "distractors": self.distractors,
            "skipped": self.dataset.skipped,
            "remarks": list(self.remarks),
        }


def _pairs(parts: dict[str, Count], published: dict[str, Count]) -> list[tuple[int, int]]:
    """What is there and what is published, wherever something is."""
    return [
        (here, there)
        for part, count in published.items()
        for here, there in zip(_values(parts[part]), _values(count))
        if here is not None and there is not None
    ]


def _values(count: Count) -> tuple[int | None, ...]:
    return count.pictures, count.identities, count.cameras


def _is_own(
    dataset: ReIDDataset, parts: dict[str, Count], published: dict[str, Count], original: Original
) -> bool:
    """Whether a layout that own pictures may have holds something that its data set does not have: other
    names, people or cameras, or more of them."""
    if any(here > there for here, there in _pairs(parts, published)):
        return True
    for one in (*dataset.train, *dataset.query, *dataset.gallery):
        if one.identity != DISTRACTOR:  # those of the 500,000 may have any name
            said = parse(one.path.name)
            if said.kind is not original.kind or int(said.identity or 0) > original.people:
                return True
            if one.camera > original.cameras:
                return True
    return False


def check(root: str | Path, layout: str | None = None, split: int = 0) -> Checked:
    """Read a data set and count it.

    Args:
        root, layout, split: See `read`.

    Raises:
        InputError: It cannot be read so.
    """
    dataset = read(root, layout, split)
    entry = LAYOUTS[dataset.name]
    published, original = entry.published, entry.original
    whole = {(one.path, one.box): one for one in (*dataset.train, *dataset.query, *dataset.gallery)}
    parts = {
        "train": count(dataset.train),
        "query": count(dataset.query),
        "gallery": count(dataset.gallery),
        "all": count(list(whole.values())),
    }
    title = published.title if published else f"own pictures, layout {dataset.name}"
    remarks = [*entry.remarks(dataset), *_remarks(dataset)]
    if published and original and _is_own(dataset, parts, published.parts, original):
        title = f"own pictures laid out like {original.title}"
        remarks.append(f"names, people, cameras or counts are others than those of {published.title}")
        published = None
    return Checked(
        dataset,
        title,
        parts,
        published.parts if published else {},
        sum(one.identity == JUNK for one in dataset.gallery),
        sum(one.identity == DISTRACTOR for one in dataset.gallery),
        tuple(remarks),
    )


def count(pictures: Sequence[Picture]) -> Count:
    """How many pictures, people and cameras there are; junk and distractors are pictures only."""
    cameras = {one.camera for one in pictures} - {NO_CAMERA}
    return Count(len(pictures), len(identities(pictures)), len(cameras))


def _remarks(dataset: ReIDDataset) -> list[str]:
    remarks = []
    if dataset.skipped:
        remarks.append(f"{dataset.skipped:,} rows of the list cannot be used")
    for part in ("train", "query", "gallery"):
        if not getattr(dataset, part):
            remarks.append(f"no {part} pictures")
    return remarks


def must_be_usable(checked: Checked) -> None:
    """Complain where a data set can be neither trained on nor evaluated with, or is not what it looks like.

    Raises:
        InputError: One line about it.
    """
    dataset = checked.dataset
    if checked.verdict == "differs":
        raise InputError(
            dataset.root,
            f"has more than {checked.title}, whose layout it has; is it another data set, or two "
            "of them mixed?",
        )
    trains, tests = len(identities(dataset.train)) > 1, bool(dataset.query and dataset.gallery)
    if not trains and not tests:
        raise InputError(
            dataset.root, "neither two people to train on nor query and gallery pictures to test with"
        )
