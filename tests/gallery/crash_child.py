"""Adds a folder of pictures to a gallery and says after each batch how many are safe; made to be killed."""

import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from kronreid.errors import InputError
from kronreid.gallery import Gallery, lance, lance_table

BATCH = 8


class SlowEmbedder:
    """Any vector will do, as long as it is always the same for the same picture."""

    dimension = 64
    fingerprint = "c0ffee"

    def embed(self, images, batch_size=64, progress=False):
        time.sleep(0.01)
        pixels = [np.resize(np.asarray(image).reshape(-1), 64) for image in images]
        return np.array(pixels, np.float32) / 255 + 0.01


def main(uri: str, token: str, folder: Path, say: Connection) -> None:
    """Says 0 before each batch, its size when it is safe, and in the end why it stopped if it had to.

    The table is merged and cleaned all the time, so that kills hit that too.
    """
    lance._WRITES_BETWEEN, lance_table.MOST_FRAGMENTS, lance_table.LEAST_WASTE = 2, 2, 1
    lance_table.JUST_WRITTEN = 0
    try:
        with Gallery(uri, SlowEmbedder(), token=token) as gallery:
            upsert = gallery._store.upsert

            def announced(entries, vectors, places=None):
                say.send(0)
                upsert(entries, vectors, places)
                say.send(len(entries))

            gallery._store.upsert = announced  # type: ignore[method-assign]
            gallery.add(folder, batch_size=BATCH, progress=False)
    except InputError as error:
        say.send(str(error))


if __name__ in ("__main__", "__crash__"):
    main(*(globals()[name] for name in ("uri", "token", "folder", "say")))
