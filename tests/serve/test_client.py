"""The client knows every route of the API with all its parameters, and works with a running server."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kronreid
from kronreid.errors import InputError
from kronreid.gallery import Selection
from kronreid.serve import schemas
from kronreid.serve.client import Client, filters
from kronreid.serve.connection import multipart
from kronreid.serve.forms import parse_form
from kronreid.serve.requests import Filters
from kronreid.serve.server import listen, make_server

from .conftest import TOKEN, Home, Server, add_tracklets, noise, serve

ID, OTHER = "0" * 64, "1" * 64
PICTURE = noise()
FILTERS: dict[str, Any] = {
    "camera": "3",
    "identity": ["1", ""],
    "source": ("a",),
    "since": "2026-03-01",
    "until": "2026-04-01",
    "where": {"track>=": 10},
}
SEARCH = {"top": 5, "offset": 1, "limit": 2, "rerank_top": 3, "matcher_weight": 0.5, "group_by": "camera"}
#: Every method with everything that it takes, by the route that it asks.
CALLS: dict[str, Callable[[Client], object]] = {
    "GET /api/health": lambda client: client.health(),
    "GET /api/ready": lambda client: client.ready(),
    "GET /api/info": lambda client: client.info(),
    "GET /api/reports": lambda client: client.reports(),
    "POST /api/login": lambda client: client.login(),
    "POST /api/logout": lambda client: client.logout(everywhere=True),
    "POST /api/search": lambda client: client.search([PICTURE, ID], box="1,2,3,4", **SEARCH, **FILTERS),
    "POST /api/match": lambda client: (
        client.match(PICTURE, ID, a_box="1,2,3,4"),
        client.match(ID, PICTURE, b_box="1,2,3,4"),
    ),
    "POST /api/explain": lambda client: (
        client.explain(PICTURE, ID, a_box="1,2,3,4"),
        client.explain(ID, PICTURE, b_box="1,2,3,4"),
    ),
    "GET /api/pictures/{id}": lambda client: client.picture(ID, "thumb"),
    "GET /api/gallery": lambda client: client.browse(offset=1, limit=2, **FILTERS),
    "GET /api/gallery/stats": lambda client: client.stats(**FILTERS),
    "POST /api/gallery": lambda client: client.add(
        PICTURE, box="1,2,3,4", camera="3", time="2026-03-01", identity="1", source="a", attribute="k=v"
    ),
    "DELETE /api/gallery/{id}": lambda client: client.delete(ID),
    "POST /api/feedback": lambda client: client.feedback(ID, OTHER, True),
    "GET /api/feedback.csv": lambda client: client.marks(),
    "GET /api/people": lambda client: client.people(
        camera="3", since="2026-03-01", until="2026-04-01", order="first", offset=1, limit=2
    ),
    "GET /api/people/{number}": lambda client: client.person(7),
    "POST /api/people/merge": lambda client: client.merge(1, [2, 3]),
    "POST /api/people/split": lambda client: client.split(["a0"], to=2),
    "POST /api/people/undo": lambda client: client.undo(4),
    "POST /api/people/{number}/name": lambda client: client.name(7, "Ada"),
    "GET /api/cameras": lambda client: client.cameras(),
    "GET /api/moments/{id}": lambda client: client.moment(ID),
    "GET /api/moments/{id}/frames/{number}": lambda client: client.frame(ID, 7),
}


class Recording(Client):
    """Notes what it would ask."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1", TOKEN)
        self.route, self.names = "", set[str]()

    def _ask(self, method, path, query=(), form=None, json=None, also=200) -> bytes:  # type: ignore[no-untyped-def]
        self.route = f"{method} {path.replace(ID, '{id}').replace('/7', '/{number}')}"
        self.names |= {name for name, _ in [*query, *(form or ())]} | set(json or {})
        return b""

    def _read(self, kind, content):  # type: ignore[no-untyped-def]
        return None


def parameters(document: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    """Everything that a route takes, but for what is in its path."""
    found = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        name = schema.get("$ref", "").rpartition("/")[2]
        found |= set((document["components"]["schemas"][name] if name else schema)["properties"])
    return found


def test_no_route_is_missing_and_no_parameter_unknown(server: Server) -> None:
    document = server.client.get("/api/openapi.json").json()
    routes = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert CALLS.keys() == routes.keys()
    for route, call in CALLS.items():
        client = Recording()
        call(client)
        assert client.route == route
        assert client.names == parameters(document, routes[route]), route


@pytest.mark.parametrize(
    "selection",
    [
        Selection(camera=3, identity=["1", "", None], source=("a b", 7.0)),
        Selection(since=date(2026, 3, 1), until=date(2026, 3, 2)),
        Selection(since=1_714_557_600.25, until=datetime(2026, 3, 1, 12)),
        Selection(where={"track>=": 10, "track<": 10.5, "name": "a=b", "good": True, "empty": None}),
        Selection(where={"camera": 1}, id=ID, path=Path("/p/ü.jpg")),
    ],
)
def test_a_server_understands_what_a_gallery_would(selection: Selection) -> None:
    """The same conditions, whichever form of a value they name first."""

    def meant(selection: Selection) -> list[dict[str, Any]]:
        values = [asdict(condition) for condition in selection.conditions()]
        plain = [
            {n: {*map(repr, v)} if isinstance(v, tuple) else v for n, v in one.items()} for one in values
        ]
        return sorted(plain, key=lambda one: repr(sorted(one)) + str(one.get("name") or one.get("field")))

    asked = {name: value for name, value in filters(selection, {}).items() if value is not None}
    assert meant(Filters(**asked).selection()) == meant(selection)


# ── a running server ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def address(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on the loopback interface, which any request needs the token for."""
    server = serve(home, tmp_path_factory.mktemp("asked"), allow_add=True, guarded=True, port=0)
    add_tracklets(server)
    with closing(listen(server.settings)) as listener:
        running = make_server(server.application)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join()


def test_everything_works_with_a_running_server(address: str, home: Home) -> None:
    client = kronreid.Client(f"{address}/?token={TOKEN}")  # as the server prints it
    assert client.url == address
    assert (client.health().status, client.ready().status) == ("ok", "ok")
    client.login()
    info = client.info()
    assert (info.gallery.count, info.signed_in, info.allow_add) == (12, True, True)
    assert client.reports().reports == []
    page = client.browse(limit=5, camera="1")
    assert 0 < len(page.items) <= 5
    assert {item.camera for item in page.items} == {"1"}
    assert client.stats(camera=["1", "2"]).count == 12

    found = client.search([home.queries[0], page.items[0].id], top=4)
    assert [hit.rank for hit in found.hits] == [1, 2, 3, 4]
    (same,) = (hit.similarity for hit in client.search(page.items[0].id).hits if hit.rank == 1)
    assert same == pytest.approx(1, abs=1e-4)
    cut = client.search(str(home.queries[0]), box="2,2,10,20", group_by="camera", top=2)
    assert len(cut.groups) == 2
    answer = client.match(np.asarray(Image.open(home.queries[0])), page.items[0].id)
    assert -1 <= answer.similarity <= 1
    assert client.explain(home.queries[0], home.queries[1], a_box="0,0,10,20").scales
    assert client.picture(page.items[0].id, "thumb").startswith(b"\xff\xd8")

    added = client.add([noise(5), noise(6)], camera="9", attribute=["track=4", "name=a b"])
    assert (added.added, len(added.ids), added.unreadable) == (2, 2, [])
    assert {item.attributes["name"] for item in client.browse(where={"track>=": 4}, camera=9).items} == {
        "a b"
    }
    client.feedback(page.items[0].id, added.ids[0], True)
    (mark,) = client.marks()
    assert (mark.query, mark.item, mark.same) == (page.items[0].id, added.ids[0], True)
    client.delete(added.ids[0])
    assert client.browse(camera="9").total == 1
    assert client.marks() == []
    client.logout(everywhere=True)


def test_people_are_listed_and_corrected(address: str) -> None:
    client = Client(address, TOKEN)
    first, second = client.people(order="number").people
    assert (first.number, second.number) == (1, 2)
    assert client.name(1, "Ada").person == 1
    assert client.person(1).name == "Ada"
    assert [(camera.camera, camera.people) for camera in client.cameras().cameras] == [
        ("gate", 2),
        ("yard", 2),
    ]
    assert client.moment(client.person(1).pictures[0]).missing
    client.merge(1, [2])
    assert client.people().total == 1
    assert client.undo().words
    tracks = client.person(1).tracks
    new = client.split([tracks[-1].id]).person
    assert new not in (None, 1, 2)
    assert client.people().total == 3
    assert client.split([tracks[-1].id], to=1).person == 1
    with pytest.raises(InputError, match=r"there is no such person \(status 404\)"):
        client.person(99)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda client, home: client.search(home.queries[0], top=0), "top: "),
        (lambda client, home: client.search([]), "(status 422)"),
        (lambda client, home: client.picture(ID), "(status 404)"),
        (lambda client, home: client.picture("../x"), "../x: is no identifier"),
        (lambda client, home: client.delete("short"), "short: is no identifier"),
        (
            lambda client, home: client.search(home.folder / "none.jpg"),
            "none.jpg: cannot be read (No such file",
        ),
        (lambda client, home: client.search(home.folder), "cannot be read (Is a directory)"),
        (lambda client, home: client.search(np.zeros((4, 4))), "image array: expected uint8"),
        (lambda client, home: client.browse(since="yesterday-ish"), "time 'yesterday-ish'"),
        (lambda client, home: client.browse(limit=-1), "(status 422)"),
        (lambda client, home: client.stats(where={"a=b": 1}), "where a=b: a server cannot be asked"),
        (lambda client, home: client.stats(where={"camera": [1, 2]}), "must be text or a number"),
        (lambda client, home: client.feedback(ID, ID, True), "(status 404)"),
    ],
)
def test_what_the_server_refuses_is_said_in_one_line(
    address: str, home: Home, ask: Callable[[Client, Home], object], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        ask(Client(address, TOKEN), home)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("token", [None, "a token that is wrong".replace(" ", "-")])
def test_the_right_token_is_needed(address: str, token: str | None) -> None:
    client = Client(address, token)
    assert client.health().status == "ok"
    with pytest.raises(InputError, match=r"\(status 401\)"):
        client.info()
    with pytest.raises(InputError, match="token"):
        client.login()


# ── other servers ───────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def answering(status: int, content: bytes, **headers: str) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (200, b"<html>", "not as a kronreid server"),
        (200, b"{}", "not as a kronreid server"),
        (200, b"\xff", "not as a kronreid server"),
        (302, b"", "(status 302)"),
        (429, json.dumps({"message": "too\nbusy"}).encode(), "too\\nbusy (status 429)"),
        (502, b"<html>bad gateway", "refuses the request without a reason"),
    ],
)
def test_strange_answers_get_one_line(status: int, content: bytes, words: str) -> None:
    with answering(status, content, Location="http://127.0.0.1:1/") as address:
        for ask in (Client(address).info, lambda: Client(address).search(ID)):
            with pytest.raises(InputError) as caught:
                ask()
            assert words in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_gallery_that_does_not_answer_is_told() -> None:
    content = schemas.Health(status="unavailable", message="gone").model_dump_json().encode()
    with answering(503, content) as address:
        assert Client(address).ready() == schemas.Health(status="unavailable", message="gone")
        with pytest.raises(InputError, match="gone"):
            Client(address).info()


def test_nobody_there() -> None:
    with answering(200, b"") as address:
        pass
    with pytest.raises(InputError, match=r"^http://127.0.0.1:\d+: cannot be reached"):
        Client(address).info()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "file:///etc/passwd",
        "http://",
        "http://h:port",
        "http://a:b@h",
        "http://[::1",
        "ftp://h",
    ],
)
def test_addresses_are_checked(url: str) -> None:
    with pytest.raises(InputError, match="is no address"):
        Client(url)


@pytest.mark.parametrize("token", ["a\nb", "é", "\x7f"])
def test_tokens_are_checked(token: str) -> None:
    with pytest.raises(InputError, match=r"^token: "):
        Client("http://127.0.0.1", token)


@pytest.mark.parametrize("name", ["a.jpg", 'a"b.jpg', "ä\r\n.jpg", "a;b.jpg", "\udcff.jpg", ""])
def test_the_server_reads_the_forms_that_the_client_writes(name: str, tmp_path: Path) -> None:
    kind, body = multipart([("camera", 'ä\n"x'), ("pictures", (name, b"\r\n--\x00"))])
    form = parse_form(kind, bytearray(body))
    assert form["camera"] == 'ä\n"x'
    upload = form["pictures"]
    assert not isinstance(upload, str)
    assert upload.file.read() == b"\r\n--\x00"
