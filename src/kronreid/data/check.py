"""Compare the counts of a data set on disk with the published ones."""

import os
from collections.abc import Collection, Sequence
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
    """The result of a check.

    Attributes:
        dataset: The data set.
        title: Name of the data set; its layout if it is not a published one.
        parts: The counts of each part.
        published: The published counts; empty for own pictures.
        junk: Number of gallery pictures that are junk (identity −1).
        distractors: Number of gallery pictures of people who are nobody's match (identity 0).
        remarks: Hints about missing pictures and available extras.
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
        """``agrees`` with the published counts, has ``less``, ``differs`` (has more), or ``own`` pictures."""
        return self.verdict_on(self.published)

    def verdict_on(self, parts: Collection[str]) -> Verdict:
        """The verdict on some parts of the data set alone, like ``query`` and ``gallery``."""
        if not self.published:
            return "own"
        pairs = _pairs(self.parts, {part: self.published[part] for part in parts if part in self.published})
        if any(here > there for here, there in pairs):
            return "differs"
        return "agrees" if all(here == there for here, there in pairs) else "less"

    def to_json(self) -> dict[str, Any]:
        """The result as a dictionary for `json.dump`."""
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


@dataclass(frozen=True)
class Description:
    """What a run or an evaluation records about its data set.

    Attributes:
        layout: How it is laid out.
        folder: The name of its folder.
        split: Which division into training and test.
        protocol: How it is evaluated.
        pictures: The number of pictures in the parts ``train``, ``query`` and ``gallery``.
        identities: The number of people in these parts.
        title: The name of the published data set, or what is known of own pictures.
        verdict: How the counts of the parts that were used compare with the published ones, see
            `Checked.verdict`.
    """

    layout: str
    folder: str
    split: int
    protocol: str
    pictures: dict[str, int]
    identities: dict[str, int]
    title: str
    verdict: Verdict

    @property
    def name(self) -> str:
        """The data set's name. Only a data set with all published counts has the published name."""
        if self.verdict == "agrees":
            return self.title
        if self.verdict == "less":
            return f"{self.folder}: fewer pictures than {self.title}, in its layout"
        return f"{self.folder} ({self.title})"


def describe(dataset: ReIDDataset, split: int, protocol: str, *used: str) -> Description:
    """Describe a data set for a record.

    Args:
        dataset: As it was read.
        split: Which division was read.
        protocol: How it is evaluated.
        used: The parts that were used, by which it is compared with the published data set.
    """
    checked = check_dataset(dataset)
    parts = {part: checked.parts[part] for part in ("train", "query", "gallery")}
    return Description(
        layout=dataset.name,
        folder=os.fsencode(dataset.root.absolute().name).decode(errors="backslashreplace"),
        split=split,
        protocol=protocol,
        pictures={part: each.pictures or 0 for part, each in parts.items()},
        identities={part: each.identities or 0 for part, each in parts.items()},
        title=checked.title,
        verdict=checked.verdict_on(used),
    )


def _pairs(parts: dict[str, Count], published: dict[str, Count]) -> list[tuple[int, int]]:
    """Pairs of (found, published) counts, wherever a count is published."""
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
    """Whether a data set has names, people, cameras or counts that the published one does not have.

    Such a data set consists of own pictures in the layout of a published one.
    """
    if any(here > there for here, there in _pairs(parts, published)):
        return True
    for one in (*dataset.train, *dataset.query, *dataset.gallery):
        if one.identity != DISTRACTOR:  # the 500,000 distractors may have any name
            said = parse(one.path.name)
            if said.kind is not original.kind or int(said.identity or 0) > original.people:
                return True
            if one.camera > original.cameras:
                return True
    return False


def check(root: str | Path, layout: str | None = None, split: int = 0) -> Checked:
    """Read a data set and compare its counts with the published ones.

    Args:
        root: See `read`.
        layout: See `read`.
        split: See `read`.

    Raises:
        InputError: The data set cannot be read.
    """
    return check_dataset(read(root, layout, split))


def check_dataset(dataset: ReIDDataset) -> Checked:
    """Compare the counts of a data set that was read with the published ones."""
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
        remarks.append(f"names, people, cameras or counts differ from those of {published.title}")
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
    """Count pictures, people and cameras. Junk and distractors count only as pictures."""
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
    """Check that a data set can be used for training or evaluation, and is what its layout says.

    Raises:
        InputError: It cannot be used for either, or it has more pictures than its layout's data set.
    """
    dataset = checked.dataset
    if checked.verdict == "differs":
        raise InputError(
            dataset.root,
            f"has the layout of {checked.title}, but more pictures, people or cameras; is it another "
            "data set, or two mixed?",
        )
    trains, tests = len(identities(dataset.train)) > 1, bool(dataset.query and dataset.gallery)
    if not trains and not tests:
        raise InputError(
            dataset.root,
            "has neither two people to train on nor query and gallery pictures to evaluate with",
        )
