"""Metrics of tracking, against cases worked by hand and against plain loops over all possibilities."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.evaluation.tracking import (
    Tracks,
    b_cubed,
    clear_metrics,
    identity_metrics,
    overlaps,
    read_truth,
    side_by_side,
)

#: Boxes that do not touch each other.
PLACES = {name: (100.0 * place, 0.0, 10.0, 20.0) for place, name in enumerate("ABCD")}


def tracks(*rows: tuple[int, int, str]) -> Tracks:
    """Tracks of (frame, track, place)."""
    return Tracks(
        np.array([row[0] for row in rows], int),
        np.array([row[1] for row in rows], int),
        np.array([PLACES[row[2]] for row in rows], float),
    )


def line(track: int, places: str, first: int = 1) -> list[tuple[int, int, str]]:
    """The rows of a track that is at these places in consecutive frames; a dot is a frame without it."""
    return [(first + i, track, place) for i, place in enumerate(places) if place != "."]


def test_intersection_over_union() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 0, 0]], float)
    b = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [10, 0, 10, 10], [2, 2, 5, 5]], float)
    assert overlaps(a, b) == pytest.approx(
        np.array([[1, 50 / 150, 0, 0.25], [1, 50 / 150, 0, 0.25], [0, 0, 0, 0]])
    )


def test_a_track_that_breaks_in_two() -> None:
    """Ten frames of one person: 6 as track 7, then 4 as track 8."""
    truth = tracks(*line(1, "AAAAAAAAAA"))
    found = tracks(*line(7, "AAAAAA"), *line(8, "AAAA", first=7))
    metrics = identity_metrics(truth, found)
    assert (metrics.right, metrics.found, metrics.true) == (6, 10, 10)
    assert metrics.idf1 == metrics.idp == metrics.idr == 0.6
    errors = clear_metrics(truth, found)
    assert (errors.matched, errors.missed, errors.false, errors.switches) == (10, 0, 0, 1)
    assert errors.mota == pytest.approx(0.9)
    assert errors.people() == {7: 1, 8: 1}


def test_two_tracks_that_change_persons() -> None:
    """Two people cross in frame 4, and their tracks go on with the other person."""
    truth = tracks(*line(1, "AAABBB"), *line(2, "BBBAAA"))
    found = tracks(*line(1, "AAAAAA"), *line(2, "BBBBBB"))
    metrics = identity_metrics(truth, found)
    assert (metrics.right, metrics.idf1) == (6, 0.5)
    errors = clear_metrics(truth, found)
    assert (errors.matched, errors.switches) == (12, 2)
    assert errors.mota == pytest.approx(1 - 2 / 12)


def test_misses_and_false_boxes() -> None:
    """The person is missed in 2 of 6 frames, and there is a track of nobody for 3 frames."""
    truth = tracks(*line(1, "AAAAAA"))
    found = tracks(*line(5, "AA..AA"), *line(6, "CCC"))
    metrics = identity_metrics(truth, found)
    assert (metrics.idp, metrics.idr, metrics.idf1) == (4 / 7, 4 / 6, 8 / 13)
    errors = clear_metrics(truth, found)
    assert (errors.matched, errors.missed, errors.false, errors.switches) == (4, 2, 3, 0)
    assert errors.mota == pytest.approx(1 - 5 / 6)
    assert errors.people() == {5: 1}


def test_nothing_found() -> None:
    truth, nothing = tracks(*line(1, "AAA")), tracks()
    assert identity_metrics(truth, nothing).idf1 == 0
    assert identity_metrics(nothing, nothing).idf1 == 0
    assert clear_metrics(truth, nothing).mota == 0


def test_a_match_that_holds_is_kept() -> None:
    """Track 8 comes nearer to the person than track 7, which still matches."""
    truth = Tracks([1, 2], [1, 1], [(0, 0, 10, 10)] * 2)
    found = Tracks([1, 2, 2], [7, 7, 8], [(0, 0, 10, 10), (2, 0, 10, 10), (0, 0, 10, 10)])
    errors = clear_metrics(truth, found)
    assert (errors.switches, errors.false, errors.frames_together) == (0, 1, {(1, 7): 2})


BOXES = st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda at: (3.0 * at[0], 4.0 * at[1], 9.0, 12.0))


@st.composite
def videos(draw: st.DrawFn) -> Tracks:
    """Up to four tracks in up to four frames."""
    keys = draw(st.sets(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=12))
    rows = [(frame, track, draw(BOXES)) for frame, track in sorted(keys)]
    return Tracks([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def naive_overlap(a: np.ndarray, b: np.ndarray) -> float:
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def pairings(rows: list[int], columns: list[int]) -> list[list[tuple[int, int]]]:
    """All ways to pair some of the rows with some of the columns."""
    padded = columns + [-1] * len(rows)
    return [
        [(row, column) for row, column in zip(rows, chosen) if column >= 0]
        for chosen in set(permutations(padded, len(rows)))
    ]


@settings(max_examples=60)
@given(truth=videos(), found=videos())
def test_identity_metrics_equal_the_best_of_all_assignments(truth: Tracks, found: Tracks) -> None:
    def together(true: int, track: int) -> int:
        return sum(
            truth.frames[i] == found.frames[j] and naive_overlap(truth.boxes[i], found.boxes[j]) >= 0.5
            for i in np.flatnonzero(truth.tracks == true)
            for j in np.flatnonzero(found.tracks == track)
        )

    best = max(
        sum(together(true, track) for true, track in pairs)
        for pairs in pairings(sorted(set(truth.tracks.tolist())), sorted(set(found.tracks.tolist())))
    )
    metrics = identity_metrics(truth, found)
    assert (metrics.right, metrics.found, metrics.true) == (best, len(found), len(truth))


@settings(max_examples=60)
@given(truth=videos(), found=videos())
def test_each_frame_has_as_many_matches_as_possible(truth: Tracks, found: Tracks) -> None:
    """Without earlier matches to keep: each frame on its own."""
    for frame in range(1, 5):
        true, seen = np.flatnonzero(truth.frames == frame), np.flatnonzero(found.frames == frame)
        worth = max(
            (len(pairs), sum(naive_overlap(truth.boxes[i], found.boxes[j]) for i, j in pairs))
            for pairs in pairings(true.tolist(), seen.tolist())
            if all(naive_overlap(truth.boxes[i], found.boxes[j]) >= 0.5 for i, j in pairs)
        )
        alone = [
            Tracks(t.frames[rows], t.tracks[rows], t.boxes[rows])
            for t, rows in ((truth, true), (found, seen))
        ]
        errors = clear_metrics(*alone)
        assert (errors.matched, errors.missed, errors.false) == (
            worth[0],
            len(true) - worth[0],
            len(seen) - worth[0],
        )
        kept = [
            naive_overlap(alone[0].boxes[alone[0].tracks == i][0], alone[1].boxes[alone[1].tracks == j][0])
            for i, j in errors.frames_together
        ]
        assert sum(kept) == pytest.approx(worth[1])


def test_videos_side_by_side() -> None:
    """Each camera tracks perfectly; one person has different numbers in the two cameras."""
    truths = [tracks(*line(1, "AAAA"), *line(2, "BBBB")), tracks(*line(1, "CCCC"))]
    # The first frame is missed in the first video, and the last one in the second.
    found = [tracks(*line(4, ".AAA"), *line(5, ".BBB")), tracks(*line(5, "CCC."))]
    within = identity_metrics(side_by_side(truths, shared=False), side_by_side(found, shared=False))
    assert (within.right, within.idp, within.idr) == (9, 1.0, 9 / 12)
    across = identity_metrics(side_by_side(truths, shared=True), side_by_side(found, shared=True))
    assert (across.right, across.idp, across.idr) == (6, 6 / 9, 6 / 12)


def test_b_cubed_by_hand() -> None:
    # Groups {1, 1, 2} and {2, 2}: precision (2·2/3 + 1/3 + 2·1)/5, recall (2·1 + 1/3 + 2·2/3)/5.
    result = b_cubed([1, 1, 2, 2, 2], ["a", "a", "a", "b", "b"])
    assert result.precision == pytest.approx((4 / 3 + 1 / 3 + 2) / 5)
    assert result.recall == pytest.approx((2 + 1 / 3 + 4 / 3) / 5)
    assert result.f1 == pytest.approx(11 / 15)
    assert b_cubed([1, 2, 3], [1, 1, 1]).precision == pytest.approx(1 / 3)
    assert b_cubed([1, 1, 1], [1, 2, 3]).recall == pytest.approx(1 / 3)


def test_b_cubed_of_nobody_and_no_group() -> None:
    """Two tracklets of nobody in one group are two people; two without a group are two groups."""
    assert b_cubed([None, None], ["a", "a"]).precision == 0.5
    assert b_cubed([1, 1], [None, None]).recall == 0.5
    assert b_cubed([None, 1], [None, None]).f1 == 1.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_b_cubed_equals_plain_loops(items: list[tuple[int, int]]) -> None:
    result = b_cubed(*map(list, zip(*items)))
    precision, recall = [], []
    for person, group in items:
        same_group = [other for other in items if other[1] == group]
        same_person = [other for other in items if other[0] == person]
        precision.append(sum(other[0] == person for other in same_group) / len(same_group))
        recall.append(sum(other[1] == group for other in same_person) / len(same_person))
    assert result.precision == pytest.approx(np.mean(precision))
    assert result.recall == pytest.approx(np.mean(recall))


def test_the_truth_of_a_mot_file(tmp_path: Path) -> None:
    file = tmp_path / "gt.txt"
    file.write_text("1,3,11,21,30,40,1,1,1.0\n1,4,1,1,9,9,0,1,1\n2,3,12,21,30,40,1,1,0.2\nbroken\n")
    truth = read_truth(file)
    assert truth.frames.tolist() == [1, 2]
    assert truth.tracks.tolist() == [3, 3]
    assert truth.boxes.tolist() == [[10, 20, 30, 40], [11, 20, 30, 40]]
    assert len(read_truth(file, least_visible=0.5)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no box that counts"), ("1,3,11,21,30,40,1\n1,3,12,21,30,40,1\n", "two boxes in one frame")],
)
def test_files_without_usable_truth(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "gt.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=f"gt.txt: .*{message}"):
        read_truth(file)


@pytest.mark.parametrize(("people", "groups"), [([], []), ([1], [1, 2])])
def test_groupings_that_fit_no_people(people: list[int], groups: list[int]) -> None:
    with pytest.raises(InputError, match="one for each"):
        b_cubed(people, groups)
