"""So many at work, so many waiting, the rest sent away."""

import asyncio
import threading
import time

import pytest

from kronreid.serve.batching import TooLate, deadline
from kronreid.serve.lanes import Busy, Lane
from kronreid.turns import whose

from .conftest import Home, Start, upload


def test_results_and_errors_come_back() -> None:
    async def go() -> None:
        lane = Lane("test", 2, 2, timeout=5)
        assert await lane.run(lambda a, b: a + b, 1, 2) == 3
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 / 0)
        assert await lane.run(lambda: deadline.get() - time.monotonic()) == pytest.approx(5, abs=1)
        await asyncio.sleep(0.01)
        assert lane.inside == 0
        lane.close()

    asyncio.run(go())


def test_a_full_lane_sends_away_and_then_takes_again() -> None:
    async def go() -> None:
        lane, gate = Lane("test", 1, 2, timeout=5), threading.Event()
        jobs = [asyncio.ensure_future(lane.run(gate.wait, 5)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as raised:
            await lane.run(int)
        assert raised.value.retry_after >= 1
        gate.set()
        assert await asyncio.gather(*jobs) == [True] * 3
        await asyncio.sleep(0.01)
        assert await lane.run(int) == 0
        lane.close()

    asyncio.run(go())


def test_what_takes_too_long_is_given_up_but_keeps_its_place() -> None:
    async def go() -> None:
        lane, gate, begun = Lane("test", 1, 1, timeout=0.05), threading.Event(), []
        running = asyncio.ensure_future(lane.run(gate.wait, 5))
        queued = asyncio.ensure_future(lane.run(begun.append, 1))
        for job in (running, queued):
            with pytest.raises(TooLate):
                await job
        await asyncio.sleep(0.01)
        assert lane.inside == 1  # the thread is not free; what had not begun has left
        gate.set()
        await asyncio.sleep(0.05)
        assert lane.inside == 0
        assert begun == []
        lane.close()

    asyncio.run(go())


def test_clients_take_turns() -> None:
    async def go() -> None:
        lane, gate, order = Lane("test", 1, 9, timeout=10), threading.Event(), []

        def work(name: str) -> None:
            gate.wait(5)
            order.append(name)

        async def ask(name: str) -> None:
            whose.set(name)
            await lane.run(work, name)

        jobs = [asyncio.ensure_future(ask(name)) for name in ("much", *["much"] * 4, "little")]
        while lane.inside < len(jobs):
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*jobs)
        assert order[:3].count("little") == 1
        lane.close()

    asyncio.run(go())


class Held:
    """An embedder that waits until it may."""

    def __init__(self, embedder) -> None:
        self.dimension, self.fingerprint = embedder.dimension, embedder.fingerprint
        self.embedder, self.may = embedder, threading.Event()

    def embed(self, images, batch_size=64, progress=False):
        self.may.wait(20)
        return self.embedder.embed(images, batch_size)


def test_a_full_server_says_when_to_come_back(start: Start, home: Home) -> None:
    held = Held(home.embedder)
    server = start(embedder=held, threads=1, waiting=1)
    answers: list[int] = []

    def ask() -> None:
        answers.append(server.client.post("/api/search", files=[upload(home.queries[0])]).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while server.application.searches.inside < 2 and time.monotonic() < until:
        time.sleep(0.01)
    busy = server.client.post("/api/search", files=[upload(home.queries[0])])
    assert busy.status_code == 429
    assert int(busy.headers["retry-after"]) >= 1
    assert "try again" in busy.json()["message"]
    # The event loop is free all the while, and so are the pictures.
    assert server.client.get("/api/health").status_code == 200
    assert server.client.get(f"/api/pictures/{server.ids()[0]}?size=thumb").status_code == 200
    held.may.set()
    for thread in threads:
        thread.join()
    assert answers == [200, 200]
    assert server.client.post("/api/search", files=[upload(home.queries[0])]).status_code == 200


def test_a_search_that_takes_too_long_is_given_up(start: Start, home: Home) -> None:
    held = Held(home.embedder)
    server = start(embedder=held, timeout=0.2)
    answer = server.client.post("/api/search", files=[upload(home.queries[0])])
    assert answer.status_code == 504
    assert "too long" in answer.json()["message"]
    held.may.set()
    time.sleep(0.1)
    server.application.searches.timeout = 10
    assert server.client.post("/api/search", files=[upload(home.queries[0])]).status_code == 200
