"""One thread runs the networks, and embeds the pictures of several searches in one pass.

Each search runs in a thread of its own; see `Lane`. `SharedEmbedder`, `SharedMatcher` and `SharedPlaces` look
like an embedder, a matcher and an embedder's places to a gallery, and pass the work on to the thread.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import numpy as np
from torch import Tensor

from kronreid.data.images import ImageLike, as_list
from kronreid.models.inference import Embedder, EncodedMaps, Matcher
from kronreid.models.place_matcher import PlaceMatcher
from kronreid.models.places import Described
from kronreid.models.protocols import Embeds

T = TypeVar("T")

#: The most pictures of one pass.
BATCH = 64

#: When nobody will wait for this thread's work any more, by `time.monotonic`.
deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class TooLate(Exception):
    """The deadline has passed; nobody waits for the result any more."""


class _Job:
    """Work for the model's thread, and its future result."""

    def __init__(self, function: Callable[..., Any], images: list[ImageLike] | None = None) -> None:
        self.function = function
        self.images = images  # those that the function takes; None if it takes nothing
        self.until = deadline.get()
        self.result: Future[Any] = Future()


class ModelThread:
    """Runs an embedder and a matcher, one pass at a time.

    Jobs run in the order of arrival. When the next job is to embed or to describe pictures, the pictures of
    other waiting jobs of that kind go through the network with it, up to `BATCH` of them.

    Args:
        embedder: The embedder.
        on_batch: Called with the number of pictures of every pass of the embedder.
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
        """Wait for the vectors (N, D) of the pictures, as the embedder gives them.

        Raises:
            TooLate: The deadline passed first.
        """
        return self._wait(_Job(self._embed, images))

    def describe(self, images: list[ImageLike]) -> Described:
        """Wait for the vectors and places of the pictures, as the embedder with places gives them.

        Raises:
            TooLate: The deadline passed first.
        """
        return self._wait(_Job(self._describe, images))

    def call(self, function: Callable[[], T]) -> T:
        """Wait for the function's result, computed on the model's thread."""
        return self._wait(_Job(function))

    def close(self) -> None:
        """Finish all jobs and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _embed(self, images: list[ImageLike]) -> np.ndarray:
        return self.embedder.embed(images, batch_size=BATCH)

    def _describe(self, images: list[ImageLike]) -> Described:
        return cast(Embedder, self.embedder).describe(images, batch_size=BATCH)

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
        """The next job; if it takes pictures, with all jobs that fit in the same pass."""
        first = self._jobs.popleft()
        batch = [first]
        if first.images is None:
            return batch
        size = len(first.images)
        for job in list(self._jobs):
            if job.images is None or job.function != first.function:
                continue
            if size + len(job.images) <= BATCH:
                batch.append(job)
                self._jobs.remove(job)
                size += len(job.images)
        return batch

    def _run(self, batch: Sequence[_Job]) -> None:
        if not batch:
            return
        function = batch[0].function
        try:
            if batch[0].images is None:
                batch[0].result.set_result(function())
                return
            images = [image for job in batch for image in job.images or ()]
            self._on_batch(len(images))
            found = function(images)
        except BaseException as error:
            # One of the requests may have caused the error. Each is tried alone, so only that one fails.
            if len(batch) > 1:
                for job in batch:
                    self._run([job])
            else:
                batch[0].result.set_exception(error)
            return
        start = 0
        for job in batch:
            stop = start + len(job.images or ())
            job.result.set_result(found[start:stop])
            start = stop


class SharedEmbedder:
    """An embedder that many threads may use.

    Attributes:
        matcher: Its places; None without any.
    """

    def __init__(self, models: ModelThread) -> None:
        self._models = models
        self.dimension = models.embedder.dimension
        self.fingerprint = models.embedder.fingerprint
        self.path = getattr(models.embedder, "path", None)
        self.calibration = getattr(models.embedder, "calibration", None)
        places = getattr(models.embedder, "matcher", None)
        self.matcher: Any = SharedPlaces(models, places) if places is not None else None

    def embed(self, images: Any, batch_size: int = BATCH, progress: bool = False) -> np.ndarray:
        """See `kronreid.models.inference.Embedder.embed`."""
        return self._models.embed(as_list(images))


class SharedMatcher(Matcher):
    """A matcher that many threads may use; the network runs on the model's thread."""

    def __init__(self, models: ModelThread, matcher: Matcher) -> None:
        vars(self).update(vars(matcher))  # the same network, device and input; nothing is copied
        self._models = models
        self._matcher = matcher

    def encode(
        self, images: ImageLike | Sequence[ImageLike], batch_size: int = BATCH, progress: bool = False
    ) -> EncodedMaps:
        """See `Matcher.encode`."""
        return self._models.call(lambda: self._matcher.encode(images, batch_size))

    def logits(self, query: EncodedMaps, candidates: EncodedMaps) -> Tensor:
        """See `Matcher.logits`."""
        return self._models.call(lambda: self._matcher.logits(query, candidates))


class SharedPlaces(PlaceMatcher):
    """An embedder's places that many threads may use; the network runs on the model's thread."""

    def __init__(self, models: ModelThread, matcher: PlaceMatcher) -> None:
        super().__init__(matcher.embedder, matcher.places)
        self._models = models
        self._matcher = matcher

    def encode(
        self, images: ImageLike | Sequence[ImageLike], batch_size: int = BATCH, progress: bool = False
    ) -> Described:
        """See `PlaceMatcher.encode`."""
        return self._models.describe(as_list(images))

    def logits(self, query: Described, candidates: Described) -> Tensor:
        """See `PlaceMatcher.logits`."""
        return self._models.call(lambda: self._matcher.logits(query, candidates))
