"""Who is let in: tokens, cookies, names, other sites' pages, sizes."""

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kronreid.errors import InputError
from kronreid.serve.gate import Access
from kronreid.serve.server import address_of, listen
from kronreid.serve.settings import Settings

from .conftest import HERE, TOKEN, Home, Server, Start, upload

READS = [
    ("GET", "/api/info"),
    ("GET", "/api/gallery"),
    ("GET", "/api/gallery/stats"),
    ("GET", "/api/feedback.csv"),
    ("GET", "/api/reports"),
    ("GET", "/reports/a.html"),
    ("GET", "/metrics"),
    ("GET", f"/api/pictures/{'0' * 64}"),
    ("POST", "/api/search"),
    ("POST", "/api/match"),
    ("POST", "/api/explain"),
]
CHANGES = [("POST", "/api/gallery"), ("DELETE", f"/api/gallery/{'0' * 64}"), ("POST", "/api/feedback")]
OPEN = [("GET", "/"), ("GET", "/static/mark.svg"), ("GET", "/api/health"), ("GET", "/api/ready")]
WRONG: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer wrong"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": "Bearer "},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Cookie": f"kronreid-8000={TOKEN}"},  # the cookie is not the token
    {"Cookie": "kronreid-8000="},
    {"Cookie": '"; kronreid-8000'},
]


def test_on_this_machine_only_changes_need_the_token(server: Server) -> None:
    for method, path in READS + OPEN:
        assert server.client.request(method, path).status_code not in (401, 403), path
    for method, path in CHANGES:
        for headers in WRONG:
            answer = server.client.request(method, path, headers=headers)
            assert answer.status_code == 401, (path, headers)
            assert "token" in answer.json()["message"]
        assert server.client.request(method, path, headers=server.signed_in()).status_code != 401


def test_a_guarded_server_shows_nothing_without_the_token(start: Start, hurried: None) -> None:
    server = start(guarded=True)
    for method, path in OPEN:
        assert server.client.request(method, path).status_code == 200, path
    for method, path in READS + CHANGES:
        for headers in WRONG:
            assert server.client.request(method, path, headers=headers).status_code == 401, (path, headers)
        assert server.client.request(method, path, headers=server.signed_in()).status_code != 401
    for path in ("/static/../api/info", "/static/..%2fapi%2finfo", "//api/info", "/api/info/", "/API/info"):
        assert server.client.get(path).status_code in (401, 404), path


@pytest.mark.parametrize("way", ["form", "address"])
def test_signing_in_gives_a_cookie_that_scripts_cannot_read(start: Start, way: str) -> None:
    client = start(guarded=True).client
    assert client.post("/api/login", json={"token": "wrong"}).status_code == 401
    assert "set-cookie" not in client.get("/?token=wrong", follow_redirects=False).headers
    if way == "form":
        answer = client.post("/api/login", json={"token": TOKEN})
        assert answer.status_code == 204
    else:
        answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    client.cookies.set(*cookie.partition(";")[0].split("="))
    assert client.get("/api/info").json()["signed_in"] is True
    assert client.post("/api/logout").status_code == 204


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),  # no browser
        ({"Sec-Fetch-Site": "same-origin", "Origin": HERE}, True),
        ({"Sec-Fetch-Site": "none"}, True),  # typed by the user
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"}, False),
        ({"Origin": "https://evil.example"}, False),  # an old browser
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:3000"}, False),
        ({"Origin": "http://[", "Sec-Fetch-Site": "same-origin"}, False),
    ],
)
def test_pages_of_other_sites_are_not_answered(
    server: Server, home: Home, headers: dict[str, str], allowed: bool
) -> None:
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/api/search", {"files": [upload(home.queries[0])]}),
        ("GET", "/api/info", {}),
        ("POST", "/api/login", {"json": {"token": TOKEN}}),
        ("DELETE", f"/api/gallery/{'0' * 64}", {}),
    ]
    for method, path, more in asked:
        answer = server.client.request(method, path, headers=server.signed_in() | headers, **more)
        assert (answer.status_code != 403) == allowed, (path, answer.text)
        assert "access-control-allow-origin" not in answer.headers
    preflight = {"Access-Control-Request-Method": "POST", "Origin": "https://evil.example"}
    assert (
        "access-control-allow-origin" not in server.client.options("/api/search", headers=preflight).headers
    )


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8000", True),
        ("localhost:8000", True),
        ("LOCALHOST", True),
        ("[::1]:8000", True),
        ("192.168.1.7", True),  # an address cannot be rebound, but such a request is not a direct one
        ("evil.example", False),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("[", False),
        ("[::1", False),
    ],
)
def test_names_of_others_are_not_known(server: Server, host: str, known: bool) -> None:
    answer = server.client.get("/api/info", headers={"Host": host} | server.signed_in())
    assert (answer.status_code == 200) == known
    if not known:
        assert answer.status_code == 403
        assert "--allow-host" in answer.json()["message"]


def test_a_name_can_be_made_known(tmp_path: Path) -> None:
    access = Access(Settings(state=tmp_path, token=TOKEN, names=frozenset({"people.example"})))
    assert access.known_host("people.example:8000")
    assert not access.known_host("example:8000")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_printed_address_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Desk")
    everywhere = Settings(state=tmp_path, token=TOKEN, host=host, port=0, guarded=True)
    with closing(listen(everywhere)) as listener:
        printed = urlsplit(address_of(everywhere, listener)).netloc
    assert printed.startswith("Desk:")
    assert Access(everywhere).known_host(printed)
    assert not Access(Settings(state=tmp_path, token=TOKEN)).known_host(printed)
    named = Settings(state=tmp_path, token=TOKEN, host="Desk.Example", guarded=True)
    assert Access(named).known_host("desk.example:8000")


def test_every_answer_tells_browsers_to_be_careful(server: Server) -> None:
    for path in ("/", "/static/mark.svg", "/api/info", "/nowhere", f"/api/pictures/{server.ids()[0]}"):
        headers = server.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    refused = server.client.get("/api/info", headers={"Host": "evil.example"}).headers
    assert refused["x-content-type-options"] == "nosniff"


def test_large_requests_are_refused_before_they_are_read(start: Start, home: Home) -> None:
    server = start(upload_bytes=20_000)
    head = {"Content-Type": "multipart/form-data; boundary=x"}
    told = server.client.post("/api/search", content=b"x" * 20_001, headers=head)
    assert told.status_code == 413
    assert "20 kB" in told.json()["message"]
    sent = 0

    def endless():  # no length is given: it is counted as it comes
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a.jpg"\r\n\r\n'
        while sent < 10_000_000:
            sent += 10_000
            yield b"y" * 10_000

    assert server.client.post("/api/search", content=endless(), headers=head).status_code == 413
    assert server.client.post("/api/login", content=b"x" * 70_000).status_code == 413
    for length in ("lots", "9" * 5000):
        wrong = server.client.post("/api/login", content=b"x", headers={"Content-Length": length})
        assert wrong.status_code == 413
    many = start(upload_pictures=2)
    files = [upload(path) for path in home.queries[:3]]
    answer = many.client.post("/api/search", files=files)
    assert answer.status_code == 413
    assert "3 are more than the 2 allowed" in answer.json()["message"]


def test_an_upload_that_does_not_come_in_time_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronreid.serve.gate.UPLOAD_SECONDS", 0.05)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/search",
        "headers": headers,
        "query_string": b"",
        "server": ("127.0.0.1", 8000),
    }
    asyncio.run(server.application.asgi(scope, never, send))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_the_audit_log_tells_who_searched_for_what(start: Start, home: Home, tmp_path: Path) -> None:
    log = tmp_path / "audit" / "log.jsonl"
    server = start(guarded=True, audit=log, allow_add=True)
    client, token = server.client, server.signed_in()
    item = server.ids()[0]
    client.post("/api/search", files=[upload(home.queries[0])], data={"camera": "1"}, headers=token)
    client.post("/api/search", data={"item": "0" * 64}, headers=token)
    client.post("/api/match", data={"a_item": item, "b_item": item}, headers=token)
    client.post("/api/login", json={"token": "wrong"})
    client.get("/", params={"token": "also wrong"})
    client.delete(f"/api/gallery/{item}", headers=token)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    actions = ["start", "search", "search", "match", "login", "login", "delete", "delete"]
    assert [line["action"] for line in lines] == actions
    search = lines[1]
    assert (search["client"], search["who"]) == ("127.0.0.1", "token")
    assert search["filters"] == {"camera": ["1"]}
    assert len(search["query"][0]) == 64
    assert search["hits"] == 6
    assert search["time"] > "2026"
    assert "not in the gallery" in lines[2]["failed"]
    assert (lines[4]["right"], lines[5]["right"]) == (False, False)
    assert lines[6]["item"] == lines[7]["item"] == item
    assert (lines[6]["step"], lines[7]["step"]) == ("begun", "done")
    assert lines[6]["request"] == lines[7]["request"]
    assert TOKEN not in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_nobody_can_write_the_audit_log_as_they_like(start: Start, home: Home, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    server = start(audit=log, allow_add=True)
    known = {"time": "1999-01-01", "camera": "a\u2028b\x9b31m\u202ec"}
    server.client.post(
        "/api/gallery", files=[upload(home.queries[0])], data=known, headers=server.signed_in()
    )
    text = log.read_text()
    assert text.isascii()
    line = json.loads(text.splitlines()[1])
    assert line["time"] > "2026"
    assert line["known"]["time"] == "1999-01-01"
    assert line["known"]["camera"] == known["camera"]


def test_what_cannot_be_logged_is_not_answered(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    server = start(audit=log)
    log.unlink()
    log.mkdir()
    item = server.ids()[0]
    answer = server.client.post("/api/search", data={"item": item})
    assert answer.status_code == 503
    assert "audit log" in answer.json()["message"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"token": "short"}, "--token"),
        ({"token": "ä" * 20}, "--token"),
        ({"host": "0.0.0.0"}, "--host"),
        ({"host": "example.org"}, "--host"),
        ({"reports": Path("/nowhere")}, "--reports"),
    ],
)
def test_unsafe_settings_are_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Settings(**({"state": tmp_path, "token": TOKEN} | changes))
