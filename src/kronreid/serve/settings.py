"""The server's settings, given at its start."""

import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from kronreid.errors import InputError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Shorter tokens are refused, since they could be guessed.
SHORTEST_TOKEN = 16
#: Hosts that stand for every address of this machine.
EVERYWHERE = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True)
class Settings:
    """How the server behaves.

    Attributes:
        host: Address to listen on.
        port: Port; 0 for any free one.
        token: Needed for changes, and if `guarded` for everything.
        guarded: Whether everything needs the token, or only changes. Names and proxies switch it on, since
            with them others may reach the server.
        allow_add: Whether clients may add pictures.
        state: Folder of the server's own files: marks, added pictures, the audit log.
        reports: Folder with reports of evaluations, which the page lists.
        audit: File of the audit log; None for no log.
        cache: Folder that keeps the matcher's maps of candidates for later searches; None for none.
        names: Host names that requests may use, besides IP addresses and ``localhost``.
        proxies: Addresses of the proxies that are believed what they say of their clients.
        upload_bytes: The most bytes of one request.
        upload_pixels: The most pixels of one uploaded picture.
        upload_pictures: The most pictures of one request.
        threads: Searches that run at a time; their pictures go through the network together.
        waiting: Searches that may wait for a thread; more are refused until later.
        timeout: Seconds after which a request fails.
        sources: Only pictures below these folders are opened, and the server's own; without, those below the
            folders that the gallery was filled from.
        keep: The server deletes pictures that were taken longer ago than so many seconds; None for none.
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
    proxies: tuple[Network, ...] = ()
    upload_bytes: int = 32_000_000
    upload_pixels: int = 40_000_000
    upload_pictures: int = 16
    threads: int = 8
    waiting: int = 32
    timeout: float = 30.0
    sources: tuple[Path, ...] = ()
    keep: float | None = None

    def __post_init__(self) -> None:
        if len(self.token) < SHORTEST_TOKEN or not self.token.isascii() or not self.token.isprintable():
            raise InputError("--token", f"must have at least {SHORTEST_TOKEN} printable ASCII characters")
        if not is_loopback(self.host) and not self.guarded:
            raise InputError(
                f"--host {self.host}", "a server that others can reach needs a token for everything"
            )
        if self.names or self.proxies:
            object.__setattr__(self, "guarded", True)
        if self.reports is not None and not self.reports.is_dir():
            raise InputError(f"--reports {self.reports}", "no such folder")
        for folder in self.sources:
            if not folder.is_dir():
                raise InputError(f"--sources {folder}", "no such folder")


def networks(texts: Iterable[str], option: str) -> tuple[Network, ...]:
    """Addresses of proxies, like ``127.0.0.1`` or ``10.0.0.0/24``.

    Raises:
        InputError: One is no address, or stands for everybody.
    """
    found = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text.strip())
        except ValueError:
            raise InputError(f"{option} {text}", "give the proxy's address, like 127.0.0.1") from None
        if not network.prefixlen:
            raise InputError(f"{option} {text}", "means everybody; give the proxy's address")
        found.append(network)
    return tuple(found)


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
    """The default folder of a server's own files: beside the gallery's file, or the current folder."""
    if "://" in gallery:
        return Path("kronreid-serve").absolute()
    return Path(gallery).absolute().with_suffix(".serve")
