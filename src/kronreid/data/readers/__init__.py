"""Readers of data sets as their owners distribute them: one file per layout, see docs/datasets.md.

`read(root, layout)` is the way in; without a layout it looks which one the root has.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from kronreid.data.names import describe
from kronreid.data.readers import cuhk03, folders, listed, market1501, msmt17
from kronreid.data.records import ReIDDataset
from kronreid.errors import InputError

__all__ = ["LAYOUTS", "WITH_SPLITS", "describe", "detect", "read"]

LAYOUTS: dict[str, Callable[..., ReIDDataset]] = {
    "market1501": market1501.read_market1501,
    "market1501+500k": partial(market1501.read_market1501, more_distractors=True),
    "dukemtmc": market1501.read_dukemtmc,
    "msmt17": msmt17.read_msmt17,
    "cuhk03-labeled": partial(cuhk03.read_classic, kind="labeled"),
    "cuhk03-detected": partial(cuhk03.read_classic, kind="detected"),
    "cuhk03-np-labeled": partial(cuhk03.read_new_protocol, kind="labeled"),
    "cuhk03-np-detected": partial(cuhk03.read_new_protocol, kind="detected"),
    "folders": folders.read_folders,
    "list": listed.read_listed,
}
#: Layouts that come in several divisions into training and test.
WITH_SPLITS = ("cuhk03-labeled", "cuhk03-detected")


def detect(root: str | Path) -> list[str]:
    """The layouts that `root` looks like, also where something of it is missing; ``folders`` if nothing else.

    Raises:
        InputError: The root is missing or empty.
    """
    root = Path(root)
    if listed.is_list(root):
        return ["list"]
    if not root.is_dir():
        raise InputError(root, "no such folder; the root of a data set, or a list of pictures, is expected")
    if not any(root.iterdir()):
        raise InputError(root, "the folder is empty; the root of a data set is expected")
    found = [*market1501.looks_like(root), *msmt17.looks_like(root), *cuhk03.looks_like(root)]
    return found or ["folders"]


def read(
    root: str | Path, layout: str | None = None, split: int = 0, usual: str | None = None
) -> ReIDDataset:
    """Read a data set. Its training pictures may be missing where the layout has a folder for them, or a list
    without any: evaluation does without.

    Args:
        root: Its folder, or for the layout ``list`` a CSV or Parquet file.
        layout: One of `LAYOUTS`; None looks which one it is.
        split: Which division, for layouts that come in several: 0 to 19 for CUHK03 as first published.
        usual: The layout to take, without `layout`, if the root looks like it.

    Raises:
        InputError: The root is missing or empty, is not laid out so, or could be several layouts.
    """
    found = detect(root)
    if layout is None and usual in found:
        layout = usual
    if layout is None:
        if len(found) > 1:
            raise InputError(root, f"could be read as {', '.join(found)}; choose one with --layout")
        layout = found[0]
    if layout not in LAYOUTS:
        raise InputError(f"--layout {layout} (or data.layout)", f"unknown; one of {', '.join(LAYOUTS)}")
    if layout in WITH_SPLITS:
        return LAYOUTS[layout](Path(root), split=split)
    if split:
        raise InputError(
            f"--split {split} (or data.split)", f"layout {layout} has one division; leave it out"
        )
    return LAYOUTS[layout](Path(root))
