"""Threads for what would hold up the event loop: so many at work, so many waiting, the rest sent away."""

import asyncio
import contextvars
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from kronreid.serve.batching import TooLate, deadline

T = TypeVar("T")


class Busy(Exception):
    """There is no room; `retry_after` seconds from now there may be."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Lane:
    """A pool of threads with a bounded queue.

    Work that nobody waits for any more keeps its place until its thread is free again: the bound holds
    whatever clients do.

    Args:
        name: Of the threads.
        threads: At work at once.
        waiting: Most that wait for a thread.
        timeout: Seconds after which work is given up.
    """

    def __init__(self, name: str, threads: int, waiting: int, timeout: float) -> None:
        self.threads = threads
        self.room = threads + waiting
        self.inside = 0
        self.timeout = timeout
        self._typical = 0.1  # seconds of one piece of work, a running mean
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """The function's result, computed in a thread.

        Raises:
            Busy: The queue is full.
            TooLate: It took longer than `timeout`.
        """
        self.check()
        self.inside += 1
        context = contextvars.copy_context()
        context.run(deadline.set, time.monotonic() + self.timeout)
        work = self._pool.submit(context.run, self._timed, function, *arguments)
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        result = asyncio.wrap_future(work)
        done, _ = await asyncio.wait({result}, timeout=self.timeout)
        if not done:
            _forget(work, result)
            raise TooLate
        return result.result()

    def check(self) -> None:
        """Raises `Busy` if there is no room."""
        if self.inside >= self.room:
            raise Busy(max(1, math.ceil(self._typical * self.inside / self.threads)))

    def close(self) -> None:
        """Wait for the work that has begun, and stop."""
        self._pool.shutdown(wait=True)

    def _leave(self) -> None:
        self.inside -= 1

    def _timed(self, function: Callable[..., T], *arguments: Any) -> T:
        started = time.monotonic()
        if started > deadline.get():
            raise TooLate
        try:
            return function(*arguments)
        finally:
            self._typical += 0.1 * (time.monotonic() - started - self._typical)


def _forget(work: "Future[Any]", result: "asyncio.Future[Any]") -> None:
    """Take back work that has not begun; its late result or error is nobody's."""
    result.add_done_callback(lambda late: late.cancelled() or late.exception())
    work.cancel()
