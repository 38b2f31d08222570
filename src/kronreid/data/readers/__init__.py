"""Readers of data sets as their owners distribute them: one file per layout, see docs/datasets.md.

`read(root, layout)` reads a data set. Without a layout it finds out which one the root has.
"""

from dataclasses import replace
from pathlib import Path

from kronreid.data.names import describe
from kronreid.data.readers import cuhk03, folders, listed, market1501, msmt17
from kronreid.data.readers.layout import Layout
from kronreid.data.records import ReIDDataset
from kronreid.errors import InputError
from kronreid.registry import Registry

__all__ = ["LAYOUTS", "Layout", "count_splits", "describe", "detect", "read"]

#: The layouts by name.
LAYOUTS: Registry[Layout] = Registry(
    "layout",
    {
        "market1501": market1501.MARKET,
        "market1501+500k": market1501.MARKET_500K,
        "dukemtmc": market1501.DUKE,
        "msmt17": msmt17.V1,
        "msmt17-v2": msmt17.V2,
        "cuhk03-labeled": cuhk03.LABELED,
        "cuhk03-detected": cuhk03.DETECTED,
        "cuhk03-np-labeled": cuhk03.NEW_LABELED,
        "cuhk03-np-detected": cuhk03.NEW_DETECTED,
        "folders": folders.LAYOUT,
        "list": listed.LAYOUT,
    },
)


def detect(root: str | Path) -> list[str]:
    """The layouts that `root` looks like, even if files are missing; ``folders`` if it looks like no other.

    Raises:
        InputError: The root is missing or empty.
    """
    root = Path(root)
    found = [name for name, layout in LAYOUTS.items() if layout.looks_like(root)]
    if found:
        return found
    if not root.is_dir():
        raise InputError(root, "no such folder; the root of a data set, or a list of pictures, is expected")
    _must_hold_something(root)
    return ["folders"]


def read(
    root: str | Path, layout: str | None = None, split: int = 0, usual: str | None = None
) -> ReIDDataset:
    """Read a data set.

    Its training pictures may be missing if the layout has a folder for them, and a list may have none:
    evaluation does not need them.

    Args:
        root: Its folder, or for the layout ``list`` a CSV or Parquet file.
        layout: One of `LAYOUTS`; None finds out which one it is.
        split: Which division, for a layout that has several: 0 to 19 for CUHK03 as first published.
        usual: The layout to prefer if `layout` is None and the root looks like several.

    Raises:
        InputError: The root is missing or empty, is not laid out so, or could be several layouts.
    """
    root = Path(root)
    if layout is None:
        found = detect(root)
        if usual not in found and len(found) > 1:
            raise InputError(root, f"could be read as {', '.join(found)}; choose one with --layout")
        layout = usual if usual in found else found[0]
    elif root.is_dir():
        _must_hold_something(root)
    elif not root.is_file():
        raise InputError(root, "no such folder or file; the root of a data set, or a list, is expected")
    known = LAYOUTS.named(layout, "--layout (or data.layout)")
    if split and not known.splits:
        raise InputError(
            f"--split {split} (or data.split)", f"layout {layout} has one division; leave it out"
        )
    dataset = known.read(root, split=split) if known.splits else known.read(root)
    return replace(dataset, name=layout)


def count_splits(dataset: ReIDDataset) -> int:
    """The number of divisions of a data set that was read.

    Raises:
        InputError: Its layout has only one.
    """
    counted = LAYOUTS[dataset.name].count_splits
    if counted is None:
        raise InputError("--split all", f"layout {dataset.name} has one division; leave it out")
    return counted(dataset.root)


def _must_hold_something(root: Path) -> None:
    if not any(root.iterdir()):
        raise InputError(root, "the folder is empty; the root of a data set is expected")
