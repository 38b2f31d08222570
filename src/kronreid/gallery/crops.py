"""The crops of tracklets: picture files that belong to the gallery itself."""

from collections.abc import Iterable
from pathlib import Path

from kronreid.data.files import writing
from kronreid.locks import LOCK

#: Name of the file in a recording's folder that says how far it has been followed.
PROGRESS = "progress.json"


def crops_folder(uri: str) -> Path | None:
    """The default folder of a gallery's crops: beside a gallery in a folder; None for any other."""
    return None if "://" in uri else Path(uri).absolute().with_suffix(".crops")


def files_of(folder: Path) -> set[Path]:
    """All files at or below a folder of the gallery's own that should belong to an entry."""
    found = (path for path in folder.absolute().rglob("*") if path.is_file())
    return {path for path in found if path.name not in (PROGRESS, LOCK)}


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files, as far as they are there.

    Raises:
        InputError: A file cannot be removed.
    """
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)
