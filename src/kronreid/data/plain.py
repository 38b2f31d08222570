"""Reading files that others may have exchanged: plain files only, and never more bytes than expected."""

import os
import stat
from pathlib import Path

#: The most bytes of a picture's file. No crop or frame of a camera has as many.
MOST_BYTES = 256_000_000
_PIECE = 1 << 20


def read_plain(path: Path, most: int = MOST_BYTES, *, follow: bool = True) -> bytes:
    """The content of a plain file. Pipes and devices are refused without waiting for them.

    Args:
        path: The file.
        most: Larger files are refused.
        follow: Whether `path` itself may be a link. Links in its folders are always followed.

    Raises:
        OSError: It is missing, no plain file or too large, or cannot be read.
    """
    handle = open_plain(path, follow=follow)
    try:
        pieces, size = [], 0
        while piece := os.read(handle, _PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise OSError(f"{path}: more than {most:,} bytes")
        return b"".join(pieces)
    finally:
        os.close(handle)


def read_below(root: Path, name: str, most: int = MOST_BYTES) -> tuple[bytes, os.stat_result]:
    """A plain file below a folder, and its status. No link below the folder is followed.

    Args:
        root: The folder; it may be a link itself.
        name: The file's path below it, with slashes.
        most: Only so many bytes are read.

    Raises:
        OSError: It is missing, no plain file, or cannot be read.
    """
    *folders, last = name.split("/")
    if any(part in ("", ".", "..") for part in (*folders, last)):
        raise FileNotFoundError(2, "no such file", name)
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            there = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | flags(follow=False), dir_fd=here)
            os.close(here)
            here = there
        _must_be_plain(Path(name), os.stat(last, dir_fd=here, follow_symlinks=False))
        handle = os.open(last, os.O_RDONLY | flags(follow=False), dir_fd=here)
    finally:
        os.close(here)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        _must_be_plain(Path(name), status)
        return file.read(most), status


def open_plain(path: Path, *, follow: bool = True) -> int:
    """A plain file's descriptor for reading; see `read_plain`."""
    try:
        # Opening a device may have effects, so it is looked at first. It is looked at again once it is open,
        # since it may have been exchanged between the two.
        _must_be_plain(path, path.stat(follow_symlinks=follow))
        handle = os.open(path, os.O_RDONLY | flags(follow=follow))
    except ValueError as error:  # a zero byte or a lone surrogate in the name
        raise FileNotFoundError(2, "no file can have this name", str(path)) from error
    try:
        _must_be_plain(path, os.fstat(handle))
    except OSError:
        os.close(handle)
        raise
    return handle


def flags(*, follow: bool) -> int:
    """Flags for `os.open`: never wait for a pipe, and never leave the file open in other programs."""
    names = ["O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOCTTY"] + ([] if follow else ["O_NOFOLLOW"])
    value = 0
    for name in names:  # Windows has no links without privileges and lacks most of these
        value |= getattr(os, name, 0)
    return value


def _must_be_plain(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, "is a folder, no plain file", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path}: no plain file")
