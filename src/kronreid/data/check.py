"""Compare the counts of a data set on disk with the published ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kronreid.data.names import DUKEMTMC, MARKET1501, Kind, parse
from kronreid.data.readers import read
from kronreid.data.readers.market1501 import DISTRACTORS, market_home
from kronreid.data.records import DISTRACTOR, JUNK, NO_CAMERA, Picture, ReIDDataset, identities
from kronreid.errors import InputError


@dataclass(frozen=True)
class Count:
    """The numbers of pictures, people and cameras of a part; None if no number is published."""

    pictures: int | None
    identities: int | None
    cameras: int | None


@dataclass(frozen=True)
class Published:
    """The published counts of a data set, from its owners or from the paper that defined the split.

    Attributes:
        title: Its name and its source.
        parts: The counts of ``train``, ``query`` and ``gallery``, and of ``all`` of them together. Junk and
            distractors count as pictures, not as people.
    """

    title: str
    parts: dict[str, Count]


_MARKET = {"train": Count(12936, 751, 6), "query": Count(3368, 750, 6), "gallery": Count(19732, 750, 6)}


def _classic(pictures: int) -> dict[str, Count]:
    test = Count(None, 100, 2)
    return {"all": Count(pictures, 1467, 2), "train": Count(None, 1367, 2), "query": test, "gallery": test}


#: The published counts by layout. The sources are, for Market-1501, its readme.txt and lists; for
#: DukeMTMC-reID, Zheng, Zheng, Yang, ICCV 2017 (408 people of the gallery have no query); for MSMT17, Wei
#: et al., CVPR 2018, train and val together (30,248 + 2,373); for CUHK03, the cells of cuhk-03.mat and the
#: lists of Zhong et al., CVPR 2017.
PUBLISHED: dict[str, Published] = {
    "market1501": Published("Market-1501 (Zheng et al., ICCV 2015)", _MARKET),
    "market1501+500k": Published(
        "Market-1501 with 500,000 distractors (Zheng et al., ICCV 2015)",
        {**_MARKET, "gallery": Count(None, 750, 6)},
    ),
    "dukemtmc": Published(
        "DukeMTMC-reID (Ristani et al. 2016; Zheng et al., ICCV 2017)",
        {"train": Count(16522, 702, 8), "query": Count(2228, 702, 8), "gallery": Count(17661, 1110, 8)},
    ),
    "msmt17": Published(
        "MSMT17 (Wei et al., CVPR 2018)",
        {"train": Count(32621, 1041, 15), "query": Count(11659, 3060, 15), "gallery": Count(82161, 3060, 15)},
    ),
    "cuhk03-labeled": Published("CUHK03, labelled (Li et al., CVPR 2014)", _classic(14096)),
    "cuhk03-detected": Published("CUHK03, detected (Li et al., CVPR 2014)", _classic(14097)),
    "cuhk03-np-labeled": Published(
        "CUHK03, labelled, new protocol (Zhong et al., CVPR 2017)",
        {"train": Count(7368, 767, 2), "query": Count(1400, 700, 2), "gallery": Count(5328, 700, 2)},
    ),
    "cuhk03-np-detected": Published(
        "CUHK03, detected, new protocol (Zhong et al., CVPR 2017)",
        {"train": Count(7365, 767, 2), "query": Count(1400, 700, 2), "gallery": Count(5332, 700, 2)},
    ),
}


@dataclass(frozen=True)
class Original:
    """What distinguishes a published data set from own pictures in the same layout.

    Attributes:
        title: Name of the layout.
        kind: The kind of file name that all its pictures have.
        people: The highest number of a person.
        cameras: The highest number of a camera.
    """

    title: str
    kind: Kind
    people: int
    cameras: int


#: Layouts that are also used for own pictures.
_MARKET_NAMES = Original("Market-1501", MARKET1501, people=1501, cameras=6)
ORIGINALS = {
    "market1501": _MARKET_NAMES,
    "market1501+500k": _MARKET_NAMES,
    "dukemtmc": Original("DukeMTMC-reID", DUKEMTMC, people=7140, cameras=8),
}

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
        if not self.published:
            return "own"
        pairs = _pairs(self.parts, self.published)
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


def _is_own(dataset: ReIDDataset, parts: dict[str, Count], published: dict[str, Count]) -> bool:
    """Whether a data set has names, people, cameras or counts that the published one does not have.

    Such a data set consists of own pictures in the layout of a published one.
    """
    original = ORIGINALS.get(dataset.name)
    if original is None:
        return False
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
    dataset = read(root, layout, split)
    published = PUBLISHED.get(dataset.name)
    whole = {(one.path, one.box): one for one in (*dataset.train, *dataset.query, *dataset.gallery)}
    parts = {
        "train": count(dataset.train),
        "query": count(dataset.query),
        "gallery": count(dataset.gallery),
        "all": count(list(whole.values())),
    }
    title = published.title if published else f"own pictures, layout {dataset.name}"
    remarks = _remarks(dataset)
    if published and _is_own(dataset, parts, published.parts):
        title = f"own pictures laid out like {ORIGINALS[dataset.name].title}"
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
    if dataset.name.startswith("market1501") and not dataset.multi_query:
        remarks.append("there is no folder gt_bbox with more query pictures: multi-query equals single query")
    if dataset.multi_query:
        remarks.append(f"{len(dataset.multi_query):,} pictures in gt_bbox for multi-query")
    if dataset.name == "market1501":
        home = market_home(dataset.root)
        if found := [name for name in DISTRACTORS if (home / name).is_dir()]:
            remarks.append(
                f"{found[0]} has more distractors: --layout market1501+500k adds them to the gallery"
            )
    if dataset.name == "dukemtmc":
        remarks.append("its owners withdrew it in 2019: use it only for comparison with published numbers")
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
