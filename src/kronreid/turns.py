"""Fair turns: clients that want the same scarce thing get it in turn, each one piece at a time.

A client that asks for much then waits for its own work. It does not hold up the single request of another.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")

#: The client that this thread works for. Work that names no client is that of one.
whose: ContextVar[str] = ContextVar("whose", default="")


def threads(number: int) -> ThreadPoolExecutor:
    """A pool of so many threads that work for the client that this thread works for."""
    return ThreadPoolExecutor(number, initializer=whose.set, initargs=(whose.get(),))


class FairQueue(Generic[T]):
    """A queue from which each client in turn takes one piece, in the order of its own pieces.

    It has no lock of its own.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[T]] = {}  # in the order of their turns

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, piece: T) -> None:
        """Add a piece of the client that this thread works for."""
        self._waiting.setdefault(whose.get(), deque()).append(piece)

    def take(self, wanted: Callable[[T], bool] = lambda piece: True) -> T | None:
        """Take the first piece of the client whose turn it is; None if there is none.

        Args:
            wanted: Leaves out pieces, and clients that have no others.
        """
        for name, pieces in self._waiting.items():
            place = next((place for place, piece in enumerate(pieces) if wanted(piece)), None)
            if place is None:
                continue
            piece = pieces[place]
            del pieces[place], self._waiting[name]
            if pieces:
                self._waiting[name] = pieces  # after everybody else
            return piece
        return None


class FairSemaphore:
    """A semaphore for a ``with`` statement. Clients that wait for it get it in turn.

    Args:
        number: How many may hold it at once.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._lock = threading.Lock()
        self._waiting: FairQueue[threading.Event] = FairQueue()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Event()
            self._waiting.put(turn)
        try:
            turn.wait()
        except BaseException:  # Ctrl-C
            with self._lock:
                self._waiting.take(lambda other: other is turn)
            if turn.is_set():
                self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            turn = self._waiting.take()
            if turn is None:
                self._free += 1
            else:
                turn.set()
