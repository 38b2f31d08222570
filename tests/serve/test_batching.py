"""What waits together goes through the network together."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kronreid.serve.batching import (
    BATCH,
    ModelThread,
    SharedEmbedder,
    SharedMatcher,
    TooLate,
    deadline,
    leave_processors,
)
from kronreid.turns import whose

from .conftest import Home


class Slow:
    """Embeds numbers, and only when it may."""

    dimension = 1
    fingerprint = "slow"

    per_pass: int | None = None

    def __init__(self) -> None:
        self.may = threading.Event()
        self.batches: list[list[Any]] = []

    def embed(self, images: Any, batch_size: int = 64, progress: bool = False) -> np.ndarray:
        self.may.wait(10)
        self.batches.append(list(images))
        if -1 in images:
            raise ValueError("one of them is bad")
        return np.array(images, np.float32)[:, None]


def waiting(models: ModelThread, count: int) -> None:
    until = time.monotonic() + 10
    while len(models._jobs) < count and time.monotonic() < until:
        time.sleep(0.001)


def test_waiting_pictures_share_a_pass_and_get_their_own_vectors() -> None:
    slow, sizes = Slow(), []
    models = ModelThread(slow, sizes.append)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(models.embed, [0])
        waiting(models, 0)
        while not sizes:
            time.sleep(0.001)  # the first is in work
        later = [pool.submit(models.embed, [10 * i, 10 * i + 1]) for i in range(1, 11)]
        waiting(models, 10)
        slow.may.set()
        assert first.result().tolist() == [[0]]
        assert [future.result().ravel().tolist() for future in later] == [
            [10 * i, 10 * i + 1] for i in range(1, 11)
        ]
    assert sizes == [1, 20]
    models.close()


@pytest.mark.parametrize("most", [None, 16])
def test_a_pass_is_never_larger_than_a_batch_and_large_jobs_are_divided(most: int | None) -> None:
    slow, sizes = Slow(), []
    slow.per_pass = most
    models = ModelThread(slow, sizes.append)
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(models.embed, [0])]
        while not sizes:
            time.sleep(0.001)
        numbers = [list(range(size)) for size in (BATCH + 5, 40, 40, 20)]
        jobs += [pool.submit(models.embed, some) for some in numbers]
        waiting(models, sum(-(-len(some) // models.most) for some in numbers))
        slow.may.set()
        assert [job.result().ravel().tolist() for job in jobs] == [[0], *numbers]
    assert sum(sizes) == 1 + BATCH + 5 + 100
    assert max(sizes) <= (most or BATCH)
    models.close()


def test_a_single_picture_does_not_wait_for_all_of_somebody_else() -> None:
    slow, sizes = Slow(), []
    slow.per_pass = 4
    models = ModelThread(slow, sizes.append)

    def ask(name: str, images: list[int]) -> np.ndarray:
        whose.set(name)
        return models.embed(images)

    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(ask, "much", [0])]
        while not sizes:
            time.sleep(0.001)
        jobs += [pool.submit(ask, "much", [1] * 16) for _ in range(3)]
        waiting(models, 12)
        jobs.append(pool.submit(ask, "little", [9]))
        waiting(models, 13)
        slow.may.set()
        for job in jobs:
            job.result()
    assert [9] in slow.batches[1:3]
    models.close()


def test_one_bad_picture_spoils_only_its_own_request() -> None:
    slow, sizes = Slow(), []
    models = ModelThread(slow, sizes.append)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(models.embed, [0])
        while not sizes:
            time.sleep(0.001)
        good, bad, fine = [pool.submit(models.embed, [value]) for value in (1, -1, 2)]
        waiting(models, 3)
        slow.may.set()
        first.result()
        assert (good.result().item(), fine.result().item()) == (1, 2)
        with pytest.raises(ValueError, match="one of them is bad"):
            bad.result()
    models.close()


def test_what_nobody_waits_for_is_not_computed() -> None:
    slow, sizes = Slow(), []
    models = ModelThread(slow, sizes.append)

    def late() -> np.ndarray:
        deadline.set(time.monotonic() + 0.01)
        return models.embed([5])

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(models.embed, [0])
        while not sizes:
            time.sleep(0.001)
        second = pool.submit(late)
        waiting(models, 1)
        time.sleep(0.05)
        slow.may.set()
        first.result()
        with pytest.raises(TooLate):
            second.result()
    assert slow.batches == [[0]]
    models.close()


def test_closing_finishes_what_was_asked_for() -> None:
    slow, sizes = Slow(), []
    models = ModelThread(slow, sizes.append)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(models.embed, [0])]
        while not sizes:
            time.sleep(0.001)  # the first is in work
        jobs.append(pool.submit(models.embed, [1]))
        waiting(models, 1)
        closing = pool.submit(models.close)
        slow.may.set()
        assert [job.result().item() for job in jobs] == [0, 1]
        closing.result()
    with pytest.raises(RuntimeError, match="stopped"):
        models.embed([1])


def test_the_shared_faces_answer_like_the_models(home: Home) -> None:
    models = ModelThread(home.embedder)
    embedder, matcher = SharedEmbedder(models), SharedMatcher(models, home.matcher)
    assert (embedder.dimension, embedder.fingerprint) == (home.embedder.dimension, home.embedder.fingerprint)
    np.testing.assert_array_equal(embedder.embed(home.queries[:3]), home.embedder.embed(home.queries[:3]))
    np.testing.assert_array_equal(embedder.embed(home.queries[0]), home.embedder.embed(home.queries[0]))
    pair = home.queries[:1], home.queries[1:4]
    np.testing.assert_array_equal(matcher.score(*pair), home.matcher.score(*pair))
    maps = [matcher.encode(pictures) for pictures in pair]
    np.testing.assert_allclose(matcher.score(*maps), home.matcher.score(*pair), atol=1e-6)
    assert matcher.fingerprint == home.matcher.fingerprint
    models.close()


def test_pictures_to_describe_share_a_pass_of_their_own(home: Home) -> None:
    sizes: list[int] = []
    models = ModelThread(home.placed, sizes.append)
    shared, may = SharedEmbedder(models).matcher, threading.Event()
    with ThreadPoolExecutor(6) as pool:
        pool.submit(models.call, lambda: may.wait(10))
        while not models._thread.is_alive() or models._jobs:
            time.sleep(0.001)  # the first is in work
        described = [pool.submit(shared.encode, home.queries[i : i + 2]) for i in range(2)]
        embedded = pool.submit(models.embed, home.queries[:1])
        waiting(models, 3)
        may.set()
        for i, future in enumerate(described):
            expected = home.placed.describe(home.queries[i : i + 2])
            torch.testing.assert_close(future.result().vectors, expected.vectors)
            assert len(future.result()) == 2
        assert embedded.result().shape == (1, home.placed.dimension)
    assert sorted(sizes) == [1, 4]
    models.close()


def test_large_pictures_are_resized_on_the_thread_that_asks(home: Home, monkeypatch) -> None:
    """The network's thread gets pictures of its own size, and the vectors are the same."""
    large = Image.open(home.queries[0]).convert("RGB").resize((900, 1800))
    models, sizes = ModelThread(home.placed), []
    pixels = type(home.placed).pixels

    def noted(self, image):
        sizes.append((threading.current_thread() is threading.main_thread(), getattr(image, "size", None)))
        return pixels(self, image)

    expected = home.placed.embed([large])
    monkeypatch.setattr(type(home.placed), "pixels", noted)
    shared = SharedEmbedder(models)
    np.testing.assert_array_equal(shared.embed([large]), expected)
    assert len(shared.matcher.encode([large])) == 1
    seen = (home.placed.width, home.placed.height)
    assert {size for here, size in sizes if not here} == {seen}
    assert {size for here, size in sizes if here} == {large.size}
    models.close()


def test_a_network_leaves_processors_to_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for own in (1, 2, 8):
        monkeypatch.setattr(torch, "get_num_threads", lambda own=own: own)
        leave_processors()
    assert set_to == [1, 1, 4]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    leave_processors()
    assert len(set_to) == 3
