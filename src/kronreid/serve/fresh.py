"""What is kept in memory while it is fresh."""

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: How long a value is kept while its stamp stays the same.
SECONDS = 10.0


class Fresh(Generic[T]):
    """A value that is read again when its stamp changes, and after a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: tuple[Any, float, T] | None = None

    def get(self, stamp: Any, read: Callable[[], T]) -> T:
        """The value.

        Args:
            stamp: What changes with it.
            read: Reads it.
        """
        with self._lock:
            if self._known is None or self._known[0] != stamp or time.monotonic() - self._known[1] > SECONDS:
                value = read()
                self._known = (stamp, time.monotonic(), value)
            return self._known[2]
