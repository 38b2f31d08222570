"""A loopback server of a stream that is cut again and again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """A loopback server that sends one part of a stream per connection and then cuts it.

    Attributes:
        parts: What each connection sends. A part of None is an error 503, and so is everything after the
            last one.
        asked: Number of requests.
        length: Whether the length of a part is told, as for a recording.
    """

    def __init__(self, *parts: bytes | None) -> None:
        self.parts, self.asked, self.length = list(parts), 0, False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                part = outer.parts.pop(0) if outer.parts else None
                if part is None:
                    self.send_error(503)
                    return
                self.send_response(200)
                if outer.length:
                    self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(part)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://anna:hunter2@127.0.0.1:{self.server.server_port}/live?token=hunter2"


@contextmanager
def serving(*parts: bytes | None) -> Iterator[Server]:
    server = Server(*parts)
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        thread.join()
        server.server.server_close()
