"""Motion and appearance together: who is who after people have met, hidden and gone."""

import numpy as np
import pytest

from kronreid.cameras.detectors import Detections
from kronreid.cameras.tracking import REJOIN_SECONDS, Tracker
from kronreid.cameras.tracks import Track

from .conftest import HEIGHT, WIDTH, Colours, Known, Street, walk


def follow(street: Street, embedder: Colours | None = None, every: int = 5) -> list[Track]:
    """The tracks of a street, in the order of their beginnings."""
    tracker, detector, embedder = Tracker("r"), Known(street), embedder or Colours()
    asked, found = [], []

    def learn() -> None:
        for look, vector in zip(asked, embedder.embed([look.image for look in asked]) if asked else ()):
            look.vector = vector
        asked.clear()
        tracker.learn()
        found.extend(tracker.ended())

    for number, frame in enumerate(street.frames()):
        asked += tracker.update(frame, detector(frame.image))[0]
        if number % every == every - 1:
            learn()
    asked += tracker.finish()
    learn()
    assert tracker.quiet
    return sorted(found)


def people_of(street: Street, track: Track) -> list[int]:
    """Whom a track shows, by each of its boxes."""
    found = []
    for seconds, *box in track.boxes:
        number = round((track.start + float(seconds) - street.times(0)) * street.rate)
        there = street.boxes(number)
        distances = [np.inf if one is None else np.abs(np.array(one) - box).sum() for one in there]
        found.append(int(np.argmin(distances)))
    return found


def shows(street: Street, tracks: list[Track]) -> list[int]:
    """The one person that each track shows in nearly all of its boxes."""
    found = []
    for track in tracks:
        people = people_of(street, track)
        person = max(set(people), key=people.count)
        assert people.count(person) >= 0.9 * len(people), people
        found.append(person)
    return found


@pytest.mark.parametrize("rate", [5.0, 10.0, 25.0])
def test_people_who_walk_past_are_one_track_each(rate):
    walks = [walk(0, 8, (0, 280)), walk(2, 9, (280, 0), bottom=100, height=70)]
    street = Street(walks, 10, rate)
    tracks = follow(street)
    assert shows(street, tracks) == [0, 1]
    for track, (start, end) in zip(tracks, [(0, 8), (2, 9)]):
        assert track.start - street.times(0) == pytest.approx(start, abs=2.5 / rate)
        assert track.end - street.times(0) == pytest.approx(end, abs=2.5 / rate)


@pytest.mark.parametrize("rate", [10.0, 25.0])
@pytest.mark.parametrize("gap", [0, 15, 30])
def test_people_who_cross_keep_their_tracks(rate, gap):
    street = Street([walk(0, 8, (0, 280), 170 - gap), walk(0, 8, (280, 0))], 9, rate)
    assert sorted(shows(street, follow(street))) == [0, 1]


def test_people_who_meet_and_turn_back_keep_their_tracks():
    def turning(start: float, far: float):
        there, back = walk(0, 4, (start, far)), walk(4, 8, (far, start))
        return lambda time: there(time) or back(time)

    street = Street([turning(10, 140), turning(270, 150)], 9)
    assert sorted(shows(street, follow(street))) == [0, 1]


@pytest.mark.parametrize("seconds", [1.5, 3.0, 5.0])
def test_a_person_who_was_hidden_is_the_same_afterwards(seconds):
    """A wall hides everybody; another person walks on at the other side of it."""
    wide = 240 * seconds / 10
    street = Street(
        [walk(0, 10, (0, 280), height=60), walk(0, 10, (10, 90), 60, 50)],
        11,
        hidden=[(int(140 - wide / 2), 100, int(wide) + 24, 75)],
    )
    assert shows(street, follow(street)) == [0, 1]


def test_another_person_who_comes_out_is_another_track():
    """One goes behind a wall and stays there; another one comes out."""
    walks = [walk(0, 5, (0, 130), height=60), walk(5.5, 10, (130, 280), height=60)]
    street = Street([*walks, walk(0, 10, (10, 90), 60, 50)], 11, hidden=[(110, 100, 60, 75)])
    assert sorted(shows(street, follow(street))) == [0, 1, 2]


def test_who_comes_back_much_later_or_elsewhere_is_a_new_track():
    later = walk(4 + REJOIN_SECONDS + 3, 4 + REJOIN_SECONDS + 7, (200, 60))
    here = walk(0, 4, (60, 200))
    street = Street([lambda time: here(time) or later(time)], 4 + REJOIN_SECONDS + 8)
    assert shows(street, follow(street)) == [0, 0]
    far = walk(4.2, 8, (10, 60))
    street = Street([lambda time: here(time) or far(time)], 9)
    assert shows(street, follow(street)) == [0, 0]


def test_embedding_is_sparse_and_a_track_has_looks_of_its_whole_time():
    embedder = Colours()
    street = Street([walk(0, 10, (0, 280), 170 - 26 * n, 25) for n in range(6)], 11, 25.0)
    tracks = follow(street, embedder)
    boxes = 6 * 10 * 25
    assert sum(embedder.batches) < boxes / 8
    for track in tracks:
        times = [look.time - track.start for look in track.looks]
        assert min(times) < 2 < 8 < max(times)


def test_boxes_of_everything_and_nothing():
    """A detector may return anything: boxes beyond the frame, without area, or the same one twice."""
    rng = np.random.default_rng(0)
    street = Street([], 6)
    tracker = Tracker("r")
    for frame in street.frames():
        boxes = rng.uniform(-50, [WIDTH, HEIGHT, 80, 120], (int(rng.integers(0, 6)), 4)).astype(np.float32)
        boxes = np.concatenate([boxes, boxes[:1]])
        looks, strands = tracker.update(frame, Detections(boxes, np.ones(len(boxes), np.float32)))
        assert len(strands) == len(boxes)
        for look in looks:
            look.vector = np.ones(4, np.float32) / 2
        tracker.learn()
    for look in tracker.finish():
        look.vector = np.ones(4, np.float32) / 2
    tracker.learn()
    assert tracker.quiet
    for track in tracker.ended():
        assert np.all(np.diff(track.boxes[:, 0]) >= 0)


@pytest.mark.filterwarnings("error")
def test_times_never_decrease_within_a_track():
    """A clock that stands still, and one that steps back."""
    walks = [walk(0, 8, (0, 280)), walk(2, 9, (280, 0), bottom=100, height=70)]
    for times in (lambda s: 100.0 + s if s < 3 else 95 + s, lambda s: 100.0 + min(s, 3)):
        street = Street(walks, 10, times=times)
        tracks = follow(street)
        assert len(tracks) == 2
        for track in tracks:
            assert np.all(np.diff(track.boxes[:, 0]) >= 0)
            assert track.start <= track.end


def test_what_is_found_follows_from_the_frames():
    street = Street([walk(0, 8, (0, 280)), walk(0, 8, (280, 0), 150)], 9)
    once, again = follow(street), follow(street)
    assert [track.id for track in once] == [track.id for track in again]
    assert all(
        np.array_equal(a.mean, b.mean) and np.array_equal(a.boxes, b.boxes) for a, b in zip(once, again)
    )
    other = Track("another recording", once[0].start, once[0].first)
    assert Track("r", once[0].start, once[0].first).id == once[0].id != other.id


def test_memory_does_not_grow_with_a_track():
    track = Track("r", 0.0, np.zeros(4))
    for number in range(1, 60_000):
        track.see(0.1 * number, np.full(4, number))
    assert len(track.boxes) <= 602
    assert track.boxes[-1].tolist() == pytest.approx([5999.9, *[59_999] * 4])
