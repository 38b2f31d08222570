"""Bodies that take long to read, or are told to be something else than they are."""

import json
import tempfile
import urllib.parse
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from kronreid.serve.forms import FIELDS, header, parse_form

from ..conftest import Home, Server, Start, encoded, noise

KIND = "multipart/form-data; boundary=x"


def form(*fields: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    return b"".join(b"--x\r\n%b\r\n\r\n%b\r\n" % (head.encode(), body) for head, body in fields) + end


NAMED = 'Content-Disposition: form-data; name="{}"'


@pytest.mark.parametrize(
    "encoding", ["punycode", "idna", "utf-7", "utf-16", "hex", "zip", "unicode_escape", "x"]
)
@pytest.mark.parametrize("of", ["form", "field"])
def test_only_utf8_is_decoded(server: Server, encoding: str, of: str) -> None:
    kind = f"{KIND}; charset={encoding}" if of == "form" else KIND
    more = f"\r\nContent-Type: text/plain; charset={encoding}" if of == "field" else ""
    body = form((NAMED.format("camera") + more, b"a-" * 15_000))
    answer = server.client.post("/api/search", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert "UTF-8" in answer.json()["message"]


def test_uploads_stay_in_memory(start: Start, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object, **__: object) -> None:
        raise AssertionError("a file was made")

    large = encoded(noise(1, (1200, 1000)), "BMP")
    assert len(large) > 3_000_000
    server = start(allow_add=True)
    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, no)
    before = set(Path(tempfile.gettempdir()).iterdir())
    assert server.client.post("/api/search", files=[("pictures", ("a", large))]).status_code == 200
    assert set(Path(tempfile.gettempdir()).iterdir()) <= before


@pytest.mark.parametrize(
    "body",
    [
        form(*[(NAMED.format("camera"), b"1")] * (FIELDS + 1)),
        form((NAMED.format("camera"), b"1" * 70_000)),
        form((NAMED.format("camera") + "\r\n" + "A: b\r\n" * 2000, b"1")),
        form(("Content-Type: text/plain", b"1")),
        form((NAMED.format("camera"), b"\xff")),
        form((NAMED.format("camera"), b"1"), end=b""),
        b"\r\n--" * 100_000,
        b"--x" * 100_000,
        b"--x\r\n" * 100_000,
        b"\r" * 300_000,
    ],
    ids=[
        "fields",
        "long",
        "head",
        "nameless",
        "no UTF-8",
        "no end",
        "marks",
        "boundaries",
        "heads",
        "returns",
    ],
)
def test_damaged_and_endless_forms_are_refused(server: Server, body: bytes) -> None:
    answer = server.client.post("/api/search", content=body, headers={"Content-Type": KIND})
    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/x-www-form-urlencoded", b"camera=1&" * 1000, 400),
        ("application/x-www-form-urlencoded", b"camera=" + b"1" * 70_000, 413),
        ("application/x-www-form-urlencoded", b"camera=%ff", 400),
        ("application/x-www-form-urlencoded; charset=utf-7", b"camera=1", 415),
        ("text/plain", b"camera=1", 415),
        ("multipart/mixed; boundary=x", b"--x--", 415),
        ("multipart/form-data", b"--x--", 400),
        ("multipart/form-data; boundary=" + "x" * 300, b"--x--", 400),
    ],
)
def test_other_forms_are_small(server: Server, kind: str, body: bytes, status: int) -> None:
    answer = server.client.post("/api/search", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b;c", 'd"e', "ü", ""]), st.binary(max_size=50))))
def test_what_a_browser_sends_is_read(fields: list[tuple[str, bytes]]) -> None:
    escaped = [(name.replace('"', "%22"), value.replace(b"\r\n--x", b"")) for name, value in fields]
    body = form(*[(NAMED.format(name) + '; filename="ü; a.jpg"', value) for name, value in escaped])
    read = parse_form(KIND, bytearray(body)).multi_items()
    assert [name for name, _ in read] == [name for name, _ in escaped]
    for (_, upload), (_, value) in zip(read, escaped):
        assert isinstance(upload, UploadFile)
        assert (upload.filename, upload.file.read()) == ("ü; a.jpg", value)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"--x\r\n", form((NAMED.format("a"), b"1"), end=b"")]))
def test_any_bytes_are_a_form_or_refused(rest: bytes, start: bytes) -> None:
    for kind in (KIND, "application/x-www-form-urlencoded"):
        with suppress(HTTPException):
            parse_form(kind, bytearray(start + rest))


def test_headers_are_split_like_browsers_write_them() -> None:
    assert header('form-data; name="a;b"; filename="c=\\"d"') == (
        "form-data",
        {"name": "a;b", "filename": 'c="d'},
    )
    assert header("Text/Plain;charset=UTF-8; charset=x")[1] == {"charset": "UTF-8"}


# ── text that is no text ────────────────────────────────────────────────────────────────────────────────


def test_lone_surrogates_are_bad_input(start: Start, home: Home) -> None:
    server = start(allow_add=True)
    token = server.signed_in()
    names = [b"\xed\xa0\x80.jpg", b"\xff\xfe", b"a\x00b.jpg", "😀\u202e.jpg".encode()]
    for name in names:
        for content in (home.queries[0].read_bytes(), b"no picture"):
            head = NAMED.format("pictures").encode() + b'; filename="' + name + b'"'
            body = b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n--x--\r\n"
            for address in ("/api/search", "/api/gallery"):
                headers = {"Content-Type": KIND} | token
                answer = server.client.post(address, content=body, headers=headers)
                assert answer.status_code in (200, 422), answer.text
    for address, text in (("/api/login", {"token": "\ud800"}), ("/api/feedback", {"query": "\udfff"})):
        answer = server.client.post(
            address, content=json.dumps(text), headers={"Content-Type": "application/json"} | token
        )
        assert answer.status_code in (401, 422)
    for text in ("%ed%a0%80", "%ff", "%00", "%0d%0a"):
        for address in (
            f"/api/gallery?camera={text}",
            f"/reports/{text}",
            f"/?token={text}",
            f"/static/{text}",
        ):
            answer = server.client.get(address, follow_redirects=False)
            assert answer.status_code < 500, address


def test_head_is_get_without_a_body(server: Server) -> None:
    picture = f"/api/pictures/{server.ids()[0]}?size=thumb"
    for path in ("/", "/static/mark.svg", "/api/health", "/api/info", "/api/gallery", picture, "/nowhere"):
        whole, head = server.client.get(path), server.client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert head.headers["content-length"] == str(len(whole.content))
    assert server.client.head(f"/?token={urllib.parse.quote('wrong')}").status_code in (200, 303)
