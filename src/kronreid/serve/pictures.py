"""The gallery's pictures, for clients: only by identifier, and only with the content that was added."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cachetools import LRUCache, cachedmethod
from PIL import Image

from kronreid.data.decoding import decode
from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.indexing import Changed, picture_of, stored_content
from kronreid.gallery.sources import EVERYWHERE, Sources
from kronreid.serve.answers import printable
from kronreid.serve.uploads import jpeg, thumbnail

#: Bytes of small pictures that are kept in memory.
CACHE_BYTES = 64_000_000
#: How many pictures' sizes are kept in memory.
SIZES = 200_000


class Pictures:
    """Reads the pictures of entries.

    A gallery stores paths. Another file, or a link to one, may have been put there since, by mistake or on
    purpose. The server must not hand it out, so the content has to be the one that was added.

    Args:
        sources: Where pictures may lie; no other file is opened.
    """

    def __init__(self, sources: Sources = EVERYWHERE) -> None:
        self._sources = sources
        self._thumbnails: LRUCache[str, bytes] = LRUCache(CACHE_BYTES, getsizeof=len)
        self._sizes: LRUCache[str, tuple[int, int]] = LRUCache(SIZES)
        self._lock = threading.Lock()

    def image(self, entry: Entry) -> Image.Image:
        """The picture, upright RGB, cut to its box.

        Raises:
            Changed: The file is gone, damaged, or another one.
        """
        with _nameless(entry):
            return picture_of(entry, self._sources, follow=False)

    def jpeg(self, entry: Entry, small: bool) -> bytes:
        """The picture as JPEG. Small ones are kept in memory."""
        return self._thumbnail(entry) if small else jpeg(self.image(entry), quality=92)

    @cachedmethod(lambda self: self._thumbnails, lambda self, entry: entry.id, lambda self: self._lock)
    def _thumbnail(self, entry: Entry) -> bytes:
        return jpeg(thumbnail(self.image(entry)))

    def size(self, entry: Entry) -> tuple[int, int] | None:
        """Width and height of the picture, from its file's header; None if that cannot be read."""
        try:
            return self._size(entry)
        except InputError:
            return None

    @cachedmethod(lambda self: self._sizes, lambda self, entry: entry.id, lambda self: self._lock)
    def _size(self, entry: Entry) -> tuple[int, int]:
        content = stored_content(entry, self._sources, follow=False)
        width, height = decode(content, entry.path, ()).size
        if entry.box is not None:
            left, top, w, h = entry.box
            width, height = min(left + w, width) - max(left, 0), min(top + h, height) - max(top, 0)
            if width < 1 or height < 1:
                raise InputError(entry.path, f"the box {entry.box} lies outside the picture")
        return width, height

    def forget(self, id: str) -> None:
        """Drop what is kept of a deleted picture."""
        with self._lock:
            self._thumbnails.pop(id, None)
            self._sizes.pop(id, None)


@contextmanager
def _nameless(entry: Entry) -> Iterator[None]:
    """Leaves the folder of a picture out of messages."""
    try:
        yield
    except Changed as error:
        raise Changed(printable(entry.path.name), error.what) from None
