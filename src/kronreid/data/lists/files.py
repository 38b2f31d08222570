"""Reading the files of lists, and looking for the files they name without exceptions for odd names."""

import codecs
import io
import os
from pathlib import Path

from kronreid.errors import InputError

#: Number of bytes that are inspected to detect the encoding.
SEEN = 200


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16, with or without a byte order mark.

    Bytes that are not valid UTF-8 are kept as Python keeps them in file names (``surrogateescape``), so a
    path in any encoding still names its file.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    start = content[:SEEN]
    for first, encoding in (
        (1, "utf-16-le"),
        (0, "utf-16-be"),
    ):  # half of the bytes of letters and digits are 0
        if 3 * start[first::2].count(0) > len(start) and not start[1 - first :: 2].count(0):
            return content.decode(encoding, "replace")
    return content.decode("utf-8-sig", "surrogateescape")


def read_lines(path: Path) -> list[str]:
    """The lines of `read_text`, each with its end.

    Raises:
        InputError: The file cannot be read.
    """
    return list(io.StringIO(read_text(path), newline=""))  # str.splitlines would split at rarer characters


def is_file(path: Path) -> bool:
    """Whether there is such a file. Unlike `Path.is_file` it raises no error for a name that is too long."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, without errors as in `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def folders_in(folder: Path) -> list[Path]:
    """The sorted folders in a folder, without hidden ones; none if it cannot be read."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except OSError:
        return []
    return [folder / name for name in names if is_folder(folder / name)]
