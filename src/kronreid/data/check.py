"""What a data set on disk holds, beside what has been published about it."""

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
    """Pictures, people and cameras of a part; None where nothing is published."""

    pictures: int | None
    identities: int | None
    cameras: int | None


@dataclass(frozen=True)
class Published:
    """What the owners, or the paper that made the division, say of a data set.

    Attributes:
        title: Its name and who published it.
        parts: The counts of ``train``, ``query`` and ``gallery``, and of ``all`` of them together. Junk and
            distractors are pictures, not people.
    """

    title: str
    parts: dict[str, Count]


_MARKET = {"train": Count(12936, 751, 6), "query": Count(3368, 750, 6), "gallery": Count(19732, 750, 6)}


def _classic(pictures: int) -> dict[str, Count]:
    test = Count(None, 100, 2)
    return {"all": Count(pictures, 1467, 2), "train": Count(None, 1367, 2), "query": test, "gallery": test}


#: By layout. Market-1501: its readme.txt and lists. DukeMTMC-reID: Zheng, Zheng, Yang, ICCV 2017 (408 people
#: of the gallery have no query). MSMT17: Wei et al., CVPR 2018, train with val (30,248 + 2,373). CUHK03: the
#: cells of cuhk-03.mat, and the lists of Zhong et al., CVPR 2017.
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
    """What tells the owners' pictures from own ones in the same folders.

    Attributes:
        title: What the layout is called.
        kind: The names that all pictures have.
        people: The highest number of a person.
        cameras: The highest number of a camera.
    """

    title: str
    kind: Kind
    people: int
    cameras: int


#: Layouts whose folders and names hold own pictures as well.
_MARKET_NAMES = Original("Market-1501", MARKET1501, people=1501, cameras=6)
ORIGINALS = {
    "market1501": _MARKET_NAMES,
    "market1501+500k": _MARKET_NAMES,
    "dukemtmc": Original("DukeMTMC-reID", DUKEMTMC, people=7140, cameras=8),
}

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


def _is_own(dataset: ReIDDataset, parts: dict[str, Count], published: dict[str, Count]) -> bool:
    """Whether a layout that own pictures may have holds something that its data set does not have: other
    names, people or cameras, or more of them."""
    original = ORIGINALS.get(dataset.name)
    if original is None:
        return False
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
    if dataset.name.startswith("market1501") and not dataset.multi_query:
        remarks.append("no pictures of the queries in a folder gt_bbox: multi-query would be single query")
    if dataset.multi_query:
        remarks.append(f"{len(dataset.multi_query):,} pictures in gt_bbox for multi-query")
    if dataset.name == "market1501":
        home = market_home(dataset.root)
        if found := [name for name in DISTRACTORS if (home / name).is_dir()]:
            remarks.append(
                f"more distractors in {found[0]}: --layout market1501+500k adds them to the gallery"
            )
    if dataset.name == "dukemtmc":
        remarks.append("withdrawn by its owners in 2019: for comparison with published numbers only")
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
