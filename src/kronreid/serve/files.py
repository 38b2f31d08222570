"""The server's own files, which only their owner may read."""

import contextlib
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from kronreid.data.plain import flags, read_plain
from kronreid.errors import InputError
from kronreid.locks import in_turn

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

#: The start of the names of files that are being written.
UNFINISHED = ".tmp-"


def make_private(folder: Path) -> Path:
    """Make a folder that only its owner may enter, and close an existing one to others; returns it.

    Raises:
        InputError: It cannot be made, is a link, or belongs to somebody else.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise InputError(folder, "is a link or a file, but must be a folder of the server's own")
        if not _ours(status):
            raise InputError(folder, "belongs to another user; choose another folder")
        if status.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise InputError(folder, f"cannot be made ({error.strerror})") from error
    return folder


def refuse_links(folder: Path) -> None:
    """Check that nobody has planted a link among the server's own files, or directly below them.

    Raises:
        InputError: There is one.
    """
    for entry in os.scandir(folder):
        if entry.is_symlink():
            raise InputError(entry.path, "is a link among the server's own files; remove it")
        if entry.is_dir(follow_symlinks=False):
            for inner in os.scandir(entry.path):
                if inner.is_symlink():
                    raise InputError(inner.path, "is a link among the server's own files; remove it")


def own_key(folder: Path) -> bytes:
    """The server's secret key, made at its first use. If it cannot be kept, it ends with the server."""
    path = folder / "key"
    try:
        write_once(make_private(folder) / path.name, secrets.token_bytes(32))
        return read_plain(path, follow=False)
    except (OSError, InputError) as error:
        log.warning("%s cannot be kept (%s)", path, error)
        return secrets.token_bytes(32)


def write_once(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all, unless it exists; returns it.

    Raises:
        OSError: It cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISREG(path.lstat().st_mode):
            return path
    new = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags(follow=False), 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)  # a link in its place is replaced, not followed
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    return path


def append_lines(path: Path, *lines: str) -> None:
    """Append lines in one write, so that lines never mix, and wait until they are on the disk.

    Nothing is left of lines that cannot be written whole.

    Raises:
        OSError: They cannot be written, or the file is a link or somebody else's.
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | flags(follow=False), 0o600)
    try:
        data = "".join(f"{line}\n" for line in lines).encode()
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):  # a pipe to something that collects logs
            _write(handle, data)
            return
        if not _ours(status):
            raise PermissionError(1, "belongs to another user", str(path))
        with _locked(handle, path):  # another writer's line may be incomplete until then
            size = os.fstat(handle).st_size
            if size:
                os.lseek(handle, -1, os.SEEK_END)
                if os.read(handle, 1) != b"\n":
                    data = b"\n" + data  # a crash left half a line, which must not spoil this one
            try:
                _write(handle, data)
                os.fsync(handle)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, size)
                raise
    finally:
        os.close(handle)


def failure(error: OSError | InputError) -> str:
    """Why a file or a folder cannot be written, without its path."""
    return error.what if isinstance(error, InputError) else error.strerror or type(error).__name__


def _write(handle: int, data: bytes) -> None:
    if os.write(handle, data) != len(data):
        raise OSError(28, "No space left on device")


def _ours(status: os.stat_result) -> bool:
    """Whether a file belongs to this process's user; always on systems without users."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


@contextlib.contextmanager
def _locked(handle: int, path: Path) -> Iterator[None]:
    """Keep out other threads and processes that append to the file."""
    if fcntl is None:
        with in_turn(path):
            yield
        return
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield  # closing the file releases it
