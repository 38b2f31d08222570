"""The collection of tracklets beside a gallery's pictures."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kronreid.cli import main
from kronreid.gallery import Entry, Gallery, Selection
from kronreid.gallery.crops import PROGRESS, commented, remove_crop
from kronreid.gallery.tracklets import Tracklet, Tracklets
from kronreid.locks import LOCK

from .conftest import ColourEmbedder, paint


def one(number: int = 0, camera: str = "1") -> Tracklet:
    vector = np.random.default_rng(number).standard_normal(16).astype(np.float32)
    return Tracklet(
        id=f"{number:064x}",
        camera=camera,
        source="street.mp4",
        start=100.0 + number,
        end=104.5 + number,
        vector=vector / np.linalg.norm(vector),
        pictures=("a" * 64, "b" * 64),
        path=Path(f"/crops/{number}.jpg"),
        boxes=np.array([[0, 1, 2, 30, 60], [0.5, 4, 2, 30, 61]], np.float32),
    )


def same(a: Tracklet, b: Tracklet) -> bool:
    plain = replace(a, vector=b.vector, boxes=b.boxes) == b
    return plain and np.allclose(a.vector, b.vector, atol=1e-6) and np.array_equal(a.boxes, b.boxes)


@pytest.fixture
def tracklets(tmp_path):
    found = Tracklets(str(tmp_path / "people.gallery"))
    yield found
    found.close()


def test_a_gallery_without_tracklets_has_none(tracklets):
    assert list(tracklets.all()) == []
    assert tracklets.count() == 0
    assert tracklets.existing(["0" * 64]) == set()
    tracklets.delete(["0" * 64])
    assert tracklets.purge()


def test_tracklets_come_back_as_they_were_written(tracklets):
    written = [one(0), one(1, camera="yard")]
    tracklets.upsert(written)
    tracklets.upsert(written[:1])
    found = sorted(tracklets.all(), key=lambda tracklet: tracklet.id)
    assert tracklets.count() == 2
    assert all(same(a, b) for a, b in zip(found, written))
    assert [t.id for t in tracklets.all(Selection(camera="yard"))] == [written[1].id]


def test_deleted_tracklets_are_gone(tracklets):
    tracklets.upsert([one(0), one(1)])
    tracklets.delete([one(0).id])
    assert [tracklet.id for tracklet in tracklets.all()] == [one(1).id]
    assert tracklets.existing([one(0).id, one(1).id]) == {one(1).id}


@pytest.fixture
def followed(tmp_path):
    """A gallery with two tracklets of two crops each, and a picture of the user's own."""
    with Gallery(tmp_path / "people.gallery", ColourEmbedder()) as gallery:
        tracklets = Tracklets(**gallery.place)
        own = paint(tmp_path / "mine" / "0007.png", 7)
        gallery.add([Entry(own, time=0.0, attributes={"track": f"{0:064x}"})], progress=False)
        for number in (0, 1):
            crops = [paint(tmp_path / "people.crops" / "a" / f"{number}{n}.jpg", number, n) for n in (0, 1)]
            for path in crops:
                path.write_bytes(commented(path.read_bytes(), f"{number:064x}", 1.0))
            entries = [Entry(p, time=time.time(), attributes={"track": f"{number:064x}"}) for p in crops]
            gallery.add(entries, progress=False)
            ids = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in crops)
            vector = gallery.embedder.embed([crops[0]])[0]
            tracklets.upsert([replace(one(number), vector=vector, pictures=ids, path=crops[0])])
        yield gallery
        tracklets.close()


def stored(gallery: Gallery) -> dict[int, list[str]]:
    """The names of each tracklet's pictures, by its number."""
    tracklets = Tracklets(**gallery.place)
    found = {int(t.id, 16): [gallery.entry(id).path.name for id in t.pictures] for t in tracklets.all()}
    assert all(t.path.name == found[int(t.id, 16)][0] for t in tracklets.all())
    tracklets.close()
    return found


def test_a_deleted_picture_takes_its_crop_and_its_place_in_the_tracklet(followed, tmp_path):
    crops, own = tmp_path / "people.crops" / "a", tmp_path / "mine" / "0007.png"
    followed.delete(Selection(path=crops / "00.jpg"))
    assert stored(followed) == {0: ["01.jpg"], 1: ["10.jpg", "11.jpg"]}
    assert sorted(path.name for path in crops.iterdir()) == ["01.jpg", "10.jpg", "11.jpg"]
    followed.delete(Selection(where={"track": f"{0:064x}"}))
    assert stored(followed) == {1: ["10.jpg", "11.jpg"]}
    assert sorted(path.name for path in crops.iterdir()) == ["10.jpg", "11.jpg"]
    assert own.exists(), "a file that no tracklet lists is not the gallery's"
    assert followed.verify().intact


def test_a_gallery_with_a_relative_path_stays_where_it_is(followed, tmp_path, monkeypatch):
    """Also when the process goes elsewhere, and only then opens the table of tracklets."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Gallery("people.gallery", ColourEmbedder()) as gallery:
        monkeypatch.chdir(tmp_path / "elsewhere")
        gallery.delete(Selection(where={"track": f"{0:064x}"}))
        assert stored(gallery) == stored(followed) == {1: ["10.jpg", "11.jpg"]}
        assert gallery.folder == tmp_path / "people.gallery"
        assert gallery.info().uri == "people.gallery", "as it was given"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_only_a_crop_of_the_tracklet_is_removed(tmp_path):
    jpeg = paint(tmp_path / "a.jpg", 1)
    other = tmp_path / "other.jpg"
    other.write_bytes(commented(jpeg.read_bytes(), one(1).id, 0.0))
    for path in (jpeg, other, tmp_path / "missing.jpg"):
        remove_crop(path, one(0).id)
    assert jpeg.exists()
    assert other.exists()
    remove_crop(other, one(1).id)
    assert not other.exists()


def test_what_has_expired_leaves_nothing_behind(followed, tmp_path):
    crops = tmp_path / "people.crops" / "a"
    vector, name = followed.embedder.embed([crops / "10.jpg"])[0], b"people.crops/a/10.jpg"

    def kept() -> bytes:
        files = (path for path in (tmp_path / "people.gallery").rglob("*") if path.is_file())
        return b"".join(path.read_bytes() for path in files)

    assert name in kept()
    assert vector.tobytes() in kept()
    followed.expire(0)
    assert (followed.count, stored(followed), list(crops.iterdir())) == (0, {}, [])
    assert name not in kept()
    assert vector.tobytes() not in kept()


def test_verify_knows_the_crops_and_half_tracklets_and_repair_mends_them(followed, tmp_path, capsys):
    crops = tmp_path / "people.crops" / "a"
    (crops / "stray.jpg").write_bytes(b"no row")
    (crops / PROGRESS).write_text("{}")
    (crops / LOCK).touch()
    assert followed.verify().strays == [crops / "stray.jpg"]
    (half,) = [entry.id for entry in followed.entries(Selection(path=crops / "10.jpg"))]
    followed._store.delete([half])
    report = followed.verify()
    assert (report.intact, report.incomplete) == (False, [one(1).id])
    command = ["gallery", "verify", "--gallery", str(tmp_path / "people.gallery")]
    assert main(command) == 2
    said = capsys.readouterr()
    assert f"incomplete: {one(1).id}" in said.out
    assert "1 entries are damaged" in said.err
    followed.repair()
    assert followed.verify().intact
    assert stored(followed)[1] == ["11.jpg"]
