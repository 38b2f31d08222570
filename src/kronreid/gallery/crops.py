"""The crops of tracklets: picture files that belong to the gallery itself.

A crop is a JPEG file that begins with a comment: the identifier of its tracklet and the time. So two equal
pictures are different files, and rows of a gallery need not be believed about which files are its own.
"""

from contextlib import suppress
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


def commented(jpeg: bytes, track: str, time: float) -> bytes:
    """A JPEG file as a crop.

    Args:
        jpeg: The file.
        track: The identifier of its tracklet.
        time: When it was taken.
    """
    text = f"{track} {time:.6f}".encode()
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def remove_crop(path: Path, track: str) -> None:
    """Remove a crop. A file that is no crop of this tracklet stays.

    Raises:
        InputError: It cannot be removed.
    """
    with writing(path), suppress(FileNotFoundError):
        with path.open("rb") as file:
            head = file.read(6 + len(track))
        if head[:4] == b"\xff\xd8\xff\xfe" and head[6:] == track.encode():
            path.unlink()
