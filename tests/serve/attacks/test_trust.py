"""Who claims to be on this machine, and who claims to be somebody else."""

import json
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from kronreid.cli import make_parser
from kronreid.cli.serve import make_settings
from kronreid.errors import InputError
from kronreid.serve.settings import Settings, networks
from kronreid.serve.trust import FORWARDED, Trust

from ..conftest import TOKEN, Server, Start

READ = "/api/gallery"


@pytest.mark.parametrize("name", sorted(FORWARDED))
def test_a_forwarded_request_needs_the_token(server: Server, name: str) -> None:
    for value in ("127.0.0.1", "https", "", "for=127.0.0.1"):
        headers = {name.title(): value}
        assert server.client.get(READ, headers=headers).status_code == 401
        assert server.client.get(READ, headers=headers | server.signed_in()).status_code == 200
    assert server.client.get(READ).status_code == 200


@pytest.mark.parametrize("host", ["192.168.1.7", "10.0.0.1:8000", "[2001:db8::1]:8000"])
def test_a_host_of_elsewhere_needs_the_token(server: Server, host: str) -> None:
    assert server.client.get(READ, headers={"Host": host}).status_code == 401
    assert server.client.get(READ, headers={"Host": host} | server.signed_in()).status_code == 200
    info = server.client.get("/api/info", headers={"Host": host} | server.signed_in()).json()
    assert info["token_required"] == "everything"


@pytest.mark.parametrize(
    ("change", "direct"),
    [
        ({}, True),
        ({"client": ("::1", 1)}, True),
        ({"http_version": "1.0"}, False),  # what nginx speaks to servers unless it is told otherwise
        ({"client": ("192.168.1.9", 1)}, False),
        ({"client": ("2001:db8::1", 1)}, False),
    ],
)
def test_what_is_direct(tmp_path: Path, change: dict[str, object], direct: bool) -> None:
    scope = {"client": ("127.0.0.1", 1), "http_version": "1.1", **change}
    trust = Trust(Settings(state=tmp_path, token=TOKEN))
    assert trust.direct(scope, Headers({"host": "localhost:8000"})) == direct


@pytest.mark.parametrize("options", [["--allow-host", "reid.example"], ["--proxy", "127.0.0.1"]])
def test_names_and_proxies_switch_the_token_and_the_log_on(
    options: list[str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KRONREID_TOKEN", raising=False)
    settings = make_settings(make_parser().parse_args(["serve", "--gallery", "a/people.gallery", *options]))
    assert settings.guarded
    assert settings.audit is not None
    server = start(names=settings.names, proxies=settings.proxies)
    for host in ("reid.example", "127.0.0.1:8000"):
        assert server.client.get(READ, headers={"Host": host}).status_code in (401, 403)


@pytest.mark.parametrize("text", ["*", "0.0.0.0/0", "::/0", "proxy.example", "", "127.0.0.1/8"])
def test_a_proxy_is_an_address(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="--proxy"):
        networks([text], "--proxy")
    if text:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", text)
        with pytest.raises(InputError, match="FORWARDED_ALLOW_IPS"):
            make_settings(make_parser().parse_args(["serve", "--gallery", "a/people.gallery"]))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.2", ["203.0.113.5"], "203.0.113.5"),
        ("127.0.0.1", ["6.6.6.6, 203.0.113.5"], "203.0.113.5"),  # the first is what the client itself sent
        ("127.0.0.1", ["6.6.6.6", "203.0.113.5, 10.0.0.2"], "203.0.113.5"),
        ("127.0.0.1", ["6.6.6.6, nonsense"], "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("203.0.113.9", ["6.6.6.6"], "203.0.113.9"),  # nobody has named it
        ("::ffff:127.0.0.1", ["203.0.113.5"], "203.0.113.5"),
    ],
)
def test_only_named_proxies_say_who_a_client_is(
    tmp_path: Path, peer: str, forwarded: list[str], client: str
) -> None:
    proxies = networks(["127.0.0.1", "10.0.0.0/24"], "--proxy")
    trust = Trust(Settings(state=tmp_path, token=TOKEN, proxies=proxies))
    raw = [(b"x-forwarded-for", text.encode()) for text in forwarded] + [(b"x-forwarded-proto", b"https")]
    scope = {"client": (peer, 1), "scheme": "http"}
    scheme = "http" if peer == "203.0.113.9" else "https"
    assert trust.origin(scope, Headers(raw=raw)) == (client, scheme)


def test_a_forged_address_does_not_reach_the_log(start: Start, tmp_path: Path) -> None:
    forged = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6"}
    for number, proxies in enumerate(((), networks(["10.9.9.9"], "--proxy"))):
        log = tmp_path / f"audit{number}.jsonl"
        server = start(audit=log, guarded=True, proxies=proxies)
        server.client.post("/api/login", json={"token": "wrong"}, headers=forged)
        server.client.get(READ, headers=forged | server.signed_in())
        clients = {json.loads(line)["client"] for line in log.read_text().splitlines()[1:]}
        assert clients == {"127.0.0.1"}
