"""Measure the searches per second and their latency on a server, against direct calls one by one.

    python benchmarks/serve.py --json serve.json
    python benchmarks/serve.py --model runs/horeid --matcher runs/kpm --pictures crops/ --queries shots/
    python benchmarks/serve.py --soak 300

A gallery of generated pedestrians (or `--pictures`) is first searched directly, one query after the other,
with `Gallery.search`. Then ``kronreid serve`` runs in its own process, and clients send the same queries over
HTTP, including uploads: first one client, then `--clients` concurrent ones, each with its next request as
soon as it has its response. `requests_per_second`, `p50_ms`, `p95_ms` and `p99_ms` are those of the
concurrent clients without re-ranking. Figures that begin with ``rerank_`` are for searches that re-score the
best `--rerank-top`.

With `--soak`, clients search, view, add and delete pictures for this many seconds while the server's memory
is monitored. The script fails if a response is wrong or the memory grows.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from kronreid.data.files import find_pictures
from kronreid.data.generated import draw
from kronreid.data.transforms import InputOptions
from kronreid.gallery import Gallery
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.loading import load
from kronreid.models.storage import build, save

TOKEN = "only for this benchmark"
INPUT = InputOptions(height=192, width=96)
BACKBONE = {"name": "mobilenetv2_100", "weights": "none"}
#: The allowed growth of the server's memory after the first third of a soak.
GROWTH = 1.15


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="embedder; without, an untrained HOReID on MobileNetV2")
    parser.add_argument("--matcher", help="matcher; without, an untrained KPM on MobileNetV2")
    parser.add_argument("--pictures", type=Path, help="pictures for the gallery, instead of generated ones")
    parser.add_argument("--queries", type=Path, help="folder of pictures to search for")
    parser.add_argument("--gallery", type=int, default=1000, help="generated pictures in the gallery (1000)")
    parser.add_argument("--clients", type=int, default=8, help="clients at once (8)")
    parser.add_argument("--seconds", type=float, default=15, help="length of each measurement (15)")
    parser.add_argument("--rerank-top", type=int, default=20, help="how many are re-scored (20)")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="soak instead of measuring")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = run(options, Path(name))
    for key, value in figures.items():
        print(f"{key:<32} {value:,.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if figures.get("soak_failures") or figures.get("soak_memory_ratio", 0) > GROWTH:
        raise SystemExit("the soak failed")


def run(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Run everything in a temporary folder."""
    model, matcher = Path(options.model or folder / "horeid"), Path(options.matcher or folder / "kpm")
    if not options.model:
        make_model(model, "horeid", {"backbone": {**BACKBONE, "last_stride": 1}, "parts": 64})
    if not options.matcher:
        make_model(matcher, "kpm", {"backbone": {**BACKBONE, "last_stride": 2}})
    pictures = options.pictures or drawn(folder / "gallery", range(options.gallery))
    queries = find_pictures(options.queries or drawn(folder / "queries", range(0, 64), shot=9))[:64]
    uri = folder / "people.gallery"
    figures = direct(uri, model, matcher, pictures, queries, options)
    with Server(uri, model, matcher) as server:
        ask(server.connection(), search(queries[0], 1), server.headers)  # the first is slower
        if options.soak:
            return soak(server, queries, options.clients, options.soak)
        for label, rerank in (("", 0), ("rerank_", options.rerank_top)):
            bodies = [search(query, rerank) for query in queries]
            alone = load_with(server, bodies, 1, options.seconds / 3)
            figures[f"{label}alone_p50_ms"] = alone.percentile(50)
            figures[f"{label}alone_per_second"] = alone.rate
            together = load_with(server, bodies, options.clients, options.seconds)
            figures[f"{label}requests_per_second"] = together.rate
            for percent in (50, 95, 99):
                figures[f"{label}p{percent}_ms"] = together.percentile(percent)
            figures[f"{label}over_direct"] = together.rate / figures[f"{label}direct_per_second"]
        pages = [f"/api/pictures/{id}?size=thumb" for id in server.ids()]
        thumbs = load_with(server, [("GET", page, b"", {}) for page in pages], options.clients, 3)
        figures["thumbnails_per_second"] = thumbs.rate
        figures["pictures_per_pass"] = server.metric("kronreid_batch_pictures_sum") / max(
            server.metric("kronreid_batch_pictures_count"), 1
        )
    return figures


def make_model(folder: Path, name: str, arguments: dict[str, Any]) -> None:
    """An untrained model, which takes as long as a trained one."""
    torch.manual_seed(0)
    save(folder, name, arguments, INPUT, build(name, arguments))


def drawn(folder: Path, people: range, shot: int = 0) -> Path:
    """A folder of generated pedestrians."""
    folder.mkdir(parents=True)
    for identity in tqdm(people, desc="drawing", disable=None):
        camera = identity % 6
        draw(identity // 4, camera=camera, shot=shot + identity % 4).save(
            folder / f"{identity // 4:04d}_c{camera + 1}s1_{identity:06d}_00.jpg", quality=92
        )
    return folder


def direct(
    uri: Path, model: Path, matcher: Path, pictures: Path, queries: list[Path], options: argparse.Namespace
) -> dict[str, float]:
    """Fill the gallery and search one query after the other, without a server."""
    embedder, pair = load(model), load(matcher)
    assert isinstance(embedder, Embedder)
    assert isinstance(pair, Matcher)
    with Gallery(uri, embedder) as gallery:
        gallery.add(pictures)
    if options.soak:
        return {}
    figures = {}
    for label, second in (("", None), ("rerank_", pair)):
        with Gallery(uri, embedder, second) as gallery:
            gallery.search(queries[0], 20, options.rerank_top)
            seconds: list[float] = []
            until = time.perf_counter() + options.seconds / 3
            while time.perf_counter() < until or len(seconds) < 5:
                started = time.perf_counter()
                gallery.search(queries[len(seconds) % len(queries)], 20, options.rerank_top)
                seconds.append(time.perf_counter() - started)
        figures[f"{label}direct_p50_ms"] = 1000 * statistics.median(seconds)
        figures[f"{label}direct_per_second"] = len(seconds) / sum(seconds)
    return figures


Request = tuple[str, str, bytes, dict[str, str]]


class Server:
    """``kronreid serve`` in its own process."""

    def __init__(self, uri: Path, model: Path, matcher: Path | None) -> None:
        command = [sys.executable, "-m", "kronreid", "serve", "--gallery", str(uri), "--model", str(model)]
        command += ["--port", "0", "--token", TOKEN, "--allow-add"]
        command += ["--matcher", str(matcher)] if matcher is not None else []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if line.startswith("stop with"):
                break
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
        if found is None:
            raise SystemExit(f"the server did not start: {said}")
        self.port = int(found[1])
        self.headers = {"Authorization": f"Bearer {TOKEN}"}

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)

    def connection(self, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        """A connection that comes from one of this machine's addresses, 127.0.0.1 and up."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120, source_address=(source, 0))

    def get(self, path: str) -> bytes:
        status, body = ask(self.connection(), ("GET", path, b"", {}), self.headers)
        assert status == 200, (path, status)
        return body

    def metric(self, name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics").decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def ids(self) -> list[str]:
        return [item["id"] for item in json.loads(self.get("/api/gallery?limit=1000"))["items"]]


def form(files: list[tuple[str, bytes]], fields: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """A multipart form and its headers."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, content in files:
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{mark}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={mark}"
    }


def search(query: Path, rerank: int) -> Request:
    """The request that searches for the person in a picture."""
    return (
        "POST",
        "/api/search",
        *form([("pictures", query.read_bytes())], {"top": 20, "rerank_top": rerank}),
    )


def ask(
    connection: http.client.HTTPConnection, request: Request, headers: dict[str, str]
) -> tuple[int, bytes]:
    """Send one request; returns its status and body."""
    method, path, body, more = request
    connection.request(method, path, body or None, headers | more)
    answer = connection.getresponse()
    return answer.status, answer.read()


class Load:
    """The measurements of the clients."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.wall = 0.0

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.wall

    def percentile(self, percent: float) -> float:
        """Milliseconds."""
        return 1000 * float(np.percentile(self.seconds, percent))


def load_with(server: Server, requests: list[Request], clients: int, seconds: float) -> Load:
    """Run concurrent clients, each of which sends one request after the other."""
    load, until = Load(), time.perf_counter() + seconds

    def client(number: int) -> None:
        connection, turn = server.connection(), number
        while time.perf_counter() < until:
            started = time.perf_counter()
            status, body = ask(connection, requests[turn % len(requests)], server.headers)
            load.seconds.append(time.perf_counter() - started)
            assert status == 200, (status, body[:200])
            turn += clients

    started = time.perf_counter()
    run_all([lambda number=number: client(number) for number in range(clients)])  # type: ignore[misc]
    load.wall = time.perf_counter() - started
    return load


def run_all(jobs: list[Callable[[], None]]) -> None:
    """Run each function in its own thread, and raise the first error."""
    errors: list[BaseException] = []

    def work(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def soak(server: Server, queries: list[Path], clients: int, seconds: float) -> dict[str, float]:
    """Search, view, add and delete pictures concurrently, and record the server's memory every second."""
    until = time.monotonic() + seconds
    counts = {"search": 0, "picture": 0, "add": 0, "busy": 0}
    failures: list[str] = []
    memory: list[float] = []
    lock = threading.Lock()

    def repeat(kind: str, turn: Callable[[http.client.HTTPConnection, int], tuple[int, bytes]]) -> None:
        connection, number = server.connection(), 0
        while time.monotonic() < until:
            status, body = turn(connection, number)
            number += 1
            with lock:
                counts[kind if status < 400 else "busy"] += 1
                if status >= 400 and status != 429:
                    failures.append(f"{kind}: {status} {body[:200]!r}")
            if status == 429:
                time.sleep(0.2)

    def searches(connection: http.client.HTTPConnection, number: int) -> tuple[int, bytes]:
        query = queries[number % len(queries)]
        return ask(connection, search(query, 10 * (number % 2)), server.headers)

    ids = server.ids()

    def thumbnails(connection: http.client.HTTPConnection, number: int) -> tuple[int, bytes]:
        path = f"/api/pictures/{ids[number % len(ids)]}?size={'thumb' if number % 5 else 'full'}"
        return ask(connection, ("GET", path, b"", {}), server.headers)

    def additions(connection: http.client.HTTPConnection, number: int) -> tuple[int, bytes]:
        """Add a new picture and delete it again."""
        content = queries[number % len(queries)].read_bytes() + uuid.uuid4().bytes  # a new hash
        request: Request = ("POST", "/api/gallery", *form([("pictures", content)], {"camera": "99"}))
        status, body = ask(connection, request, server.headers)
        if status != 200:
            return status, body
        answer = json.loads(body)
        if answer["added"] != 1:
            return 500, body
        deletion: Request = ("DELETE", f"/api/gallery/{answer['ids'][0]}", b"", {})
        while True:
            status, body = ask(connection, deletion, server.headers)
            if status != 429:
                return status, body
            time.sleep(0.2)

    def watch() -> None:
        with tqdm(total=round(seconds), unit="s", desc="soaking", disable=None) as bar:
            while time.monotonic() < until:
                memory.append(server.metric("process_resident_memory_bytes") / 1e6)
                time.sleep(1)
                bar.update()

    jobs: list[Callable[[], None]] = [lambda: repeat("search", searches) for _ in range(clients)]
    jobs += [lambda: repeat("picture", thumbnails), lambda: repeat("add", additions), watch]
    before = len(ids)
    run_all(jobs)
    for failure in failures[:10]:
        print(failure, file=sys.stderr)
    left = json.loads(server.get("/api/gallery/stats"))["count"]
    third = max(len(memory) // 3, 1)
    return {
        "soak_searches": counts["search"],
        "soak_pictures": counts["picture"],
        "soak_additions": counts["add"],
        "soak_told_to_wait": counts["busy"],
        "soak_failures": len(failures) + (left != before and before < 1000),
        "soak_memory_early_mb": max(memory[:third]),
        "soak_memory_late_mb": max(memory[-third:]),
        "soak_memory_ratio": max(memory[-third:]) / max(memory[:third]),
    }


if __name__ == "__main__":
    main()
