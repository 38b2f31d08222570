"""The server's own files, which only their owner may read."""

import os
import stat
import threading
from pathlib import Path

from kronreid.errors import InputError
from kronreid.locks import in_turn


def make_private(folder: Path) -> Path:
    """Make a folder that only its owner may enter, unless it exists; returns it.

    Raises:
        InputError: It cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be made ({error.strerror})") from error
    return folder


def write_once(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all, unless it exists; returns it.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists():
        return path
    new = path.with_name(f".{path.name}.{threading.get_ident()}")
    try:
        new.touch(mode=0o600)
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    return path


def append_line(path: Path, line: str) -> None:
    """Append a line in one write, so that lines never mix, and wait until it is on the disk.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists() and not path.is_file():  # a pipe to something that collects logs
        _append(path, line)
        return
    with in_turn(path):  # another writer's line may be incomplete until then
        _append(path, line)


def _append(path: Path, line: str) -> None:
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        data = (line + "\n").encode()
        status = os.fstat(handle)
        plain = stat.S_ISREG(status.st_mode)
        if plain and status.st_size:
            os.lseek(handle, -1, os.SEEK_END)
            if os.read(handle, 1) != b"\n":
                data = b"\n" + data  # a crash or a full disk left half a line, which must not spoil this one
        if os.write(handle, data) != len(data):
            raise OSError("the disk is full")
        if plain:
            os.fsync(handle)
    finally:
        os.close(handle)
