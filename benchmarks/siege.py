"""Besiege ``kronreid serve``: hostile requests of every kind, mixed with honest traffic.

Each kind of hostile request comes from an address of its own (127.0.0.3 and up), as if from as many
machines. Honest searches come from 127.0.0.1, honest changes from 127.0.0.2. Clients, server and workers
share the machine's processors.

It measures honest searches first alone, then under attack, and then stops the server with SIGTERM. It fails
if the 95th percentile of honest searches reaches three times its quiet value, the memory 1.5 times, if any
answer is a failure of the server (5xx, except 503 with a reason), if a change is missing in the audit log, or
if the process is still there after 15 seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from kronreid.data.files import find_pictures
from kronreid.gallery import Gallery
from kronreid.models.inference import Embedder
from kronreid.models.loading import load
from serve import BACKBONE, Request, Server, ask, drawn, form, make_model, run_all, search

#: How the values under attack may compare with those of before.
SLOWER, LARGER, STOPPED_SECONDS = 3.0, 1.5, 15.0
#: The addresses of honest changes, and of each kind of attack.
CHANGES, HOSTILE = "127.0.0.2", [f"127.0.0.{number}" for number in range(3, 8)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="length of the siege (120)")
    parser.add_argument("--gallery", type=int, default=200, help="generated pictures in the gallery (200)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures, failures = run(Path(name), options.seconds, options.gallery)
    for key, value in figures.items():
        print(f"{key:<32} {value:,.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if figures["siege_p95_ratio"] >= SLOWER:
        failures.append("honest searches became too slow")
    if figures["siege_memory_ratio"] >= LARGER:
        failures.append("the memory grew too much")
    if failures:
        raise SystemExit("\n".join(failures[:20]))


def run(folder: Path, seconds: float, gallery: int) -> tuple[dict[str, float], list[str]]:
    """The figures of a siege, and what went wrong apart from times and memory.

    Args:
        folder: An empty folder.
        seconds: The length of the siege. The quiet time before takes a quarter of it.
        gallery: How many pictures the gallery has.
    """
    model, uri = folder / "model", folder / "people.db"
    make_model(model, "horeid", {"backbone": {**BACKBONE, "last_stride": 1}, "parts": 64})
    embedder = load(model)
    assert isinstance(embedder, Embedder)
    with Gallery(uri, embedder) as made:
        made.add(drawn(folder / "pictures", range(gallery)), progress=False)
    queries = find_pictures(drawn(folder / "queries", range(16), shot=9))
    server = Server(uri, model, None)
    siege = Siege(server, queries)
    try:
        quiet = siege.honest(seconds / 4)
        before = memory(server.process.pid)
        besieged = siege.attacked(seconds)
        failures = siege.failures + siege.unlogged(folder / "people.serve" / "audit.jsonl")
    finally:
        server.process.terminate()
        started = time.monotonic()
        with contextlib.suppress(Exception):
            server.process.wait(2 * STOPPED_SECONDS)
        stopped = time.monotonic() - started
        server.process.kill()
        server.process.wait()
    if stopped > STOPPED_SECONDS:
        failures.append(f"it took {stopped:.0f} s to stop")
    p95 = [1000 * float(np.percentile(times, 95)) for times in (quiet, besieged)]
    return {
        "siege_quiet_p95_ms": p95[0],
        "siege_p95_ms": p95[1],
        "siege_p95_ratio": p95[1] / p95[0],
        "siege_client_late_p95_ms": 1000 * float(np.percentile(siege.late or [0.0], 95)),
        "siege_memory_mb": siege.largest / 1e6,
        "siege_memory_ratio": siege.largest / before,
        "siege_searches": len(besieged),
        "siege_attacks": siege.statuses.total(),
        "siege_changes": len(siege.changed),
        "siege_stop_seconds": stopped,
        "siege_failures": len(failures),
    }, failures


class Siege:
    """A server, its honest clients and its attackers.

    Attributes:
        failures: Answers that no request may get.
        statuses: How often each status was the answer to an attack; 0 for a dropped connection.
        changed: The identifiers of pictures that were added and deleted again.
        largest: The largest memory of the server's process, in bytes.
        late: How many seconds too late a thread of this process woke up, many times: what the clients'
            own lack of processors adds to the times that they measure.
    """

    def __init__(self, server: Server, queries: list[Path]) -> None:
        self.server, self.queries = server, queries
        self.failures: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.changed: list[str] = []
        self.largest = 0
        self.late: list[float] = []
        self._stop = threading.Event()

    def honest(self, seconds: float) -> list[float]:
        """How long honest searches take, one after the other."""
        connection = self.server.connection()
        times: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until or len(times) < 5:
            started = time.perf_counter()
            request = search(self.queries[len(times) % len(self.queries)], 0)
            status, body = ask(connection, request, self.server.headers)
            times.append(time.perf_counter() - started)
            if status != 200:
                self.failures.append(f"an honest search: {status} {body[:200]!r}")
            time.sleep(0.05)
        return times

    def attacked(self, seconds: float) -> list[float]:
        """`honest` while everything else happens."""
        times: list[float] = []

        def search_and_stop() -> None:
            try:
                times.extend(self.honest(seconds))
            finally:
                self._stop.set()

        jobs: list[Callable[[], None]] = [search_and_stop, self._change, self._watch]
        for make, source in zip((_guess, _bomb, _odd, _forge), HOSTILE):
            jobs.append(partial(self._attack, make, source))
        jobs.append(partial(self._hold, HOSTILE[-1]))
        run_all(jobs)
        return times

    def unlogged(self, log: Path) -> list[str]:
        """The changes that are not in the audit log, once as begun and once as done."""
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        found = []
        for id in self.changed:
            done = [line for line in lines if line.get("item") == id or id in line.get("ids", ())]
            steps = Counter((line["action"], line.get("step")) for line in done)
            if steps["add", "done"] != 1 or steps["delete", "begun"] != 1 or steps["delete", "done"] != 1:
                found.append(f"{id}: {dict(steps)}")
        return found

    def _change(self) -> None:
        """Add a picture and delete it again."""
        connection = self.server.connection(CHANGES)
        while not self._stop.is_set():
            content = self.queries[0].read_bytes() + random.randbytes(16)
            request: Request = ("POST", "/api/gallery", *form([("pictures", content)], {"camera": "9"}))
            status, body = ask(connection, request, self.server.headers)
            if status == 200:
                (id,) = json.loads(body)["ids"]
                status = 429
                while status == 429:
                    status, body = ask(
                        connection, ("DELETE", f"/api/gallery/{id}", b"", {}), self.server.headers
                    )
                self.changed.append(id)
            if status not in (200, 204, 429):
                self.failures.append(f"a change: {status} {body[:200]!r}")
            self._stop.wait(0.3)

    def _watch(self) -> None:
        while True:
            started = time.monotonic()
            if self._stop.wait(0.2):
                return
            self.late.append(time.monotonic() - started - 0.2)
            self.largest = max(self.largest, memory(self.server.process.pid))

    def _attack(self, make: Callable[[random.Random], tuple[Request, bool]], source: str) -> None:
        """Send requests of one kind from one address, and count the answers."""
        chance = random.Random(0)
        while not self._stop.wait(0.1):
            request, signed_in = make(chance)
            connection = self.server.connection(source)
            status, body = 0, b""
            with contextlib.suppress(OSError):
                status, body = ask(connection, request, self.server.headers if signed_in else {})
            connection.close()
            self.statuses[status] += 1
            if status >= 500 and not (status == 503 and b"message" in body):
                self.failures.append(f"{request[:2]}: {status} {body[:200]!r}")

    def _hold(self, source: str) -> None:
        """Open connections from one address and neither read nor write, or write a little."""
        held: list[socket.socket] = []
        starts = [
            b"",
            b"GET /api/gallery HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            b"GET /static/app.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50,
            b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n\r\n--x",
        ]
        while not self._stop.wait(0.05):
            with contextlib.suppress(OSError):
                place = ("127.0.0.1", self.server.port)
                connection = socket.create_connection(place, timeout=5, source_address=(source, 0))
                held.append(connection)
                connection.sendall(starts[len(held) % len(starts)])
            self.statuses[0] += 1
            if len(held) > 90:
                for connection in held:
                    connection.close()
                held = []
        for connection in held:
            connection.close()


def _guess(chance: random.Random) -> tuple[Request, bool]:
    """A wrong token."""
    if chance.random() < 0.5:
        head = {"Authorization": f"Bearer {chance.random()}"}
        return ("GET", "/api/gallery", b"", head), False
    body = json.dumps({"token": str(chance.random())}).encode()
    return ("POST", "/api/login", body, {"Content-Type": "application/json"}), False


def _bomb(chance: random.Random) -> tuple[Request, bool]:
    """A picture that takes much to decode."""
    content = chance.choice(BOMBS)
    return ("POST", "/api/search", *form([("pictures", content)], {"top": 5})), True


def _odd(chance: random.Random) -> tuple[Request, bool]:
    """A form or an address that is not as it should be."""
    mark = {"Content-Type": "multipart/form-data; boundary=x"}
    bodies = [
        (b"--x\r\n" * 20_000, mark),
        (b"camera=1&" * 5000, {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"a-" * 200_000, mark | {"Content-Type": "multipart/form-data; boundary=x; charset=punycode"}),
        (chance.randbytes(5000), mark),
    ]
    if chance.random() < 0.5:
        return ("POST", "/api/search", *chance.choice(bodies)), True
    text = "".join(f"%{byte:02x}" for byte in chance.randbytes(12))
    return (
        "GET",
        f"{chance.choice(['/api/pictures/', '/reports/', '/api/gallery?camera='])}{text}",
        b"",
        {},
    ), True


def _forge(chance: random.Random) -> tuple[Request, bool]:
    """A request of somebody else."""
    heads = [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Cookie": f"kronreid-8000={chance.random()}; " * 50},
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
    ]
    return ("GET", "/api/gallery", b"", chance.choice(heads)), False


def _bombs() -> list[bytes]:
    """A large transparent picture, a JPEG of many scans, and one that breaks off."""
    pictures = []
    buffer = io.BytesIO()
    Image.new("RGBA", (5000, 4000)).save(buffer, "PNG", compress_level=1)
    pictures.append(buffer.getvalue())
    buffer = io.BytesIO()
    Image.new("L", (1024, 1024)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    first = content.index(b"\xff\xda")
    scan = content[first : content.index(b"\xff\xda", first + 2)]
    pictures.append(content[:-2] + 2000 * scan + content[-2:])
    pictures.append(content[: len(content) // 2])
    return pictures


BOMBS = _bombs()


def memory(pid: int) -> int:
    """The resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * 4096


if __name__ == "__main__":
    main()
