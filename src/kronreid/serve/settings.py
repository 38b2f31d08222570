"""What the server was told at its start."""

import ipaddress
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from kronreid.errors import InputError
from kronreid.locks import in_turn

#: Shorter tokens could be guessed.
SHORTEST_TOKEN = 16
#: Hosts that mean every address of this machine.
EVERYWHERE = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True)
class Settings:
    """How the server behaves.

    Attributes:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        token: Who knows it may change things, and, if `guarded`, do anything.
        guarded: Whether everything needs the token; else only changes do.
        allow_add: Pictures may be added.
        state: Folder for what the server keeps: marks, pictures that were added, the audit log.
        reports: Folder with pages that evaluations wrote, to be opened from the page.
        audit: The audit log; None keeps none.
        cache: Where the matcher's maps of candidates are kept for later searches; None keeps none.
        names: Names under which the server may be asked for, besides any IP address and ``localhost``.
        upload_bytes: Most bytes of one request.
        upload_pixels: Most pixels of one uploaded picture.
        upload_pictures: Most pictures of one request.
        threads: Searches in work at once; their pictures pass the network together.
        waiting: Searches that may wait for a thread; more are told to come back.
        timeout: Seconds after which a request is given up.
    """

    state: Path
    token: str
    guarded: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    allow_add: bool = False
    reports: Path | None = None
    audit: Path | None = None
    cache: Path | None = None
    names: frozenset[str] = field(default=frozenset())
    upload_bytes: int = 32_000_000
    upload_pixels: int = 40_000_000
    upload_pictures: int = 16
    threads: int = 8
    waiting: int = 32
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if len(self.token) < SHORTEST_TOKEN or not self.token.isascii() or not self.token.isprintable():
            raise InputError("--token", f"at least {SHORTEST_TOKEN} printable ASCII characters are needed")
        if not is_loopback(self.host) and not self.guarded:
            raise InputError(
                f"--host {self.host}", "a server that others can reach must be guarded by a token"
            )
        if self.reports is not None and not self.reports.is_dir():
            raise InputError(f"--reports {self.reports}", "no such folder")


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def state_folder(gallery: str) -> Path:
    """Where a server keeps its things unless told otherwise: beside the gallery's file, or here."""
    if gallery.startswith(("http://", "https://")):
        return Path("kronreid-serve").absolute()
    return Path(gallery).absolute().with_suffix(".serve")


def make_private(folder: Path) -> Path:
    """A folder that only its owner may enter; made if need be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be made ({error.strerror})") from error
    return folder


def append_line(path: Path, line: str) -> None:
    """Append to a file that only its owner may read: one write, so that lines never mix, and on to the disk.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists() and not path.is_file():  # a pipe to something that collects logs
        _append(path, line)
        return
    with in_turn(path):  # another's line may be half there
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
                data = b"\n" + data  # half a line, of a crash or a full disk, must not spoil this one
        if os.write(handle, data) != len(data):
            raise OSError("the disk is full")
        if plain:
            os.fsync(handle)
    finally:
        os.close(handle)
