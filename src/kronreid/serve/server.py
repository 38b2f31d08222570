"""Running the application: its socket, and its end."""

import socket

import uvicorn

from kronreid.errors import InputError
from kronreid.serve.app import Application
from kronreid.serve.settings import Settings

#: Connections at once; more are turned away.
CONNECTIONS = 500


def listen(settings: Settings) -> socket.socket:
    """A listening socket: who connects before the models are loaded waits until they are.

    Raises:
        InputError: The address is not this machine's, or the port is taken.
    """
    where = f"--host {settings.host} --port {settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{where}: no such address ({error})") from None
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(CONNECTIONS)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"{where}: cannot listen there ({error}); choose another --port") from None
    return listener


def address_of(settings: Settings, listener: socket.socket) -> str:
    """Where a browser finds the page."""
    host, port = listener.getsockname()[:2]
    if settings.host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def make_server(application: Application) -> uvicorn.Server:
    """The web server; its `run` returns after a signal, when what was in flight is finished."""
    settings = application.settings
    return uvicorn.Server(
        uvicorn.Config(
            application.asgi,
            log_level="warning",
            access_log=False,  # its lines would show the token of the first visit; the audit log says more
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=int(settings.timeout) + 5,
            ws="none",
        )
    )
