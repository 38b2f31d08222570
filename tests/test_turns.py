"""Clients take turns, however much one of them asks for."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kronreid.turns import FairQueue, FairSemaphore, whose


def put(queue: FairQueue[tuple[str, int]], name: str, number: int) -> None:
    token = whose.set(name)
    queue.put((name, number))
    whose.reset(token)


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_each_client_gets_every_turn_and_its_own_order(asked: list[str]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, name in enumerate(asked):
        put(queue, name, number)
    assert len(queue) == len(asked)
    taken = [queue.take() for _ in asked]
    assert queue.take() is None
    assert not queue
    assert sorted(taken) == sorted(zip(asked, range(len(asked))))
    for name in "abc":
        own = [number for client, number in taken if client == name]
        assert own == sorted(own)
        # Between two of its turns, no other client has more than one.
        places = [place for place, (client, _) in enumerate(taken) if client == name]
        for start, stop in pairwise(places):
            between = [client for client, _ in taken[start + 1 : stop]]
            assert len(between) == len(set(between))


def test_what_is_not_wanted_stays_in_its_place() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for name, number in (("a", 1), ("a", 2), ("b", 3), ("b", 4)):
        put(queue, name, number)
    assert queue.take(lambda piece: piece[1] % 2 == 0) == ("a", 2)
    assert queue.take(lambda piece: piece[1] > 4) is None
    assert [queue.take() for _ in range(3)] == [("b", 3), ("a", 1), ("b", 4)]


def test_a_single_request_gets_the_second_place_that_is_free() -> None:
    places, order, first = FairSemaphore(1), [], threading.Event()

    def work(name: str) -> None:
        whose.set(name)
        with places:
            order.append(name)
            first.wait(10)

    with ThreadPoolExecutor(8) as pool:
        busy = pool.submit(work, "much")
        while not order:
            time.sleep(0.001)
        waiting = [pool.submit(work, "much") for _ in range(5)]
        while len(places._waiting) < 5:
            time.sleep(0.001)
        single = pool.submit(work, "little")
        while len(places._waiting) < 6:
            time.sleep(0.001)
        first.set()
        for one in (busy, *waiting, single):
            one.result()
    assert order == ["much", "much", "little", *["much"] * 4]
    assert places._free == 1
