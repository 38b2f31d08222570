"""What differs from camera to camera is taken out of vectors, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.gallery.centring import HALF, centred
from kronreid.gallery.clusters import Presence, cluster


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def scene(
    seed: int, people: int = 30, cameras: int = 3, shift: float = 1.0, times: int = 1
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Each person seen by each camera, each of which moves all its vectors in one direction."""
    random = np.random.default_rng(seed)
    who = np.tile(np.arange(people), cameras * times)
    of = np.repeat(np.arange(cameras), people * times)
    looks = random.standard_normal((people, 16)) / 4
    casts = shift * random.standard_normal((cameras, 16)) / 4
    vectors = unit(looks[who] + casts[of] + 0.3 + random.standard_normal((len(who), 16)) / 16)
    return vectors, [f"c{number}" for number in of], who


def anywhere(cameras: list[str]) -> Presence:
    start = np.arange(len(cameras)) * 10.0
    return Presence(cameras, start, start + 1)


def apply(vectors: np.ndarray, cameras: list[str], people: np.ndarray | None = None, limit: float = 0.9):
    nobody = np.zeros(len(cameras), np.int64) if people is None else people
    return centred(vectors, cameras, anywhere(cameras), nobody, limit)


def auc(vectors: np.ndarray, cameras: list[str], who: np.ndarray) -> float:
    """How often two tracklets of one person in two cameras are more similar than those of two people."""
    cosines = vectors @ vectors.T
    of = np.array(cameras)
    across = of[:, None] != of[None]
    same = who[:, None] == who[None]
    return float((cosines[across & same][:, None] > cosines[across & ~same][None]).mean())


@pytest.mark.parametrize("seed", range(3))
def test_one_person_is_told_from_others_across_cameras_that_differ(seed: int) -> None:
    vectors, cameras, who = scene(seed, shift=1.5)
    before, after = auc(vectors, cameras, who), auc(apply(vectors, cameras), cameras, who)
    assert after > before + 0.03
    assert after > 0.97


def test_it_is_the_definition() -> None:
    vectors, cameras, _ = scene(0, people=5, cameras=2)
    of = np.array(cameras)
    means = {name: vectors[of == name].mean(axis=0) for name in ("c0", "c1")}
    overall = (means["c0"] + means["c1"]) / 2
    share = 4 / (4 + HALF)
    expected = np.stack([v - share * (means[c] - overall) for v, c in zip(vectors, cameras)])
    np.testing.assert_allclose(apply(vectors, cameras, limit=0.9999), unit(expected), atol=1e-5)


cases = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 4), st.floats(0, 2))


@settings(max_examples=40, deadline=None)
@given(cases)
def test_the_order_does_not_matter_and_vectors_stay_unit(case) -> None:
    seed, people, count, shift = case
    vectors, cameras, _ = scene(seed, people, count, shift)
    found = apply(vectors, cameras)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    order = np.random.default_rng(seed).permutation(len(cameras))
    again = centred(
        vectors[order],
        [cameras[n] for n in order],
        anywhere(cameras).of(order),
        np.zeros(len(order), np.int64),
        0.9,
    )
    np.testing.assert_allclose(again, found[order], atol=1e-5)


def test_cameras_that_do_not_differ_hardly_change_anything() -> None:
    vectors, cameras, _ = scene(1, people=200, shift=0.0)
    assert (apply(vectors, cameras) * vectors).sum(axis=1).min() > 0.995


def test_one_camera_and_cameras_without_a_name_stay_as_they_are() -> None:
    vectors, cameras, _ = scene(2)
    np.testing.assert_array_equal(apply(vectors, ["c0"] * len(cameras)), vectors)
    nameless = ["" if camera == "c2" else camera for camera in cameras]
    found = apply(vectors, nameless)
    rows = np.array(nameless) == ""
    np.testing.assert_array_equal(found[rows], vectors[rows])
    assert not np.array_equal(found[~rows], vectors[~rows])
    np.testing.assert_array_equal(apply(vectors[:0], []), vectors[:0])


@pytest.mark.parametrize("known", [False, True])
def test_a_camera_that_often_sees_one_person_keeps_that_person(known: bool) -> None:
    """A hundred tracklets of one person are no colour of the camera."""
    vectors, cameras, _ = scene(3, people=12, cameras=2, shift=0.0)
    regular = np.repeat(vectors[:1], 100, axis=0)
    many = np.concatenate([vectors, regular])
    of = [*cameras, *["c0"] * 100]
    people = np.zeros(len(of), np.int64)
    if known:
        people[len(vectors) :] = people[0] = 1
    found = apply(many, of, people, 0.97)
    expected = apply(vectors, cameras, limit=0.97)
    np.testing.assert_allclose(found[: len(vectors)], expected, atol=0.02)
    alone = apply(many[[0, *range(12, 24)]], ["c0", *["c1"] * 12])
    assert alone[0] @ vectors[0] > 0.9999, "a camera of one person stays as it is"


def test_grouping_again_and_again_finds_what_grouping_once_finds() -> None:
    """New tracklets arrive with every minute; people who are there keep their tracklets."""
    vectors, cameras, who = scene(4, people=20, cameras=3)
    order = np.random.default_rng(4).permutation(len(who))
    people = np.zeros(len(who), np.int64)
    for stop in range(10, len(who) + 1, 10):
        now = order[:stop]
        before = people[now].copy()
        own = [cameras[n] for n in now]
        presence = anywhere(cameras).of(now)
        label = cluster(centred(vectors[now], own, presence, before, 0.85), presence, before, 0.85).label
        for root in np.unique(label):
            members = now[label == root]
            people[members] = people[members].max() or people.max() + 1
        assert (people[now][before > 0] == before[before > 0]).all()
    same = (people[:, None] == people[None]) == (who[:, None] == who[None])
    assert same.mean() > 0.97
