"""A LanceDB table in memory, for a process that searches it many times; see `kronreid.gallery.memory`."""

from collections.abc import Iterator
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from cachetools import LRUCache

from kronreid.gallery.entries import FIELDS
from kronreid.gallery.lance_table import matrix, rows_of, scan, take
from kronreid.gallery.memory import Kept, KeptRows, RowMemory, VectorMemory
from kronreid.memory import give_back_memory

#: Vectors are read into memory in pieces of so many rows.
_READ_AT_ONCE = 8_192
#: So many conditions are remembered, with the rows that meet them.
_CONDITIONS = 8


class Version:
    """One version of a table.

    Attributes:
        vectors: Its vectors.
        rows: The columns `FIELDS` of its rows.
    """

    def __init__(self, table: Any, vectors: Kept, rows: KeptRows) -> None:
        self.table, self.vectors, self.rows = table, vectors, rows
        self._meeting: LRUCache[str, np.ndarray] = LRUCache(_CONDITIONS)
        self._lock = Lock()

    def meeting(self, condition: str) -> np.ndarray | None:
        """The rows that meet a condition, int64 in ascending order; None for all of them."""
        if not condition:
            return None
        with self._lock:
            found = self._meeting.get(condition)
        if found is None:
            found = rows_of(self.table, condition)
            with self._lock:
                self._meeting[condition] = found
        return found


class TableMemory:
    """The newest version of a table that was asked for. Threads may share one."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._vectors: VectorMemory | None = None
        self._rows = RowMemory()
        self._newest: Version | None = None

    def at(self, table: Any, most: int) -> Version | None:
        """This version of the table. What has changed since the last one is read.

        Args:
            table: The table, as `SharedTable.read` gives it.
            most: None if its vectors take more bytes than these.
        """
        with self._lock:
            if self._newest is not None and self._newest.table is table:
                return self._newest
            dimension = table.schema.field("vector").type.list_size
            if 4 * dimension * table.count_rows() > most:
                return None
            if self._vectors is None:
                self._vectors = VectorMemory(dimension)
            found = scan(table, ["stamp"])
            rows = found.column("_rowid").to_numpy().astype(np.int64)
            stamps = found.column("stamp").to_numpy()
            vectors = self._vectors.refresh(stamps, rows, partial(_stamped, table, rows))
            described = self._rows.refresh(rows, partial(_described, table, len(rows)))
            if self._newest is None:  # everything has been read
                give_back_memory()
            self._newest = Version(table, vectors, described)
            return self._newest


def _described(table: Any, count: int, wanted: np.ndarray) -> Any:
    """The columns `FIELDS` of the `wanted` ones of all `count` rows, in ascending order of their numbers."""
    most = 2 * len(wanted) > count
    found = scan(table, FIELDS) if most else take(table, wanted, FIELDS)
    number = found.column("_rowid").to_numpy().astype(np.int64)
    order = np.argsort(number)
    return found.select(FIELDS).take(order[np.searchsorted(number[order], wanted)]).combine_chunks()


def _stamped(table: Any, rows: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stamps and vectors of the `wanted` ones of all `rows`, in pieces."""
    if 2 * len(wanted) > len(rows):
        # Most are wanted: reading everything in the table's order is faster.
        known = np.sort(wanted)
        query = table.search().select(["stamp", "vector"]).with_row_id(True).limit(len(rows))
        for batch in query.to_batches(_READ_AT_ONCE):
            row = batch.column("_rowid").to_numpy().astype(np.int64)
            at = np.minimum(np.searchsorted(known, row), len(known) - 1)
            new = known[at] == row
            column = batch.column("vector")
            vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
            yield batch.column("stamp").to_numpy()[new], vectors[new]
        return
    for start in range(0, len(wanted), _READ_AT_ONCE):
        found = take(table, wanted[start : start + _READ_AT_ONCE], ["stamp", "vector"])
        yield found.column("stamp").to_numpy(), matrix(found)
