"""The collection of tracklets beside a gallery's pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kronreid.gallery import Selection
from kronreid.gallery.tracklets import Tracklet, Tracklets


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
