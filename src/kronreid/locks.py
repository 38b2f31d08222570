"""Locks for files that several processes write. They work on every system and end with their process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kronreid.errors import InputError

#: Name of the lock file of a folder.
LOCK = ".lock"
_PAUSE_SECONDS = 0.005


@contextmanager
def alone(folder: Path, busy: str) -> Iterator[None]:
    """Lock a folder against other processes while the block runs.

    On a file system without locks this has no effect.

    Args:
        folder: The folder; it is created if it is missing.
        busy: Error message if another process holds the lock.

    Raises:
        InputError: Another process holds the lock, or the folder cannot be created.
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
    except OSError:  # there are no locks, or the folder is read-only, which writing the first file reports
        pass
    try:
        yield
    finally:
        lock.release()


@contextmanager
def in_turn(file: Path) -> Iterator[None]:
    """Run the block while no other thread or process runs such a block for the same file.

    The lock is a separate file with ``.lock`` added to the name. Only its owner may open it.

    Args:
        file: The file to protect.

    Raises:
        OSError: The lock file cannot be written.
    """
    with FileLock(f"{file}.lock", mode=0o600).acquire(poll_interval=_PAUSE_SECONDS):
        yield
