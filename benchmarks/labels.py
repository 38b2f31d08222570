"""Labels to measure with: Market-1501's official lists where there are some, else random ones like them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

MARKET = (3368, 19732, 750, 6)  # queries, gallery, identities, cameras
MSMT17 = (11659, 82161, 3060, 15)
Labels = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # query ids, cameras, gallery ids, cameras


def folder(text: str) -> Path:
    """A folder that exists."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return Path(text)


def add_labels(parser: argparse.ArgumentParser) -> None:
    """The options that say which labels `read_labels` gives."""
    shared = os.environ.get("KRONREID_SHARED")
    default = Path(shared) / "data" / "market1501_labels" if shared else None
    parser.add_argument("--labels", type=folder, default=default, help="folder of Market-1501's label files")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the sizes, to try the script")


def read_labels(folder: Path | None, scale: float, size: str) -> Labels:
    """Market-1501's official lists, or random ones of the sizes of Market-1501 or MSMT17."""
    if size == "market" and folder is not None and scale == 1:
        from scipy.io import loadmat

        def read(name: str) -> np.ndarray:
            arrays = loadmat(folder / f"{name}.mat")
            return next(v for k, v in arrays.items() if not k.startswith("__")).reshape(-1).astype(np.int64)

        return read("queryID"), read("queryCam"), read("testID"), read("testCam")
    queries, gallery, people, cameras = MARKET if size == "market" else MSMT17
    queries, gallery, people = (max(20, int(scale * count)) for count in (queries, gallery, people))
    rng = np.random.default_rng(0)
    gallery_ids = rng.integers(1, people + 1, gallery)
    if size == "market":
        gallery_ids[rng.random(gallery) < 3819 / 19732] = -1
        gallery_ids[rng.random(gallery) < 2798 / 15913] = 0
    return (
        rng.integers(1, people + 1, queries),
        rng.integers(0, cameras, queries),
        gallery_ids,
        rng.integers(0, cameras, gallery),
    )
