"""The vector database behind a gallery: the only file that talks to pymilvus.

A file name opens Milvus Lite inside this process, ``http://host:port`` a Milvus server or cluster. Vectors
are unit vectors and compared by inner product, which is their cosine similarity and half the work of the
database's own cosine (it would normalise them again for every query).
"""

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.types import LoadState

from kronreid.errors import InputError
from kronreid.extras import explained
from kronreid.gallery.entries import FIELDS, LONGEST_TEXT, Entry
from kronreid.gallery.filters import quote

log = logging.getLogger(__name__)

# pymilvus prints every error that it raises as well, with a traceback; Milvus Lite logs it a third time, and
# without a handler of its own that ends on the terminal.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
logging.getLogger("milvus_lite").addHandler(logging.NullHandler())

#: Milvus returns at most this many rows of one search or query.
MOST = 16_384
#: Rows that are written by one call: with the longest attributes they are less than a server takes at once.
MOST_WRITTEN = 500
#: Rows of one page of `Store.entries`. Milvus Lite looks at every row for every page, so its pages are large.
PAGE, PAGE_EMBEDDED, PAGE_WITH_VECTORS = 10_000, 100_000, 8_000
#: How long a call to a server is tried again, with growing pauses, while the server does not answer.
PATIENCE_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_CONNECTING_SECONDS = 5.0
#: How long it may take a server to read a large collection into its memory when it is opened.
LOADING_SECONDS = 1800.0
#: A server may answer from what it knew so long ago, without waiting for its own messages to arrive, where
#: nothing was written from here since then. It is Milvus's own bound; in practice it lags by 0.2 s.
BOUND_SECONDS = 5.0

#: How many candidates a server's graph keeps in view for each hit that is wanted. At 20,000 vectors the exact
#: top 100 were found to 90 % with one (Milvus's own choice), to 97 % with two and to 99.7 % with four.
EFFORT = 4
_MOST_EFFORT = 32_768
_INDEX = "AUTOINDEX"
_TROUBLE = {
    "no space left": "the disk is full; free some space and run the same command again",
    "disk quota": "the disk quota is used up; free some space and run the same command again",
    "read-only file system": "the disk is read-only",
    "memory quota": "the server's memory is used up; give it more, then run the same command again",
    "unauthenticated": "it wants other credentials; give them as user:password in MILVUS_TOKEN",
}
#: What a Milvus server takes for a collection's name.
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_BOUNDED: dict[str, Any] = {"consistency_level": "Bounded"}
_SILENCE = ("unavailable", "deadline_exceeded", "retry timeout", "connecting")
#: What a server says while it or a part of it is starting.
_NOT_READY = ("not ready", "not loaded", "not fully loaded", "recovering", "not available", "node not found")


#: What the database says where an answer is too large: a server sends 64 to 100 MB, Milvus Lite 256 MB.
_TOO_LARGE = ("message larger than max", "exceed the limit size")
#: Identifiers begin with a number below this one, in hexadecimal digits.
_IDENTIFIERS = 16**8


@dataclass
class _Engine:
    """Milvus Lite on one file: one per process, whoever opens it. The last one out closes it."""

    users: int = 0
    broken: bool = False


class _Silent(InputError):
    """A server that does not answer, for now."""


class _TooLarge(InputError):
    """An answer with more than the database sends at once."""


_engines: dict[str, _Engine] = {}
_engines_lock = threading.Lock()
#: When each collection of a server was written to last from this process.
_written: dict[tuple[str, str], float] = {}


class Store:
    """Rows of entries and unit vectors in one Milvus collection.

    Args:
        uri: A file name ending in ``.db``, or ``http(s)://host:port``.
        collection: Name of the collection: at most 255 ASCII letters, digits and underscores, no digit first.
            A file takes the same names as a server.
        token: Credentials for a server, as it expects them; without, MILVUS_TOKEN of the environment.

    Raises:
        InputError: The collection cannot have that name, the address is neither, the file is no gallery or is
            open in another process, or the server does not answer.
    """

    def __init__(self, uri: str, collection: str, token: str = "") -> None:
        if not _COLLECTION.fullmatch(collection):
            raise InputError(
                f"--collection {collection!r}",
                "a name has at most 255 letters, digits and underscores, and no digit first",
            )
        self.uri = uri
        self.collection = collection
        self.embedded = not uri.startswith(("http://", "https://"))
        self._client: MilvusClient | None = None
        self._engine: _Engine | None = None
        self._place = (uri, collection)
        _written[self._place] = time.monotonic()  # perhaps, by whoever had it open before
        self._patience = PATIENCE_SECONDS if not self.embedded else 0.0
        # A connection of its own does not inherit another one's pause after a failure. And the server inside
        # this process takes its client's pings for an attack.
        options = {"grpc.use_local_subchannel_pool": 1}
        if self.embedded:
            self._path = os.path.realpath(uri)
            self._enter_file()
            options["grpc.keepalive_time_ms"] = 2**31 - 1
        connect = partial(
            MilvusClient,
            self._path if self.embedded else uri,
            token="" if self.embedded else token or os.environ.get("MILVUS_TOKEN", ""),
            dedicated=True,
            grpc_options=options,
            timeout=None if self.embedded else min(self._patience, _CONNECTING_SECONDS),
        )
        try:
            self._client = self._patiently(connect)
            if self.exists:
                self._make_ready()
        except BaseException:
            self.close()
            raise

    def _make_ready(self) -> None:
        if self.embedded:
            # What an interrupted run left in the log is searched row by row until it is flushed.
            self._call("flush", self.collection)
        elif self._call("get_load_state", self.collection)["state"] != LoadState.Loaded:
            # Not otherwise: whoever has it loaded may have chosen several replicas.
            self._call("load_collection", self.collection, timeout=LOADING_SECONDS)

    # ── the file ────────────────────────────────────────────────────────────────────────────────────

    def _enter_file(self) -> None:
        path = Path(self._path)
        if path.suffix != ".db":
            raise InputError(self.uri, "a gallery is a file ending in .db, or http://host:port of a server")
        if path.is_file():
            raise InputError(self.uri, "is not a gallery (Milvus Lite keeps one in a folder of that name)")
        if path.is_dir() and any(path.iterdir()) and not (path / "collections").is_dir():
            raise InputError(self.uri, "is a folder with other files, not a gallery; choose another name")
        if not path.parent.is_dir():
            raise InputError(self.uri, f"the folder {path.parent} does not exist; make it first")
        if sys.platform == "win32":
            raise InputError(
                self.uri, "Windows has no gallery in a file; use a Milvus server (http://host:port)"
            )
        with explained(self.uri):
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
                        self.uri,
                        "is open in another process; close that one, or share a Milvus server "
                        "(http://host:port)",
                    ) from None
                except OSError as error:
                    raise InputError(self.uri, f"cannot be opened ({error.strerror or error})") from error
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
            raise InputError(self.uri, "the gallery is closed; open it again")
        return self._client

    def _call(self, name: str, /, *arguments: Any, writing: bool = False, **options: Any) -> Any:
        """A method of the client, patiently."""
        options.setdefault("timeout", None if self.embedded else self._patience)
        return self._patiently(lambda: getattr(self.client, name)(*arguments, **options), writing)

    def _patiently(self, action: Callable[[], Any], writing: bool = False) -> Any:
        """Does what may be done twice: a server that does not answer is asked again, with growing pauses, for
        `PATIENCE_SECONDS`.

        Raises:
            InputError: What the user can mend, in one line.
        """
        until = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                with self._trouble(writing):
                    return action()
            except _Silent as silence:
                if time.monotonic() + pause > until:
                    raise
                if pause == _FIRST_PAUSE:
                    log.warning("%s; trying again for %.0f s", silence, until - time.monotonic())
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    @contextmanager
    def _trouble(self, writing: bool = False) -> Iterator[None]:
        """Turns what the user can mend into one line. After a failed write to a file nothing more is written:
        a log that ends in half a row would swallow whatever follows it."""
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            if writing and self.embedded:
                self.close(broken=True)
            said = error.message if isinstance(error, MilvusException) else str(error)
            text = f"{said} {error.__cause__}".lower()
            if any(sign in text for sign in _TOO_LARGE):
                raise _TooLarge(self.uri, "the answer is too large; ask for fewer pictures") from error
            for sign, advice in _TROUBLE.items():
                if sign in text:
                    raise InputError(self.uri, advice) from error
            if not self.embedded and any(sign in text for sign in _NOT_READY):
                raise _Silent(self.uri, f"the Milvus server is not ready ({said})") from error
            if not self.embedded and any(sign in text for sign in _SILENCE):
                raise _Silent(
                    self.uri,
                    "the Milvus server does not answer; start it or check the address, and run the same "
                    "again",
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
        return bool(self._call("has_collection", self.collection))

    def create(self, dimension: int, properties: dict[str, str]) -> None:
        """Create the collection for vectors of `dimension`, with what is to be remembered about it."""
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        for name in ("path", "box", "camera", "identity", "source"):
            schema.add_field(name, DataType.VARCHAR, max_length=LONGEST_TEXT)
        schema.add_field("time", DataType.DOUBLE)
        schema.add_field("attributes", DataType.JSON)
        index = None
        if not self.embedded:
            # Milvus Lite compares exactly without an index; with one it stores every vector twice and its
            # graphs took longer to build than they ever save at the sizes that suit a file.
            index = self.client.prepare_index_params()
            index.add_index("vector", index_type=_INDEX, metric_type="IP")
        self._call(
            "create_collection",
            self.collection,
            schema=schema,
            index_params=index,
            consistency_level="Strong",
            properties=properties,
            timeout=LOADING_SECONDS,
            writing=True,
        )

    def properties(self) -> dict[str, str]:
        """What was remembered at creation."""
        return dict(self._call("describe_collection", self.collection).get("properties") or {})

    def count(self, expression: str = "", **how: Any) -> int:
        """Number of rows that meet the expression."""
        rows = self._call("query", self.collection, filter=expression, output_fields=["count(*)"], **how)
        return int(rows[0]["count(*)"])

    def catch_up(self) -> None:
        """Wait until the database can tell of everything that was written by now, from wherever."""
        if not self.embedded:
            self.count('id == ""', consistency_level="Strong")

    def _seen(self) -> dict[str, Any]:
        """How a reading call is to be made so that whatever was written from this process is seen.

        To be sure of every write, a server waits for its clock's next tick, up to 0.2 s.
        """
        return {} if time.monotonic() - _written[self._place] < BOUND_SECONDS else _BOUNDED

    # ── rows ────────────────────────────────────────────────────────────────────────────────────────

    def existing(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that are there; a server may not tell yet of what came after `catch_up`."""
        if not ids:
            return set()
        rows = self._call("get", self.collection, ids=list(ids), output_fields=["id"], **_BOUNDED)
        return {row["id"] for row in rows}

    def upsert(self, entries: Sequence[Entry], vectors: np.ndarray) -> None:
        """Write entries with their unit vectors (N, D) float32; once this returns a crash cannot lose them.

        Raises:
            InputError: The disk is full or the server has gone; the store is closed then, and everything
                written before is safe.
        """
        rows = [entry.to_row() | {"vector": vector} for entry, vector in zip(entries, vectors)]
        for start in range(0, len(rows), MOST_WRITTEN):
            self._call("upsert", self.collection, rows[start : start + MOST_WRITTEN], writing=True)
        _written[self._place] = time.monotonic()

    def flush(self) -> None:
        """Sort what was written into segments: Milvus Lite is slow to search its newest rows without it."""
        if self.embedded:
            self._call("flush", self.collection, writing=True)

    def seal(self) -> None:
        """Have a server index its newest rows, which it does on its own only after minutes.

        Until then it looks for them, once they are thousands, by a coarse index that misses many. But each
        call ends a segment, so this is not for every handful.
        """
        if not self.embedded:
            self._call("flush", self.collection, timeout=LOADING_SECONDS)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        for start in range(0, len(ids), PAGE):
            self._call("delete", self.collection, ids=list(ids[start : start + PAGE]), writing=True)
        _written[self._place] = time.monotonic()

    def search(self, vector: np.ndarray, top: int, expression: str = "") -> list[tuple[Entry, float]]:
        """The `top` entries nearest to a unit vector (D,), with their cosine similarity, best first.

        What was written from this process is always found.
        """
        search = partial(
            self._call,
            "search",
            self.collection,
            data=[vector],
            limit=top,
            filter=expression,
            search_params={"metric_type": "IP", "params": {"ef": min(EFFORT * top, _MOST_EFFORT)}},
            **self._seen(),
        )
        try:
            (hits,) = search(output_fields=FIELDS)
            entries = {hit["id"]: Entry.from_row(hit["entity"] | {"id": hit["id"]}) for hit in hits}
        except _TooLarge:
            (hits,) = search(output_fields=["id"])
            entries = {entry.id: entry for entry in self.get([hit["id"] for hit in hits])}
        return [(entries[hit["id"]], float(hit["distance"])) for hit in hits if hit["id"] in entries]

    def get(self, ids: Sequence[str]) -> list[Entry]:
        """The entries of these identifiers that are there, in no particular order."""
        try:
            rows = self._call("get", self.collection, ids=list(ids), output_fields=FIELDS, **self._seen())
        except _TooLarge:
            half = len(ids) // 2
            if not half:
                raise
            return self.get(ids[:half]) + self.get(ids[half:])
        return [Entry.from_row(row) for row in rows]

    def page(self, offset: int, limit: int, expression: str = "") -> list[Entry]:
        """`limit` entries, at most half of `MOST`, after `offset` others; only writing alters the order."""
        if self.embedded or offset + limit <= MOST:
            return self._page(offset, limit, expression)
        # A server gives rows by identifier, but refuses to skip many. How many lie below a bound it counts
        # quickly; the last bound that leaves no more to skip than it allows is found by halving.
        low, below, high = 0, 0, 16**4
        while high - low > 1 and offset + limit - below > MOST:
            middle = (low + high) // 2
            found = self.count(_both(f"id < {quote(f'{middle:04x}')}", expression), **self._seen())
            if found <= offset:
                low, below = middle, found
            else:
                high = middle
        bound = f"id >= {quote(f'{low:04x}')}" if low else ""
        return self._page(offset - below, limit, _both(bound, expression))

    def _page(self, offset: int, limit: int, expression: str) -> list[Entry]:
        try:
            rows = self._call(
                "query",
                self.collection,
                filter=expression,
                offset=offset,
                limit=limit,
                output_fields=FIELDS,
                **self._seen(),
            )
        except _TooLarge:
            half = limit // 2
            if not half:
                raise
            first = self._page(offset, half, expression)
            return first + self._page(offset + half, limit - half, expression)
        return [Entry.from_row(row) for row in rows]

    def entries(self, expression: str = "") -> Iterator[Entry]:
        """All entries that meet the expression, page by page."""
        for row in self._rows(expression, FIELDS, PAGE_EMBEDDED if self.embedded else PAGE):
            yield Entry.from_row(row)

    def entries_with_vectors(self, expression: str = "") -> Iterator[tuple[Entry, np.ndarray]]:
        """The same, each with its vector (D,) float32."""
        for row in self._rows(expression, [*FIELDS, "vector"], PAGE_WITH_VECTORS):
            yield Entry.from_row(row), np.asarray(row["vector"], np.float32)

    def values(self, fields: list[str], expression: str = "") -> Iterator[dict[str, Any]]:
        """Only these fields (and ``id``) of all rows that meet the expression."""
        yield from self._rows(expression, fields, PAGE_EMBEDDED if self.embedded else PAGE)

    def _rows(self, expression: str, fields: list[str], page: int) -> Iterator[dict[str, Any]]:
        """Rows in the order of their identifiers.

        These are hashes, so equal ranges of them hold about equally many rows: a page is a range, and no
        cursor has to stay open on the server while rows come and go.
        """
        for low, high in _ranges(self.count(), page):
            yield from self._between(low, high, expression, fields)

    def _between(self, low: int, high: int, expression: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        """The rows of a range of identifiers, in halves where one answer would be too large."""
        limit = None if self.embedded else MOST
        condition = _both(_bounds(low, high), expression)
        try:
            rows = self._call("query", self.collection, filter=condition, limit=limit, output_fields=fields)
        except _TooLarge:
            middle = (low + high) // 2
            if middle == low:
                raise
            yield from self._between(low, middle, expression, fields)
            yield from self._between(middle, high, expression, fields)
            return
        if len(rows) == limit:
            raise InputError(self.uri, "grew manifold while it was read; run the same again")
        yield from sorted(rows, key=lambda row: row["id"])


def _both(one: str, other: str) -> str:
    """Two conditions together, either of which may be empty."""
    return " and ".join(f"({part})" for part in (one, other) if part)


def _ranges(rows: int, page: int) -> list[tuple[int, int]]:
    """Bounds that cut the identifiers (hexadecimal hashes) into ranges of about `page` rows or fewer."""
    count = max(1, -(-rows // page))
    return list(pairwise(i * _IDENTIFIERS // count for i in range(count + 1)))


def _bounds(low: int, high: int) -> str:
    """The expression of a range of identifiers, from `low` up to, but without, `high`."""
    return " and ".join(
        part
        for part in (
            low and f"id >= {quote(f'{low:08x}')}",
            high < _IDENTIFIERS and f"id < {quote(f'{high:08x}')}",
        )
        if part
    )
