"""What a gallery asks of its database: the protocol that every engine has."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from kronreid.errors import InputError
from kronreid.extras import explained
from kronreid.gallery.entries import Entry
from kronreid.gallery.filters import EVERYTHING, Selection
from kronreid.locks import LOCK

#: An entry as `Entry.to_row` gives it, or some of its fields; ``vector`` is its unit vector, (D,) float32.
Row: TypeAlias = dict[str, Any]

#: Object stores that LanceDB can keep a gallery in.
OBJECT_STORES = ("s3", "gs", "az", "abfss", "memory")
#: Files in a gallery's folder beside the tables: what was deleted, and where the pictures lie.
DELETED, SOURCES = "deleted.jsonl", "sources.json"
#: The most entries that `Store.search` returns; `Store.page` returns at most half of it.
MOST = 16_384
#: From so many new entries on, `Store.settle` may take its time; fewer may be left as they are.
SETTLED_FROM = 5_000


class StoreError(RuntimeError):
    """The database failed in a way that the user cannot mend; the message is the database's own."""


class Store(Protocol):
    """One collection of entries with unit vectors.

    All methods raise `InputError` for what the user can mend, such as a full disk or a server that does not
    answer, and `StoreError` for any other failure of the database. They may be called from several threads.
    """

    #: Whether it can keep places. If not, they are computed from the pictures.
    keeps_places: bool
    #: Its address, which begins every message about it.
    uri: str
    #: Its name within the database.
    collection: str

    def close(self) -> None:
        """Release the file or the connection. Everything written is on disk already."""

    # ── the collection ──────────────────────────────────────────────────────────────────────────────

    @property
    def exists(self) -> bool:
        """Whether the collection has been created. If not, only `create` and `close` may be called."""

    def create(self, dimension: int, properties: dict[str, str]) -> None:
        """Create the collection for vectors of `dimension`, and remember `properties` with it."""

    def properties(self) -> dict[str, str]:
        """What `create` was told to remember."""

    def bytes_on_disk(self) -> int | None:
        """The size of the gallery's files; None for a server."""

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────

    def upsert(
        self, entries: Sequence[Entry], vectors: np.ndarray, places: Sequence[bytes] | None = None
    ) -> None:
        """Write entries with their unit vectors (N, D) float32, in place of entries with the same `id`.

        With `places`, an engine that keeps places keeps these. Once this returns, a crash cannot lose
        anything of it.
        """

    def update(self, entries: Sequence[Entry]) -> None:
        """Change the descriptions of stored entries; their vectors and places stay.

        Entries that are not stored, or no longer, are left out.
        """

    def delete(self, ids: Sequence[str]) -> None:
        """Remove the entries with these identifiers. Until `purge`, their bytes may still be on the disk."""

    def purge(self) -> bool:
        """Remove what deleted and changed entries have left on the disk.

        Returns:
            Whether it has happened; False if the database does so in its own time.
        """

    def unreadable(self, give_up: bool = False) -> int:
        """How many entries lie where they cannot be read, by damage to the files.

        All other reading methods leave them out, or fail.

        Args:
            give_up: Forget them, so that nothing fails any more.
        """

    def build_index(self) -> bool:
        """Build anew what makes searching a very large gallery fast; returns whether there is one."""

    def settle(self, added: int = 0) -> None:
        """Do what makes searching fast again after writing, of which `added` entries are new."""

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────

    def catch_up(self) -> None:
        """Wait until `existing` knows of everything that any process has written so far."""

    def existing(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that are stored. It may miss what was written after the last `catch_up`."""

    def count(self, selection: Selection = EVERYTHING) -> int:
        """Number of entries that meet the selection."""

    def get(self, ids: Sequence[str]) -> list[Entry]:
        """The stored entries with these identifiers, in no particular order."""

    def page(self, offset: int, limit: int, selection: Selection = EVERYTHING) -> list[Entry]:
        """At most `limit` entries after `offset` others. The order stays until something is written."""

    def rows(self, fields: Sequence[str], selection: Selection = EVERYTHING) -> Iterator[Row]:
        """These fields, and ``id``, of all entries that meet the selection, in the order of identifiers."""

    def described(self, ids: Sequence[str]) -> dict[str, tuple[np.ndarray, bytes]]:
        """The unit vectors and the places, by identifier, of those of `ids` that were stored with places."""

    def warm(self) -> None:
        """Get ready to be searched many times by this process."""

    def search(
        self, vector: np.ndarray, top: int, selection: Selection = EVERYTHING
    ) -> list[tuple[Entry, float]]:
        """The `top` entries nearest to a unit vector (D,), with their cosine similarity, best first.

        It finds everything that this process has written.
        """


#: What an engine takes for a collection's name.
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


def check_collection(name: str) -> None:
    """
    Raises:
        InputError: No collection can have this name.
    """
    if not _COLLECTION.fullmatch(name):
        raise InputError(
            f"--collection {name!r}",
            "a name has at most 200 letters, digits and underscores, and no digit first",
        )


def open_store(uri: str, collection: str, token: str = "") -> Store:
    """Open a gallery's database.

    Args:
        uri: A folder or an object store (LanceDB), or ``http(s)://host:port`` of a Milvus server.
        collection: Name of the collection.
        token: Credentials for a server.

    Raises:
        InputError: The address is none of these, its engine is not installed, or it cannot be opened.
    """
    check_collection(collection)
    if uri.startswith(("http://", "https://")):
        with explained(uri):
            from kronreid.gallery.milvus import MilvusStore

        return MilvusStore(uri, collection, token)
    from kronreid.gallery.lance import LanceStore

    scheme, separator, _ = uri.partition("://")
    if separator and scheme not in OBJECT_STORES:
        raise InputError(
            uri, f"a gallery is a folder, http(s)://host:port, or one of {', '.join(OBJECT_STORES)}://…"
        )
    if not separator:
        check_folder(uri)
    return LanceStore(uri, collection)


def check_folder(uri: str) -> None:
    """
    Raises:
        InputError: This folder cannot hold a gallery.
    """
    path = Path(uri)
    if path.is_file():
        raise InputError(uri, "is a file; a gallery is a folder")
    if is_old(path):
        raise InputError(
            uri,
            f"was made by an older version with Milvus Lite; bring it over with: kronreid gallery import "
            f"{uri} {path.with_suffix('.gallery')}",
        )
    if path.is_dir():
        names = [file.name for file in path.iterdir() if file.name not in (LOCK, DELETED, SOURCES)]
        if names and not any(name.endswith(".lance") for name in names):
            raise InputError(uri, "is a folder with other files, not a gallery; choose another name")
    elif not path.absolute().parent.is_dir():
        raise InputError(uri, f"the folder {path.parent} does not exist; make it first")


def is_old(path: Path) -> bool:
    """Whether a folder is a gallery of Milvus Lite, the engine of older versions."""
    return (path / "collections").is_dir()
