"""Which rows of a LanceDB table hold which identifiers: LanceDB does not look them up quickly itself."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from kronreid.gallery.lance_table import scan


class Identifiers:
    """Which row holds which identifier, at the newest version that was asked for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._version = -1
        self._hashes = self._rows = np.empty(0, np.int64)
        self._recent: tuple[Any, dict[str, int]] = (None, {})
        self._ordered: tuple[int, str, np.ndarray] = (-1, "", self._rows)

    def rows(self, table: Any, ids: Sequence[str]) -> np.ndarray:
        """The rows with these identifiers, in their order; those that are not there are left out."""
        searched, recent = self._recent
        if searched is table and all(id in recent for id in ids):
            return np.array([recent[id] for id in ids], np.int64)
        with self._lock:
            if self._version != table.version:
                found = scan(table, ["id"])
                hashes = _hashes(found.column("id").to_pylist())
                order = np.argsort(hashes)
                self._hashes = hashes[order]
                self._rows = found.column("_rowid").to_numpy().astype(np.int64)[order]
                self._version = table.version
            known, rows = self._hashes, self._rows
        wanted = _hashes(ids)
        if not len(known):
            return np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return rows[at[known[at] == wanted]]

    def remember(self, table: Any, ids: Sequence[str], rows: np.ndarray) -> None:
        """Keep what a search found, so that `rows` need not look for it."""
        self._recent = (table, dict(zip(ids, rows.tolist())))

    def ordered(self, table: Any, condition: str) -> np.ndarray:
        """The rows that meet a condition, in the order of their identifiers."""
        version, asked, rows = self._ordered
        if (version, asked) != (table.version, condition):
            found = scan(table, ["id"], condition)
            rows = found.sort_by("id").column("_rowid").to_numpy().astype(np.int64)
            self._ordered = (table.version, condition, rows)
        return rows


class Known:
    """Which identifiers are stored. Only those that are new since the last question are read."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._version = -1
        self._newest = -1
        self._hashes: set[int] = set()

    def among(self, table: Any, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that are stored."""
        with self._lock:
            version = table.version
            if version > self._version:
                # Rows that are new or were moved have larger numbers than all others.
                self._read(table, f"_rowid > {self._newest}" if self._newest >= 0 else "")
                if len(self._hashes) != table.count_rows():  # some were deleted
                    self._hashes.clear()
                    self._read(table, "")
                self._version = version
            return {id for id in ids if hash(id) in self._hashes}

    def _read(self, table: Any, condition: str) -> None:
        found = scan(table, ["id"], condition)
        self._hashes.update(map(hash, found.column("id").to_pylist()))
        if len(found):
            self._newest = int(found.column("_rowid").to_numpy().max())

    def added(self, version: int, ids: Sequence[str]) -> None:
        """Note what this process has just added, which made this version, so that it is not read."""
        with self._lock:
            if self._version == version - 1:
                self._hashes.update(map(hash, ids))
                self._version = version


def _hashes(ids: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
