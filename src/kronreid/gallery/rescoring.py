"""Stage two of a search: a matcher looks again at the best candidates."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.indexing import picture_of

if TYPE_CHECKING:
    from kronreid.gallery.cache import MapCache
    from kronreid.models.inference import EncodedMaps, Matcher
    from kronreid.models.protocols import Matches


def probabilities_of(
    matcher: "Matches",
    query: Sequence[Image.Image],
    candidates: Sequence[Entry],
    cache: "MapCache | None",
    stage: Callable[[str], None],
    workers: int = 4,
) -> tuple[list[float | None], list[str]]:
    """The matcher's probability that each candidate shows the query's person.

    Args:
        matcher: Which; one that `cache` accepts, if there is a cache.
        query: Pictures of one person; their probabilities are averaged.
        candidates: At least one.
        cache: Where maps are kept.
        stage: Told when ``cache`` has been read, the others' files are read (``decode``), and everything is
            compared (``match``).
        workers: Threads that read and decode.

    Returns:
        For each candidate its probability, None where its file cannot be read; and why it cannot.
    """
    known: dict[int, EncodedMaps] = {}
    with ThreadPoolExecutor(workers) as pool:
        if cache is not None:
            reading = partial(cache.read, cast("Matcher", matcher))
            kept = pool.map(reading, [entry.id for entry in candidates])
            known = {number: maps for number, maps in enumerate(kept) if maps is not None}
            stage("cache")
        missing = [number for number in range(len(candidates)) if number not in known]
        read = dict(zip(missing, pool.map(_picture_or_reason, [candidates[number] for number in missing])))
    stage("decode")
    unreadable = [picture for picture in read.values() if isinstance(picture, str)]
    pictures = {number: picture for number, picture in read.items() if not isinstance(picture, str)}
    if cache is not None:
        ids = {number: candidates[number].id for number in pictures}
        scores = _with_cache(cast("Matcher", matcher), query, pictures, ids, known, cache)
    else:
        probabilities = matcher.score(list(query), list(pictures.values())) if pictures else np.zeros((1, 0))
        scores = dict(zip(pictures, probabilities.mean(axis=0).tolist()))
    stage("match")
    return [scores.get(number) for number in range(len(candidates))], unreadable


def _with_cache(
    matcher: "Matcher",
    query: Sequence[Image.Image],
    pictures: dict[int, Image.Image],
    ids: dict[int, str],
    known: "dict[int, EncodedMaps]",
    cache: "MapCache",
) -> dict[int, float]:
    """Probabilities by the candidates' numbers: of those that the cache knew, and of others that it gets now.

    All maps take the form in which they are kept, so that a search gives the same scores every time.
    """
    from kronreid.gallery.cache import halved, whole

    if pictures:
        maps = halved(matcher.encode(list(pictures.values())))
        for place, number in enumerate(pictures):
            known[number] = maps[place : place + 1]
            cache.write(matcher, ids[number], known[number])
    if not known:
        return {}
    scores = matcher.score(list(query), whole(list(known.values()), matcher.device)).mean(axis=0)
    return dict(zip(known, scores.tolist()))


def _picture_or_reason(entry: Entry) -> Image.Image | str:
    try:
        return picture_of(entry)
    except InputError as error:
        return str(error)
