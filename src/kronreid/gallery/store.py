"""What a gallery asks of its database: the protocol that every engine has."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from kronreid.gallery.entries import Entry
from kronreid.gallery.filters import EVERYTHING, Selection

#: An entry as `Entry.to_row` gives it, or some of its fields; ``vector`` is its unit vector, (D,) float32.
Row: TypeAlias = dict[str, Any]

#: The most entries that `Store.search` returns; `Store.page` returns at most half of it.
MOST = 16_384
#: An engine that builds an index may leave fewer new entries than this without one.
SETTLED_FROM = 5_000


class StoreError(RuntimeError):
    """The database failed in a way that the user cannot mend; the message is the database's own."""


class Store(Protocol):
    """One collection of entries with unit vectors.

    All methods raise `InputError` for what the user can mend, such as a full disk or a server that does not
    answer, and `StoreError` for any other failure of the database. They may be called from several threads.
    """

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

    def upsert(self, entries: Sequence[Entry], vectors: np.ndarray) -> None:
        """Write entries with their unit vectors (N, D) float32, in place of entries with the same `id`.

        Once this returns, a crash cannot lose them.
        """

    def delete(self, ids: Sequence[str]) -> None:
        """Remove the entries with these identifiers."""

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

    def search(
        self, vector: np.ndarray, top: int, selection: Selection = EVERYTHING
    ) -> list[tuple[Entry, float]]:
        """The `top` entries nearest to a unit vector (D,), with their cosine similarity, best first.

        It finds everything that this process has written.
        """
