"""Two-stage search: the database ranks by similarity, and a matcher re-scores the best."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kronreid.errors import InputError
from kronreid.gallery.entries import Entry, format_box
from kronreid.gallery.filters import Selection, format_time
from kronreid.gallery.indexing import unit
from kronreid.gallery.rescoring import logits_of
from kronreid.gallery.sources import EVERYWHERE, Sources
from kronreid.gallery.store import MOST, Store

if TYPE_CHECKING:
    from kronreid.gallery.cache import MapCache
    from kronreid.gallery.rescoring import PlaceMemory
    from kronreid.models.calibration import Calibration
    from kronreid.models.protocols import Embeds, Matches


@dataclass(frozen=True)
class Hit(Entry):
    """An entry that was found.

    Attributes:
        similarity: Cosine of its vector and the query's, −1 to 1.
        probability: The matcher's probability of the same person; None if it did not score the entry.
        rank: 1 for the best.
    """

    similarity: float = 0.0
    probability: float | None = None
    rank: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The hit for JSON: the time in ISO 8601, the box as text, None for unknown values."""
        return {
            "rank": self.rank,
            "path": str(self.path),
            "box": format_box(self.box) or None,
            "similarity": self.similarity,
            "probability": self.probability,
            "camera": self.camera,
            "time": format_time(self.time) or None,
            "identity": self.identity,
            "source": self.source,
            "attributes": self.attributes,
            "id": self.id,
        }


@dataclass(frozen=True)
class Group:
    """Hits that share an identity, a track or another attribute, best first.

    Attributes:
        key: What they share; None for a single hit whose value is unknown.
        hits: The hits.
    """

    key: Any
    hits: list[Hit]


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        hits: Best first. Hits that the matcher scored come first, by both scores; then the others, by
            similarity.
        seconds: Time by stage: ``embed`` the query, ``search`` the database, read the ``cache`` if there is
            one, ``decode`` the other candidates, ``match`` all of them, and the ``total``.
        groups: The same hits by what they share, the group of the best hit first; empty without `group_by`.
        unreadable: Why the matcher could not score some candidates; they keep their similarity.
    """

    hits: list[Hit]
    seconds: dict[str, float]
    groups: list[Group] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def above(self, similarity: float) -> "SearchResult":
        """The result without hits below a similarity. Hits keep their ranks."""
        groups = [
            Group(group.key, [hit for hit in group.hits if hit.similarity >= similarity])
            for group in self.groups
        ]
        return replace(
            self,
            hits=[hit for hit in self.hits if hit.similarity >= similarity],
            groups=[group for group in groups if group.hits],
        )

    def as_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        return {
            "hits": [hit.as_dict() for hit in self.hits],
            "seconds": self.seconds,
            "groups": [
                {"key": group.key, "ranks": [hit.rank for hit in group.hits]} for group in self.groups
            ],
            "unreadable": self.unreadable,
        }


def search(
    store: Store,
    embedder: "Embeds",
    matcher: "Matches | None",
    query: Sequence[Image.Image],
    top: int,
    rerank_top: int,
    matcher_weight: float | None,
    selection: Selection,
    group_by: str | None = None,
    cache: "MapCache | None" = None,
    memory: "PlaceMemory | None" = None,
    sources: Sources = EVERYWHERE,
) -> SearchResult:
    """See `Gallery.search`."""
    for name, value, least in (("top", top, 1), ("rerank_top", rerank_top, 0)):
        if not least <= value <= MOST:
            raise InputError(f"{name} {value}", f"a whole number from {least} to {MOST:,} expected")
    places = getattr(embedder, "matcher", None) if matcher is None else None
    if matcher_weight is None:
        matcher_weight = 1.0 if places is not None else 0.5
    if not 0 <= matcher_weight <= 1:
        raise InputError(f"matcher_weight {matcher_weight}", "a number from 0 to 1 expected")
    second: Matches | None = (matcher or places) if rerank_top else None
    clock = _Clock()
    asking = None
    if second is not None and places is not None:  # vectors and places from one pass
        asking = places.encode(query)
        vectors = asking.vectors.cpu().numpy()
    else:
        vectors = embedder.embed(query)
    person = unit(unit(vectors).mean(axis=0))
    clock.stop("embed")
    wanted = max(top, rerank_top) if second is not None or group_by else top
    found = store.search(person, wanted, selection)
    clock.stop("search")
    logits: list[float | None] = [None] * len(found)
    unreadable: list[str] = []
    if second is not None and found:
        candidates = [entry for entry, _ in found[:rerank_top]]
        asking = second.encode(query) if asking is None else asking
        kept = memory if places is not None else cache
        logits[: len(candidates)], unreadable = logits_of(
            second, asking, candidates, kept, clock.stop, sources
        )
    hits = ranked(found, logits, matcher_weight, getattr(second, "calibration", None))
    groups: list[Group] = []
    if group_by is None:
        hits = hits[:top]
    else:
        groups = grouped(hits, group_by)[:top]
        hits = sorted((hit for group in groups for hit in group.hits), key=lambda hit: hit.rank)
    return SearchResult(hits, clock.finish(), groups, unreadable)


def ranked(
    found: Sequence[tuple[Entry, float]],
    logits: Sequence[float | None],
    matcher_weight: float,
    calibration: "Calibration | None" = None,
) -> list[Hit]:
    """Hits in their final order: first those with a logit, by both scores; then by similarity.

    `kronreid.evaluation.pairs.fuse` joins the scores, as in evaluation. A probability may be 1 for many hits;
    their logits still tell them apart.
    """
    import torch  # here, since looking after a gallery does without: it takes seconds and 400 MB

    from kronreid.evaluation.pairs import fuse
    from kronreid.models.calibration import probability

    scored = [i for i, logit in enumerate(logits) if logit is not None]
    second = np.array([logits[i] for i in scored], dtype=np.float64)
    similarities = np.array([found[i][1] for i in scored], dtype=np.float64)
    joined = fuse(second[None], similarities[None], matcher_weight)[0]
    place = dict(zip(scored, joined.tolist()))
    chances = dict(zip(scored, probability(calibration, torch.from_numpy(second)).tolist()))
    order = sorted(
        range(len(found)), key=lambda i: (i in place, place.get(i, 0.0), found[i][1]), reverse=True
    )
    hits = []
    for rank, i in enumerate(order, start=1):
        entry, similarity = found[i]
        known = {f.name: getattr(entry, f.name) for f in fields(Entry)}
        hits.append(Hit(**known, similarity=similarity, probability=chances.get(i), rank=rank))
    return hits


def grouped(hits: Sequence[Hit], by: str) -> list[Group]:
    """Hits by their ``identity``, ``camera``, ``source`` or the attribute named `by`, best group first.

    Each hit whose value is unknown is a group of its own.
    """
    groups: dict[Any, Group] = {}
    for hit in hits:
        key = getattr(hit, by) if by in ("identity", "camera", "source") else hit.attributes.get(by)
        place = repr(key) if key is not None else hit.id
        groups.setdefault(place, Group(key, [])).hits.append(hit)
    return list(groups.values())


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def stop(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self.last
        self.last = now

    def finish(self) -> dict[str, float]:
        return self.seconds | {"total": time.perf_counter() - self.start}
