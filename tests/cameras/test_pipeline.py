"""From sources to tracklets in a gallery."""

import gc
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from kronreid.cameras import feeds, pipeline, status, tracking
from kronreid.cameras.detectors import Detections
from kronreid.cameras.drawing import Blur
from kronreid.cameras.identity import recording_name
from kronreid.cameras.pipeline import Options, follow
from kronreid.cameras.sources import VideoFile
from kronreid.errors import InputError
from kronreid.gallery import Gallery
from kronreid.gallery.recordings import Recordings
from kronreid.gallery.tracklets import Tracklet, Tracklets

from .conftest import START, Colours, Known, Street, walk
from .videos import write_video


@pytest.fixture
def street() -> Street:
    """Three people, the first two at once; then nobody for a while."""
    walks = [walk(0, 4, (0, 280)), walk(1, 5, (280, 0), 100, 60), walk(18, 22, (20, 250))]
    return Street(walks, 24, rate=5)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(tmp_path / "crops", progress=False)


@pytest.fixture
def gallery(tmp_path: Path):
    with Gallery(tmp_path / "people.gallery", Colours()) as gallery:
        yield gallery


def run(gallery: Gallery, options: Options, *streets: Street) -> pipeline.Report:
    return follow(gallery, [(street, Known(street)) for street in streets], options)


def stored(gallery: Gallery) -> list[Tracklet]:
    """All tracklets, by their beginnings; each is whole, and nothing else is there."""
    tracklets = Tracklets(**gallery.place)
    found = sorted(tracklets.all(), key=lambda tracklet: tracklet.start)
    tracklets.close()
    entries = {entry.id: entry for entry in gallery.entries()}
    named = [id for tracklet in found for id in tracklet.pictures]
    assert sorted(entries) == sorted(named)
    for tracklet in found:
        assert entries[tracklet.pictures[0]].path == tracklet.path
        for id in tracklet.pictures:
            entry = entries[id]
            assert entry.attributes == {"track": tracklet.id}
            assert (entry.camera, entry.source) == (tracklet.camera, tracklet.source)
            assert tracklet.start <= entry.time <= tracklet.end
    report = gallery.verify()
    assert (report.intact, report.missing, report.changed) == (True, [], [])
    return found


def files(options: Options) -> set[Path]:
    return set(options.crops.rglob("*.jpg*"))


def test_a_street_becomes_tracklets(gallery, options, street):
    report = run(gallery, options, street)
    found = stored(gallery)
    assert [round(one.start - START) for one in found] == [0, 1, 18]
    assert [round(one.end - START) for one in found] == [4, 5, 22]
    assert files(options) == {entry.path for entry in gallery.entries()}
    for one in found:
        assert (one.camera, one.source) == ("street", "street.mp4")
        assert 3 <= len(one.pictures) <= 6
        assert np.linalg.norm(one.vector) == pytest.approx(1, abs=1e-5)
    hits = gallery.search(found[2].path, top=3).hits
    assert {hit.attributes["track"] for hit in hits} == {found[2].id}
    (summary,) = report.sources
    assert (summary.frames, summary.tracklets, summary.short, summary.error) == (120, 3, 0, None)
    assert set(report.shares) == {"decoding", "detection", "tracking", "embedding", "storing"}
    assert sum(report.shares.values()) == pytest.approx(1)


def test_a_street_that_was_followed_to_its_end_is_not_followed_again(gallery, options, street):
    run(gallery, options, street)
    before = [tracklet.id for tracklet in stored(gallery)]
    report = run(gallery, options, street)
    assert report.sources[0].already
    assert [tracklet.id for tracklet in stored(gallery)] == before
    run(gallery, replace(options, settings={"detector": "another"}), street)
    assert [tracklet.id for tracklet in stored(gallery)] == before, "the same ones, in place of the old ones"
    run(gallery, replace(options, min_seconds=4.5), street)
    assert stored(gallery) == []
    assert files(options) == set()


def test_recordings_of_one_name_do_not_touch_each_other(gallery, options, street):
    run(gallery, options, street)
    run(gallery, options, replace(street, times=lambda seconds: START + 1000 + seconds))
    run(gallery, options, replace(street, camera="yard"))
    found = stored(gallery)
    assert len(found) == 9
    assert len({id for tracklet in found for id in tracklet.pictures}) == sum(len(t.pictures) for t in found)


def test_many_sources_are_embedded_in_common_batches_and_each_is_followed_as_if_alone(
    tmp_path, gallery, options, street
):
    others = [replace(street, camera=f"c{number}", walks=street.walks[:number]) for number in (1, 2)]
    for one in others:
        with Gallery(tmp_path / f"{one.camera}.gallery", Colours()) as alone:
            run(alone, replace(options, crops=tmp_path / one.camera), one)
            expected = [(tracklet.camera, tracklet.id) for tracklet in stored(alone)]
        run(gallery, options, one)
        assert [(t.camera, t.id) for t in stored(gallery) if t.camera == one.camera] == expected
    with Gallery(tmp_path / "all.gallery", Colours()) as together:
        run(together, replace(options, crops=tmp_path / "all"), *others)
        found = {(tracklet.camera, tracklet.id) for tracklet in stored(together)}
    assert found == {(tracklet.camera, tracklet.id) for tracklet in stored(gallery)}


def test_a_source_that_fails_does_not_stop_the_others(gallery, options, street):
    class Broken(Street):
        def frames(self, start=None):
            for frame in super().frames(start):
                if frame.number == 80:
                    raise InputError(self.name, "is damaged")
                yield frame

    broken = Broken(street.walks, 24, 5, camera="broken")
    report = run(gallery, options, broken, street)
    assert str(report.sources[0].error) == "street.mp4: is damaged"
    assert [(t.camera, round(t.start - START)) for t in stored(gallery) if t.camera == "street"] == [
        ("street", second) for second in (0, 1, 18)
    ]
    assert [t.camera for t in stored(gallery)].count("broken") == 2
    mended = Street(street.walks, 24, 5, camera="broken")
    run(gallery, options, mended)
    assert [t.camera for t in stored(gallery)].count("broken") == 3


def test_a_bug_in_a_source_keeps_its_traceback(gallery, options, street):
    class Wrong(Street):
        def frames(self, start=None):
            yield from list(super().frames(start))[:20]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(gallery, options, Wrong(street.walks, 24, 5))
    assert threading.active_count() < 20


def test_one_recording_is_followed_once_at_a_time(gallery, options, street):
    with pytest.raises(InputError, match="is being followed by another process, or given twice"):
        run(gallery, options, street, street)
    with pytest.raises(InputError, match="empty: has no frames"):
        run(gallery, options, Street([], 0, name="empty"))


def test_short_tracks_are_left_out_and_counted(gallery, options):
    walks = [walk(0, 0.6, (100, 110)), walk(0, 6, (20, 250), 100, 60)]
    report = run(gallery, options, Street(walks, 7))
    assert (report.sources[0].tracklets, report.sources[0].short) == (1, 1)
    assert len(stored(gallery)) == 1


def test_long_tracks_are_stored_from_time_to_time_and_end_with_their_section(gallery, options, monkeypatch):
    """A person who stays: the tracklet grows under one identifier, and a section's end ends it."""
    monkeypatch.setattr(pipeline, "OPEN_SECONDS", 2.0)
    monkeypatch.setattr(pipeline, "SECTION_SECONDS", 12.0)
    monkeypatch.setattr(pipeline, "STORE_SECONDS", 0.0)
    seen: list[tuple[str, float]] = []
    street = Street([walk(0, 20, (0, 280))], 21, 5)

    def look() -> None:
        seen.extend((one.id, one.end - one.start) for one in stored(gallery))

    follow(gallery, [(street, Known(street))], options, look)
    found = stored(gallery)
    assert len(found) == 2
    assert found[0].end < found[1].start
    lengths = [length for id, length in seen if id == found[0].id]
    assert len(set(lengths)) >= 4
    assert lengths == sorted(lengths)
    assert files(options) == {entry.path for entry in gallery.entries()}


def test_memory_does_not_grow_with_the_number_of_tracklets(gallery, options, monkeypatch):
    """Nothing of a tracklet that is stored stays in memory, neither its pictures nor its files' names."""
    monkeypatch.setattr(pipeline, "STORE_SECONDS", 0.0)
    monkeypatch.setattr(pipeline, "LEAST_SECTION_SECONDS", 1.0)
    monkeypatch.setattr(tracking, "REJOIN_SECONDS", 0.5)
    objects = []

    def look() -> None:
        gc.collect()
        kinds = Counter(map(type, gc.get_objects()))
        ours = [kind for kind in kinds if str(kind.__module__).startswith(("kronreid", "pathlib"))]
        objects.append({kind: kinds[kind] for kind in ours})

    starts = range(0, 32, 4)
    street = Street([walk(start, start + 2, (20, 200)) for start in starts], 32, 5)
    report = follow(gallery, [(street, Known(street))], options, look)
    assert report.sources[0].tracklets == len(starts)
    assert len(objects) >= 6
    grown = {kind for kind, count in objects[-1].items() if count > objects[1].get(kind, 0) + 2}
    assert not grown


def test_a_live_source_is_followed_until_it_is_stopped(gallery, options, street):
    """Ctrl-C keeps what has been seen, and the next start does not wait for anything."""
    live = replace(street, live=True)
    raised = []

    def interrupt() -> None:
        raised.append(1)
        raise KeyboardInterrupt

    assert follow(gallery, [(live, Known(live))], options, interrupt).stopped
    before = stored(gallery)
    assert raised
    assert before
    later = replace(live, times=lambda seconds: START + 500 + seconds)
    run(gallery, options, later)
    assert len(stored(gallery)) == len(before) + 3


def test_a_bounded_number_of_frames_waits(gallery, options, street, monkeypatch):
    """Reading is never far ahead of storing."""
    detector = Known(street)
    done, ahead = [], []
    learn = pipeline.Lane.learn

    def counted(lane, chunk):
        done.extend(chunk.frames)
        ahead.append(len(detector.asked) - len(done))
        learn(lane, chunk)

    monkeypatch.setattr(pipeline.Lane, "learn", counted)
    follow(gallery, [(street, detector)], options)
    assert len(done) == 120
    assert max(ahead) <= 4 * 4


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def stripes(image: np.ndarray) -> int:
    """How many edges a picture has from top to bottom."""
    return int((np.abs(np.diff(image.mean((1, 2)))) > 5).sum())


@pytest.mark.parametrize("who", ["nobody", "all", "others"])
def test_a_film_shows_who_is_who_or_hides_them(gallery, options, tmp_path, who):
    street = Street([walk(0, 5, (0, 120), 100, 70), walk(0, 5, (160, 280), 170, 70)], 5)
    run(gallery, options, street)
    first = stored(gallery)[0]
    blur = Blur(who, (first.id[:8],))
    run(gallery, replace(options, film=tmp_path / "films", blur=blur), street)
    assert stored(gallery)[0].id == first.id
    (film,) = (tmp_path / "films").iterdir()
    images = frames_of(film)
    assert len(images) == 50
    plain = street.image(25)
    kept = []
    for box in street.boxes(25):
        left, top, width, height = (round(side) for side in box)
        inner = np.s_[top + 8 : top + height - 4, left + 4 : left + width - 4]
        kept.append(stripes(images[25][inner]) > 10)
        assert stripes(plain[inner]) > 10
    shown = next(p for p, box in enumerate(street.boxes(0)) if abs(box[0] - first.boxes[0, 1]) < 20)
    expected = {
        "nobody": [True, True],
        "all": [False, False],
        "others": [person == shown for person in (0, 1)],
    }
    assert kept == expected[who]


def test_chunks_follow_from_the_frames(street):
    chunk = feeds.Chunk()
    sizes = []
    for frame in street.frames():
        chunk.frames.append(frame)
        if chunk.is_full:
            sizes.append(len(chunk))
            chunk = feeds.Chunk()
    assert set(sizes) == {4}


def test_whoever_looks_at_the_cameras_sees_how_far_it_is(gallery, options, street, monkeypatch, tmp_path):
    """While it runs, after its end, and after a source that failed."""
    monkeypatch.setattr(status, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(pipeline, "STORE_SECONDS", 0.0)
    recordings, seen = Recordings(gallery), []
    follow(gallery, [(street, Known(street))], options, lambda: seen.extend(recordings.all().values()))
    assert [state.running for state in seen] == [True] * (len(seen) - 1) + [False]
    assert 0 < seen[0].frames < 120
    ((name, state),) = recordings.all().items()
    assert name in {path.name for path in options.crops.iterdir()}
    assert (state.camera, state.source, state.path, state.live) == ("street", "street.mp4", "", False)
    assert (state.over, state.running, state.frames, state.error) == (True, False, 120, "")
    assert state.frames_per_second > 0

    class Broken(Street):
        def frames(self, start=None):
            yield from list(super().frames(start))[:30]
            raise InputError(self.name, "is damaged")

    run(gallery, options, Broken(street.walks, 24, 5, camera="broken", dropped=4))
    state = next(state for state in recordings.all().values() if state.camera == "broken")
    assert (state.over, state.dropped, state.error) == (True, 4, "street.mp4: is damaged")


def test_a_video_that_was_followed_is_known_and_may_be_opened(gallery, options, tmp_path):
    video = write_video(tmp_path / "door.mp4", frames=20, created="2026-03-01T12:00:00Z")
    source = VideoFile(video, rate=5)
    run_on = [(source, lambda image: Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)))]
    follow(gallery, run_on, options)
    ((name, state),) = Recordings(gallery).all().items()
    assert (state.path, state.start, state.rate) == (str(video), source.start, 5)
    assert state.size == video.stat().st_size
    assert name == recording_name(VideoFile(video, state.camera, state.start, state.rate))
    assert gallery.sources.allow(video)
