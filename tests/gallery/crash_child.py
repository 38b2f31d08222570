"""Adds a folder of pictures to a gallery and says after each batch how many are safe; made to be killed."""

import sys
import time
from pathlib import Path

import numpy as np

from kronreid.errors import InputError
from kronreid.gallery import Gallery
from kronreid.gallery.store import Store


class SlowEmbedder:
    """Any vector will do, as long as it is always the same for the same picture."""

    dimension = 64
    fingerprint = "slow"

    def embed(self, images, batch_size=64, progress=False):
        time.sleep(0.01)
        pixels = [np.resize(np.asarray(image).reshape(-1), 64) for image in images]
        return np.array(pixels, np.float32) / 255 + 0.01


def main(uri: str, folder: str) -> None:
    upsert = Store.upsert

    def announced(self, entries, vectors):
        print("writing", flush=True)
        upsert(self, entries, vectors)
        print("safe", len(entries), flush=True)

    Store.upsert = announced  # type: ignore[method-assign]
    with Gallery(uri, SlowEmbedder()) as gallery:
        report = gallery.add(Path(folder), batch_size=8)
        print("done", report.added, report.skipped_existing, flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except InputError as error:
        sys.exit(str(error))
