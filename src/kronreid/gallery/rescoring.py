"""The second stage of a search: a matcher re-scores the best candidates."""

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
        matcher: The matcher; if there is a cache, one that the cache accepts.
        query: Pictures of one person; their probabilities are averaged.
        candidates: At least one.
        cache: Keeps the candidates' maps; None for none.
        stage: Called with a stage's name at its end: ``cache`` has been read, the other candidates' files
            have been read (``decode``), and everything has been compared (``match``).
        workers: Threads that read and decode.

    Returns:
        The probability of each candidate, None where its file cannot be read; and the reasons why not.
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
    """Probabilities by the candidates' numbers.

    The maps of `pictures` are stored and join those in `known`. All are scored as the cache stores them, so a
    repeated search gives the same scores.
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
