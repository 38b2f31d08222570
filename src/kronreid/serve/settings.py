"""What the server was told at its start."""

import ipaddress
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from kronreid.errors import InputError

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
