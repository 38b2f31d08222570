"""Clustering tracklets: by hand, against a slow reference, and what cannot be one person."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.gallery import clusters
from kronreid.gallery.clusters import Presence, cluster, pairs_above


def groups(label: np.ndarray) -> set[frozenset[int]]:
    """The numbers that have one label."""
    return {frozenset(np.flatnonzero(label == one).tolist()) for one in np.unique(label)}


def at(*degrees: float) -> np.ndarray:
    """Unit vectors in a plane: the cosine of two is that of the angle between them."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def anywhere(count: int) -> Presence:
    return Presence([""] * count, np.zeros(count), np.zeros(count))


def test_average_linkage_by_hand() -> None:
    # 0 and 10 join first (cos 10° = 0.985). 30 is at 20° and 30° of them: (0.940 + 0.866) / 2 = 0.903.
    # 65 is at 35° of 30 (0.819), but only 0.647 on average of all three.
    vectors = at(0, 10, 30, 65)
    nobody = np.zeros(4, np.int64)
    assert groups(cluster(vectors, anywhere(4), nobody, 0.90).label) == {frozenset({0, 1, 2}), frozenset({3})}
    assert groups(cluster(vectors, anywhere(4), nobody, 0.91).label) == {
        frozenset({0, 1}),
        frozenset({2}),
        frozenset({3}),
    }
    mean = np.cos(np.radians([65, 55, 35])).mean()
    assert len(groups(cluster(vectors, anywhere(4), nobody, mean + 1e-3).label)) == 2
    assert len(groups(cluster(vectors, anywhere(4), nobody, mean - 1e-3).label)) == 1


def test_people_that_are_there_stay_apart_and_get_new_tracklets() -> None:
    vectors = at(0, 2, 5, 6)
    people = np.array([7, 0, 0, 9])
    found = cluster(vectors, anywhere(4), people, 0.5).label
    assert groups(found) == {frozenset({0, 1}), frozenset({2, 3})}


def test_a_person_with_two_looks_gets_tracklets_of_both() -> None:
    vectors = at(0, 90, 3, 88)
    people = np.array([1, 1, 0, 0])
    assert groups(cluster(vectors, anywhere(4), people, 0.9).label) == {frozenset(range(4))}
    times = np.array([0.0, 100.0, 50.0, 55.0])
    presence = Presence(["a"] * 4, times, times + 10)
    found = cluster(vectors, presence, people, 0.9)
    assert groups(found.label) == {frozenset({0, 1, 3}), frozenset({2})}, "both looks are one person"


def test_two_tracklets_at_once_in_one_camera_are_two_people() -> None:
    vectors = at(0, 0, 0)
    start, end = np.array([0.0, 5.0, 5.0]), np.array([6.0, 9.0, 9.0])
    same = cluster(vectors, Presence(["a", "a", "b"], start, end), np.zeros(3, np.int64), 0.9)
    assert {frozenset({0, 1}), frozenset({0, 1, 2})}.isdisjoint(groups(same.label))
    assert same.refused >= 1
    other = cluster(vectors, Presence(["a", "c", "b"], start, end), np.zeros(3, np.int64), 0.9)
    assert groups(other.label) == {frozenset({0, 1, 2})}


@pytest.mark.parametrize(
    ("cameras", "travel", "gap", "possible"),
    [
        (("a", "b"), {("a", "b"): 30.0}, 29.0, False),
        (("a", "b"), {("a", "b"): 30.0}, 30.0, True),
        (("b", "a"), {("a", "b"): 30.0}, 29.0, False),
        (("b", "a"), {("a", "b"): 30.0, ("b", "a"): 10.0}, 20.0, True),
        (("a", "c"), {("a", "b"): 30.0}, -5.0, True),
        (("a", "a"), {}, 0.0, False),
        (("a", "a"), {}, 0.5, True),
        (("", ""), {}, -5.0, True),
    ],
)
def test_the_time_between_two_cameras_must_be_enough(cameras, travel, gap, possible) -> None:
    presence = Presence(cameras, np.array([0.0, 10.0 + gap]), np.array([10.0, 20.0 + gap]), travel)
    a, b = np.array([0]), np.array([1])
    assert presence.conflict(a, b) is not possible
    assert presence.conflict(b, a) is not possible


def slow(vectors: np.ndarray, presence: Presence, people: np.ndarray, limit: float) -> set[frozenset[int]]:
    """The definition, by loops."""
    parts = [[n] for n in range(len(people)) if not people[n]]
    for one in np.unique(people[people > 0]):
        own = np.flatnonzero(people == one)
        looks = slow(vectors[own], anywhere(len(own)), np.zeros(len(own), np.int64), limit)
        parts += [own[sorted(look)].tolist() for look in looks]
    while True:
        best, found = limit, None
        for a, b in itertools.combinations(parts, 2):
            mean = np.mean([vectors[i] @ vectors[j] for i in a for j in b])
            wholes = [whole(part, parts, people) for part in (a, b)]
            possible = not presence.conflict(*map(np.array, wholes))
            if mean >= best and possible and not (people[a].any() and people[b].any()):
                best, found = mean, (a, b)
        if found is None:
            return {frozenset(whole(part, parts, people)) for part in parts}
        parts = [part for part in parts if part is not found[0] and part is not found[1]]
        parts.append(found[0] + found[1])


def whole(part: list[int], parts: list[list[int]], people: np.ndarray) -> list[int]:
    """A part, or all parts of its person."""
    person = people[part].max()
    return part if not person else [n for other in parts if people[other].max() == person for n in other]


cases = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 14), st.floats(0.1, 0.95), st.integers(0, 6))


@settings(max_examples=60, deadline=None)
@given(cases)
def test_it_is_the_definition(case) -> None:
    seed, count, limit, known = case
    random = np.random.default_rng(seed)
    centres = random.standard_normal((4, 6))
    vectors = centres[random.integers(0, 4, count)] + 0.6 * random.standard_normal((count, 6))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    start = random.uniform(0, 60, count)
    cameras = [f"{number}" for number in random.integers(0, 3, count)]
    presence = Presence(cameras, start, start + random.uniform(0, 10, count), {("0", "1"): 5.0})
    people = np.where(np.arange(count) < known, random.integers(1, 3, count), 0)
    found = cluster(vectors, presence, people, limit)
    assert groups(found.label) == slow(vectors, presence, people, limit)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_nobody_is_in_one_camera_twice_at_once(case) -> None:
    seed, count, limit, _ = case
    random = np.random.default_rng(seed)
    count *= 4
    vectors = np.abs(random.standard_normal((count, 4))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    start = random.uniform(0, 100, count)
    presence = Presence(
        [f"{number}" for number in random.integers(0, 2, count)], start, start + random.uniform(0, 9, count)
    )
    label = cluster(vectors, presence, np.zeros(count, np.int64), limit).label
    for a, b in itertools.combinations(range(count), 2):
        if label[a] == label[b]:
            assert not presence.conflict(np.array([a]), np.array([b]))


def test_thousands_of_tracklets_are_grouped_right() -> None:
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(500), 10)
    centres = random.standard_normal((500, 32))
    vectors = centres[people] + 0.25 * random.standard_normal((5000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    start = random.uniform(0, 1e6, 5000)
    presence = Presence([str(n % 4) for n in range(5000)], start, start + 0.01)
    found = cluster(vectors, presence, np.zeros(5000, np.int64), 0.8)
    right = {frozenset(np.flatnonzero(people == one).tolist()) for one in range(500)}
    assert len(groups(found.label) & right) > 480


def test_pairs_are_found_in_blocks(monkeypatch) -> None:
    vectors = at(*range(0, 90, 7))
    new = np.array([0, 2, 5, 9])
    whole = pairs_above(vectors, new, 0.9)
    monkeypatch.setattr(clusters, "_BLOCK", 1)
    blocks = pairs_above(vectors, new, 0.9)
    for one, other in zip(whole, blocks):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    expected = {
        frozenset({i, j})
        for i, j in itertools.combinations(range(len(vectors)), 2)
        if vectors[i] @ vectors[j] >= 0.9 and {i, j} & set(new.tolist())
    }
    assert {frozenset(pair) for pair in zip(whole[0].tolist(), whole[1].tolist())} == expected
    assert len(whole[0]) == len(expected)


def test_far_too_many_pairs_are_one_line(monkeypatch) -> None:
    monkeypatch.setattr(clusters, "MOST_PAIRS", 10)
    with pytest.raises(InputError, match="--min-similarity -1: more than 10 pairs"):
        pairs_above(at(*range(20)), np.arange(20), -1)
