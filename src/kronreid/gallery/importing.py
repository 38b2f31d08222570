"""Bringing over a gallery of Milvus Lite, the engine of older versions."""

from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kronreid.errors import InputError
from kronreid.extras import explained
from kronreid.gallery.entries import FIELDS, Entry
from kronreid.gallery.sources import Sources
from kronreid.gallery.store import is_old, open_store

_BATCH = 1_000


def bring_over(old: str, new: str, collection: str = "people", token: str = "") -> int:
    """Copy all entries of an old gallery, with their vectors. After an interruption, do it again.

    Args:
        old: A folder whose name ends in ``.db``. It stays as it is.
        new: The address of the new gallery, which is created if it is missing.
        collection: Name of the collection.
        token: Credentials, if the new gallery is on a server.

    Returns:
        How many were copied.

    Raises:
        InputError: The old gallery cannot be read, kronreid[milvus] is not installed, or the new gallery was
            made by another model.
    """
    if not is_old(Path(old)):
        raise InputError(old, "is no gallery of an older version (a folder of Milvus Lite, ending in .db)")
    with explained(f"reading {old}"):
        from kronreid.gallery.milvus import MilvusStore

        source = MilvusStore(old, collection)
    try:
        if not source.exists:
            raise InputError(old, f"holds no gallery {collection!r}")
        properties = source.properties()
        target = open_store(new, collection, token)
        try:
            if not target.exists:
                target.create(int(properties["kronreid.dimension"]), properties)
            elif target.properties().get("kronreid.fingerprint") != properties["kronreid.fingerprint"]:
                raise InputError(new, f"was made by another model than {old}; choose another name")
            copied, sources = 0, Sources.of(new)
            rows = source.rows([*FIELDS, "vector"])
            with tqdm(total=source.count(), unit=" pictures", desc="copying", disable=None) as bar:
                while some := list(islice(rows, _BATCH)):
                    vectors = np.stack([row["vector"] for row in some])
                    entries = [Entry.from_row(row) for row in some]
                    sources.add(entry.path for entry in entries)
                    target.upsert(entries, vectors)
                    copied += len(some)
                    bar.update(len(some))
            target.settle(copied)
            return copied
        finally:
            target.close()
    finally:
        source.close()
