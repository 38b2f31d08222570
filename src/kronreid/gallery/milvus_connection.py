"""The connection to Milvus: a file inside this process (Milvus Lite), or a server. It explains failures."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from pymilvus import MilvusClient, MilvusException

from kronreid.errors import InputError
from kronreid.extras import explained
from kronreid.gallery.store import StoreError

log = logging.getLogger(__name__)

# pymilvus also prints every error that it raises, with a traceback. Milvus Lite logs it once more, and a
# logger without a handler writes to the terminal.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
logging.getLogger("milvus_lite").addHandler(logging.NullHandler())

#: While a server does not answer, a call is repeated for this long, with growing pauses.
PATIENCE_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_CONNECTING_SECONDS = 5.0

#: Parts of Milvus's messages, and what to tell the user.
_TROUBLE = {
    "no space left": "the disk is full; free some space and run the same command again",
    "disk quota": "the disk quota is used up; free some space and run the same command again",
    "read-only file system": "the disk is read-only",
    "memory quota": "the server's memory is used up; give it more, then run the same command again",
    "unauthenticated": "the server refuses these credentials; set user:password in MILVUS_TOKEN",
}
#: What a call to a server that does not answer ends with.
_SILENCE = ("unavailable", "deadline_exceeded", "retry timeout", "connecting")
#: What a server says while it or a part of it is starting.
_NOT_READY = ("not ready", "not loaded", "not fully loaded", "recovering", "not available", "node not found")
#: What the database says when an answer is too large: a server sends 64 to 100 MB, Milvus Lite 256 MB.
_TOO_LARGE = ("message larger than max", "exceed the limit size")


class TooLarge(InputError):
    """The answer is larger than the database sends at once."""


class _Silent(InputError):
    """The server does not answer for now."""


@dataclass
class _Engine:
    """Milvus Lite on one file. A process has one of it, which its last user closes."""

    users: int = 0
    broken: bool = False


_engines: dict[str, _Engine] = {}
_engines_lock = threading.Lock()


class Connection:
    """An open connection.

    Args:
        uri: A file name ending in ``.db``, or ``http(s)://host:port``.
        token: Credentials for a server, as it expects them; without, MILVUS_TOKEN of the environment.

    Attributes:
        uri: See above.
        embedded: Whether it is a file.

    Raises:
        InputError: The address is neither, the file is no gallery or is open in another process, or the
            server does not answer.
    """

    def __init__(self, uri: str, token: str) -> None:
        self.uri = uri
        self.embedded = not uri.startswith(("http://", "https://"))
        self._client: MilvusClient | None = None
        self._engine: _Engine | None = None
        if self.embedded:
            self._patience = 0.0
            self._path = os.path.realpath(uri)
            self._engine = self._enter_file()
            # The server inside this process would take its client's pings for an attack.
            grpc_options, connecting = {"grpc.keepalive_time_ms": 2**31 - 1}, {}
        else:
            self._patience = PATIENCE_SECONDS
            grpc_options = {}
            connecting = {
                "token": token or os.environ.get("MILVUS_TOKEN", ""),
                "timeout": min(self._patience, _CONNECTING_SECONDS),
            }
        # With a pool of its own, a connection does not wait because another one has failed.
        grpc_options["grpc.use_local_subchannel_pool"] = 1
        address = self._path if self.embedded else uri
        try:
            self._client = self._patiently(
                lambda: MilvusClient(address, dedicated=True, grpc_options=grpc_options, **connecting)
            )
        except BaseException:
            self.close()
            raise

    @property
    def client(self) -> MilvusClient:
        """pymilvus's client.

        Raises:
            InputError: The connection is closed.
        """
        if self._client is None or (self._engine is not None and self._engine.broken):
            raise InputError(self.uri, "the gallery is closed; open it again")
        return self._client

    def call(self, name: str, /, *arguments: Any, writing: bool = False, **options: Any) -> Any:
        """Call a method of the client; while a server does not answer, again and again.

        Args:
            name: The method. Calling it twice must be the same as calling it once.
            arguments: Its arguments.
            writing: Whether it writes. A file is closed when that fails: the log would end in half a row, and
                whatever is written after that would be lost.
            options: Its keyword arguments.

        Raises:
            InputError: The user can mend it.
            StoreError: Anything else that Milvus says.
        """
        options.setdefault("timeout", None if self.embedded else self._patience)
        return self._patiently(lambda: getattr(self.client, name)(*arguments, **options), writing)

    def close(self, broken: bool = False) -> None:
        """Release the file or the connection.

        Args:
            broken: Close the file for everybody in this process; whoever opens it next gets a new engine.
        """
        client, self._client = self._client, None
        if client is not None:
            client.close()
        if self.embedded:
            self._leave_file(broken)

    def _patiently(self, action: Callable[[], Any], writing: bool = False) -> Any:
        until = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                with self._trouble(writing):
                    return action()
            except _Silent as silence:
                if time.monotonic() + pause > until:
                    raise
                if pause == _FIRST_PAUSE:
                    log.warning("%s; trying again for %.0f s", silence, until - time.monotonic())
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    @contextmanager
    def _trouble(self, writing: bool) -> Iterator[None]:
        """Turn Milvus's errors into ours."""
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            if writing and self.embedded:
                self.close(broken=True)
            said = error.message if isinstance(error, MilvusException) else str(error)
            text = f"{said} {error.__cause__}".lower()
            if any(sign in text for sign in _TOO_LARGE):
                raise TooLarge(self.uri, "the answer is too large; ask for fewer pictures") from error
            for sign, advice in _TROUBLE.items():
                if sign in text:
                    raise InputError(self.uri, advice) from error
            if not self.embedded and any(sign in text for sign in _NOT_READY):
                raise _Silent(self.uri, f"the Milvus server is not ready ({said})") from error
            if not self.embedded and any(sign in text for sign in _SILENCE):
                raise _Silent(
                    self.uri,
                    "the Milvus server does not answer; start it or check the address, and run the same "
                    "command again",
                ) from error
            raise StoreError(f"{self.uri}: {said}") from error

    # ── the file ────────────────────────────────────────────────────────────────────────────────────

    def _enter_file(self) -> _Engine:
        """Become a user of the file's engine.

        Raises:
            InputError: There is no such file and none can be made, or another process has it open.
        """
        path = Path(self._path)
        if path.suffix != ".db":
            raise InputError(self.uri, "a gallery is a file ending in .db, or http://host:port of a server")
        if path.is_file():
            raise InputError(self.uri, "is not a gallery (Milvus Lite keeps one in a folder of that name)")
        if path.is_dir() and any(path.iterdir()) and not (path / "collections").is_dir():
            raise InputError(self.uri, "is a folder with other files, not a gallery; choose another name")
        if not path.parent.is_dir():
            raise InputError(self.uri, f"the folder {path.parent} does not exist; make it first")
        if sys.platform == "win32":
            raise InputError(
                self.uri, "Windows has no gallery in a file; use a Milvus server (http://host:port)"
            )
        with explained(self.uri):
            from milvus_lite.db import MilvusLite  # type: ignore[import-untyped]
            from milvus_lite.exceptions import DataDirLockedError  # type: ignore[import-untyped]

        with _engines_lock:
            engine = _engines.setdefault(self._path, _Engine())
            if not engine.users:
                # When pymilvus opens a file, it only says that it failed. This says why.
                try:
                    MilvusLite(self._path).close()
                except DataDirLockedError:
                    raise InputError(
                        self.uri,
                        "is open in another process; close that one, or share a Milvus server "
                        "(http://host:port)",
                    ) from None
                except OSError as error:
                    raise InputError(self.uri, f"cannot be opened ({error.strerror or error})") from error
            engine.users += 1
            return engine

    def _leave_file(self, broken: bool) -> None:
        from milvus_lite.server_manager import server_manager_instance  # type: ignore[import-untyped]

        engine, self._engine = self._engine, None
        with _engines_lock:
            if engine is None or engine.broken:
                return
            engine.users -= 1
            engine.broken = broken
            if broken or not engine.users:
                del _engines[self._path]
                server_manager_instance.release_server(self._path)
