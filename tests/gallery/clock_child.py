"""Writes, changes, expires and deletes at the time that libfaketime says."""

import os
import sys
import time
from pathlib import Path

import numpy as np

from kronreid.gallery import Entry, Selection
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


def main(uri: Path, number: int) -> None:
    """Write, change, expire and delete, as the step with this number."""
    store = LanceStore(str(uri), "people")
    store.create(16, {})
    known, some = manifests(uri), entries(number)
    for entry, vector in zip(some, VECTORS):
        store.upsert([entry], vector[None])
    store.update([Entry(entry.path, camera="7", time=entry.time, id=entry.id) for entry in some[:4]])
    assert delete(store, older_than("2h", Selection(id=[entry.id for entry in some])), bool) == 2
    store.delete([some[7].id])
    for file in manifests(uri) - known:  # libfaketime does not change the times of files
        os.utime(file, (time.time(), time.time()))
    expected = {entry.id for step in range(number + 1) for entry in entries(step)[2:7]}
    assert {row["id"] for row in store.rows(["id"])} == expected == store.existing(sorted(expected))
    assert store.search(VECTORS[5], 1)[0][1] == 1
    store.close()


def forget(uri: Path, steps: int) -> None:
    """Remove the bytes of what is gone, and check that."""
    store = LanceStore(str(uri), "people")
    store.purge()
    store.close()
    assert len(manifests(uri)) == 1
    everything = b"".join(file.read_bytes() for file in uri.rglob("*") if file.is_file())
    for step in range(steps):
        for gone, entry in enumerate(entries(step)):
            assert (os.fsencode(entry.path.name) in everything) == (gone not in (0, 1, 7)), (step, gone)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
