"""No file comes out of the server that was not put into the gallery."""

import io
from pathlib import Path

import pytest
from PIL import Image

from kronreid.gallery import Entry, Gallery
from kronreid.gallery.indexing import Changed
from kronreid.serve.pictures import Pictures

from .conftest import Home, Server, Start, encoded, noise


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture that is nobody's business."""
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(Image.new("RGB", (20, 40), "red"), "PNG"))
    return path


def entry(home: Home, tmp_path: Path) -> Entry:
    """A picture of the user's that is in a gallery."""
    mine = tmp_path / "mine.png"
    mine.write_bytes(encoded(noise(1), "PNG"))
    with Gallery(tmp_path / "g.gallery", home.embedder) as gallery:
        gallery.add(mine, progress=False)
        return next(gallery.entries())


def test_a_link_put_in_a_pictures_place_is_not_followed_out(home: Home, tmp_path: Path, secret: Path) -> None:
    known = entry(home, tmp_path)
    assert Pictures().image(known).size == (32, 64)
    known.path.unlink()
    known.path.symlink_to(secret)
    with pytest.raises(Changed, match="gone or cannot be read"):
        Pictures().image(known)
    known.path.unlink()
    known.path.symlink_to("/etc/passwd")
    with pytest.raises(Changed):
        Pictures().image(known)


def test_a_file_that_was_exchanged_or_is_gone_is_not_served(start: Start, home: Home, tmp_path: Path) -> None:
    server = start(allow_add=True, full=False)
    sent = [("pictures", ("a.png", encoded(noise(1), "PNG"), "image/png"))]
    (id,) = server.client.post("/api/gallery", files=sent, headers=server.signed_in()).json()["ids"]
    path = server.service.gallery.entry(id).path
    assert server.client.get(f"/api/pictures/{id}").status_code == 200
    path.write_bytes(encoded(noise(2), "PNG"))
    changed = server.client.get(f"/api/pictures/{id}")
    assert changed.status_code == 409
    assert str(path.parent) not in changed.text
    path.unlink()
    gone = server.client.get(f"/api/pictures/{id}")
    assert gone.status_code == 409
    assert str(path.parent) not in gone.text
    found = server.client.post("/api/search", files=sent).json()
    assert found["hits"][0]["id"] == id  # still listed, with what is known of it
    assert found["hits"][0]["probability"] is None
    assert str(path.parent) not in str(found)


@pytest.mark.parametrize(
    "path",
    [
        "/api/pictures/../../etc/passwd",
        "/api/pictures/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/api/pictures/..%5c..%5cetc",
        "/api/pictures/" + "g" * 64,
        "/api/pictures/" + "a" * 63,
        "/api/pictures/" + "A" * 64,
        "/api/pictures/" + "0" * 64 + "%00",
        "/api/pictures/" + "0" * 64 + "%0a",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/__init__.py",
        "/static/",
        "/reports/../../etc/passwd",
        "/reports/%2e%2e%2fsecret.html",
        "/reports//etc/passwd",
    ],
)
def test_no_path_leads_out(server: Server, path: str) -> None:
    # By hand, because a client would tidy the path up.
    request = server.client.build_request("GET", path)
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = server.client.send(request)
    assert answer.status_code in (404, 422), path
    assert "root:" not in answer.text


def test_small_pictures_are_kept_up_to_a_limit(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = entry(home, tmp_path)
    pictures = Pictures()
    small = pictures.jpeg(known, small=True)
    known.path.unlink()
    assert pictures.jpeg(known, small=True) == small  # no longer read
    with pytest.raises(Changed):
        pictures.jpeg(known, small=False)
    pictures.forget(known.id)
    with pytest.raises(Changed):
        pictures.jpeg(known, small=True)


def test_the_oldest_small_picture_goes_first(
    home: Home, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = [server.service.gallery.entry(id) for id in server.ids()[:3]]
    sizes = [len(Pictures().jpeg(entry, small=True)) for entry in (a, b, c)]
    monkeypatch.setattr("kronreid.serve.pictures.CACHE_BYTES", sum(sizes) - 1)
    pictures = Pictures()
    for one in (a, b, a, c):  # a is used again: b goes
        pictures.jpeg(one, small=True)
    assert set(pictures._thumbnails) == {a.id, c.id}


def test_sizes_are_those_of_the_pictures(home: Home, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(noise(1, (60, 40)), exif=exif))
    for box in (None, (5, 5, 10, 20), (-5, 30, 10, 100)):
        with Gallery(tmp_path / f"{box}.gallery", home.embedder) as gallery:
            gallery.add([Entry(path, box=box)], progress=False)
            known = next(gallery.entries())
        pictures = Pictures()
        assert pictures.size(known) == pictures.image(known).size
        assert Image.open(io.BytesIO(pictures.jpeg(known, small=False))).size == pictures.size(known)
    path.unlink()
    assert Pictures().size(known) is None
