"""Cookies that were stolen, forged, doubled or made by others; tokens that are guessed."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kronreid.serve import guesses, sessions
from kronreid.serve.guesses import FREE, WAITING, Guesses
from kronreid.serve.lanes import Busy
from kronreid.serve.sessions import Sessions, cookies
from kronreid.serve.settings import networks

from ..conftest import TOKEN, Home, Server, Start, serve

READ = "/api/gallery"


@pytest.fixture
def guarded(start: Start, tmp_path: Path) -> Server:
    """A server that needs the token for everything."""
    return start(guarded=True, audit=tmp_path / "audit.jsonl", proxies=networks(["127.0.0.1"], "--proxy"))


@pytest.fixture(scope="module")
def lasting(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same for all tests that leave no trace in it but sessions."""
    server = serve(home, tmp_path_factory.mktemp("guarded"), guarded=True)
    with server.client:
        yield server


def sign_in(server: Server, **headers: str) -> tuple[str, str]:
    """The name and the value of the cookie of a new session."""
    answer = server.client.post("/api/login", json={"token": TOKEN}, headers=headers)
    assert answer.status_code == 204
    server.client.cookies.clear()
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    return name, value


def status(server: Server, cookie: str, **headers: str) -> int:
    return server.client.get(READ, headers={"Cookie": cookie, **headers}).status_code


def test_signing_out_ends_the_session_on_the_server(guarded: Server) -> None:
    name, value = sign_in(guarded)
    other = "=".join(sign_in(guarded))
    cookie = f"{name}={value}"
    assert status(guarded, cookie) == 200
    assert guarded.client.post("/api/logout", headers={"Cookie": cookie}).status_code == 204
    assert status(guarded, cookie) == 401
    assert status(guarded, other) == 200
    last = "=".join(sign_in(guarded))
    guarded.client.post("/api/logout?everywhere=true")  # nobody's request ends nobody's session
    assert status(guarded, last) == 200
    guarded.client.post("/api/logout?everywhere=true", headers={"Cookie": last})
    assert (status(guarded, other), status(guarded, last)) == (401, 401)


def test_a_session_ends_by_itself(guarded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = "=".join(sign_in(guarded))
    now = sessions.time.monotonic()
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now + sessions.LASTS + 1)
    assert status(guarded, cookie) == 401


def test_no_two_sessions_are_alike_and_their_number_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 5)
    several = Sessions()
    secrets = [several.begin() for _ in range(8)]
    assert len(set(secrets)) == 8
    assert [several.name(secret) is not None for secret in secrets] == [False] * 3 + [True] * 5
    assert not {several.name(secret) for secret in secrets} & set(secrets)


ODD = [
    '"',
    "=",
    ";;;",
    "a",
    "=b",
    "a=b=c",
    'x="y;z',
    "é=ü",
    "\t",
    "$Version=1",
    "a=" + "b" * 5000,
    "[]={}",
    "a,b=c",
]


@pytest.mark.parametrize("odd", ODD)
def test_odd_cookies_of_others_lock_nobody_out(lasting: Server, odd: str) -> None:
    name, value = sign_in(lasting)
    for header in (f"{odd}; {name}={value}", f"{name}={value}; {odd}", f"{name}=; {name}={value}; {name}=x"):
        raw = {"Cookie": header.encode()}
        assert lasting.client.get(READ, headers=raw).status_code == 200, header  # type: ignore[arg-type]
    assert cookies(f"{name}=a; x; {name}=b", name) == ["a", "b"]


@pytest.mark.parametrize(
    "wrong", ["", TOKEN, "x" * 43, "é", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")]
)
def test_forged_cookies_open_nothing(lasting: Server, wrong: str) -> None:
    name, value = sign_in(lasting)
    for cookie in (f"{name}={wrong}", f"{name}={value[:-1]}", f"{name}x={value}", f"__Host-{name}={value}"):
        headers = {"Cookie": cookie.encode("utf-8", "replace")}
        assert lasting.client.get(READ, headers=headers).status_code == 401  # type: ignore[arg-type]


def test_with_tls_the_cookie_belongs_to_this_host_alone(guarded: Server) -> None:
    secure = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"}
    answer = guarded.client.post("/api/login", json={"token": TOKEN}, headers=secure)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-kronreid-8000=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    value = cookie.partition(";")[0].partition("=")[2]
    guarded.client.cookies.clear()
    assert status(guarded, f"__Host-kronreid-8000={value}", **secure) == 200
    # A name without the prefix could have been set by another host.
    assert status(guarded, f"kronreid-8000={value}", **secure) == 401


def test_wrong_tokens_have_to_wait_and_fill_no_log(guarded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(guesses.asyncio, "sleep", wait)
    client, before = guarded.client, Path(guarded.settings.audit or "").stat().st_size
    ways = (
        lambda: client.post("/api/login", json={"token": "wrong"}),
        lambda: client.get(READ, headers={"Authorization": "Bearer wrong"}),
        lambda: client.get("/", params={"token": "wrong"}, follow_redirects=False),
    )
    for number in range(40):
        assert ways[number % 3]().status_code in (401, 303)
    assert waited == [guesses.PAUSE] * (40 - FREE)
    text = Path(guarded.settings.audit or "").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert sum(line.get("right") is False for line in lines) == FREE
    assert len(text) - before < 5000
    assert client.get(READ, headers=guarded.signed_in()).status_code == 200  # nobody is locked out


def test_few_wrong_tokens_wait_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def attack() -> list[object]:
        some = Guesses()
        for _ in range(FREE + 1):
            some.wrong("2001:db8::1")
        monkeypatch.setattr(guesses, "PAUSE", 0.01)
        # One client has a whole network of addresses.
        waits = [some.pause(f"2001:db8::{number}") for number in range(20)]
        return await asyncio.gather(*waits, some.pause("203.0.113.5"), return_exceptions=True)

    ends = asyncio.run(attack())
    assert sum(isinstance(end, Busy) for end in ends) == 20 - WAITING
    assert ends[-1] is None
