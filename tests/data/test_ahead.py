import threading
import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronreid.data.ahead import BATCHES, read_ahead


@given(st.integers(0, 20), st.integers(1, 7), st.integers(1, 3), st.integers(1, 3))
def test_items_come_in_order(number: int, batch_size: int, threads: int, beside: int) -> None:
    batches = list(read_ahead(str, range(number), batch_size, threads, beside))
    assert [text for batch in batches for text in batch] == [str(item) for item in range(number)]
    assert all(len(batch) == batch_size for batch in batches[:-1])


class Meter:
    """Reads numbers, and counts how many reads went on at once."""

    def __init__(self) -> None:
        self.active = self.most = self.finished = 0
        self._lock = threading.Lock()

    def read(self, number: int) -> int:
        with self._lock:
            self.active += 1
            self.most = max(self.most, self.active)
        time.sleep(0.001)
        with self._lock:
            self.active -= 1
            self.finished += 1
        return number


def test_few_threads_read_while_the_caller_works() -> None:
    meter = Meter()
    with closing(read_ahead(meter.read, range(40), 10, threads=4, beside=1)) as batches:
        next(batches)
        meter.most = 0
        while meter.finished < 10 * (1 + BATCHES):
            time.sleep(0.001)
        assert meter.most <= 1


def test_all_threads_read_while_the_caller_waits() -> None:
    together = threading.Barrier(3)  # each read waits until there are three

    def read(number: int) -> int:
        together.wait(timeout=20)
        return number

    with closing(read_ahead(read, range(6), 6, threads=3, beside=1)) as batches:
        assert next(batches) == [0, 1, 2, 3, 4, 5]


def test_an_error_belongs_to_its_batch() -> None:
    def read(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    batches = read_ahead(read, range(8), 2, threads=2, beside=1)
    assert [next(batches), next(batches)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="five"):
        next(batches)


def test_nothing_is_read_for_a_caller_who_has_gone() -> None:
    meter = Meter()
    with closing(read_ahead(meter.read, range(900), 300, threads=1, beside=1)) as batches:
        next(batches)
    assert meter.active == 0
    assert meter.finished < 900
