"""The second stage of a search: a matcher, or the embedder's places, score the best candidates again."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import cachetools
import numpy as np
from PIL import Image

from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.indexing import picture_of
from kronreid.gallery.sources import EVERYWHERE, Sources
from kronreid.gallery.store import Store
from kronreid.turns import threads

if TYPE_CHECKING:
    from kronreid.gallery.cache import MapCache
    from kronreid.models.place_matcher import PlaceMatcher
    from kronreid.models.places import Described
    from kronreid.models.protocols import Matches

#: Pictures whose places a gallery remembers: some 50 to 200 MB, most of it their vectors.
REMEMBERED = 10_000


class PlaceMemory:
    """The places of a gallery's pictures: those that are stored, and in memory those that are not.

    Pictures that were added before the model had these places, and all pictures on a server, are described
    when they are first compared, and remembered; the least recently used make way. Threads may share one.

    Args:
        store: Where pictures may be stored with their places.
        most: How many pictures are remembered.
    """

    def __init__(self, store: Store, most: int = REMEMBERED) -> None:
        self._store = store
        self._kept: cachetools.LRUCache[tuple[bytes, str], Described] = cachetools.LRUCache(most)
        self._lock = threading.Lock()

    def read_all(self, matcher: "PlaceMatcher", identifiers: Sequence[str]) -> "dict[str, Described]":
        """What is stored or was kept for these pictures and places, by identifier."""
        import torch

        kind = matcher.places.kind()
        with self._lock:
            found = {id: self._kept[kind, id] for id in identifiers if (kind, id) in self._kept}
        stored = self._store.described([id for id in identifiers if id not in found])
        usable = [id for id, (_, packed) in stored.items() if matcher.places.is_ours(packed, kind)]
        if usable:
            vectors = torch.from_numpy(np.stack([stored[id][0] for id in usable]))
            described = matcher.places.unpack([stored[id][1] for id in usable], vectors)
            found |= {id: described[number : number + 1] for number, id in enumerate(usable)}
        return found

    def keep(self, matcher: "PlaceMatcher", identifier: str, places: "Described") -> "Described":
        """Keep the places of one picture, and return them."""
        places = places.to("cpu")
        with self._lock:
            self._kept[matcher.places.kind(), identifier] = places
        return places

    def together(self, matcher: "PlaceMatcher", parts: "Sequence[Described]") -> "Described":
        """Several kept pictures as the matcher takes them."""
        from kronreid.models.places import Described

        return Described.cat(parts).to(matcher.places.linear.weight.device)


def logits_of(
    matcher: "Matches",
    asking: Any,
    candidates: Sequence[Entry],
    cache: "MapCache | PlaceMemory | None",
    stage: Callable[[str], None],
    sources: Sources = EVERYWHERE,
    workers: int = 4,
) -> tuple[list[float | None], list[str]]:
    """The matcher's logit that each candidate shows the query's person.

    Args:
        matcher: The matcher; if there is a cache, one that the cache accepts.
        asking: Pictures of one person, as the matcher encodes them. The probabilities of several are
            averaged.
        candidates: At least one.
        cache: Keeps what the matcher makes of candidates; None for none. All are scored as the cache keeps
            them, so a repeated search gives the same scores.
        stage: Called with a stage's name at its end: ``cache`` has been read, the other candidates' files
            have been read (``decode``), and everything has been compared (``match``).
        sources: Where the candidates' files may lie.
        workers: Threads that read and decode.

    Returns:
        The logit of each candidate, None where its file cannot be read; and the reasons why not.
    """
    from kronreid.models.pairs import mean_confidence

    known: dict[int, Any] = {}
    read_one = partial(_picture_or_reason, sources=sources)
    with threads(workers) as pool:
        if cache is not None:
            kept = cache.read_all(matcher, [entry.id for entry in candidates])  # type: ignore[arg-type]
            known = {number: kept[entry.id] for number, entry in enumerate(candidates) if entry.id in kept}
            stage("cache")
        missing = [number for number in range(len(candidates)) if number not in known]
        read = dict(zip(missing, pool.map(read_one, [candidates[number] for number in missing])))
    stage("decode")
    unreadable = [picture for picture in read.values() if isinstance(picture, str)]
    pictures = {number: picture for number, picture in read.items() if not isinstance(picture, str)}
    encoded = matcher.encode(list(pictures.values())) if pictures else None
    if cache is not None:
        for place, number in enumerate(pictures):
            known[number] = cache.keep(matcher, candidates[number].id, encoded[place : place + 1])  # type: ignore[arg-type, index]
        order = list(known)
        encoded = cache.together(matcher, list(known.values())) if known else None  # type: ignore[arg-type]
    else:
        order = list(pictures)
    logits: dict[int, float] = {}
    if encoded is not None:
        logits = dict(zip(order, mean_confidence(list(matcher.logits(asking, encoded))).tolist()))
    stage("match")
    return [logits.get(number) for number in range(len(candidates))], unreadable


def _picture_or_reason(entry: Entry, sources: Sources) -> Image.Image | str:
    try:
        return picture_of(entry, sources)
    except InputError as error:
        return str(error)
