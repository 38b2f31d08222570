"""The examples of docs/serve.md in front of a real server, where nginx and Caddy are installed."""

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kronreid.serve.server import listen, make_server
from kronreid.serve.settings import networks

from ..conftest import TOKEN, Home, serve

NAME = "reid.example"


def example(kind: str) -> str:
    """The example of a proxy in the documentation."""
    page = (Path(__file__).parents[3] / "docs" / "serve.md").read_text()
    (text,) = re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)
    return text


def free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@dataclass
class Site:
    """A server behind a proxy."""

    port: int
    log: Path

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
        """Send a request over TLS, and return the answer with its content in `content`."""
        context = ssl._create_unverified_context()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sock = context.wrap_socket(plain, server_hostname=NAME)
        told = {
            "Host": f"{NAME}:{self.port}",
            **{key.replace("_", "-"): text for key, text in headers.items()},
        }
        with closing(connection):
            connection.request(method, path, body or None, told)
            answer = connection.getresponse()
            answer.content = answer.read()  # type: ignore[attr-defined]
            return answer


@pytest.fixture(params=["nginx", "caddy"])
def site(
    request: pytest.FixtureRequest,
    home: Home,
    tmp_path: Path,
    running: Callable[..., AbstractContextManager[subprocess.Popen]],
) -> Iterator[Site]:
    """A server behind one of the proxies."""
    program, openssl = shutil.which(request.param), shutil.which("openssl")
    if program is None or openssl is None:
        pytest.skip(f"{request.param} or openssl is not installed")
    certificate, key = tmp_path / "a.pem", tmp_path / "a.key"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={NAME}"]
    command += ["-addext", f"subjectAltName=DNS:{NAME}", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    log = tmp_path / "audit.jsonl"
    proxies = networks(["127.0.0.1"], "--proxy")
    served = serve(home, tmp_path / "served", names=frozenset({NAME}), proxies=proxies, audit=log)
    listener = listen(replace(served.settings, port=0))
    port, behind = free_port(), listener.getsockname()[1]
    text = example(request.param).replace("127.0.0.1:8000", f"127.0.0.1:{behind}")
    file = tmp_path / "config"
    if request.param == "nginx":
        text = text.replace("443", f"127.0.0.1:{port}")
        text = text.replace(f"/etc/ssl/{NAME}.pem", str(certificate)).replace(
            f"/etc/ssl/{NAME}.key", str(key)
        )
        paths = "".join(
            f"{name}_temp_path {tmp_path / name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        start = f"daemon off; pid {tmp_path / 'pid'}; error_log {tmp_path / 'errors'};\nevents {{}}\n"
        file.write_text(f"{start}http {{\naccess_log off;\n{paths}{text}}}\n")
        command = [program, "-c", str(file), "-p", str(tmp_path), "-e", str(tmp_path / "errors")]
    else:
        text = text.replace(f"{NAME} {{", f"{NAME}:{port} {{\n    tls {certificate} {key}", 1)
        file.write_text("{\n    admin off\n    auto_https disable_redirects\n}\n" + text)
        command = [program, "run", "--adapter", "caddyfile", "--config", str(file)]
    web = make_server(served.application)
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            until = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < until:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield Site(port, log)
    finally:
        web.should_exit = True
        thread.join()


def test_the_example_guards_everything_and_tells_who_asks(site: Site) -> None:
    forged = {"X_Forwarded_For": "6.6.6.6", "X_Real_IP": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
    assert site.ask("GET", "/api/gallery", **forged).status == 401
    assert site.ask("GET", "/api/health").status == 200
    login = json.dumps({"token": TOKEN}).encode()
    answer = site.ask("POST", "/api/login", login, Content_Type="application/json", **forged)
    assert answer.status == 204
    cookie, *options = answer.headers["set-cookie"].split("; ")
    assert cookie.startswith("__Host-")
    assert "Secure" in options
    origin = {"Origin": f"https://{NAME}:{site.port}", "Sec_Fetch_Site": "same-origin"}
    answer = site.ask("GET", "/api/gallery?limit=1", Cookie=cookie, **origin)
    assert answer.status == 200
    item = json.loads(answer.content)["items"][0]["id"]  # type: ignore[attr-defined]
    kind = "application/x-www-form-urlencoded"
    found = site.ask(
        "POST", "/api/search", f"item={item}".encode(), Cookie=cookie, Content_Type=kind, **origin
    )
    assert found.status == 200
    assert site.ask("POST", "/api/logout", Cookie=cookie, **origin).status == 204
    assert site.ask("GET", "/api/gallery", Cookie=cookie).status == 401
    clients = {json.loads(line)["client"] for line in site.log.read_text().splitlines()[1:]}
    assert clients == {"127.0.0.1"}
