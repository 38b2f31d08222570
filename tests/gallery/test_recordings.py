"""What a gallery knows of the recordings that its tracklets come from."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kronreid.gallery import Gallery, Selection
from kronreid.gallery.entries import path_to_text
from kronreid.gallery.recordings import SILENT_SECONDS, Recordings, RecordingState
from kronreid.gallery.store import SOURCES
from kronreid.gallery.tracklets import Tracklet, Tracklets

from .conftest import ColourEmbedder

NOW = 1_700_000_000.0
STATE = RecordingState("gate", "door.mp4", False, NOW - 60, NOW, frames=7, path="/v/door.mp4", rate=2.0)


@pytest.fixture
def gallery(tmp_path: Path, crops: Path):
    with Gallery(tmp_path / "people.gallery", ColourEmbedder()) as gallery:
        gallery.add(crops, progress=False)
        yield gallery


@pytest.fixture
def clock(monkeypatch):
    now = [NOW]
    monkeypatch.setattr("kronreid.gallery.recordings.time.time", lambda: now[0])
    return now


def test_what_is_written_is_read_and_the_last_one_comes_first(gallery, clock):
    recordings = Recordings(gallery)
    assert recordings.all() == {}
    assert recordings.one("a") is None
    older = replace(STATE, updated=NOW - 1, start=5.5, size=3, live=True, error="is damaged")
    recordings.write("a", older)
    recordings.write("b", STATE)
    recordings.write("a", replace(older, frames=9))
    assert list(Recordings(gallery).all().items()) == [("b", STATE), ("a", replace(older, frames=9))]
    assert recordings.one("b") == STATE


def test_a_recording_runs_while_it_is_written(clock):
    assert STATE.running
    assert not replace(STATE, over=True).running
    clock[0] = NOW + SILENT_SECONDS + 1
    assert not STATE.running, "its process was killed"


@pytest.mark.parametrize(
    "content", ["", "no JSON", "[1]", "{}", '{"camera": 3}', "[" * 9999, "x" * 100_000, b"\xff\xfe\x00"]
)
def test_a_damaged_file_is_ignored(gallery, clock, content, caplog):
    recordings = Recordings(gallery)
    recordings.write("a", STATE)
    file = recordings.folder / "b.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert list(recordings.all()) == ["a"]
    assert recordings.one("b") is None
    assert "b.json: is damaged and ignored" in caplog.text


@pytest.mark.parametrize("name", ["../people", "..", ".", "", "a/b", "\0"])
def test_a_name_leads_nowhere_else(gallery, name, tmp_path):
    recordings = Recordings(gallery)
    recordings.write("a", STATE)
    (recordings.folder.parent / "people.json").write_text((recordings.folder / "a.json").read_text())
    assert recordings.one(name) is None


def test_a_link_is_not_followed(gallery, tmp_path):
    recordings = Recordings(gallery)
    recordings.write("a", STATE)
    (recordings.folder / "a.json").rename(tmp_path / "secret.json")
    (recordings.folder / "a.json").symlink_to(tmp_path / "secret.json")
    assert recordings.one("a") is None


def test_a_gallery_elsewhere_keeps_them_in_its_state_folder_or_not_at_all(tmp_path):
    class Elsewhere:
        uri, state, place = "http://milvus:19530", tmp_path / "state", {"collection": "people"}
        folder = Gallery.folder

    Recordings(Elsewhere()).write("a", STATE)
    assert Recordings(Elsewhere()).one("a") == STATE
    assert (tmp_path / "state" / "people.recordings" / "a.json").exists()
    Elsewhere.state = None
    Recordings(Elsewhere()).write("a", STATE)
    assert Recordings(Elsewhere()).all() == {}


def test_a_deletion_forgets_recordings_of_which_nothing_is_left(gallery, clock, crops, tmp_path):
    """What is noted of them goes, and so does the permission to open their videos."""
    entries = list(gallery.entries())
    kept, gone = tmp_path / os.fsdecode(b"kept \xff.mp4"), tmp_path / "gone.mp4"  # a name that is not UTF-8
    recordings = Recordings(gallery)
    with_tracklet = entries[0]
    for name, video, over in ((crops.name, kept, True), ("gone", gone, True), ("runs", gone, False)):
        gallery.note_recording(video)
        recordings.write(name, replace(STATE, path=path_to_text(video), over=over))
    tracklets = Tracklets(**gallery.place)
    vector = np.eye(gallery.dimension, dtype=np.float32)[0]
    tracklets.upsert(
        [
            Tracklet(
                "0a",
                "gate",
                "kept.mp4",
                NOW,
                NOW + 1,
                vector,
                (with_tracklet.id,),
                with_tracklet.path,
                np.zeros((0, 5)),
            )
        ]
    )
    tracklets.close()
    assert gallery.sources.allow(gone)
    gallery.delete(Selection(id=[entries[1].id]))
    assert set(recordings.all()) == {crops.name, "runs"}
    assert gallery.sources.allow(kept)
    assert gallery.sources.allow(gone), "it is still being followed"
    clock[0] += 2 * SILENT_SECONDS
    gallery.delete(Selection(id=[entries[2].id]))
    assert set(recordings.all()) == {crops.name}
    assert not gallery.sources.allow(gone)
    assert sorted(json.loads((Path(gallery.uri) / SOURCES).read_text())) == sorted(
        map(path_to_text, (crops, kept))
    )


def test_only_the_video_itself_may_be_opened_not_what_lies_beside_it(gallery, tmp_path):
    gallery.note_recording(tmp_path / "videos" / "door.mp4")
    assert gallery.sources.allow(tmp_path / "videos" / "door.mp4")
    assert not gallery.sources.allow(tmp_path / "videos" / "other.mp4")
    assert not gallery.sources.allow(tmp_path / "videos")


def test_a_gallery_that_noted_no_folders_before_does_not_lose_its_pictures(gallery, tmp_path):
    (Path(gallery.uri) / SOURCES).unlink()
    gallery.note_recording(tmp_path / "door.mp4")
    assert all(gallery.sources.allow(entry.path) for entry in gallery.entries())
    assert not gallery.sources.allow(tmp_path / "other.mp4")
