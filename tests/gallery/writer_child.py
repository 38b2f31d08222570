"""Adds, changes and deletes its own entries, and adds some that another process adds as well."""

from datetime import timedelta
from pathlib import Path

import numpy as np

from kronreid.gallery import Entry, lance, lance_table
from kronreid.gallery.lance import LanceStore

#: The table is merged and cleaned all the time.
lance._WRITES_BETWEEN, lance_table.MOST_FRAGMENTS, lance_table.LEAST_WASTE = 3, 3, 1
lance_table.KEPT, lance_table.JUST_WRITTEN = timedelta(seconds=20), 0


def entries(numbers) -> list[Entry]:
    ids = {i: f"{i * 0x9E3779B97F4A7C15 % 2**64:064x}" for i in numbers}
    return [Entry(Path(f"/p/{i}.jpg"), id=id) for i, id in ids.items()]


def main(uri: str, start: int) -> None:
    store = LanceStore(uri, "people")
    shared = entries(range(9_000, 9_020))
    vectors = np.eye(8, dtype=np.float32)
    for step in range(6):
        own = entries(range(start + 10 * step, start + 10 * step + 10))
        store.upsert(own, vectors[np.arange(10) % 8])
        store.upsert(shared[2 * step : 2 * step + 2], vectors[:2])
        store.update([Entry(entry.path, id=entry.id, camera="7") for entry in own[:5]])
        store.delete([own[9].id])
    store.close()


if "uri" in globals():
    main(uri, start)  # type: ignore[name-defined] # noqa: F821
