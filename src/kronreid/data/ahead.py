"""Read pictures ahead of a network, so that neither waits for the other."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Batches that are read in advance.
BATCHES = 2


def read_ahead(
    read: Callable[[Item], Result],
    items: Sequence[Item],
    batch_size: int,
    threads: int,
    beside: int,
) -> Generator[list[Result], None, None]:
    """What `read` makes of items, batch by batch. The next batches are read while one is worked on.

    A network on a CPU uses all processors, and each thread beside it takes a processor from it again and
    again: all threads of a network wait for the slowest of them. So few threads read beside it. But where
    reading takes longer than the network, as with large photos, the network waits, and its processors are
    free: all threads then read what is still missing.

    Args:
        read: Called from several threads at once.
        items: What to read.
        batch_size: Items per batch.
        threads: Threads that read while the caller waits for a batch.
        beside: Threads that read while the caller works on one.

    Raises:
        Exception: The first one that `read` raises for an item of the batch.
    """
    starts = iter(range(0, len(items), batch_size))
    waiting: deque[tuple[Sequence[Item], list[Future[Result]]]] = deque()
    with ExitStack() as stack:
        background = stack.enter_context(ThreadPoolExecutor(beside))
        together = stack.enter_context(ThreadPoolExecutor(threads))
        stack.callback(lambda: [future.cancel() for _, futures in waiting for future in futures])

        def submit() -> None:
            start = next(starts, None)
            if start is not None:
                batch = items[start : start + batch_size]
                waiting.append((batch, [background.submit(read, item) for item in batch]))

        for _ in range(BATCHES):
            submit()
        while waiting:
            batch, futures = waiting.popleft()
            for place in reversed(range(len(batch))):  # the background goes on at the other end
                if futures[place].cancel():
                    futures[place] = together.submit(read, batch[place])
            results = [future.result() for future in futures]
            submit()
            yield results
