"""One thread for the networks: what waits for the embedder is embedded together.

A search runs in a thread of its own and asks for its vectors as if the network were its own; see `Lane` for
those threads. The faces below have the methods that a gallery asks of an embedder and a matcher.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

from kronreid.data.images import ImageLike, as_list
from kronreid.models.inference import EncodedMaps, Matcher
from kronreid.models.protocols import Embeds

T = TypeVar("T")

#: Pictures of one pass.
BATCH = 64

#: When the work of this thread will no longer be waited for, by `time.monotonic`.
deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class TooLate(Exception):
    """Nobody waits for the result any more."""


class _Job:
    """Work for the model's thread, and the promise of its result."""

    def __init__(self, images: list[ImageLike], function: Callable[[], Any] | None = None) -> None:
        self.images = images
        self.function = function
        self.until = deadline.get()
        self.result: Future[Any] = Future()


class ModelThread:
    """Runs an embedder and a matcher, one pass at a time.

    Jobs are taken in the order of arrival; with the first one that is to be embedded, all others that wait to
    be embedded go through the network, up to `BATCH` pictures.

    Args:
        embedder: The embedder.
        on_batch: Told the number of pictures of every pass of the embedder.
    """

    def __init__(self, embedder: Embeds, on_batch: Callable[[int], None] = lambda size: None) -> None:
        self.embedder = embedder
        self._on_batch = on_batch
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def embed(self, images: list[ImageLike]) -> np.ndarray:
        """Vectors (N, D) of the pictures, as the embedder gives them; waits for them.

        Raises:
            TooLate: The deadline passed first.
        """
        return self._wait(_Job(images))

    def call(self, function: Callable[[], T]) -> T:
        """The function's result, computed on the model's thread; waits for it."""
        return self._wait(_Job([], function))

    def close(self) -> None:
        """Finish what was asked for and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _wait(self, job: _Job) -> Any:
        with self._changed:
            if self._closed:
                raise RuntimeError("the model's thread has stopped")
            self._jobs.append(job)
            self._changed.notify_all()
        return job.result.result()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return
                batch = self._take()
            now = time.monotonic()
            for job in batch:
                if job.until < now:
                    job.result.set_exception(TooLate())
            self._run([job for job in batch if not job.result.done()])

    def _take(self) -> list[_Job]:
        """The next job, and with one for the embedder all that can join it."""
        batch = [self._jobs.popleft()]
        if batch[0].function is not None:
            return batch
        size = len(batch[0].images)
        for job in list(self._jobs):
            if job.function is None and size + len(job.images) <= BATCH:
                batch.append(job)
                self._jobs.remove(job)
                size += len(job.images)
        return batch

    def _run(self, batch: Sequence[_Job]) -> None:
        if not batch:
            return
        try:
            if batch[0].function is not None:
                batch[0].result.set_result(batch[0].function())
                return
            images = [image for job in batch for image in job.images]
            self._on_batch(len(images))
            vectors = self.embedder.embed(images, batch_size=BATCH)
        except BaseException as error:
            # Of several requests one may be at fault: each is tried on its own, and fails on its own.
            if len(batch) > 1:
                for job in batch:
                    self._run([job])
            else:
                batch[0].result.set_exception(error)
            return
        start = 0
        for job in batch:
            job.result.set_result(vectors[start : start + len(job.images)])
            start += len(job.images)


class SharedEmbedder:
    """An embedder's face for many threads."""

    def __init__(self, models: ModelThread) -> None:
        self._models = models
        self.dimension = models.embedder.dimension
        self.fingerprint = models.embedder.fingerprint
        self.path = getattr(models.embedder, "path", None)

    def embed(self, images: Any, batch_size: int = BATCH, progress: bool = False) -> np.ndarray:
        """See `kronreid.models.inference.Embedder.embed`."""
        return self._models.embed(as_list(images))


class SharedMatcher(Matcher):
    """A matcher's face for many threads: the same, but the network's work is done on the model's thread."""

    def __init__(self, models: ModelThread, matcher: Matcher) -> None:
        vars(self).update(vars(matcher))  # the same network, device and input; nothing is copied
        self._models = models
        self._matcher = matcher

    def encode(
        self, images: ImageLike | Sequence[ImageLike], batch_size: int = BATCH, progress: bool = False
    ) -> EncodedMaps:
        """See `Matcher.encode`."""
        return self._models.call(lambda: self._matcher.encode(images, batch_size))

    def score(self, query: Any, candidates: Any, progress: bool = False) -> np.ndarray:
        """See `Matcher.score`."""
        return self._models.call(lambda: self._matcher.score(query, candidates))
