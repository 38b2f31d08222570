"""Cameras and moments over HTTP: what runs, and the frames around a picture."""

import io
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kronreid.gallery.recordings import SILENT_SECONDS, Recordings, RecordingState
from kronreid.gallery.store import SOURCES
from kronreid.serve.moments import _box

from .conftest import Server, Start, add_recorded, add_tracklets, track, write_video


@pytest.fixture
def server(start: Start, tmp_path: Path) -> Server:
    return start(audit=tmp_path / "audit.jsonl")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "door.mp4")


@pytest.fixture
def video(film: Path, tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    return Path(shutil.copy2(film, tmp_path / "videos" / "door.mp4"))


def moment(server: Server, id: str) -> dict:
    answer = server.client.get(f"/api/moments/{id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def cameras(server: Server) -> dict[str | None, dict]:
    answer = server.client.get("/api/cameras")
    assert answer.status_code == 200, answer.text
    return {camera["camera"]: camera for camera in answer.json()["cameras"]}


# ── cameras ─────────────────────────────────────────────────────────────────────────────────────────────


def test_cameras_have_seen_tracklets_and_people(server: Server) -> None:
    assert not server.client.get("/api/info").json()["has_cameras"]
    assert cameras(server) == {}
    add_tracklets(server)
    assert server.client.get("/api/info").json()["has_cameras"]
    found = cameras(server)
    assert list(found) == ["gate", "yard"]
    assert found["gate"] == {
        "camera": "gate",
        "running": False,
        "first": "2024-05-01T10:00:00+00:00",
        "last": "2024-05-01T10:01:01+00:00",
        "tracklets": 2,
        "people": 2,
        "recordings": [],
        "more": 0,
    }


def test_what_runs_is_told_even_before_anybody_was_seen(server: Server) -> None:
    now = time.time()
    state = RecordingState("roof", "rtsp://cam/live", True, now - 90, now, frames=700, dropped=3)
    state = replace(state, frames_per_second=24.8, damaged=1)
    recordings = Recordings(server.service.gallery.current)
    recordings.write("a", state)
    recordings.write("b", replace(state, updated=now - SILENT_SECONDS - 9, error="is damaged"))
    recordings.write("c", replace(state, camera="yard", over=True))
    for number in range(6):
        recordings.write(f"d{number}", replace(state, over=True, updated=now - 1000 - number))
    assert server.client.get("/api/info").json()["has_cameras"]
    found = cameras(server)
    roof = found["roof"]
    assert (roof["running"], roof["first"], roof["tracklets"], roof["more"]) == (True, None, 0, 3)
    first, killed, *_ = roof["recordings"]
    assert {name: first[name] for name in ("source", "live", "running", "frames_per_second")} == {
        "source": "rtsp://cam/live",
        "live": True,
        "running": True,
        "frames_per_second": 24.8,
    }
    assert (first["frames"], first["dropped"], first["damaged"], first["error"]) == (700, 3, 1, None)
    assert (killed["running"], killed["finished"], killed["error"]) == (False, False, "is damaged")
    assert (found["yard"]["running"], found["yard"]["recordings"][0]["finished"]) == (False, True)


# ── moments ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_opens_its_moment_in_the_video(server: Server, video: Path) -> None:
    id = add_recorded(server, video)
    found = moment(server, id)
    assert (found["item"], found["camera"], found["missing"]) == (id, "gate", None)
    assert (found["time"], found["width"], found["height"]) == ("2026-03-01T12:00:02.500000+00:00", 64, 48)
    assert [frame["offset"] for frame in found["frames"]] == [round(-2 + 0.2 * n, 1) for n in range(17)]
    own = found["frames"][found["at"]]
    assert own["offset"] == 0
    assert own["box"] == pytest.approx([16 / 64, 6 / 48, 16 / 64, 24 / 48], abs=1e-4)
    assert found["frames"][0]["box"] is None, "the tracklet had not begun"
    answer = server.client.get(own["picture"])
    assert answer.headers["content-type"] == "image/jpeg"
    level = np.asarray(Image.open(io.BytesIO(answer.content))).mean()
    assert level == pytest.approx(16 + 6 * 25, abs=2.5), "frame 25"
    assert server.client.get(f"/api/moments/{id}/frames/17").status_code == 404
    assert server.client.get(f"/api/moments/{id}/frames/-1").status_code == 422
    lines = [json.loads(line) for line in server.settings.audit.read_text().splitlines()]
    assert [(line["action"], line["item"]) for line in lines if "item" in line][:2] == [
        ("moment", id),
        ("frame", id),
    ]
    server.client.delete(f"/api/gallery/{id}", headers=server.signed_in())
    assert server.client.get(own["picture"]).status_code == 404, "nothing of a deleted picture is kept"
    assert server.client.get(f"/api/moments/{id}").status_code == 404


def missing(server: Server, id: str, words: str) -> None:
    """There are no frames, for this reason, and no frame can be had."""
    found = moment(server, id)
    assert (found["frames"], found["at"], found["width"]) == ([], None, None)
    assert words in found["missing"]
    assert server.client.get(f"/api/moments/{id}/frames/0").status_code == 409


def test_pictures_without_a_video_say_why(server: Server) -> None:
    missing(server, server.ids()[-1], "was not taken from a video by kronreid track")
    add_tracklets(server)
    picture = next(iter(server.client.get("/api/people/1").json()["pictures"]))
    missing(server, picture, "it is not known where its video lies")
    assert server.client.get(f"/api/moments/{'0' * 64}").status_code == 404


def test_a_video_that_has_changed_or_gone_is_not_shown(server: Server, video: Path) -> None:
    id = add_recorded(server, video)
    write_video(video, first=1)
    missing(server, id, "its video has changed since its people were followed")
    video.unlink()
    assert moment(server, id)["missing"].startswith("its video is gone")


@pytest.mark.parametrize("limited", [False, True], ids=["noted", "--sources"])
def test_a_video_outside_the_gallerys_sources_is_not_opened(
    start: Start, video: Path, tmp_path: Path, limited: bool
) -> None:
    """Neither where what is known of the recording was changed, nor where the server was told its folders."""
    (tmp_path / "allowed").mkdir()
    server = start(sources=(tmp_path / "allowed",)) if limited else start()
    id = add_recorded(server, video)
    recordings = Recordings(server.service.gallery.current)
    ((name, state),) = recordings.all().items()
    secret = Path(shutil.copy2(video, tmp_path / "secret.mp4"))
    outside = "its video lies outside the folders that this server may open"
    if limited:
        missing(server, id, outside)
    else:
        assert str(video) in json.loads((server.folder / "people.gallery" / SOURCES).read_text())
        for path in (secret, video.parent / ".." / "secret.mp4"):
            recordings.write(name, replace(state, path=str(path)))
            missing(server, id, outside)


def test_a_live_camera_has_no_video(server: Server, video: Path) -> None:
    id = add_recorded(server, video)
    recordings = Recordings(server.service.gallery.current)
    ((name, state),) = recordings.all().items()
    recordings.write(name, replace(state, live=True, path=""))
    missing(server, id, "it was seen by a live camera, and no video of that is kept")


def test_moments_need_the_token_where_everything_does(start: Start, video: Path) -> None:
    server = start(guarded=True)
    id = add_recorded(server, video)
    for path in (f"/api/moments/{id}", f"/api/moments/{id}/frames/0", "/api/cameras"):
        assert server.client.get(path).status_code == 401
    assert server.client.get("/api/cameras", headers=server.signed_in()).status_code == 200


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (10.0, [0.1, 0.2, 0.2, 0.4]),
        (10.25, [0.2, 0.2, 0.2, 0.4]),
        (9.8, None),
        (10.9, None),
        (12.0, None),  # between two boxes that are too far apart
        (14.0, [0.9, 0.2, 0.1, 0.4]),
        (14.2, None),
    ],
)
def test_a_box_is_known_where_the_tracklet_was_seen(server, video, time, expected) -> None:
    from kronreid.gallery.tracklets import Tracklet

    boxes = np.array([[0, 10, 20, 20, 40], [0.5, 30, 20, 20, 40], [4, 90, 20, 20, 40]], np.float32)
    tracklet = Tracklet(track(1), "gate", "x", 10.0, 14.0, np.zeros(2), (), video, boxes)
    found = _box(tracklet, time, 100, 100)
    assert found == (expected and pytest.approx(expected, abs=1e-4))
