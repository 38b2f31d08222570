"""Threads for work that would block the event loop, with a queue that refuses work when it is full."""

import asyncio
import contextvars
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from kronreid.serve.batching import TooLate, deadline
from kronreid.turns import FairQueue

T = TypeVar("T")


class Busy(Exception):
    """The queue is full; after `retry_after` seconds there may be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the server is busy; try again in {retry_after} s")
        self.retry_after = retry_after


class Lane:
    """A pool of threads with a bounded queue, from which clients are served in turn.

    Work that has timed out counts until its thread is free again, so the bound holds whatever clients do.

    Args:
        name: The threads' name.
        threads: Number of threads.
        waiting: The most pieces of work that wait for a thread.
        timeout: Seconds after which nobody waits for work any more.
    """

    def __init__(self, name: str, threads: int, waiting: int, timeout: float) -> None:
        self.threads = threads
        self.room = threads + waiting
        self.inside = 0
        self.timeout = timeout
        self._typical = 0.1  # seconds that one piece of work takes, a running mean
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._waiting: FairQueue[tuple[Future[Any], Callable[[], Any]]] = FairQueue()
        self._lock = Lock()

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
        work: Future[T] = Future()
        with self._lock:
            self._waiting.put((work, partial(context.run, self._timed, function, *arguments)))
        self._pool.submit(self._work)
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        result = asyncio.wrap_future(work)
        done, _ = await asyncio.wait({result}, timeout=self.timeout)
        if not done:
            _forget(work, result)
            raise TooLate
        return result.result()

    def check(self) -> None:
        """
        Raises:
            Busy: The queue is full.
        """
        if self.inside >= self.room:
            raise Busy(max(1, math.ceil(self._typical * self.inside / self.threads)))

    def close(self) -> None:
        """Wait for the work at hand, and stop. Work that waits is not begun, since its clients are gone."""
        with self._lock:
            while (piece := self._waiting.take()) is not None:
                piece[0].cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _work(self) -> None:
        """Do the next piece of work in turn."""
        with self._lock:
            piece = self._waiting.take()
        if piece is None:
            return
        work, function = piece
        if not work.set_running_or_notify_cancel():
            return
        try:
            work.set_result(function())
        except BaseException as error:
            work.set_exception(error)

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
    """Cancel work that has not begun; ignore the result or error of work that has."""
    result.add_done_callback(lambda late: late.cancelled() or late.exception())
    work.cancel()
