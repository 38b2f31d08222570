"""A gallery in LanceDB, the engine of a gallery in a folder; see `kronreid.gallery.store.Store`.

Each entry is a row of one table, with its unit vector and, if the model has places, with its places. Several
processes may read and write at once. A search that is the only one of its process lets LanceDB scan the
table. From the second on, the process keeps the vectors in memory and compares them itself; both are exact.
"""

import getpass
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from kronreid.errors import InputError
from kronreid.gallery.entries import FIELDS, Entry
from kronreid.gallery.filters import EVERYTHING, Selection
from kronreid.gallery.lance_filters import encoded, numbers_of, one_of, sql, terms_of
from kronreid.gallery.lance_ids import Identifiers, Known
from kronreid.gallery.lance_memory import TableMemory
from kronreid.gallery.lance_table import (
    SETTLED_WASTE,
    WASTE,
    SharedTable,
    fragments_by_count,
    matrix,
    measured,
    scan,
    take,
    within,
)
from kronreid.gallery.store import DELETED, SETTLED_FROM, Row, StoreError

#: Rows that one write takes, and that one page of `LanceStore.rows` reads.
MOST_WRITTEN, PAGE = 5_000, 1_000
#: A process keeps vectors in memory up to this size, in bytes. Above, LanceDB scans or asks its index.
MOST_KEPT = 4 * 10**9
#: The index is built of lists of about this many vectors. A search looks into all of them, up to so many: the
#: hits of a vector unlike all others are spread over the lists, and comparing bits is quick.
_LIST, _LISTS = 4_000, 100_000
#: The index holds so many bits of each number, or a byte of vectors shorter than `_SHORT`. A search then
#: reads the vectors themselves of `_REFINED` times the wanted hits, which takes long: with one bit of each
#: number, six times the wanted hits would be needed for the same result.
_BITS, _SHORT, _REFINED = 3, 256, 2
#: Its name. An index of another name was built in another way: it is not asked, and goes with the next build.
_INDEX = f"vector_{_BITS}_bits"
#: So many vectors a list are enough to find the lists.
_SAMPLES = 128
#: From this many rows on, `build_index` builds one.
INDEXED_FROM = 100_000
#: After so many writes, the table is looked after.
_WRITES_BETWEEN = 32


class LanceStore:
    """Entries and unit vectors in one LanceDB table; see `kronreid.gallery.store.Store`.

    Args:
        uri: A folder, or an address of an object store.
        collection: Name of the table.

    Raises:
        InputError: LanceDB is not installed, or the address cannot be opened.
    """

    keeps_places = True

    def __init__(self, uri: str, collection: str) -> None:
        self.uri, self.collection = uri, collection
        self._table = SharedTable(uri, collection)
        self._identifiers = Identifiers()
        self._known = Known()
        self._writes = _WRITES_BETWEEN  # since this process has looked after the table, which it does first
        self._searches = 0
        self._memory = TableMemory()

    def close(self) -> None:
        self._table.close()
        self._memory = TableMemory()

    # ── the collection ──────────────────────────────────────────────────────────────────────────────

    @property
    def exists(self) -> bool:
        return self._table.exists

    def create(self, dimension: int, properties: dict[str, str]) -> None:
        self._table.create(_schema(dimension, properties))

    def properties(self) -> dict[str, str]:
        metadata = self._table.read(lambda table: table.schema.metadata) or {}
        return {name.decode(): value.decode() for name, value in metadata.items()}

    def bytes_on_disk(self) -> int | None:
        return None if self._table.folder is None else measured(self._table.folder)[0]

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────

    def upsert(
        self, entries: Sequence[Entry], vectors: np.ndarray, places: Sequence[bytes] | None = None
    ) -> None:
        for start in range(0, len(entries), MOST_WRITTEN):
            some = slice(start, start + MOST_WRITTEN)
            self._upsert(entries[some], vectors[some], None if places is None else places[some])

    def _upsert(self, entries: Sequence[Entry], vectors: np.ndarray, places: Sequence[bytes] | None) -> None:
        stamps = np.random.default_rng().integers(1, 2**62, len(entries))
        ids = [entry.id for entry in entries]

        def write(table: Any) -> None:
            rows = _rows(table.schema, entries, stamps, vectors, places)
            # In turn, nobody else can add the same meanwhile, and adding is several times faster.
            alone = self._table.folder is not None and len(set(ids)) == len(ids)
            if alone and not self._known.among(table, ids):
                self._known.added(table.add(rows).version, ids)
            else:
                _merging(table).when_not_matched_insert_all().execute(rows)

        self._written(write)

    def update(self, entries: Sequence[Entry]) -> None:
        by_id = {entry.id: entry for entry in entries}

        def write(table: Any) -> None:
            found = scan(table, ["id", "stamp", "vector", "places"], one_of("id", list(by_id)))
            changed = [by_id[id] for id in found.column("id").to_pylist()]
            if changed:
                stamps = found.column("stamp").to_numpy()
                vectors, places = matrix(found), found.column("places").to_pylist()
                _merging(table).execute(_rows(table.schema, changed, stamps, vectors, places))

        self._written(write)

    def delete(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), MOST_WRITTEN):
            some = list(ids[start : start + MOST_WRITTEN])
            self._written(partial(_delete, one_of("id", some)))
        self._note_deleted(ids)

    def _written(self, write: Any) -> None:
        self._table.write(write)
        self._writes += 1
        if self._writes >= _WRITES_BETWEEN:
            self._tidy()

    def _tidy(self, waste: float = WASTE) -> None:
        self._writes = 0
        self._table.tidy(waste)

    def _note_deleted(self, ids: Sequence[str]) -> None:
        """Keep which pictures were removed and when, without anything of what they showed."""
        if self._table.folder is None or not ids:
            return
        who = "unknown"
        with suppress(Exception):  # a process may have a user that the system does not know
            who = getpass.getuser()
        noted = {"time": time.time(), "action": "delete", "user": who}
        lines = "".join(json.dumps(noted | {"id": id}) + "\n" for id in ids)
        log = self._table.folder / DELETED
        with self._table.turn(), self._table.trouble(), log.open("a") as file:
            file.write(lines)

    def settle(self, added: int = 0) -> None:
        if added >= SETTLED_FROM:
            self._tidy(SETTLED_WASTE)

    def purge(self) -> bool:
        indexed = self._table.read(lambda table: [index.name for index in table.list_indices()])
        for name in indexed:  # an index holds copies of the vectors
            self._table.write(partial(_drop_index, name))
        self._table.purge()
        if indexed:
            self.build_index()
        return True

    def unreadable(self, give_up: bool = False) -> int:
        table = self._table.latest()
        offset, lost = 0, 0
        for number, size in fragments_by_count(table):
            try:
                with self._table.trouble():
                    for _ in table.search().offset(offset).limit(size).to_batches(PAGE):
                        pass
            except (InputError, StoreError):
                lost += size
                if give_up:
                    self._table.write(partial(_delete, within(number)))
            offset += size
        return lost

    def build_index(self) -> bool:
        """Build the index again, if the gallery is so large that searching by it is faster.

        Returns:
            Whether there is one now.
        """
        count = self.count()
        if count < INDEXED_FROM:
            return False
        from lancedb.index import IvfRq, IvfSq

        dimension = self._table.read(_dimension)
        # The bits of all numbers have to be whole bytes.
        short = dimension < _SHORT or dimension % 8
        kind: Any = IvfSq if short else partial(IvfRq, num_bits=_BITS)
        lists = max(1, count // _LIST)
        config = kind(distance_type="cosine", num_partitions=lists, sample_rate=_SAMPLES)

        def build(table: Any) -> None:
            for index in table.list_indices():
                if index.name != _INDEX:
                    table.drop_index(index.name)
            table.create_index("vector", config=config, replace=True, name=_INDEX)

        self._table.write(build)
        return True

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────

    def catch_up(self) -> None:
        """Nothing to wait for: every question is answered from the newest version."""

    def existing(self, ids: Sequence[str]) -> set[str]:
        return self._table.read(lambda table: self._known.among(table, ids))

    def count(self, selection: Selection = EVERYTHING) -> int:
        return int(self._table.read(lambda table: table.count_rows(sql(selection) or None)))

    def get(self, ids: Sequence[str]) -> list[Entry]:
        return self._table.read(lambda table: self._entries(table, self._identifiers.rows(table, ids)))

    def _entries(self, table: Any, rows: np.ndarray) -> list[Entry]:
        """The entries of these rows, in this order."""
        return _as_entries(_in_order(table, rows, FIELDS))

    def page(self, offset: int, limit: int, selection: Selection = EVERYTHING) -> list[Entry]:
        def page(table: Any) -> list[Entry]:
            rows = self._identifiers.ordered(table, sql(selection))
            return self._entries(table, rows[offset : offset + limit])

        return self._table.read(page)

    def rows(self, fields: Sequence[str], selection: Selection = EVERYTHING) -> Iterator[Row]:
        """See `Store.rows`. With vectors, entries that are removed while this runs may be left out."""
        condition = sql(selection)
        columns = list(dict.fromkeys(["id", *fields]))
        if "vector" not in columns:
            found = self._table.read(lambda table: scan(table, columns, condition).sort_by("id"))
            for batch in found.drop_columns(["_rowid"]).to_batches(PAGE):
                yield from map(_readable, batch.to_pylist())
            return
        ids = sorted(self._table.read(lambda table: scan(table, ["id"], condition).column("id").to_pylist()))
        for start in range(0, len(ids), PAGE):
            found = self._table.read(partial(self._page, ids[start : start + PAGE], columns))
            plain = found.drop_columns(["vector", "_rowid"]).to_pylist()
            for row, vector in zip(plain, matrix(found)):
                yield _readable(row) | {"vector": vector}

    def _page(self, ids: list[str], columns: list[str], table: Any) -> Any:
        return _in_order(table, self._identifiers.rows(table, ids), columns)

    def described(self, ids: Sequence[str]) -> dict[str, tuple[np.ndarray, bytes]]:
        def read(table: Any) -> dict[str, tuple[np.ndarray, bytes]]:
            found = take(table, self._identifiers.rows(table, ids), ["id", "vector", "places"])
            rows = zip(found.column("id").to_pylist(), matrix(found), found.column("places").to_pylist())
            return {id: (vector, places) for id, vector, places in rows if places is not None}

        return self._table.read(read)

    def search(
        self, vector: np.ndarray, top: int, selection: Selection = EVERYTHING
    ) -> list[tuple[Entry, float]]:
        condition = sql(selection)
        self._searches += 1

        def search(table: Any) -> list[tuple[Entry, float]]:
            version = self._memory.at(table, MOST_KEPT) if self._searches > 1 else None
            if version is not None:
                rows, similarities = version.vectors.best(vector, top, version.meeting(condition))
                entries = _as_entries(version.rows.take(rows))
            else:
                rows, similarities = _scanned(table, vector, top, condition)
                entries = self._entries(table, rows)
            self._identifiers.remember(table, [entry.id for entry in entries], rows)
            return list(zip(entries, map(float, similarities)))

        return self._table.read(search)

    def warm(self) -> None:
        """Read the vectors into memory now, so that no search has to wait for that."""
        self._searches += 1
        self._table.read(lambda table: self._memory.at(table, MOST_KEPT))


def _dimension(table: Any) -> int:
    """The length of the table's vectors."""
    return int(table.schema.field("vector").type.list_size)


def _schema(dimension: int, properties: dict[str, str]) -> Any:
    """The table's columns, with the properties as the schema's metadata.

    ``stamp`` tells a vector from all others, see `kronreid.gallery.memory`; for ``terms``, ``names`` and
    ``numbers`` see `kronreid.gallery.lance_filters`.
    """
    import pyarrow as pa

    text = pa.string()
    columns = dict.fromkeys(FIELDS, text) | {
        "time": pa.float64(),
        "terms": pa.list_(text),
        "names": pa.list_(text),
        "numbers": pa.list_(pa.float64()),
        "stamp": pa.int64(),
        "vector": pa.list_(pa.float32(), dimension),
        "places": pa.binary(),
    }
    # With a key, two processes that add the same entry at once collide, and the second one tries again.
    key = pa.field("id", text, nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})
    fields = [key if name == "id" else pa.field(name, kind) for name, kind in columns.items()]
    return pa.schema(fields, metadata=properties)


def _rows(
    schema: Any,
    entries: Sequence[Entry],
    stamps: np.ndarray,
    vectors: np.ndarray,
    places: Sequence[bytes | None] | None,
) -> Any:
    """Entries with what belongs to them as an Arrow table."""
    import pyarrow as pa

    rows = [entry.to_row() for entry in entries]
    numbers = [numbers_of(row["attributes"]) for row in rows]
    vectors = np.ascontiguousarray(vectors, np.float32)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in FIELDS if name != "attributes"}
    columns |= {
        "attributes": [encoded(row["attributes"]) for row in rows],
        "terms": [terms_of(row["attributes"]) for row in rows],
        "names": [list(found) for found in numbers],
        "numbers": [list(found.values()) for found in numbers],
        "stamp": stamps,
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
        "places": list(places) if places is not None else [None] * len(rows),
    }
    arrays = [
        pa.array(columns[field.name], field.type) if field.name != "vector" else columns["vector"]
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def _delete(condition: str, table: Any) -> None:
    table.delete(condition)


def _drop_index(name: str, table: Any) -> None:
    table.drop_index(name)


def _merging(table: Any) -> Any:
    return table.merge_insert("id").when_matched_update_all()


def _readable(row: Row) -> Row:
    """A row of the table as `Entry.to_row` gives it."""
    return row | {"attributes": json.loads(row["attributes"])} if "attributes" in row else row


def _as_entries(found: Any) -> list[Entry]:
    """The entries in an Arrow table that has the columns `FIELDS`."""
    return [Entry.from_row(_readable(row)) for row in found.select(FIELDS).to_pylist()]


def _in_order(table: Any, rows: np.ndarray, columns: list[str]) -> Any:
    """Columns of these rows, in their order, as an Arrow table. A row may be named twice."""
    found = take(table, np.unique(rows), columns)
    known = found.column("_rowid").to_numpy().astype(np.int64)
    order = np.argsort(known)
    return found.take(order[np.searchsorted(known[order], rows)])


def _scanned(table: Any, vector: np.ndarray, top: int, condition: str) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows and their similarities, best first, by LanceDB itself."""
    query = table.search(vector, vector_column_name="vector").distance_type("dot").select(["_distance"])
    query = query.with_row_id(True).limit(top)
    if _INDEX not in [index.name for index in table.list_indices()]:
        query = query.bypass_vector_index()
    else:
        query = query.distance_type("cosine").refine_factor(_REFINED).nprobes(_LISTS)
    found = (query.where(condition, prefilter=True) if condition else query).to_arrow()
    rows = found.column("_rowid").to_numpy().astype(np.int64)
    similarities = 1 - found.column("_distance").to_numpy().astype(np.float32)
    order = np.lexsort((rows, -similarities))
    return rows[order], similarities[order]
