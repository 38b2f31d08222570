"""The real thing: a process, a socket, signals."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path

import httpx2 as httpx
import pytest

from kronreid.cli import main, make_parser
from kronreid.cli.serve import make_settings
from kronreid.errors import InputError
from kronreid.gallery import Gallery
from kronreid.serve.server import listen, make_server
from kronreid.serve.settings import Settings

from .conftest import TOKEN, Home, fill, serve, upload

HEAD = f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


class Process:
    """``kronreid serve`` on a free port."""

    def __init__(self, process: subprocess.Popen, uri: Path) -> None:
        self.process, self.uri = process, uri
        assert process.stdout is not None
        self.said = ""
        for line in process.stdout:
            self.said += line
            if line.startswith("stop with"):
                break
        found = re.search(r"http://\S+?(?=\?|\s)", self.said)
        assert found, self.said + (self.process.stderr.read() if self.process.stderr else "")
        self.address = found[0]
        self.headers = {"Authorization": f"Bearer {TOKEN}"}

    def stop(self, how: signal.Signals = signal.SIGTERM) -> str:
        """Ends it; returns what it said on its error stream."""
        self.process.send_signal(how)
        _, errors = self.process.communicate(timeout=60)
        return errors


@pytest.fixture(scope="module")
def process(
    home: Home,
    tmp_path_factory: pytest.TempPathFactory,
    running: Callable[..., AbstractContextManager[subprocess.Popen]],
) -> Iterator[Process]:
    if not (home.folder / "people.gallery").exists():
        fill(home, home.folder / "people.gallery")
    uri = tmp_path_factory.mktemp("process") / "people.gallery"
    shutil.copytree(home.folder / "people.gallery", uri)
    command = [sys.executable, "-m", "kronreid", "serve", "--gallery", str(uri), "--port", "0"]
    options = ["--matcher", str(home.folder / "kpm"), "--allow-add", "--upload-mb", "1"]
    environment = os.environ | {"KRONREID_TOKEN": TOKEN}
    pipe = subprocess.PIPE
    with running([*command, *options], stdout=pipe, stderr=pipe, text=True, env=environment) as child:
        process = Process(child, uri)
        yield process
        if child.poll() is None:
            assert "Traceback" not in process.stop()


def search(process: Process, path: Path) -> httpx.Response:
    """Searches for the person of a picture."""
    address = process.address + "api/search"
    return httpx.post(address, files=[upload(path)], headers=process.headers, timeout=60)


def test_a_token_from_the_environment_guards_and_is_not_printed(process: Process) -> None:
    assert TOKEN not in process.said
    with httpx.Client(base_url=process.address, timeout=60) as client:
        assert client.get("/api/info").status_code == 401
        assert client.get("/", params={"token": TOKEN}).status_code == 303
        info = client.get("/api/info").json()  # with the cookie
        assert (info["signed_in"], info["token_required"]) == (True, "everything")


def test_many_search_at_once(process: Process, home: Home) -> None:

    def ask(path: Path) -> list[str]:
        answer = httpx.post(
            process.address + "api/search", files=[upload(path)], headers=process.headers, timeout=60
        )
        assert answer.status_code == 200, answer.text
        return [hit["id"] for hit in answer.json()["hits"]]

    alone = [ask(path) for path in home.queries[:4]]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, home.queries[:4] * 4)) == alone * 4
    metrics = httpx.get(process.address + "metrics", headers=process.headers).text
    passes = float(re.findall(r"^kronreid_batch_pictures_count (\S+)", metrics, re.MULTILINE)[0])
    pictures = float(re.findall(r"^kronreid_batch_pictures_sum (\S+)", metrics, re.MULTILINE)[0])
    assert pictures == 20
    assert passes <= 20


def test_a_body_that_is_too_long_is_cut_off(process: Process) -> None:
    port = int(process.address.rstrip("/").rpartition(":")[2])
    with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n")
        connection.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n")
        start = b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a"\r\n\r\n'
        sent = 0
        try:
            for piece in (start, *[b"y" * 65536] * 1000):
                connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                sent += len(piece)
        except OSError:
            pass  # the server has hung up, as it should
        assert sent < 20_000_000
        try:
            answer = connection.recv(65536)
        except OSError:
            answer = b""
    assert not answer or b" 413 " in answer.splitlines()[0]
    assert httpx.get(process.address + "api/ready").status_code == 200


def test_half_a_request_does_not_hold_up_others(process: Process, home: Home) -> None:
    port = int(process.address.rstrip("/").rpartition(":")[2])
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    for connection in slow:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n--x")
    answer = httpx.post(
        process.address + "api/search", files=[upload(home.queries[0])], headers=process.headers, timeout=60
    )
    assert answer.status_code == 200
    for connection in slow:
        connection.close()


def test_stopping_finishes_what_is_in_flight(process: Process, home: Home) -> None:
    """The last test of this process: it ends it."""
    files = [upload(path) for path in home.queries]
    statuses: list[int] = []

    def ask() -> None:
        answer = httpx.post(
            process.address + "api/gallery",
            files=files,
            headers=process.headers,
            timeout=60,
        )
        statuses.append(answer.status_code)

    def searches() -> float:
        text = httpx.get(process.address + "metrics", headers=process.headers).text
        return float(re.findall(r"^kronreid_searches_inside (\S+)", text, re.MULTILINE)[0])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    # The server stops when all four are at work, waiting, or already answered.
    until = time.monotonic() + 30
    while searches() + len(statuses) < 4 and time.monotonic() < until:
        time.sleep(0.005)
    errors = process.stop()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4
    assert "Traceback" not in errors
    log = process.uri.parent / "people.serve" / "audit.jsonl"
    actions = [json.loads(line)["action"] for line in log.read_text().splitlines()]
    assert (actions[0], actions.count("add")) == ("start", 8)  # begun and done
    with pytest.raises(httpx.ConnectError):
        httpx.get(process.address)
    with Gallery(process.uri) as gallery:  # released, and whole
        assert gallery.count == 12 + len(home.queries)
        assert gallery.verify().intact


def test_a_token_is_made_and_printed_unless_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KRONREID_TOKEN", raising=False)

    def settings(*options: str) -> Settings:
        return make_settings(make_parser().parse_args(["serve", "--gallery", "a/people.gallery", *options]))

    made = settings()
    assert not made.guarded
    assert made.audit is None
    assert made.token != settings().token
    assert len(made.token) >= 32
    open_to_others = settings("--host", "0.0.0.0")
    assert open_to_others.guarded
    assert open_to_others.audit == Path("a/people.serve/audit.jsonl").absolute()
    given = settings("--token", TOKEN)
    assert (given.guarded, given.token) == (True, TOKEN)
    monkeypatch.setenv("KRONREID_TOKEN", TOKEN)
    assert settings().token == TOKEN
    with pytest.raises(InputError, match="--token"):  # "$TOKEN" of a variable that was not set
        settings("--token", "")


def test_who_does_not_finish_a_request_is_hung_up_on(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronreid.serve.server.HEAD_SECONDS", 0.3)
    served = serve(home, tmp_path / "served", full=False, guarded=True)
    listener = listen(replace(served.settings, port=0))
    server = make_server(served.application)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    ask = b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    refused = ask.replace(b"GET /api/health", b"POST /api/search") + b"Content-Length: 1000\r\n\r\nx"
    try:
        for said in (b"", ask, refused):
            with closing(socket.create_connection(listener.getsockname(), timeout=20)) as connection:
                connection.sendall(said)
                time.sleep(0.1)
                if said is refused:
                    connection.sendall(b"x")
                while connection.recv(65536):  # until it ends, well before uvicorn's own 15 seconds
                    pass
        with closing(socket.create_connection(listener.getsockname(), timeout=20)) as patient:
            for _ in range(3):
                patient.sendall(ask + b"\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    answer += patient.recv(65536)
                assert b"200 OK" in answer
                time.sleep(0.2)
    finally:
        server.should_exit = True
        thread.join()


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with closing(listen(Settings(state=tmp_path, token=TOKEN, port=0))) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: cannot listen there .*choose another"):
            listen(Settings(state=tmp_path, token=TOKEN, port=port))


BAD: dict[str, tuple[list[str], str]] = {
    "no gallery": (["--gallery", "none.gallery"], "none.gallery"),
    "no gallery for a model": (["--gallery", "none.gallery", "--model", "E"], "none.gallery"),
    "a short token": (["--gallery", "G", "--token", "short"], "--token"),
    "an impossible port": (["--gallery", "G", "--port", "70000"], "--port"),
    "a cache without a matcher": (["--gallery", "G", "--cache", "maps"], "--cache"),
    "an embedder as matcher": (["--gallery", "G", "--matcher", "E"], "--matcher"),
    "a model that did not make it": (["--gallery", "G", "--model", "M"], "made by model"),
    "no such address": (["--gallery", "G", "--host", "no.such.host.invalid"], "--host"),
    "no reports": (["--gallery", "G", "--reports", "nowhere"], "--reports"),
    "no number": (["--gallery", "G", "--queue", "0"], "--queue"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_get_one_line_and_status_2(
    home: Home, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (home.folder / "people.gallery").exists():
        fill(home, home.folder / "people.gallery")
    shutil.copytree(home.folder / "people.gallery", tmp_path / "people.gallery")
    names = {"G": tmp_path / "people.gallery", "E": home.folder / "horeid", "M": home.folder / "kpm"}
    arguments, named = BAD[case]
    typed = [str(names.get(argument, argument)) for argument in arguments]
    if "--port" not in typed:
        typed += ["--port", "0"]
    assert main(["serve", *typed]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("kronreid: error: ")
    assert named in said
