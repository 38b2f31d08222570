"""Writes, changes, expires and deletes while the system clock is set back and forth; made for libfaketime."""

import os
import sys
import time
from pathlib import Path

import numpy as np

from kronreid.gallery import Entry, Selection, lance, lance_table
from kronreid.gallery.lance import LanceStore
from kronreid.gallery.upkeep import delete, older_than

HOUR = 3600
VECTORS = np.eye(16, dtype=np.float32)


def entries(step: int) -> list[Entry]:
    """Eight pictures, of which two were taken three hours ago."""
    return [
        Entry(
            Path(f"/p/secret-{step}-{number}-name.jpg"),
            time=time.time() - (3 * HOUR if number < 2 else 60),
            id=f"{(8 * step + number) * 0x9E3779B97F4A7C15 % 2**64:064x}",
        )
        for number in range(8)
    ]


def manifests(folder: Path) -> set[Path]:
    return set((folder / "people.lance" / "_versions").glob("*.manifest"))


def main(uri: Path, clock: Path, steps: list[str]) -> None:
    """Set the clock, which `clock` tells libfaketime, and write; purge after every second step."""
    lance_table.MOST_FRAGMENTS, lance_table.LEAST_WASTE = 2, 1
    store = LanceStore(str(uri), "people")
    store.create(16, {})
    expected: set[str] = set()
    for number, step in enumerate(steps):
        before = time.time()
        clock.write_text(step)
        assert abs(time.time() - before) > HOUR, "the clock was not set"
        purges = number % 2 == 1
        lance._WRITES_BETWEEN = 100 if purges else 4  # the others look after the table by the way
        known = manifests(uri)
        some = entries(number)
        for entry, vector in zip(some, VECTORS):
            store.upsert([entry], vector[None])
        store.update([Entry(entry.path, camera="7", time=entry.time, id=entry.id) for entry in some[:4]])
        for file in manifests(uri) - known:  # libfaketime does not change the times of files
            os.utime(file, (time.time(), time.time()))
        assert delete(store, older_than("2h", Selection(id=[entry.id for entry in some])), bool) == 2
        store.delete([some[7].id])
        expected |= {entry.id for entry in some[2:7]}
        assert {row["id"] for row in store.rows(["id"])} == expected == store.existing(sorted(expected))
        assert store.search(VECTORS[5], 1)[0][1] == 1
        assert len(manifests(uri)) < 30
        if purges:
            store.purge()
            assert len(manifests(uri)) == 1
            everything = b"".join(file.read_bytes() for file in uri.rglob("*") if file.is_file())
            for gone, entry in enumerate(some):
                assert (os.fsencode(entry.path.name) in everything) == (gone not in (0, 1, 7)), (step, gone)
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
