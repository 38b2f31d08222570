"""Pictures that ask for far more work than their size tells."""

import io
import resource
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kronreid.gallery import Entry, Gallery

from ..conftest import Home, Start, encoded


def tiled(side: int) -> bytes:
    """A TIFF of one small tile that says it is one large tile."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "TIFF", compression="tiff_adobe_deflate", tiled=True)
    content = bytearray(buffer.getvalue())
    start = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[start : start + 2], "little")
    entries = [content[start + 2 + 12 * n : start + 14 + 12 * n] for n in range(count)]
    kept = {int.from_bytes(entry[:2], "little"): bytes(entry) for entry in entries}
    for tag in (322, 323):
        kept[tag] = tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little")
        kept[tag] += side.to_bytes(4, "little")
    directory = len(kept).to_bytes(2, "little") + b"".join(kept[tag] for tag in sorted(kept)) + bytes(4)
    return bytes(content[:4]) + len(content).to_bytes(4, "little") + bytes(content[8:]) + directory


def many_scans(scans: int) -> bytes:
    """A progressive JPEG with scans that refine nothing, each of which goes over the whole picture."""
    content = encoded(Image.new("L", (1024, 1024)), progressive=True)
    end = content.rindex(b"\xff\xd9")
    first = content.index(b"\xff\xda")
    scan = content[first : content.index(b"\xff\xda", first + 2)]
    return content[:end] + scan * scans + content[end:]


HOSTILE = {"one huge tile": lambda: tiled(32768), "thousands of scans": lambda: many_scans(3000)}


def memory() -> int:
    """The most bytes that this process has ever used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("case", HOSTILE)
def test_it_is_refused_as_an_upload(start: Start, case: str) -> None:
    server = start(allow_add=True)
    sent = [("pictures", ("who.jpg", HOSTILE[case](), "image/jpeg"))]
    for address in ("/api/search", "/api/gallery"):
        answer = server.client.post(address, files=sent, headers=server.signed_in())
        text = answer.json().get("message") or answer.json()["unreadable"][0]["message"]
        assert answer.status_code in (200, 422)
        assert "allowed; save it again" in text
    assert server.client.get("/api/gallery").json()["total"] == 12


@pytest.mark.parametrize("case", HOSTILE)
def test_it_is_refused_by_index(home: Home, tmp_path: Path, case: str) -> None:
    (tmp_path / "who.jpg").write_bytes(HOSTILE[case]())
    with Gallery(tmp_path / "g.gallery", home.embedder) as gallery:
        report = gallery.add(tmp_path, progress=False)
    assert report.added == 0
    assert "allowed; save it again" in report.unreadable[0].reason


def test_large_pictures_cost_this_process_little(start: Start, home: Home, tmp_path: Path) -> None:
    """Thirty megapixels with transparency, in 100 kB, as an upload and as a stored picture."""
    large = tmp_path / "large.png"
    large.write_bytes(encoded(Image.new("RGBA", (6000, 5000), (9, 9, 9, 9)), "PNG", compress_level=1))
    server = start()
    with server.service.gallery.changing() as gallery:
        gallery.add([Entry(large)], progress=False)
    (id,) = [entry.id for entry in server.service.gallery.current.entries() if entry.path == large]
    before = memory()
    sent: list[Any] = [("pictures", ("a.png", large.read_bytes(), "image/png"))]
    assert server.client.post("/api/search", files=sent).status_code == 200
    for size in ("thumb", "full"):
        assert server.client.get(f"/api/pictures/{id}", params={"size": size}).status_code == 200
    assert memory() - before < 150_000_000  # decoding it once in this process takes 240 MB


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "PPM"])
def test_unusual_formats_are_refused(start: Start, home: Home, tmp_path: Path, kind: str) -> None:
    content = encoded(Image.new("RGB", (32, 64)), kind)
    answer = start(full=False).client.post("/api/search", files=[("pictures", ("a.jpg", content))])
    assert answer.status_code == 422
    (tmp_path / "a.jpg").write_bytes(content)
    with Gallery(tmp_path / "g.gallery", home.embedder) as gallery:
        assert gallery.add(tmp_path / "a.jpg", progress=False).added == 0
