"""Wrong tokens: each is answered late, few of them at a time, and their lines in the log are limited."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from cachetools import LRUCache

from kronreid.serve.lanes import Busy
from kronreid.serve.trust import group

#: So many wrong tokens of one address in a period are answered at once and logged.
FREE = 10
#: The period, in seconds.
PERIOD = 60.0
#: Seconds until any further wrong token is answered.
PAUSE = 1.0
#: How many of one address, and of all, may wait for that; more are refused.
WAITING, ALL_WAITING = 4, 32


@dataclass
class _Seen:
    """The wrong tokens of one address in one period."""

    since: float
    count: int = 0
    unlogged: int = 0


class Guesses:
    """Counts wrong tokens by address.

    The right token is always accepted, so nobody can lock others out. A token has at least 16 characters, so
    guessing it is hopeless anyway; this keeps guesses from filling the log and taking the server's time.
    """

    def __init__(self) -> None:
        self._seen: LRUCache[str, _Seen] = LRUCache(10_000)
        self._waiting: Counter[str] = Counter()

    def wrong(self, client: str) -> int | None:
        """Count a wrong token.

        Args:
            client: The address of whoever sent it.

        Returns:
            How many before it were not logged; None if it is not to be logged either.
        """
        now, place = time.monotonic(), group(client)
        seen = self._seen.get(place)
        if seen is None or now - seen.since > PERIOD:
            seen = _Seen(now, unlogged=seen.unlogged if seen else 0)
            self._seen[place] = seen
        seen.count += 1
        if seen.count > FREE:
            seen.unlogged += 1
            return None
        before, seen.unlogged = seen.unlogged, 0
        return before

    async def pause(self, client: str) -> None:
        """Wait before a wrong token is answered.

        Raises:
            Busy: Too many wait already.
        """
        place = group(client)
        seen = self._seen.get(place)
        if seen is None or seen.count <= FREE:
            return
        if self._waiting[place] >= WAITING or self._waiting.total() >= ALL_WAITING:
            raise Busy(max(1, round(PAUSE)))
        self._waiting[place] += 1
        try:
            await asyncio.sleep(PAUSE)
        finally:
            self._waiting[place] -= 1
            if not self._waiting[place]:
                del self._waiting[place]
