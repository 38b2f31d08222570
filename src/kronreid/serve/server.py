"""The web server that runs the application."""

import asyncio
import socket

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kronreid.errors import InputError
from kronreid.serve.app import Application
from kronreid.serve.settings import EVERYWHERE, Settings

#: The most connections at a time; more are refused.
CONNECTIONS = 500
#: Clients must send a request's headers within this many seconds.
HEAD_SECONDS = 20.0


class Impatient(H11Protocol):
    """HTTP/1.1 that drops connections that take too long to send their headers.

    Uvicorn itself waits without limit for the rest of the headers, and of a body that it has refused. A few
    hundred such connections would lock everybody else out.
    """

    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()

    def _watch(self) -> None:
        """Start the timer, or stop it while a request is being answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._rest()
        elif self._hurry is None:
            self._hurry = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _rest(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None


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


def make_server(application: Application) -> uvicorn.Server:
    """The web server. After a signal its `run` finishes the requests at hand and returns."""
    settings = application.settings
    return uvicorn.Server(
        uvicorn.Config(
            application.asgi,
            http=Impatient,
            log_level="warning",
            access_log=False,  # it would show the token of the first visit; the audit log says more
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=int(settings.timeout) + 5,
            ws="none",
        )
    )
