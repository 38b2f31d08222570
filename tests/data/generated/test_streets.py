"""Generated streets: the truth is in the pictures, and the same values always give the same street."""

import math
from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.data.generated.streets import START, Recording, Shot, Street, frames, make
from kronreid.data.generated.walks import AT_ONCE
from kronreid.data.lists.mot import read_boxes

SMALL = Street(cameras=2, people=6, seconds=14.0, seed=3, rate=5, width=320, height=180)


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return list(frames(SMALL, 1))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    pytest.importorskip("av")
    return make(tmp_path_factory.mktemp("street"), SMALL)


def test_frames(shots: list[Shot]) -> None:
    assert len(shots) == SMALL.length == 70
    assert [shot.time for shot in shots] == [number / 5 for number in range(70)]
    assert all(shot.image.shape == (180, 320, 3) and shot.image.dtype == np.uint8 for shot in shots)
    assert any(len(shot.people) > 1 for shot in shots)


def test_the_boxes_hold_what_moves(shots: list[Shot]) -> None:
    """What differs from the place without people is inside the boxes of the people."""
    place = np.median([shot.image for shot in shots], axis=0)
    for shot in shots[5::8]:
        changed = np.abs(shot.image - place).max(axis=2) > 30
        inside = np.zeros_like(changed)
        for seen in shot.people:
            left, top, width, height = map(int, seen.box)
            assert 0 <= left < left + width <= 320
            assert 0 <= top < top + height <= 180
            inside[top : top + height, left : left + width] = True
            if seen.visibility > 0.9:
                assert changed[top : top + height, left : left + width].mean() > 0.12
        assert (changed & ~inside).mean() < 0.001


def test_people_hide_each_other_and_leave(shots: list[Shot]) -> None:
    shares = [seen.visibility for shot in shots for seen in shot.people]
    assert all(0 <= share <= 1 for share in shares)
    assert min(shares) < 0.3
    assert np.mean(np.array(shares) > 0.9) > 0.5
    assert {seen.identity for seen in shots[0].people} != {seen.identity for seen in shots[-1].people}


def test_legs_move(shots: list[Shot]) -> None:
    """A walking person's box becomes wider and narrower with each step."""
    widths: dict[int, list[float]] = defaultdict(list)
    for shot in shots:
        for seen in shot.people:
            if seen.visibility > 0.9:
                widths[seen.identity].append(seen.box[2] / seen.box[3])
    assert widths
    assert all(max(own) > 1.2 * min(own) for own in widths.values() if len(own) > 10)


def test_the_same_street_again(shots: list[Shot]) -> None:
    again = list(frames(SMALL, 1))
    assert all(np.array_equal(a.image, b.image) and a.people == b.people for a, b in zip(shots, again))
    other = next(frames(Street(seconds=1.0, seed=4, width=320, height=180), 1))
    assert not np.array_equal(other.image, shots[0].image)


def test_cameras_differ_in_light() -> None:
    means = [next(frames(SMALL, camera)).image.mean(axis=(0, 1)) for camera in (1, 2)]
    assert np.abs(means[0] - means[1]).max() > 10


streets = st.builds(
    Street,
    cameras=st.integers(1, 4),
    people=st.integers(1, 25),
    seconds=st.floats(1.0, 200.0),
    seed=st.integers(0, 1000),
)


@settings(max_examples=40)
@given(street=streets)
def test_people_are_in_one_place_at_a_time(street: Street) -> None:
    visits = street.visits()
    assert visits == sorted(visits, key=lambda visit: (visit.start, visit.identity))
    for identity in range(1, street.people + 1):
        own = [visit for visit in visits if visit.identity == identity]
        for before, after in pairwise(own):
            assert after.start >= before.stop + 2.0
            assert after.start - before.stop < 60 or street.people > AT_ONCE
            assert abs(after.camera - before.camera) <= 1
            assert after.speed == before.speed
    for camera in range(1, street.cameras + 1):
        own = [visit for visit in visits if visit.camera == camera]
        for visit in own:
            there = [other for other in own if other.start <= visit.start < other.stop]
            assert len(there) <= AT_ONCE


@settings(max_examples=40)
@given(street=streets, camera=st.integers(1, 4), time=st.floats(0, 1))
def test_ways_lead_through_the_picture(street: Street, camera: int, time: float) -> None:
    view = street.view(camera)
    for visit in street.visits()[:20]:
        if visit.camera != camera:
            continue
        assert visit.at(visit.stop) == pytest.approx(visit.end)
        for x, z in (visit.begin, visit.end):
            column, row, scale = view.project(x, z)
            assert abs(column - street.width / 2) == pytest.approx(street.width / 2 + 0.55 * scale)
            assert view.horizon < row < street.height
        x, z = visit.at(visit.start + time * (visit.stop - visit.start))
        assert math.dist((x, z), visit.begin) == pytest.approx(time * visit.length, abs=1e-6)


def test_recordings_hold_the_same_frames(recordings: list[Recording], shots: list[Shot]) -> None:
    import av

    assert [recording.camera for recording in recordings] == ["camera-1", "camera-2"]
    with av.open(str(recordings[0].video)) as container:
        assert container.metadata["creation_time"].startswith("2026-05-04T08:00:00")
        assert START == 1_777_881_600
        decoded = list(container.decode(video=0))
    assert [frame.pts * frame.time_base for frame in decoded] == [Fraction(n, 5) for n in range(70)]
    for frame, shot in zip(decoded[::9], shots[::9]):
        error = np.abs(frame.to_ndarray(format="rgb24").astype(float) - shot.image)
        assert error.mean() < 6


def test_the_truth_is_written_as_mot(recordings: list[Recording], shots: list[Shot]) -> None:
    boxes, skipped = read_boxes(recordings[0].truth)
    assert not skipped
    written = [(box.frame, box.track, tuple(map(float, box.box))) for box in boxes]
    assert written == [
        (number, seen.identity, seen.box)
        for number, shot in enumerate(shots, start=1)
        for seen in shot.people
    ]
    assert [box.visibility for box in boxes] == pytest.approx(
        [seen.visibility for shot in shots for seen in shot.people], abs=1e-3
    )
    settings = (recordings[0].truth.parents[1] / "seqinfo.ini").read_text().split()
    assert {"frameRate=5", "seqLength=70", "imWidth=320", "imHeight=180"} <= set(settings)


def test_the_same_files_again(tmp_path: Path) -> None:
    short = Street(cameras=1, people=4, seconds=4.0, rate=5, width=160, height=90)
    (one,), (other,) = make(tmp_path / "one", short), make(tmp_path / "other", short)
    assert one.video.read_bytes() == other.video.read_bytes()
    assert one.truth.read_bytes() == other.truth.read_bytes() != b""
