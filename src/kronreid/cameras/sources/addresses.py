"""Addresses of streams: which are accepted, and how they are shown without their passwords."""

import re
from typing import NamedTuple

from kronreid.errors import InputError

#: The kinds of addresses that are opened.
SCHEMES = ("rtsp", "rtsps", "http", "https")
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
#: A host, perhaps with a port, and a path without an @: nothing in it can be a password.
_WITHOUT_USER = re.compile(r"(?:\[[^\]]*\]|[^:@/?#]*)(?::[0-9]*)?(?:/[^@?#]*)?(?:[?#].*)?", re.DOTALL)
#: Parameters whose values are hidden: ``?user=anna&pwd=secret``.
_SECRET = re.compile(
    r"(?P<name>[?&;][^=&;]*(?:pass|pwd|psw|token|secret|key|auth|sig|session|credential)[^=&;]*=)[^&;#]*",
    re.IGNORECASE,
)


class _Parts(NamedTuple):
    """The parts of an address; `user` may include a password."""

    scheme: str
    user: str
    host: str
    path: str


def is_address(text: str) -> bool:
    """Whether a text is the address of a stream and not the name of a file.

    Raises:
        InputError: It is an address of a kind that is not opened, or has no host.
    """
    if not _ADDRESS.match(text):
        return False
    parts = _split(text)
    if parts.scheme.lower() not in SCHEMES:
        raise InputError(shown(text), f"streams of this kind are not opened; use {kinds()}")
    if not parts.host:
        raise InputError(shown(text), "has no host")
    return True


def kinds() -> str:
    """How the addresses of streams begin, for messages."""
    return ", ".join(f"{scheme}://" for scheme in SCHEMES[:-1]) + f" or {SCHEMES[-1]}://"


def shown(text: str) -> str:
    """An address without its password and other secrets, for names, messages and logs."""
    if not _ADDRESS.match(text):
        return text
    parts = _split(text)
    user = f"{parts.user.partition(':')[0]}@" if parts.user else ""
    return f"{parts.scheme}://{user}{parts.host}" + _SECRET.sub(r"\g<name>***", parts.path)


def camera_of(address: str) -> str:
    """The name of a camera: the host and the path of its address."""
    parts = _split(address)
    return (parts.host + re.split("[?#]", parts.path)[0]).rstrip("/")


def _split(address: str) -> _Parts:
    """The parts of an address.

    A password may hold any character, even a slash or an @ that should have been escaped. All up to the last
    @ is therefore taken for the user and the password, unless it cannot be.
    """
    match = _ADDRESS.match(address)
    assert match is not None
    rest = match["rest"]
    user, place = ("", rest) if _WITHOUT_USER.fullmatch(rest) else rest.rpartition("@")[::2]
    end = re.search("[/?#]", place)
    at = end.start() if end else len(place)
    return _Parts(match["scheme"], user, place[:at], place[at:])
