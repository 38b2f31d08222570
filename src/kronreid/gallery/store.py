"""The vector database behind a gallery: the only file that talks to pymilvus.

A file name opens Milvus Lite inside this process, ``http://host:port`` a Milvus server or cluster. Vectors
are unit vectors and compared by inner product, which is their cosine similarity and half the work of the
database's own cosine (it would normalise them again for every query).
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient, MilvusException

from kronreid.errors import InputError
from kronreid.gallery.entries import Entry
from kronreid.gallery.filters import quote

# pymilvus prints every error that it raises as well, with a traceback; Milvus Lite logs it a third time, and
# without a handler of its own that ends on the terminal.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
logging.getLogger("milvus_lite").addHandler(logging.NullHandler())

FIELDS = ["id", "path", "box", "camera", "time", "identity", "source", "attributes"]
#: Milvus returns at most this many rows of one search or query.
MOST = 16_384
#: Rows of one page of `Store.entries`. Milvus Lite looks at every row for every page, so its pages are large.
PAGE, PAGE_EMBEDDED, PAGE_WITH_VECTORS = 10_000, 100_000, 8_000
#: How long a call to a server is tried again, with growing pauses, while the server does not answer.
PATIENCE_SECONDS = 60.0

_INDEX = "AUTOINDEX"
_LONGEST_TEXT = 65_535
_TROUBLE = {
    "no space left": "the disk is full; free some space and run the same command again",
    "disk quota": "the disk quota is used up; free some space and run the same command again",
    "read-only file system": "the disk is read-only",
}
_SILENCE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "Retry timeout", "connecting")


@dataclass
class _Engine:
    """Milvus Lite on one file: one per process, whoever opens it. The last one out closes it."""

    users: int = 0
    broken: bool = False


_engines: dict[str, _Engine] = {}
_engines_lock = threading.Lock()


class Store:
    """Rows of entries and unit vectors in one Milvus collection.

    Args:
        uri: A file name ending in ``.db``, or ``http(s)://host:port``.
        collection: Name of the collection.
        token: Credentials for a server, as it expects them.

    Raises:
        InputError: The address is neither, the file is no gallery or is open in another process, or the
            server does not answer.
    """

    def __init__(self, uri: str, collection: str, token: str = "") -> None:
        self.uri = uri
        self.collection = collection
        self.embedded = not uri.startswith(("http://", "https://"))
        self._client: MilvusClient | None = None
        self._engine: _Engine | None = None
        self._patience: dict[str, float] = {} if self.embedded else {"timeout": PATIENCE_SECONDS}
        # A connection of its own does not inherit another one's pause after a failure. And the server inside
        # this process takes its client's pings for an attack.
        options = {"grpc.use_local_subchannel_pool": 1}
        if self.embedded:
            self._path = os.path.realpath(uri)
            self._enter_file()
            options["grpc.keepalive_time_ms"] = 2**31 - 1
        try:
            with self._trouble():
                address = self._path if self.embedded else uri
                self._client = MilvusClient(
                    address, token=token, dedicated=True, grpc_options=options, **self._patience
                )
            if self.exists:
                self._make_ready()
        except BaseException:
            self.close()
            raise

    def _make_ready(self) -> None:
        with self._trouble():
            if self.embedded:
                # What an interrupted run left in the log is searched row by row until it is flushed.
                self.client.flush(self.collection)
            else:
                self.client.load_collection(self.collection)

    # ── the file ────────────────────────────────────────────────────────────────────────────────────

    def _enter_file(self) -> None:
        path = Path(self._path)
        if path.suffix != ".db":
            raise InputError(
                f"{self.uri}: a gallery is a file ending in .db, or http://host:port of a server"
            )
        if path.is_file():
            raise InputError(f"{self.uri}: is not a gallery (Milvus Lite keeps one in a folder of that name)")
        if path.is_dir() and any(path.iterdir()) and not (path / "collections").is_dir():
            raise InputError(f"{self.uri}: is a folder with other files, not a gallery; choose another name")
        if not path.parent.is_dir():
            raise InputError(f"{self.uri}: the folder {path.parent} does not exist; make it first")
        from milvus_lite.db import MilvusLite  # type: ignore[import-untyped]
        from milvus_lite.exceptions import DataDirLockedError  # type: ignore[import-untyped]

        with _engines_lock:
            engine = _engines.setdefault(self._path, _Engine())
            if not engine.users:
                # Opening through pymilvus only says that it failed; this says why.
                try:
                    MilvusLite(self._path).close()
                except DataDirLockedError:
                    raise InputError(
                        f"{self.uri}: is open in another process; close that one, "
                        "or share a Milvus server (http://host:port)"
                    ) from None
                except OSError as error:
                    raise InputError(f"{self.uri}: cannot be opened ({error.strerror or error})") from error
            engine.users += 1
            self._engine = engine

    def _leave_file(self, broken: bool = False) -> None:
        """Give up the engine; a broken one is closed for everybody, and opening makes a new one."""
        from milvus_lite.server_manager import server_manager_instance  # type: ignore[import-untyped]

        engine, self._engine = self._engine, None
        with _engines_lock:
            if engine is None or engine.broken:
                return
            engine.users -= 1
            engine.broken = broken
            if broken or not engine.users:
                del _engines[self._path]
                server_manager_instance.release_server(self._path)

    @property
    def client(self) -> MilvusClient:
        if self._client is None or (self._engine is not None and self._engine.broken):
            raise InputError(f"{self.uri}: the gallery is closed; open it again")
        return self._client

    @contextmanager
    def _trouble(self, writing: bool = False) -> Iterator[None]:
        """Turns what the user can mend into one line. After a failed write nothing more is written: a log
        that ends in half a row would swallow whatever follows it."""
        try:
            yield
        except MilvusException as error:
            if writing and self.embedded:
                self.close(broken=True)
            text = str(error.message)
            for sign, advice in _TROUBLE.items():
                if sign in text.lower():
                    raise InputError(f"{self.uri}: {advice}") from error
            if not self.embedded and any(sign in text for sign in _SILENCE):
                raise InputError(
                    f"{self.uri}: the Milvus server does not answer; start it or check the address, "
                    "then run the same again"
                ) from error
            raise

    def close(self, broken: bool = False) -> None:
        """Release the file or the connection; what was written is on disk."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        if self.embedded:
            self._leave_file(broken)

    # ── the collection ──────────────────────────────────────────────────────────────────────────────

    @property
    def exists(self) -> bool:
        """Whether the collection has been created."""
        with self._trouble():
            return bool(self.client.has_collection(self.collection, **self._patience))

    def create(self, dimension: int, properties: dict[str, str]) -> None:
        """Create the collection for vectors of `dimension`, with what is to be remembered about it."""
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        for name in ("path", "box", "camera", "identity", "source"):
            schema.add_field(name, DataType.VARCHAR, max_length=_LONGEST_TEXT)
        schema.add_field("time", DataType.DOUBLE, nullable=True)
        schema.add_field("attributes", DataType.JSON)
        index = None
        if not self.embedded:
            # Milvus Lite compares exactly without an index; with one it stores every vector twice and its
            # graphs took longer to build than they ever save at the sizes that suit a file.
            index = self.client.prepare_index_params()
            index.add_index("vector", index_type=_INDEX, metric_type="IP")
        with self._trouble(writing=True):
            self.client.create_collection(
                self.collection,
                schema=schema,
                index_params=index,
                consistency_level="Strong",
                properties=properties,
                **self._patience,
            )

    def properties(self) -> dict[str, str]:
        """What was remembered at creation."""
        with self._trouble():
            return dict(
                self.client.describe_collection(self.collection, **self._patience).get("properties") or {}
            )

    def count(self) -> int:
        """Number of rows."""
        with self._trouble():
            rows = self.client.query(self.collection, output_fields=["count(*)"], **self._patience)
        return int(rows[0]["count(*)"])

    # ── rows ────────────────────────────────────────────────────────────────────────────────────────

    def existing(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that are there."""
        if not ids:
            return set()
        with self._trouble():
            rows = self.client.get(self.collection, ids=list(ids), output_fields=["id"], **self._patience)
        return {row["id"] for row in rows}

    def upsert(self, entries: Sequence[Entry], vectors: np.ndarray) -> None:
        """Write entries with their unit vectors (N, D) float32; once this returns a crash cannot lose them.

        Raises:
            InputError: The disk is full or the server has gone; the store is closed then, and everything
                written before is safe.
        """
        rows = [entry.to_row() | {"vector": vector} for entry, vector in zip(entries, vectors)]
        with self._trouble(writing=True):
            self.client.upsert(self.collection, rows, **self._patience)

    def flush(self) -> None:
        """Sort what was written into segments: Milvus Lite is slow to search its newest rows without it.

        A server searches them as they are, and does not like to be told.
        """
        if self.embedded:
            with self._trouble(writing=True):
                self.client.flush(self.collection)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        with self._trouble(writing=True):
            for start in range(0, len(ids), PAGE):
                self.client.delete(self.collection, ids=list(ids[start : start + PAGE]), **self._patience)

    def search(self, vector: np.ndarray, top: int, expression: str = "") -> list[tuple[Entry, float]]:
        """The `top` entries nearest to a unit vector (D,), with their cosine similarity, best first."""
        with self._trouble():
            (hits,) = self.client.search(
                self.collection,
                data=[vector],
                limit=top,
                filter=expression,
                output_fields=FIELDS,
                search_params={"metric_type": "IP"},
                **self._patience,
            )
        return [(Entry.from_row(hit["entity"] | {"id": hit["id"]}), float(hit["distance"])) for hit in hits]

    def first(self, limit: int, expression: str = "") -> list[Entry]:
        """Any `limit` entries."""
        with self._trouble():
            rows = self.client.query(
                self.collection, filter=expression, limit=limit, output_fields=FIELDS, **self._patience
            )
        return [Entry.from_row(row) for row in rows]

    def entries(self, expression: str = "") -> Iterator[Entry]:
        """All entries that meet the expression, page by page."""
        for row in self._rows(expression, FIELDS, PAGE_EMBEDDED if self.embedded else PAGE):
            yield Entry.from_row(row)

    def entries_with_vectors(self, expression: str = "") -> Iterator[tuple[Entry, np.ndarray]]:
        """The same, each with its vector (D,) float32."""
        for row in self._rows(expression, [*FIELDS, "vector"], PAGE_WITH_VECTORS):
            yield Entry.from_row(row), np.asarray(row["vector"], np.float32)

    def _rows(self, expression: str, fields: list[str], page: int) -> Iterator[dict[str, Any]]:
        """Rows in the order of their identifiers.

        These are hashes, so equal ranges of them hold about equally many rows: a page is a range, and no
        cursor has to stay open on the server while rows come and go.
        """
        limit = None if self.embedded else MOST
        for bounds in _ranges(self.count(), page):
            parts = [part for part in (bounds, expression and f"({expression})") if part]
            with self._trouble():
                rows = self.client.query(
                    self.collection,
                    filter=" and ".join(parts),
                    limit=limit,
                    output_fields=fields,
                    **self._patience,
                )
            if len(rows) == limit:
                raise InputError(f"{self.uri}: grew manifold while it was read; run the same again")
            yield from sorted(rows, key=lambda row: row["id"])


def _ranges(rows: int, page: int) -> list[str]:
    """Expressions that cut the identifiers (hexadecimal hashes) into ranges of about `page` rows or fewer."""
    count = -(-rows // page)
    bounds = ["", *(f"{i * 16**8 // count:08x}" for i in range(1, count)), ""]
    ranges = []
    for low, high in pairwise(bounds):
        ranges.append(
            " and ".join(p for p in (low and f"id >= {quote(low)}", high and f"id < {quote(high)}") if p)
        )
    return ranges
