"""The second stage of a search: a matcher, or the embedder's places, score the best candidates again."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import cachetools
from PIL import Image

from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.indexing import picture_of

if TYPE_CHECKING:
    from kronreid.gallery.cache import MapCache
    from kronreid.models.places import Described
    from kronreid.models.protocols import Matches

#: Pictures whose places a gallery remembers: some 50 to 200 MB, most of it their vectors.
REMEMBERED = 10_000


class PlaceMemory:
    """The places of pictures that were compared before, in memory; the least recently used make way.

    Threads may share one.
    """

    def __init__(self, most: int = REMEMBERED) -> None:
        self._kept: cachetools.LRUCache[tuple[str, str], Described] = cachetools.LRUCache(most)
        self._lock = threading.Lock()

    def read(self, matcher: "Matches", identifier: str) -> "Described | None":
        """What `keep` kept for this picture and model; None if there is nothing."""
        with self._lock:
            return self._kept.get((matcher.fingerprint, identifier))

    def keep(self, matcher: "Matches", identifier: str, places: "Described") -> "Described":
        """Keep the places of one picture, and return them."""
        with self._lock:
            self._kept[matcher.fingerprint, identifier] = places
        return places

    def together(self, matcher: "Matches", parts: "Sequence[Described]") -> "Described":
        """Several kept pictures as the matcher takes them."""
        from kronreid.models.places import Described

        return Described.cat(parts)


def logits_of(
    matcher: "Matches",
    asking: Any,
    candidates: Sequence[Entry],
    cache: "MapCache | PlaceMemory | None",
    stage: Callable[[str], None],
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
        workers: Threads that read and decode.

    Returns:
        The logit of each candidate, None where its file cannot be read; and the reasons why not.
    """
    from kronreid.models.pairs import mean_confidence

    known: dict[int, Any] = {}
    with ThreadPoolExecutor(workers) as pool:
        if cache is not None:
            kept = pool.map(partial(cache.read, matcher), [entry.id for entry in candidates])  # type: ignore[arg-type]
            known = {number: maps for number, maps in enumerate(kept) if maps is not None}
            stage("cache")
        missing = [number for number in range(len(candidates)) if number not in known]
        read = dict(zip(missing, pool.map(_picture_or_reason, [candidates[number] for number in missing])))
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


def _picture_or_reason(entry: Entry) -> Image.Image | str:
    try:
        return picture_of(entry)
    except InputError as error:
        return str(error)
