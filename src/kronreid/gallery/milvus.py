"""A gallery in Milvus, the engine of a cluster; see `kronreid.gallery.store.Store`.

With `milvus_connection`, the only code that knows Milvus. ``http://host:port`` names a server or cluster. A
file name opens Milvus Lite inside this process, the engine of older versions, for `kronreid gallery import`.

Vectors are unit vectors and are compared by inner product. That is their cosine similarity at half the cost
of Milvus's own cosine, which normalises the vectors again for every query.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.client.types import LoadState

from kronreid.data.values import LARGEST
from kronreid.errors import InputError
from kronreid.gallery.entries import FIELDS, LONGEST_TEXT, Entry
from kronreid.gallery.filters import (
    EVERYTHING,
    Below,
    Compared,
    Condition,
    OneOf,
    Scalar,
    Selection,
    Taken,
    must_be_unicode,
)
from kronreid.gallery.milvus_connection import Connection, TooLarge
from kronreid.gallery.store import MOST, SETTLED_FROM, Row, check_collection

#: Rows of one write. Even with the longest attributes they are less than a server takes at once.
MOST_WRITTEN = 500
#: Rows of one page of `MilvusStore.rows`. Milvus Lite looks at every row for every page, so its pages are
#: large.
PAGE, PAGE_EMBEDDED, PAGE_WITH_VECTORS = 10_000, 100_000, 8_000
#: The time limit for loading a large collection into a server's memory, and for indexing new rows.
LOADING_SECONDS = 1800.0
#: A server may answer with a state this old, instead of waiting for its own messages to arrive. That is
#: Milvus's own bound; in practice the state is 0.2 s old. It is used when this process has not written for so
#: long.
BOUND_SECONDS = 5.0
#: How many candidates a server's graph keeps for each hit that is wanted. At 20,000 vectors it found 90 % of
#: the exact top 100 with one (Milvus's own choice), 97 % with two and 99.7 % with four.
EFFORT = 4
_MOST_EFFORT = 32_768
_INDEX = "AUTOINDEX"
_BOUNDED: dict[str, Any] = {"consistency_level": "Bounded"}
#: The first eight hexadecimal digits of an identifier are a number below this one.
_IDENTIFIERS = 16**8
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})

#: When this process last wrote to each collection, by address and name.
_written: dict[tuple[str, str], float] = {}


class MilvusStore:
    """Entries and unit vectors in one Milvus collection; see `kronreid.gallery.store.Store`.

    Args:
        uri: A file name ending in ``.db``, or ``http(s)://host:port``.
        collection: Name of the collection: at most 200 ASCII letters, digits and underscores, no digit first.
            The same holds for a file.
        token: Credentials for a server, as it expects them; without, MILVUS_TOKEN of the environment.

    Raises:
        InputError: The collection cannot have that name, the address is neither, the file is no gallery or is
            open in another process, or the server does not answer.
    """

    #: A row of Milvus has no type for bytes of this size.
    keeps_places = False

    def __init__(self, uri: str, collection: str, token: str = "") -> None:
        check_collection(collection)
        self.uri = uri
        self.collection = collection
        self._place = (uri, collection)
        _written[self._place] = time.monotonic()  # another user of this process may just have written
        self._connection = Connection(uri, token)
        self._call = self._connection.call
        try:
            if self.exists:
                self._make_ready()
        except BaseException:
            self.close()
            raise

    def _make_ready(self) -> None:
        if self._connection.embedded:
            # Rows that an interrupted run left in the log are compared one by one until it is flushed.
            self._call("flush", self.collection)
        elif self._call("get_load_state", self.collection)["state"] != LoadState.Loaded:
            # A loaded collection is left as it is: it may have several replicas.
            self._call("load_collection", self.collection, timeout=LOADING_SECONDS)

    @property
    def client(self) -> MilvusClient:
        """pymilvus's client."""
        return self._connection.client

    def close(self) -> None:
        self._connection.close()

    # ── the collection ──────────────────────────────────────────────────────────────────────────────

    @property
    def exists(self) -> bool:
        return bool(self._call("has_collection", self.collection))

    def create(self, dimension: int, properties: dict[str, str]) -> None:
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        for name in ("path", "box", "camera", "identity", "source"):
            schema.add_field(name, DataType.VARCHAR, max_length=LONGEST_TEXT)
        schema.add_field("time", DataType.DOUBLE)
        schema.add_field("attributes", DataType.JSON)
        index = None
        if not self._connection.embedded:
            # Milvus Lite compares exactly without an index. With one it stores every vector twice, and at the
            # sizes that suit a file, building a graph took longer than it ever saves.
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
        return dict(self._call("describe_collection", self.collection).get("properties") or {})

    def bytes_on_disk(self) -> int | None:
        if not self._connection.embedded:
            return None
        return sum(file.stat().st_size for file in Path(self.uri).rglob("*") if file.is_file())

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────

    def upsert(
        self, entries: Sequence[Entry], vectors: np.ndarray, places: Sequence[bytes] | None = None
    ) -> None:
        """See `Store.upsert`. After a failed write the store is closed; what was written before is safe."""
        rows = [entry.to_row() | {"vector": vector} for entry, vector in zip(entries, vectors)]
        for start in range(0, len(rows), MOST_WRITTEN):
            self._call("upsert", self.collection, rows[start : start + MOST_WRITTEN], writing=True)
        _written[self._place] = time.monotonic()

    def update(self, entries: Sequence[Entry]) -> None:
        by_id = {entry.id: entry for entry in entries}
        for start in range(0, len(entries), MOST_WRITTEN):
            ids = [entry.id for entry in entries[start : start + MOST_WRITTEN]]
            rows = self._call("get", self.collection, ids=ids, output_fields=["id", "vector"], **self._seen())
            vectors = np.array([row["vector"] for row in rows], np.float32)
            self.upsert([by_id[row["id"]] for row in rows], vectors)

    def delete(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), PAGE):
            self._call("delete", self.collection, ids=list(ids[start : start + PAGE]), writing=True)
        _written[self._place] = time.monotonic()

    def purge(self) -> bool:
        self.settle()
        return False

    def unreadable(self, give_up: bool = False) -> int:
        return 0  # Milvus reads all of its files when it opens a collection

    def build_index(self) -> bool:
        return not self._connection.embedded  # a server builds its index by itself

    def settle(self, added: int = 0) -> None:
        if self._connection.embedded:
            # Sorts the newest rows into segments. Without, Milvus Lite is slow to search them.
            self._call("flush", self.collection, writing=True)
        elif added >= SETTLED_FROM:
            # Makes the server index its newest rows, which it does by itself only after minutes. Until then
            # it searches thousands of them with a coarse index that misses many. Each call ends a segment, so
            # this is not for a handful of rows.
            self._call("flush", self.collection, timeout=LOADING_SECONDS)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────

    def catch_up(self) -> None:
        if not self._connection.embedded:
            self._count('id == ""', consistency_level="Strong")

    def _seen(self) -> dict[str, Any]:
        """Options of a reading call, so that it sees everything that this process has written.

        To be sure of every write, a server waits for the next tick of its clock, up to 0.2 s.
        """
        return {} if time.monotonic() - _written[self._place] < BOUND_SECONDS else _BOUNDED

    def existing(self, ids: Sequence[str]) -> set[str]:
        if not ids:
            return set()
        rows = self._call("get", self.collection, ids=list(ids), output_fields=["id"], **_BOUNDED)
        return {row["id"] for row in rows}

    def count(self, selection: Selection = EVERYTHING) -> int:
        return self._count(expression(selection))

    def _count(self, condition: str, **how: Any) -> int:
        rows = self._call("query", self.collection, filter=condition, output_fields=["count(*)"], **how)
        return int(rows[0]["count(*)"])

    def get(self, ids: Sequence[str]) -> list[Entry]:
        try:
            rows = self._call("get", self.collection, ids=list(ids), output_fields=FIELDS, **self._seen())
        except TooLarge:
            half = len(ids) // 2
            if not half:
                raise
            return self.get(ids[:half]) + self.get(ids[half:])
        return [Entry.from_row(row) for row in rows]

    def described(self, ids: Sequence[str]) -> dict[str, tuple[np.ndarray, bytes]]:
        return {}

    def warm(self) -> None:
        """See `Store.warm`. A server has its vectors in memory."""

    def search(
        self, vector: np.ndarray, top: int, selection: Selection = EVERYTHING
    ) -> list[tuple[Entry, float]]:
        def search(fields: Sequence[str]) -> list[dict[str, Any]]:
            (hits,) = self._call(
                "search",
                self.collection,
                data=[vector],
                limit=top,
                filter=expression(selection),
                output_fields=fields,
                search_params={"metric_type": "IP", "params": {"ef": min(EFFORT * top, _MOST_EFFORT)}},
                **self._seen(),
            )
            return hits

        try:
            hits = search(FIELDS)
            entries = {hit["id"]: Entry.from_row(hit["entity"] | {"id": hit["id"]}) for hit in hits}
        except TooLarge:
            hits = search(["id"])
            entries = {entry.id: entry for entry in self.get([hit["id"] for hit in hits])}
        return [(entries[hit["id"]], float(hit["distance"])) for hit in hits if hit["id"] in entries]

    def page(self, offset: int, limit: int, selection: Selection = EVERYTHING) -> list[Entry]:
        wanted = expression(selection)
        if self._connection.embedded or offset + limit <= MOST:
            return self._page(offset, limit, wanted)
        # A server returns rows by identifier, but refuses to skip many of them. It counts quickly how many
        # lie below a bound. Halving finds the last bound that leaves no more to skip than the server allows.
        low, below, high = 0, 0, 16**4
        while high - low > 1 and offset + limit - below > MOST:
            middle = (low + high) // 2
            found = self._count(_all_of(f"id < {quote(f'{middle:04x}')}", wanted), **self._seen())
            if found <= offset:
                low, below = middle, found
            else:
                high = middle
        bound = f"id >= {quote(f'{low:04x}')}" if low else ""
        return self._page(offset - below, limit, _all_of(bound, wanted))

    def _page(self, offset: int, limit: int, condition: str) -> list[Entry]:
        try:
            rows = self._call(
                "query",
                self.collection,
                filter=condition,
                offset=offset,
                limit=limit,
                output_fields=FIELDS,
                **self._seen(),
            )
        except TooLarge:
            half = limit // 2
            if not half:
                raise
            first = self._page(offset, half, condition)
            return first + self._page(offset + half, limit - half, condition)
        return [Entry.from_row(row) for row in rows]

    def rows(self, fields: Sequence[str], selection: Selection = EVERYTHING) -> Iterator[Row]:
        """See `Store.rows`.

        Identifiers are hashes, so equal ranges of them hold about equally many rows. A page is such a range:
        no cursor has to stay open on the server while rows come and go.
        """
        page = PAGE_EMBEDDED if self._connection.embedded else PAGE
        if "vector" in fields:
            page = PAGE_WITH_VECTORS
        wanted = expression(selection)
        for low, high in _ranges(self.count(), page):
            for row in self._between(low, high, wanted, list(fields)):
                if "vector" in fields:
                    row["vector"] = np.asarray(row["vector"], np.float32)
                yield row

    def _between(self, low: int, high: int, condition: str, fields: list[str]) -> Iterator[Row]:
        """The rows in a range of identifiers; in halves if they are too large for one answer."""
        limit = None if self._connection.embedded else MOST
        both = _all_of(_bounds(low, high), condition)
        try:
            rows = self._call("query", self.collection, filter=both, limit=limit, output_fields=fields)
        except TooLarge:
            middle = (low + high) // 2
            if middle == low:
                raise
            yield from self._between(low, middle, condition, fields)
            yield from self._between(middle, high, condition, fields)
            return
        if len(rows) == limit:
            raise InputError(self.uri, "grew to several times its size while it was read; run the same again")
        yield from sorted(rows, key=lambda row: row["id"])


def _ranges(rows: int, page: int) -> list[tuple[int, int]]:
    """Bounds that cut the identifiers (hexadecimal hashes) into ranges of about `page` rows or fewer."""
    count = max(1, -(-rows // page))
    return list(pairwise(i * _IDENTIFIERS // count for i in range(count + 1)))


def _bounds(low: int, high: int) -> str:
    """The expression for identifiers from `low` up to, but without, `high`."""
    lower = f"id >= {quote(f'{low:08x}')}" if low else ""
    upper = f"id < {quote(f'{high:08x}')}" if high < _IDENTIFIERS else ""
    return _all_of(lower, upper)


# ── Milvus's language of filters ────────────────────────────────────────────────────────────────────────


def expression(selection: Selection) -> str:
    """A selection in Milvus's language; empty without conditions.

    This is the only place that puts values into expressions, and `quote` writes each of them as a literal. So
    no value can end its literal and become part of the expression.

    Raises:
        InputError: A value cannot be a condition.
    """
    return _all_of(*map(_rendered, selection.conditions()))


def _rendered(condition: Condition) -> str:
    if isinstance(condition, OneOf):
        return f"{condition.field} in [{', '.join(map(quote, condition.texts))}]"
    if isinstance(condition, Taken):
        return " and ".join(f"time {sign} {quote(bound)}" for sign, bound in condition.bounds)
    if isinstance(condition, Below):
        return _any_of(
            _any_of([f"path == {quote(path)}", f"path >= {quote(low)} and path < {quote(high)}"])
            for path, low, high in condition.ranges
        )
    place = f"attributes[{quote(condition.name)}]"
    if isinstance(condition, Compared):
        return f"{place} {condition.sign} {quote(condition.number)}"
    if not condition.values:
        return f'(not (exists {place})) or {place} == ""'
    return " or ".join(f"{place} == {form}" for form in dict.fromkeys(map(quote, condition.values)))


def _all_of(*conditions: str) -> str:
    """Conditions that must all hold; those that are empty are left out."""
    return " and ".join(f"({condition})" for condition in conditions if condition)


def _any_of(conditions: Iterable[str]) -> str:
    return " or ".join(f"({condition})" for condition in conditions)


def quote(value: Scalar) -> str:
    """A value as a literal of Milvus's language.

    Raises:
        InputError: Not a finite number, or text that is not valid Unicode.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if not (abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)):
            raise InputError(value, "a filter takes finite numbers, and whole numbers of at most 64 bits")
        return repr(value)
    must_be_unicode(value)
    return f'"{value.translate(_ESCAPES)}"'
