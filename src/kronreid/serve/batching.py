"""One thread runs the networks, and embeds the pictures of several searches in one pass.

Clients are served in turn (`kronreid.turns`), a few pictures at a time, so that a single picture does not
wait for all pictures of somebody else. Each search runs in a thread of its own; see `Lane`. That thread also
brings pictures to the network's size, which takes longer than a pass if they are large. `SharedEmbedder`,
`SharedMatcher` and `SharedPlaces` look like an embedder, a matcher and an embedder's places to a gallery, and
pass the work on to the thread.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from kronreid.data.images import ImageLike, as_list
from kronreid.models.inference import Embedder, EncodedMaps, Matcher
from kronreid.models.place_matcher import PlaceMatcher
from kronreid.models.places import Described
from kronreid.models.protocols import Embeds
from kronreid.turns import FairQueue

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

    Each client's jobs run in the order of arrival, and clients take turns. When the next job is to embed or
    to describe pictures, the pictures of other waiting jobs of that kind go through the network with it, up
    to `most` of them. A job with more pictures is divided.

    Args:
        embedder: The embedder.
        on_batch: Called with the number of pictures of every pass of the embedder.

    Attributes:
        most: The most pictures of one pass.
    """

    def __init__(self, embedder: Embeds, on_batch: Callable[[int], None] = lambda size: None) -> None:
        self.embedder = embedder
        self.most = getattr(embedder, "per_pass", None) or BATCH
        self._on_batch = on_batch
        self._jobs: FairQueue[_Job] = FairQueue()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def embed(self, images: list[ImageLike]) -> np.ndarray:
        """Wait for the vectors (N, D) of the pictures, as the embedder gives them.

        Raises:
            TooLate: The deadline passed first.
        """
        return np.concatenate(self._wait(self._jobs_of(self._embed, images)))

    def describe(self, images: list[ImageLike]) -> Described:
        """Wait for the vectors and places of the pictures, as the embedder with places gives them.

        Raises:
            TooLate: The deadline passed first.
        """
        return Described.cat(self._wait(self._jobs_of(self._describe, images)))

    def encode(self, matcher: Matcher, images: list[ImageLike]) -> EncodedMaps:
        """Wait for what a matcher makes of pictures.

        Raises:
            TooLate: The deadline passed first.
        """
        most = matcher.per_pass or BATCH
        jobs = [_Job(partial(matcher.encode, some)) for some in divided(images, most)]
        return EncodedMaps.cat(self._wait(jobs))

    def call(self, function: Callable[[], T]) -> T:
        """Wait for the function's result, computed on the model's thread."""
        (found,) = self._wait([_Job(function)])
        return cast(T, found)

    def close(self) -> None:
        """Finish all jobs and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _embed(self, images: list[ImageLike]) -> np.ndarray:
        return self.embedder.embed(images, batch_size=self.most)

    def _describe(self, images: list[ImageLike]) -> Described:
        return cast(Embedder, self.embedder).describe(images, batch_size=self.most)

    def _jobs_of(self, function: Callable[..., Any], images: list[ImageLike]) -> list[_Job]:
        return [_Job(function, some) for some in divided(images, self.most)]

    def _wait(self, jobs: list[_Job]) -> list[Any]:
        with self._changed:
            if self._closed:
                raise RuntimeError("the model's thread has stopped")
            for job in jobs:
                self._jobs.put(job)
            self._changed.notify_all()
        return [job.result.result() for job in jobs]

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                batch = self._take()
            if not batch:
                return
            now = time.monotonic()
            for job in batch:
                if job.until < now:
                    job.result.set_exception(TooLate())
            self._run([job for job in batch if not job.result.done()])

    def _take(self) -> list[_Job]:
        """The next job; if it takes pictures, with all jobs that fit in the same pass."""
        first = self._jobs.take()
        if first is None:
            return []
        batch, room = [first], self.most - len(first.images or ())

        def fits(job: _Job) -> bool:
            return job.images is not None and job.function == first.function and len(job.images) <= room

        while first.images is not None and (job := self._jobs.take(fits)) is not None:
            batch.append(job)
            room -= len(job.images or ())
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
    """An embedder that many threads may use. Pictures are resized on the thread that asks.

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
        return self._models.embed(seen(self._models, images))


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
        return self._models.encode(self._matcher, seen(self._matcher, images))

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
        return self._models.describe(seen(self._models, images))

    def logits(self, query: Described, candidates: Described) -> Tensor:
        """See `PlaceMatcher.logits`."""
        return self._models.call(lambda: self._matcher.logits(query, candidates))


def leave_processors() -> None:
    """Let a network use half of the processors, unless OMP_NUM_THREADS says how many.

    The threads of a pass wait for each other after every layer. If another process or thread holds one of
    their processors, all wait, and a pass takes many times as long. The other half is for the rest of a
    server: answering, decoding and comparing.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // 2))


def seen(model: Any, images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """Pictures at the size of a model's input, or of its embedder's. They are as they were if it has none."""
    resize = getattr(getattr(model, "embedder", model), "as_seen", None)
    return as_list(images) if resize is None else [resize(image) for image in as_list(images)]


def divided(images: list[ImageLike], most: int) -> list[list[ImageLike]]:
    """Pictures in at least one piece, each of at most so many."""
    return [images[start : start + most] for start in range(0, max(len(images), 1), most)]
