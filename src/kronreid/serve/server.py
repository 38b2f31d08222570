"""The web server that runs the application."""

import asyncio
import os
import socket
import threading
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kronreid.errors import InputError
from kronreid.serve.app import Application
from kronreid.serve.settings import EVERYWHERE, Settings
from kronreid.serve.trust import Trust, group

#: The most connections at a time, and the most of one address other than a proxy's; more are refused.
CONNECTIONS, OF_ONE_ADDRESS = 500, 120
#: Clients must send a request's headers within this many seconds.
HEAD_SECONDS = 20.0
#: Clients must read this many bytes of an answer in so many seconds, or all that is left.
READ_BYTES, READ_SECONDS = 32_768, 10.0
#: After a signal, running requests may take so long. Then the process ends, whatever it is doing.
GRACE_SECONDS, LAST_SECONDS = 11, 14.0

_REFUSED = b'{"message": "there are too many connections; try again in 2 s"}'
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 2\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_REFUSED), _REFUSED)
)


class Impatient(H11Protocol):
    """HTTP/1.1 that drops clients that are too slow, and refuses too many of them.

    It answers one request at a time. If a client sends the next one before it has the answer, it gets that
    answer, and the connection is closed. Browsers and proxies wait for answers, and a packet with a hundred
    small requests would keep everybody else waiting.

    Uvicorn itself waits without limit for the rest of the headers, of a body that it has refused, and for
    clients to read an answer. A few hundred such connections would lock everybody else out.
    """

    _hurry: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _left = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that it is told of anything that is not read at once
        self._refused = self._too_many()
        self._watch(1.0 if self._refused else HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self.transport.write(_REFUSAL)
            self.transport.close()
            return
        super().data_received(data)
        if self.conn.their_state is h11.DONE and self.conn.trailing_data[0]:
            self.cycle.keep_alive = False
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()
        if self._unread is not None:
            self._unread.cancel()

    def pause_writing(self) -> None:
        """Start to watch whether the client reads."""
        super().pause_writing()
        self._left = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(READ_SECONDS, self._look)

    def resume_writing(self) -> None:
        """Everything was read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _look(self) -> None:
        """Drop the client if it has not read enough since the last look."""
        left = self.transport.get_write_buffer_size()
        if left > self._left - READ_BYTES:
            self.transport.abort()
            return
        self._left = left
        self._unread = self.loop.call_later(READ_SECONDS, self._look)

    def _too_many(self) -> bool:
        """Whether this connection is one too many."""
        if len(self.connections) > CONNECTIONS:
            return True
        trust: Trust = self.config.app.trust  # type: ignore[union-attr]
        if self.client is None or trust.is_proxy(self.client[0]):
            return False
        place = group(self.client[0])
        others = (getattr(one, "client", None) for one in self.connections)
        same = sum(client is not None and group(client[0]) == place for client in others)
        return same > OF_ONE_ADDRESS

    def _watch(self, seconds: float | None = None) -> None:
        """Start the timer, or stop it while a request is being answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._rest()
        elif self._hurry is None:
            self._hurry = self.loop.call_later(seconds or HEAD_SECONDS, self.transport.close)

    def _rest(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None


class Server(uvicorn.Server):
    """Uvicorn's server, which surely ends after a signal."""

    _last: threading.Timer | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes."""
        try:
            super().run(sockets)
        finally:
            if self._last is not None:
                self._last.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End soon; the work of a thread that does not end is left undone."""
        super().handle_exit(sig, frame)
        if self._last is None:
            self._last = threading.Timer(LAST_SECONDS, os._exit, [1])
            self._last.daemon = True
            self._last.start()


def listen(settings: Settings) -> socket.socket:
    """A listening socket. Clients that connect before the models are loaded wait until they are.

    Raises:
        InputError: The address is not one of this machine, or the port is in use.
    """
    where = f"--host {settings.host} --port {settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InputError(where, f"no such address ({error})") from None
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(CONNECTIONS)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(where, f"cannot listen there ({error}); choose another --port") from None
    return listener


def address_of(settings: Settings, listener: socket.socket) -> str:
    """The address of the page."""
    host, port = listener.getsockname()[:2]
    if settings.host in EVERYWHERE:
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def make_server(application: Application) -> Server:
    """The web server. After a signal its `run` finishes the requests at hand and returns; see `Server`."""
    return Server(
        uvicorn.Config(
            application.asgi,
            http=Impatient,
            log_level="warning",
            access_log=False,  # it would show the token of the first visit; the audit log says more
            server_header=False,
            proxy_headers=False,  # `Trust` decides whom to believe
            timeout_keep_alive=15,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws="none",
        )
    )
