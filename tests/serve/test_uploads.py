"""What is uploaded may be anything."""

import io
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kronreid.data.decoding import ENOUGH_PIXELS, Decoded, decode
from kronreid.errors import InputError
from kronreid.serve.uploads import RECENT_BYTES, Recent, file_of, keep, printable_name, read_upload

from .conftest import Home, Server, Start, encoded, noise

MOST = 1_000_000


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG whose header says whatever one likes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
HOSTILE = {
    "empty": (b"", "empty"),
    "text": (b"hello", "not a picture"),
    "a program": (b"\x7fELF" + bytes(100), "not a picture"),
    "an SVG with a script": (SVG, "not a picture"),
    "a page": (b"<html><img src=x onerror=alert(1)></html>", "not a picture"),
    "a script for a printer": (POSTSCRIPT, "not a picture"),
    "a truncated JPEG": (encoded(noise(1))[:400], "damaged"),
    "a truncated PNG": (encoded(noise(1), "PNG")[:300], "damaged"),
    "a PNG that says it is huge": (png(20_000, 20_000, bytes(100)), "pixels"),
    "a PNG that says it is endless": (png(2**31 - 1, 2**31 - 1, b""), "pixels"),
    "a PNG with no pixels": (png(0, 5, b""), "picture"),
    "a zip bomb": (png(20_000, 20_000, bytes(60_000_000)), "pixels"),
    "a JPEG above the limit": (encoded(Image.new("RGB", (1100, 1000))), "1100 × 1000 pixels, more"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pictures_are_refused_in_one_line(case: str) -> None:
    content, named = HOSTILE[case]
    with pytest.raises(InputError, match=named) as raised:
        read_upload("who.jpg", content, "", MOST)
    assert str(raised.value).startswith("who.jpg: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("case", HOSTILE)
def test_the_server_survives_them(server: Server, case: str) -> None:
    content, named = HOSTILE[case]
    for kind in ("image/jpeg", "image/svg+xml", "text/html"):
        sent = [("pictures", ("who.jpg", content, kind))]
        answer = server.client.post("/api/search", files=sent)
        assert answer.status_code == 422, answer.text
        assert named in answer.json()["message"]
    assert server.client.get("/api/ready").status_code == 200


def memory() -> int:
    """The most bytes that this process has ever used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_bomb_is_not_inflated() -> None:
    zeros = bytes(150_000_000)
    huge, overfull = png(20_000, 20_000, zeros), png(100, 100, zeros)
    before = memory()
    with pytest.raises(InputError, match="pixels"):
        read_upload("bomb.png", huge, "", MOST)
    assert read_upload("bomb.png", overfull, "", MOST).image.size == (100, 100)
    assert memory() - before < 50_000_000


def test_what_the_sender_says_of_a_picture_does_not_matter(server: Server, home: Home) -> None:
    for name, kind in (("who.txt", "text/plain"), ("who", ""), ("../../who.svg", "image/svg+xml")):
        sent = [("pictures", (name, home.queries[0].read_bytes(), kind))]
        assert server.client.post("/api/search", files=sent).status_code == 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_the_usual_formats_and_modes_are_read(kind: str, mode: str) -> None:
    if (kind, mode) == ("JPEG", "P"):
        mode = "CMYK"
    upload = read_upload("a", encoded(noise(2).convert(mode), kind), "", MOST)
    assert upload.image.mode == "RGB"
    assert upload.image.size == (32, 64)


@pytest.mark.parametrize("size", [(70_000, 3), (3, 66_000)])
def test_a_picture_too_long_for_a_jpeg_is_shown_smaller(start: Start, size: tuple[int, int]) -> None:
    server = start(allow_add=True, full=False)
    sent = [("pictures", ("long.png", encoded(Image.new("L", size, 9), "PNG"), "image/png"))]
    (id,) = server.client.post("/api/gallery", files=sent, headers=server.signed_in()).json()["ids"]
    assert server.client.post("/api/search", files=sent).json()["hits"][0]["id"] == id
    for wanted in ("full", "thumb"):
        answer = server.client.get(f"/api/pictures/{id}", params={"size": wanted})
        assert answer.status_code == 200
        assert max(Image.open(io.BytesIO(answer.content)).size) <= 65_500


def test_pictures_are_turned_upright_and_boxes_mean_the_upright_picture() -> None:
    stored = Image.new("RGB", (60, 40), "black")
    stored.paste("red", (0, 0, 60, 10))  # the upper edge as stored is the right one when upright
    exif = Image.Exif()
    exif[0x0112] = 6
    upload = read_upload("a.jpg", encoded(stored, "PNG", exif=exif), "30,0,10,60", MOST)
    assert upload.image.size == (10, 60)
    assert np.asarray(upload.image).reshape(-1, 3).mean(0).tolist() == [255, 0, 0]


def test_an_upload_has_the_identifier_that_a_gallery_would_give_it(home: Home, server: Server) -> None:
    path = home.pictures[0]
    assert read_upload("x.jpg", path.read_bytes(), "", MOST).entry.id in server.ids()
    assert read_upload("x.jpg", path.read_bytes(), "0,0,9,9", MOST).entry.id not in server.ids()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("who.jpg", "who.jpg"),
        ("/etc/passwd", "passwd"),
        ("C:\\me\\who.jpg", "who.jpg"),
        ("a\nb\x1b[31m.jpg", "a?b?[31m.jpg"),
        ("", "picture"),
        ("x" * 500, "x" * 80),
    ],
)
def test_names_are_made_harmless(name: str, shown: str) -> None:
    assert printable_name(name) == shown


def test_what_is_added_keeps_its_format_but_not_its_name(start: Start) -> None:
    server = start(allow_add=True, full=False)
    sent = [("pictures", ("../../evil.html", encoded(noise(3), "PNG"), "text/html"))]
    answer = server.client.post("/api/gallery", files=sent, headers=server.signed_in())
    assert answer.json()["added"] == 1
    (kept,) = server.settings.state.rglob("*.*g")
    assert kept.parent == server.settings.state / "added"
    assert kept.suffix == ".png"
    assert not list(server.folder.rglob("*evil*"))


def test_recent_uploads_are_forgotten_in_time() -> None:
    uploads = [read_upload("a", encoded(noise(seed), "PNG"), "", MOST) for seed in range(4)]
    recent = Recent(most_bytes=3 * len(uploads[0].image.tobytes()))
    for upload in uploads[:3] * 2:
        recent.put(upload.entry.id, upload.image)
    assert recent.get(uploads[0].entry.id) is uploads[0].image  # and is now the newest
    recent.put(uploads[3].entry.id, uploads[3].image)
    remembered = [recent.get(upload.entry.id) is not None for upload in uploads]
    assert remembered == [True, False, True, True]


def test_any_upload_fits_in_memory() -> None:
    assert 3 * ENOUGH_PIXELS <= RECENT_BYTES
    image = Image.new("RGB", (4000, 3999))
    Recent().put("a", read_upload("a", encoded(image, "PNG"), "", 16_000_000).image)


def test_an_upload_is_decoded_once(start: Start, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []

    def counting(file: bytes, name: str, *limits: object) -> Decoded:
        decoded.append(name)
        return decode(file, name, *limits)

    monkeypatch.setattr("kronreid.serve.uploads.decode", counting)
    server = start()
    sent = [("pictures", ("who.jpg", home.queries[0].read_bytes(), "image/jpeg"))]
    first = server.client.post("/api/search", files=sent, data={"box": "5,5,50,100"}).json()
    query, hit = first["query"][0]["id"], first["hits"][0]["id"]
    again = server.client.post("/api/search", data={"item": query}).json()
    assert again["query"] == first["query"]
    assert again["hits"] == first["hits"]
    for address in ("/api/match", "/api/explain"):
        assert server.client.post(address, data={"a_item": query, "b_item": hit}).status_code == 200
    mark = {"query": query, "item": hit, "same": True}
    assert server.client.post("/api/feedback", json=mark, headers=server.signed_in()).status_code == 204
    assert decoded == ["who.jpg"]


def test_a_picture_is_stored_once(tmp_path: Path) -> None:
    upload = read_upload("a", encoded(noise(5)), "", MOST)
    path = keep(file_of(tmp_path, upload), upload)
    before = path.stat().st_mtime_ns
    assert keep(path, upload) == path
    assert path.stat().st_mtime_ns == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    path.write_bytes(b"something else under its name")
    assert keep(path, upload).read_bytes() == upload.content
