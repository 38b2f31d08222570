"""One LanceDB table that several processes share: opening, locking, retrying, and what its failures mean.

LanceDB keeps every version of a table until it is cleaned up. A reader works on one version, which no writer
changes. In a folder on this machine, writers take turns by a lock beside the table; in an object store they
may collide, and then write again.
"""

import logging
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from kronreid.errors import InputError, one_line
from kronreid.extras import explained
from kronreid.gallery.store import StoreError

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: In an object store, versions younger than this are never removed by the way: no write may lose what it
#: works on. In a folder writes take turns, and a search whose version has been removed reads the next one.
KEPT = timedelta(minutes=2)
#: In a folder, versions of the last seconds stay where no data is removed: somebody may be opening them.
JUST_WRITTEN = 10.0
#: The table is cleaned when what is left of old versions takes this share of its own size, and this much;
#: after many additions, when it takes a smaller share.
WASTE, SETTLED_WASTE, LEAST_WASTE = 1.0, 0.25, 64 * 10**6
#: Measuring the files takes time for each of them. So after it has measured N times this many files, a
#: process looks after the table N times without measuring.
FILES_A_TIDY = 1_000
#: Many small fragments slow every search and write; more are merged.
MOST_FRAGMENTS = 32
#: A fragment of this many rows is not merged with others.
LARGE_FRAGMENT = 50_000
#: A write that collides with another process's is tried this often.
TRIES = 10
_FIRST_PAUSE = 0.05
#: How long a writer waits for its turn: another process may be cleaning a large table.
_TURN_SECONDS = 600.0

#: In files of format 2.1 and later, vectors take two to three times as long to read as in those of 2.0.
_CREATED = {"new_table_enable_v2_manifest_paths": "true", "new_table_data_storage_version": "2.0"}

#: How a folder is read, unless the environment says otherwise. LanceDB would read ahead with 8 threads and up
#: to 2 GB, which is no faster and keeps twice the memory.
_READING = {"LANCE_IO_THREADS": "2", "LANCE_DEFAULT_IO_BUFFER_SIZE": "67108864"}

#: Bytes that LanceDB may keep of indexes, and of the description of versions, which it also keeps of versions
#: that are gone. A fragment has 25 to 50 kB.
_CACHES = 10**9, 16 * 10**6

_FULL = ("no space left", "storagefull", "disk quota", "os error 28", "os error 122")
_FORBIDDEN = ("permission denied", "read-only file system", "os error 13", "os error 30")
_COLLISIONS = ("commit conflict", "concurrent", "retryable", "too many concurrent writers")
_GONE = ("not found", "no such file", "os error 2)")
_DAMAGED = ("failed to fill whole buffer", "corrupt", "invalid magic", "too small", "failed to decode")
_REPAIR = "kronreid gallery repair keeps what can still be read"


class Gone(InputError):
    """A file of the table is missing: another process has removed this version, or somebody the file."""


class Collision(InputError):
    """Another process wrote at the same time."""


class SharedTable:
    """A table of a LanceDB database. Threads may share one.

    Args:
        uri: A folder, or an address of an object store like ``s3://bucket/people``.
        name: The table's name.

    Raises:
        InputError: LanceDB is not installed, or the address cannot be opened.
    """

    def __init__(self, uri: str, name: str) -> None:
        self.uri, self.name = uri, name
        self.folder = None if "://" in uri else Path(uri).absolute()
        if self.folder is not None:
            for setting, value in _READING.items():
                os.environ.setdefault(setting, value)
        self._lock = Lock()
        self._version = -1  # of the reader
        self._sizes: dict[int, int] = {}  # of the fragments, when this process tidied last
        self._unmeasured = 0  # how often this process will tidy before it measures the files again
        self._closed = False
        with explained(uri), self.trouble():
            self._connect()

    def _connect(self) -> None:
        """Open the database with empty caches. Reads and writes that have begun go on with the old ones."""
        import lancedb

        address = self.uri if self.folder is None else str(self.folder)
        with self._lock:
            self._database = lancedb.connect(address, session=lancedb.Session(*_CACHES))
            self._probe: Any = None
            self._reader: Any = None

    # ── opening ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def exists(self) -> bool:
        if self.folder is not None:
            return (self.folder / f"{self.name}.lance").is_dir()
        with self.trouble():
            return self.name in self._database.table_names(limit=10_000)

    def create(self, schema: Any) -> None:
        """Create the table; nothing happens if another process has just done so."""
        with self.turn(), self.trouble():
            if not self.exists:
                self._database.create_table(self.name, schema=schema, storage_options=_CREATED)

    def latest(self) -> Any:
        """The table at its newest version. It stays at that version, and is the same object until then."""
        with self._lock, self.trouble():
            if self._closed:
                raise InputError(self.uri, "the gallery is closed; open it again")
            if self._reader is not None:
                if self._probe is None:
                    self._probe = self._database.open_table(self.name)
                else:
                    self._probe.checkout_latest()
                if self._version == self._probe.version:
                    return self._reader
            self._reader = self._database.open_table(self.name)
            self._version = self._reader.version
            return self._reader

    def read(self, action: Callable[[Any], Answer]) -> Answer:
        """Do something with the newest version; again with a newer one, if it is removed meanwhile."""
        tried: set[int] = set()
        for _ in range(TRIES):
            version = -1
            try:
                with self.trouble():
                    table = self.latest()
                    version = table.version
                    return action(table)
            except Gone:
                if version in tried:  # nobody has removed it: one of its files is missing
                    raise
                tried.add(version)
                with self._lock:
                    self._reader = self._probe = None
        raise InputError(self.uri, "changes faster than it can be read; try again in a moment")

    def close(self) -> None:
        with self._lock:
            self._closed, self._probe, self._reader = True, None, None

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Take this process's turn to write. In an object store there are no turns."""
        if self.folder is None:
            yield
            return
        lock = FileLock(self.folder / ".lock", mode=0o666)
        try:
            self.folder.mkdir(exist_ok=True)
            lock.acquire(timeout=_TURN_SECONDS, poll_interval=0.005)
        except Timeout:
            raise InputError(
                self.uri, f"another process has been writing for {_TURN_SECONDS:.0f} s; try again"
            ) from None
        except OSError as error:
            raise self._explained(error) from error
        try:
            yield
        finally:
            lock.release()

    def write(self, action: Callable[[Any], Answer]) -> Answer:
        """Write in turn to the newest version, and again after a collision with another process.

        A file that is missing is tried again as well, since another process may just have cleaned up.
        """
        with self.turn():
            for number in range(TRIES):
                try:
                    with self.trouble():
                        return action(self._database.open_table(self.name))
                except (Collision, Gone) as error:
                    if number == TRIES - 1 or (isinstance(error, Gone) and number == 3):
                        raise
                    time.sleep(_FIRST_PAUSE * 2**number * random.uniform(0.5, 1.5))
        raise AssertionError("not reached")

    # ── keeping it small ────────────────────────────────────────────────────────────────────────────

    def tidy(self, waste: float = WASTE) -> None:
        """Merge small fragments, and remove old versions, also from memory.

        Each write leaves some 60 kB in LanceDB's caches. They are emptied here, unless they also hold an
        index, which is expensive to read again.

        Args:
            waste: What they have left may be so much of the table's size, before it is removed in a folder.
        """

        def tidy(table: Any) -> None:
            if not table.list_indices():
                self._connect()
            self._merge(table)
            if self.folder is None:
                self._clean(table, KEPT)
                return
            self._forget_versions(table, JUST_WRITTEN)
            self._unmeasured -= 1
            if self._unmeasured < 0 or waste < WASTE:
                live = table.stats()["total_bytes"]
                size, files = measured(self._files / "data")
                self._unmeasured = files // FILES_A_TIDY
                if size - live >= max(LEAST_WASTE, waste * live):
                    self._clean(table, timedelta(0))

        self.write(tidy)

    def _merge(self, table: Any) -> None:
        """Merge the last fragments, if there are many. Reads only what is new since the last time.

        The sizes of older fragments may be out of date, since rows of them may have been deleted.
        """
        number = table.stats()["fragment_stats"]["num_fragments"]
        if number <= MOST_FRAGMENTS:
            return
        sizes = self._sizes | dict(fragments(table, 1 + max(self._sizes, default=-1)))
        if len(sizes) != number:  # another process has merged some
            sizes = dict(fragments(table))
        numbers = list(sizes)
        start = _mergeable(list(sizes.values()))
        if start < len(numbers):
            rewrite(table, numbers[start], numbers[-1])
        self._sizes = {kept: sizes[kept] for kept in numbers[:start]}

    def purge(self) -> None:
        """Remove everything that deleted and changed rows have left in the table's files."""

        def purge(table: Any) -> None:
            self._clean(table, timedelta(0))
            if self.folder is None:
                holes = [number for number, _ in fragments(table)]
            else:  # a fragment with deleted rows has a file here, which begins with its number
                files = (self._files / "_deletions").glob("*-*")
                holes = sorted({int(file.name.partition("-")[0]) for file in files})
            for number in holes:
                rewrite(table, number, number)
            if holes:
                self._clean(table, timedelta(0))

        self.write(purge)

    @property
    def _files(self) -> Path:
        """The folder of the table's files."""
        assert self.folder is not None
        return self.folder / f"{self.name}.lance"

    def _clean(self, table: Any, kept: timedelta) -> None:
        """Merge fragments and remove what belongs only to versions older than `kept`. Only with turns is it
        known that a file that belongs to no version is not being written now."""
        in_turn = self.folder is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it warns about `kept` of zero
            table.optimize(cleanup_older_than=kept, delete_unverified=in_turn)
            # LanceDB keeps versions that were written before the clock was set back: they seem to be new.
            if in_turn and self._forget_versions(table, 0):
                table.optimize(cleanup_older_than=kept, delete_unverified=True)

    def _forget_versions(self, table: Any, kept: float) -> int:
        """Remove old versions themselves in a folder, but not yet the data that belongs to them alone.

        Searching for the newest version takes the longer, the more there are.

        Args:
            table: The newest version.
            kept: Seconds for which a version stays, by the times of the files: somebody may be opening it. A
                file from the future is old, since the clock has been set back.

        Returns:
            How many.
        """
        newest = f"{2**64 - 1 - table.version:020}.manifest"
        files = {file.name: file for file in (self._files / "_versions").glob("*.manifest")}
        if files.pop(newest, None) is None:
            return 0
        now = time.time()
        old = [file for file in files.values() if not 0 <= now - file.stat().st_mtime < kept]
        for file in old:
            file.unlink()
        return len(old)

    # ── failures ────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Turn LanceDB's errors into ours."""
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, StoreError | InputError):
                raise
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> Exception:
        said = str(error).lower()
        if any(sign in said for sign in _FULL):
            return InputError(self.uri, "the disk is full; free some space and run the same command again")
        if any(sign in said for sign in _FORBIDDEN):
            return InputError(self.uri, "no permission to read or write it; change its owner or its rights")
        if any(sign in said for sign in _COLLISIONS):
            return Collision(self.uri, "other processes write all the time; try again in a moment")
        if ".lance" in said and any(sign in said for sign in _GONE):
            return Gone(self.uri, f"a file of it is missing; {_REPAIR}")
        if any(sign in said for sign in _DAMAGED):
            return InputError(self.uri, f"a file of it is damaged; {_REPAIR}")
        return StoreError(f"{self.uri}: {one_line(error)}")


def fragments(table: Any, first: int = 0) -> list[tuple[int, int]]:
    """The number of each fragment of a table from `first` on, and how many rows it has, oldest first."""
    rows = rows_of(table, f"_rowid >= {first << 32}" if first else "")
    numbers, sizes = np.unique(rows >> 32, return_counts=True)
    return list(zip(numbers.tolist(), sizes.tolist()))


def fragments_by_count(table: Any) -> list[tuple[int, int]]:
    """The same as `fragments`, without reading a file of data: some may be damaged."""

    def count(first: int, last: int) -> int:
        return int(table.count_rows(within(first, last)))

    def split(first: int, last: int, size: int) -> list[tuple[int, int]]:
        if not size or first == last:
            return [(first, size)] if size else []
        middle = (first + last) // 2
        below = count(first, middle)
        return split(first, middle, below) + split(middle + 1, last, size - below)

    total, last = table.count_rows(), 1
    while count(0, last) < total:
        last = 2 * last + 1
    return split(0, last, total)


def rows_of(table: Any, condition: str = "") -> Any:
    """The rows that meet a condition, int64 in ascending order. A row's upper half is its fragment."""
    # With no column at all, LanceDB is several times slower.
    found = scan(table, ["stamp"], condition).column("_rowid").to_numpy()
    return np.sort(found.astype(np.int64))


def scan(table: Any, columns: list[str], condition: str = "") -> Any:
    """Columns and ``_rowid`` of the rows that meet a condition, as an Arrow table."""
    query = table.search().select(columns).with_row_id(True).limit(2**31 - 1)
    return (query.where(condition) if condition else query).to_arrow()


def take(table: Any, rows: Any, columns: list[str]) -> Any:
    """Columns and ``_rowid`` of the rows with these numbers, in any order, as an Arrow table."""
    return table.take_row_ids(list(map(int, rows))).select(columns).with_row_id().to_arrow()


def matrix(found: Any) -> np.ndarray:
    """The column ``vector`` of an Arrow table, (N, D) float32."""
    column = found.column("vector").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(found), column.type.list_size)


def within(first: int, last: int | None = None) -> str:
    """The condition that a row lies in a fragment, or in one from `first` to `last`."""
    return f"_rowid >= {first << 32} AND _rowid < {((first if last is None else last) + 1) << 32}"


def rewrite(table: Any, first: int, last: int) -> None:
    """Write the rows of these fragments into a new fragment, in one step."""
    table.update(where=within(first, last), values_sql={"source": "`source`"})


def _mergeable(sizes: list[int]) -> int:
    """From which fragment on to merge: few are left, and over time a row is moved only a few times."""
    small = next((i + 1 for i in reversed(range(len(sizes))) if sizes[i] >= LARGE_FRAGMENT), 0)
    if len(sizes) - small <= MOST_FRAGMENTS:
        return len(sizes)
    start, total = len(sizes) - 1, sizes[-1]
    # The last ones together, as long as the one before is not much larger than they are.
    while start > small and (sizes[start - 1] <= 2 * total or len(sizes) - start < MOST_FRAGMENTS):
        start -= 1
        total += sizes[start]
    return start


def measured(folder: str | PathLike[str]) -> tuple[int, int]:
    """The size and the number of all files below a folder; files that vanish meanwhile count nothing."""
    size = number = 0
    with suppress(OSError), os.scandir(folder) as files:
        for file in files:
            with suppress(OSError):
                found = measured(file) if file.is_dir() else (file.stat().st_size, 1)
                size, number = size + found[0], number + found[1]
    return size, number
