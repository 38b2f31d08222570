"""Sessions: a browser that has shown the token gets an identifier, which ends, and can be ended."""

import hashlib
import secrets
import threading
import time

#: How long a session lasts, in seconds.
LASTS = 12 * 3600.0
#: The most sessions at a time. The oldest ends when there are more.
MOST = 1000


class Sessions:
    """The sessions of one server. They are kept in memory, so they end with the server at the latest."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, tuple[str, float]] = {}  # by the hash of what the browser has
        self._lock = threading.Lock()

    def begin(self) -> str:
        """A new session; returns the secret that the browser keeps."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._sessions) >= MOST:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[_hash(secret)] = secrets.token_hex(4), time.monotonic() + LASTS
        return secret

    def name(self, secret: str) -> str | None:
        """The name of a session in the audit log; None if there is no such session, or it has ended."""
        name, until = self._sessions.get(_hash(secret), (None, 0.0))
        return name if time.monotonic() < until else None

    def end(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_hash(secret), None)

    def end_all(self) -> None:
        """End all sessions."""
        with self._lock:
            self._sessions.clear()


def cookies(header: str, name: str) -> list[str]:
    """The values of a cookie. Other applications' cookies, however odd, do not matter.

    Args:
        header: The header of a request.
        name: The cookie's name. Several may have it.
    """
    found = []
    for part in header.split(";"):
        key, equals, value = part.partition("=")
        if equals and key.strip() == name:
            found.append(value.strip())
    return found


def cookie_name(port: int, secure: bool) -> str:
    """The cookie's name. All ports of a host share their cookies, so each server needs a name of its own.

    Args:
        port: The server's port.
        secure: Whether the browser uses TLS. Then no other host or address can set a cookie of that name.
    """
    return f"__Host-kronreid-{port}" if secure else f"kronreid-{port}"


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
