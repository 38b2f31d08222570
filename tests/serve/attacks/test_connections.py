"""Clients that do not read, do not write, or open many connections."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace

import pytest

from kronreid.serve import gate, server
from kronreid.serve.server import listen, make_server

from ..conftest import Home, serve

HEALTH = b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def address(
    home: Home, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, int]]:
    """A server on a socket, with little patience and a large picture."""
    monkeypatch.setattr(server, "READ_SECONDS", 0.2)
    monkeypatch.setattr(server, "OF_ONE_ADDRESS", 6)
    monkeypatch.setattr(gate, "UPLOAD_START_SECONDS", 0.2)
    folder = tmp_path_factory.mktemp("connections")
    (folder / "reports").mkdir()
    (folder / "reports" / "a.html").write_bytes(b"x" * 30_000_000)
    served = serve(home, folder / "served", full=False, reports=folder / "reports")
    listener = listen(replace(served.settings, port=0))
    running = make_server(served.application)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    running.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=60)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the connection ends or the answer is whole."""
    got = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            got += piece
            if got.endswith(b"}"):
                break
    return got


def test_who_does_not_read_is_dropped(address: tuple[str, int]) -> None:
    with closing(connect(address)) as deaf, closing(connect(address)) as honest:
        deaf.sendall(HEALTH.replace(b"/api/health", b"/reports/a.html"))
        # It is dropped before it has read the answer: nothing comes after what the kernels hold.
        for _ in range(40):
            honest.sendall(HEALTH)
            assert b"200 OK" in answer(honest)
            threading.Event().wait(0.05)
        got = 0
        with suppress(ConnectionError):
            while piece := deaf.recv(1 << 20):
                got += len(piece)
        assert got < 30_000_000


def test_who_reads_gets_all_of_it(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READ_SECONDS", 10.0)
    with closing(connect(address)) as connection:
        connection.sendall(HEALTH.replace(b"/api/health", b"/reports/a.html"))
        got = 0
        while got < 30_000_000:
            piece = connection.recv(1 << 20)
            assert piece
            got += len(piece)


def test_requests_that_do_not_wait_for_the_answer_get_one_and_no_more(address: tuple[str, int]) -> None:
    with closing(connect(address)) as hasty:
        hasty.sendall(HEALTH * 200)
        got = b""
        with suppress(ConnectionError):
            while piece := hasty.recv(65536):
                got += piece
        assert got.count(b"200 OK") <= 1  # a reset connection may lose it
    with closing(connect(address)) as patient:
        for _ in range(3):
            patient.sendall(HEALTH)
            assert b"200 OK" in answer(patient)


def test_an_upload_that_trickles_is_given_up(address: tuple[str, int]) -> None:
    with closing(connect(address)) as slow:
        head = b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
        slow.sendall(head + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
        assert b" 408 " in answer(slow).splitlines()[0]


def test_one_address_cannot_take_all_connections(address: tuple[str, int]) -> None:
    held = [connect(address) for _ in range(6)]
    for connection in held:
        connection.sendall(HEALTH)
        assert b"200 OK" in answer(connection)
    with closing(connect(address)) as more:
        more.sendall(HEALTH)
        refused = answer(more)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert "too many connections" in json.loads(refused.partition(b"\r\n\r\n")[2])["message"]
    for connection in held:
        connection.close()
    for _ in range(100):  # until the server has noticed
        with closing(connect(address)) as again:
            again.sendall(HEALTH)
            if b"200 OK" in answer(again):
                return
        threading.Event().wait(0.1)
    raise AssertionError("the connections were not given back")


def test_uploads_in_memory_are_limited_together() -> None:
    uploads = gate.Uploads(room=4, most=100)
    with uploads.one("a") as first, uploads.one("b") as second:
        first(60)
        with pytest.raises(gate.Busy):
            second(60)
        second(40)
    with uploads.one("a") as alone:
        alone(100)
    with uploads.one("a"), uploads.one("a"), uploads.one("a"):
        with pytest.raises(gate.Busy), uploads.one("a"):  # one place is for others
            pass
        with uploads.one("b"), pytest.raises(gate.Busy), uploads.one("c"):
            pass


def test_the_room_of_an_upload_that_fails_is_given_back() -> None:
    uploads = gate.Uploads(room=4, most=100)
    for _ in range(3):
        with suppress(ZeroDivisionError), uploads.one("a") as come:
            come(100)
            raise ZeroDivisionError
