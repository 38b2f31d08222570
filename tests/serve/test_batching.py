"""What waits together goes through the network together."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from kronreid.serve.batching import BATCH, ModelThread, SharedEmbedder, SharedMatcher, TooLate, deadline

from .conftest import Home


class Slow:
    """Embeds numbers, and only when it may."""

    dimension = 1
    fingerprint = "slow"

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


def test_a_pass_is_never_larger_than_a_batch_unless_one_job_is() -> None:
    slow, sizes = Slow(), []
    models = ModelThread(slow, sizes.append)
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(models.embed, [0])]
        while not sizes:
            time.sleep(0.001)
        jobs += [pool.submit(models.embed, [1] * size) for size in (BATCH + 5, 40, 40, 20)]
        waiting(models, 4)
        slow.may.set()
        assert sum(len(job.result()) for job in jobs) == sum(sizes) == 1 + BATCH + 5 + 100
    assert BATCH + 5 in sizes
    assert all(size <= BATCH for size in sizes if size != BATCH + 5)
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
    slow = Slow()
    models = ModelThread(slow)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(models.embed, [i]) for i in range(2)]
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
