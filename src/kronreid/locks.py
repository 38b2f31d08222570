"""Locks for files that several processes write. They work on every system and end with their process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kronreid.errors import InputError

#: The lock of a whole folder.
LOCK = ".lock"
_PAUSE_SECONDS = 0.005


@contextmanager
def alone(folder: Path, busy: str) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs.

    A file system without locks keeps nobody out.

    Args:
        folder: It is made if it is missing.
        busy: What to say if another process has it.

    Raises:
        InputError: Another process has it, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror or error})") from None
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(folder, busy) from None
    except OSError:  # no locks, or a folder that is read-only, which the first file to be written finds out
        pass
    try:
        yield
    finally:
        lock.release()


@contextmanager
def in_turn(file: Path) -> Iterator[None]:
    """Wait until no other thread or process is in such a block for the same file.

    The lock is a file of its own, with ``.lock`` added to the name, which only its owner may open.

    Raises:
        OSError: That file cannot be written.
    """
    with FileLock(f"{file}.lock", mode=0o600).acquire(poll_interval=_PAUSE_SECONDS):
        yield
