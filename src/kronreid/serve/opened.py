"""The gallery that a server has open. Its failures are told from bad requests; it is reopened after one."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kronreid.errors import InputError
from kronreid.gallery import Entry, Gallery
from kronreid.gallery.cache import MapCache
from kronreid.gallery.store import StoreError
from kronreid.models.inference import Matcher
from kronreid.serve.batching import ModelThread, SharedEmbedder, SharedMatcher
from kronreid.serve.settings import Settings

log = logging.getLogger(__name__)


class NotFound(InputError):
    """There is no such picture."""


class OutOfOrder(InputError):
    """The server cannot do this now, whatever the request says."""


class OpenGallery:
    """A gallery that is opened again after a failure.

    Args:
        uri: Its address.
        models: The thread that runs the networks.
        matcher: Re-ranks; None for the embedder's places, if it has any.
        settings: How the server behaves.

    Attributes:
        current: The gallery as it is open now.
        writing: The lock of whoever changes the gallery or the server's own pictures.

    Raises:
        InputError: The gallery cannot be opened, or its vectors are another model's.
    """

    def __init__(self, uri: str, models: ModelThread, matcher: Matcher | None, settings: Settings) -> None:
        self.uri = uri
        self._models = models
        self._matcher = matcher
        self._settings = settings
        self.writing = threading.RLock()
        self._open()

    def _open(self) -> None:
        embedder, matcher, cache = SharedEmbedder(self._models), None, None
        if self._matcher is not None:
            matcher = SharedMatcher(self._models, self._matcher)
            cache = MapCache(self._settings.cache) if self._settings.cache is not None else None
        folders = self._settings.sources
        if folders:
            folders = (*folders, self._settings.state / "added")
        state = self._settings.state
        self.current = Gallery(self.uri, embedder, matcher, cache=cache, sources=folders, state=state)
        self.current.warm()

    def close(self) -> None:
        """Release the file or the connection."""
        self.current.close()

    def entry(self, id: str) -> Entry:
        """The picture with this identifier.

        Raises:
            NotFound: It is not there.
        """
        with self.in_use():
            entry = self.current.entry(id)
        if entry is None:
            raise NotFound(f"picture {id[:12]}…", "is not in the gallery; it may have been deleted")
        return entry

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Turns failures of the gallery into `OutOfOrder`.

        The messages of its own failures begin with its address; any other `InputError` is a bad request.
        """
        try:
            yield
        except InputError as error:
            if error.where == self.uri:
                log.error("%s", error)
                raise OutOfOrder(error.where, error.what) from error
            raise
        except StoreError as error:  # for example, a failed write has closed the gallery under a search
            log.error("%s", error)
            raise OutOfOrder(self.uri, "the gallery does not answer; try again in a moment") from error

    @contextmanager
    def changing(self) -> Iterator[Gallery]:
        """Gives the gallery to one thread at a time; failures become `OutOfOrder`.

        A gallery that fails to write closes itself, so it is opened again after a failure.
        """
        with self.writing:
            try:
                with self.in_use():
                    yield self.current
            except OutOfOrder:
                self._reopen()
                raise

    def _reopen(self) -> None:
        old = self.current
        try:
            self._open()
        except InputError as error:
            log.error("%s", error)
            return
        old.close()
