"""Measuring what scores mean: searches against loops, Platt scaling and thresholds against known answers."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from kronreid.data.records import Picture, ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation.calibration import (
    Searches,
    calibrate,
    find_lists,
    just_above,
    platt,
    sampled_thresholds,
)
from kronreid.evaluation.datasets import dataset_task
from kronreid.evaluation.report import calibration_table
from kronreid.evaluation.scores import VectorScores
from kronreid.models.calibration import RATES, Calibration, ScoreCalibration

from .fakes import FakeEmbedder, FakeMaps, FakeMatcher, fake_dataset, signs

scores32 = st.floats(-30, 30, width=32)
shares = st.floats(0.01, 0.99)


# --- Platt scaling ----------------------------------------------------------------------------------------


def drawn(slope, offset, count=40_000, seed=0):
    """Scores of same and of other pairs that follow a logistic law."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(1, 3, count).astype(np.float32)
    same = rng.random(count) < expit(slope * scores + offset)
    return scores[same], scores[~same]


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.4, -1.0), (2.5, 0.7), (0.05, 2.0)])
def test_platt_scaling_recovers_temperature_and_offset(slope, offset):
    same, different = drawn(slope, offset)
    share = len(same) / (len(same) + len(different))
    found = platt(same, different, share)
    assert found == pytest.approx((slope, offset), rel=0.08, abs=0.05)
    # Another share of same pairs moves the odds of every pair by the same factor.
    assert platt(same, different, 0.9)[1] - found[1] == pytest.approx(logit(0.9) - logit(share), abs=0.2)


@given(st.lists(scores32, min_size=1, max_size=30), st.lists(scores32, min_size=1, max_size=30), shares)
def test_probabilities_are_on_average_the_stated_share(same, different, share):
    same, different = np.array(same, np.float32), np.array(different, np.float32)
    slope, offset = platt(same, different, share)
    assert slope >= 0
    assert np.isfinite([slope, offset]).all()
    means = [expit(slope * part.astype(np.float64) + offset).mean() for part in (same, different)]
    n, m = len(same), len(different)
    targets = ((n + 1) / (n + 2), 1 / (m + 2))
    assert share * means[0] + (1 - share) * means[1] == pytest.approx(
        share * targets[0] + (1 - share) * targets[1], abs=1e-5
    )


def test_scores_that_tell_all_pairs_apart_have_a_finite_slope():
    slope, offset = platt(np.full(2, 3, np.float32), np.full(2, 1, np.float32), 0.5)
    assert expit(slope * np.array([1, 2, 3]) + offset) == pytest.approx([0.25, 0.5, 0.75])
    slope, _ = platt(np.array([3, 5, 9], np.float32), np.array([0, 1, 2.9], np.float32), 0.5)
    assert 0 < slope < 5


@pytest.mark.parametrize("different", [[1.0, 1.0, 1.0], [2.0, 3.0, 1.5]])
def test_scores_that_tell_nothing_have_no_slope(different):
    slope, offset = platt(np.array([1.0, 1.0], np.float32), np.array(different, np.float32), 0.5)
    assert slope == 0
    assert expit(offset) == pytest.approx((3 / 4 + 1 / 5) / 2)


# --- Thresholds -------------------------------------------------------------------------------------------


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e4, max_value=1e4))
def test_just_above_is_above_in_every_precision(value):
    score = np.float32(value)
    above = just_above(score)
    assert above > value
    assert np.float32(above) > score
    assert above - value <= 1.001e-4 + abs(np.spacing(score))


@given(st.lists(scores32, min_size=1, max_size=60), st.floats(1e-4, 0.999))
def test_at_most_the_wanted_share_of_the_searches_reaches_a_threshold(scores, rate):
    strangers = just_above(-np.sort(-np.array(scores, np.float32)))  # as `Searches.thresholds` has them
    known = ScoreCalibration(1.0, 0.0, tuple(strangers.tolist()), ())
    known = Calibration("l", "f", "p", 2, 10, 0.5, known, None)
    if rate * len(scores) < 1 - 1e-6:
        with pytest.raises(InputError, match="at least"):
            known.threshold(rate)
        return
    threshold = known.threshold(rate)
    reached = np.array(scores, np.float32) >= threshold
    assert reached.mean() <= rate + 1e-9
    # And no more than ties are lost: the next one would be too many.
    allowed = int(rate * len(scores) + 1e-9)
    assert sorted(scores)[::-1][min(allowed, len(scores) - 1)] < threshold <= max(strangers)


def test_points_are_those_that_there_are_enough_searches_for():
    few, enough = (
        Searches(np.arange(len(scores)), scores, scores, np.ones(len(scores), bool)).thresholds()[1]
        for scores in (np.linspace(0, 1, count, dtype=np.float32) for count in (99, 1000))
    )
    assert few == ()
    assert [point.rate for point in enough] == [1e-2, 1e-3]
    for point in enough:
        assert point.found == pytest.approx(point.rate)  # here matches score as strangers do
        assert point.low <= point.threshold <= point.high


def test_samples_draw_people_and_not_pictures():
    """Two people: one looks like others in all of a hundred searches, the other in none."""
    levels = np.repeat([0.9, 0.1], 100)
    people = np.repeat([0, 1], 100)
    sampled = sampled_thresholds(levels, people, [0.01, 0.6], samples=400)
    both = (sampled == 0.9).mean(0)
    assert both[0] == pytest.approx(0.75, abs=0.08)  # all samples with the first person
    assert both[1] == pytest.approx(0.25, abs=0.08)  # samples of the first person alone
    assert np.array_equal(sampled, sampled_thresholds(levels, people, [0.01, 0.6], samples=400))
    assert not np.array_equal(sampled, sampled_thresholds(levels, people, [0.01, 0.6], 1, samples=400))
    alone = sampled_thresholds(levels, np.zeros(200, np.int64), [0.01, 0.5], samples=5)
    assert np.array_equal(alone, [[0.9, 0.1]] * 5)


# --- Searches ---------------------------------------------------------------------------------------------

#: Identity, camera and direction of each picture.
QUERY = [(1, 1, 0.0), (2, 1, 90.0), (0, 1, 5.0), (-1, 2, 7.0)]
GALLERY = [(1, 2, 20.0), (1, 1, 0.0), (2, 2, 60.0), (0, 1, 30.0), (-1, 2, 1.0), (0, 2, 35.0)]


class Directions:
    """Two numbers per picture, by the direction that its name says."""

    def embed(self, images, batch_size=64, progress=False):
        angles = np.radians([float(Path(image).stem.split("_")[1]) for image in images])
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def by_hand(query=QUERY, gallery=GALLERY):
    def pictures(part, rows):
        return tuple(
            Picture(Path(f"{part}{number}_{angle}.jpg"), who, camera)
            for number, (who, camera, angle) in enumerate(rows)
        )

    return ReIDDataset("own", "market1501", Path("nowhere"), (), pictures("q", query), pictures("g", gallery))


def test_searches_by_hand():
    task, images = dataset_task(by_hand(), "market1501")
    vectors = torch.from_numpy(Directions().embed(images))
    lists = find_lists(VectorScores(vectors, vectors[:0], task), task, 100)
    assert lists.queries.tolist() == [0, 1]  # the distractor and the junk ask nothing
    assert lists.searched.tolist() == [3, 4]  # the picture of the same camera is dropped for its person
    found = Searches.among(lists, lists.similarities, task.query_ids[lists.queries], 100)
    cos = np.cos(np.radians([30, 55, 20, 30]))
    np.testing.assert_allclose(found.strangers, cos[:2], atol=1e-6)
    np.testing.assert_allclose(found.matches, cos[2:], atol=1e-6)
    assert found.people.tolist() == [1, 2]
    known = calibrate(Directions(), by_hand())
    assert known.logit is None
    assert (known.people, known.gallery, known.protocol, known.folder) == (2, 4, "market1501", "nowhere")
    np.testing.assert_allclose(known.similarity.strangers, cos[:2], atol=1.1e-4)
    assert known.similarity.points == ()


def test_a_stranger_that_comes_first_or_at_once_hides_a_match():
    for angle, first in ((20.0, False), (19.0, False), (21.0, True)):
        query, gallery = ((1, 1, 0.0), (2, 1, 90.0)), ((1, 2, 20.0), (2, 2, 80.0), (0, 1, angle))
        task, images = dataset_task(by_hand(query, gallery), "market1501")
        vectors = torch.from_numpy(Directions().embed(images))
        lists = find_lists(VectorScores(vectors, vectors[:0], task), task, 100)
        found = Searches.among(lists, lists.similarities, task.query_ids[lists.queries], 100)
        assert np.isfinite(found.matches).tolist() == [first, True]


@pytest.mark.parametrize("protocol", ["market1501", "dukemtmc", "openreid", "no-camera"])
@pytest.mark.parametrize("top", [1, 4, 500])
def test_searches_are_those_of_the_loops(protocol, top):
    """Both stages, with many ties, against plain loops over pictures."""
    dataset = fake_dataset()
    task, images = dataset_task(dataset, protocol)
    vectors = torch.from_numpy(FakeEmbedder().embed(images))
    lists = find_lists(VectorScores(vectors, vectors[:0], task), task, top)
    matcher = FakeMatcher()
    encoded = matcher.encode(images)
    logits = matcher.logits(encoded, encoded).numpy()
    rows = task.gallery_rows[lists.columns]
    second = np.where(
        lists.columns >= 0,
        np.take_along_axis(logits[task.query_rows[lists.queries]], rows, 1),
        -np.inf,
    )
    found = [
        Searches.among(lists, scores, task.query_ids[lists.queries], top)
        for scores in (lists.similarities, second)
    ]
    cosines = (vectors @ vectors.T).numpy()
    people = {picture.path: picture for picture in (*dataset.query, *dataset.gallery)}
    nobody = (-1, 0) if task.protocol.distractors else (-1,)
    place = 0
    for number, row in enumerate(task.query_rows):
        asking = people[images[row]]
        if asking.identity in nobody:
            continue
        strangers, mates = [], []
        for column, other in enumerate(task.gallery_rows):
            shown = people[images[other]]
            same = shown.identity == asking.identity
            if same and (row == other if protocol == "no-camera" else shown.camera == asking.camera):
                continue
            cosine = cosines[row, other]
            (mates if same else strangers).append((-cosine, same, column, cosine, logits[row, other]))
        best = sorted(strangers)[:top]
        both = sorted([*strangers, *mates])[:top]
        assert lists.queries[place] == number
        assert lists.searched[place] == len(strangers)
        for stage, score in zip(found, (3, 4)):
            assert stage.strangers[place] == pytest.approx(max(one[score] for one in best), abs=1e-6)
            right = max((one[score] for one in both if one[1]), default=-np.inf)
            wrong = max((one[score] for one in both if not one[1]), default=-np.inf)
            wanted = right if right > wrong else -np.inf
            assert stage.matches[place] == pytest.approx(wanted, abs=1e-6)
            assert stage.there[place] == bool(mates)
        place += 1
    assert place == len(lists.queries)


def test_drawn_pairs_are_of_the_right_kind():
    dataset = fake_dataset(queries=12, gallery=600, people=5)
    task, images = dataset_task(dataset, "market1501")
    vectors = torch.from_numpy(FakeEmbedder().embed(images))
    base = VectorScores(vectors, vectors[:0], task)
    lists, again, other = (find_lists(base, task, 10, seed) for seed in (0, 0, 1))
    assert np.array_equal(lists.columns, again.columns)
    assert not np.array_equal(lists.columns, other.columns)
    *_, same, different = lists.split(lists.columns)
    for number, query in enumerate(lists.queries):
        for columns, wanted in ((same[number], True), (different[number], False)):
            columns = columns[columns >= 0]
            assert len(set(columns.tolist())) == len(columns)
            assert ((task.gallery_ids[columns] == task.query_ids[query]) == wanted).all()
            if wanted:
                assert (task.gallery_cameras[columns] != task.query_cameras[query]).all()
        assert (different[number] >= 0).sum() == 100  # of some 480


# --- A whole calibration ----------------------------------------------------------------------------------


def crowd(people=40, pictures=8):
    """Everybody in two cameras, one query each; names say who it is."""
    rows = [(who, camera, number) for who in range(1, people + 1) for camera in (1, 2) for number in range(4)]

    def pictures_of(chosen):
        return tuple(
            Picture(Path(f"{who}_{camera}_{number}.jpg"), who, camera) for who, camera, number in chosen
        )

    query, gallery = [row for row in rows if row[2] == 0], [row for row in rows if row[2] > 0]
    return ReIDDataset("own", "market1501", Path("crowd"), (), pictures_of(query), pictures_of(gallery))


@dataclass
class FakeDescribed(FakeMaps):
    vectors: torch.Tensor

    def __getitem__(self, index):
        return FakeDescribed(self.values[index], self.vectors[index])


class Noisy:
    """Vectors of people with noise; logits are three times the cosine plus one."""

    dimension, fingerprint = 24, "noisy"

    def embed(self, images, batch_size=64, progress=False):
        who = signs([Path(image).stem.split("_")[0] for image in images], 24, 1)
        vectors = who + 0.8 * signs([Path(image).stem for image in images], 24, 2)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode(self, images, batch_size=64, progress=False):
        vectors = torch.from_numpy(self.embed(images)).float()
        return FakeDescribed(vectors, vectors)

    def score(self, query, candidates, lists):
        return 3 * torch.einsum("qd,qkd->qk", query.vectors, candidates.vectors[lists]) + 1


class NoisyPlaces(Noisy):
    @property
    def matcher(self):
        matcher = Noisy()
        matcher.score_lists = self.score
        return matcher


class NoisyPairs(Noisy):
    def score_lists(self, query, candidates, lists):
        return self.score(query, candidates, lists)


def test_both_scores_of_an_embedder_with_places_are_calibrated():
    dataset = crowd()
    known = calibrate(NoisyPlaces(), dataset, same_share=0.3)
    assert known == calibrate(NoisyPlaces(), dataset, same_share=0.3)
    assert known.similarity == calibrate(Noisy(), dataset, same_share=0.3).similarity
    assert (known.people, known.gallery, known.same_share) == (40, 39 * 6, 0.3)
    # The logit is a linear function of the cosine: probabilities and searches are the same.
    assert known.logit.slope == pytest.approx(known.similarity.slope / 3, rel=1e-4)
    scores = torch.linspace(-1, 1, 9).double()
    assert torch.allclose(
        known.logit.probability(3 * scores + 1), known.similarity.probability(scores), atol=1e-4
    )
    assert len(known.similarity.strangers) == len(known.logit.strangers) == 80
    np.testing.assert_allclose(known.logit.strangers, 3 * np.array(known.similarity.strangers) + 1, atol=4e-4)


def test_a_pair_model_has_logits_alone():
    known = calibrate(NoisyPairs(), crowd())
    assert known.similarity is None
    logits = calibrate(NoisyPlaces(), crowd()).logit
    assert known.logit.slope == pytest.approx(logits.slope)
    assert known.logit.strangers == logits.strangers


def test_thresholds_hold_on_other_people():
    """Half the people say from where on a score counts, the others are searched for."""
    everybody = crowd(people=120)
    halves = [
        replace(
            everybody,
            query=tuple(one for one in everybody.query if one.identity % 2 == half),
            gallery=tuple(one for one in everybody.gallery if one.identity % 2 == half),
        )
        for half in (0, 1)
    ]
    known, other = (calibrate(Noisy(), half) for half in halves)
    threshold = known.threshold(0.1)
    reached = np.mean(np.array(other.similarity.strangers) >= threshold)
    assert 0.01 < reached < 0.25
    (point,) = known.similarity.points
    assert point.rate == 1e-2
    assert 0 < point.found <= 1
    assert point.low <= point.threshold <= point.high


def test_scores_that_tell_nothing_are_reported(caplog):
    class Strange(Noisy):
        def embed(self, images, batch_size=64, progress=False):
            return np.ones((len(images), 24), np.float32) / np.sqrt(np.float32(24))

    with caplog.at_level(logging.WARNING):
        known = calibrate(Strange(), crowd())
    assert known.similarity.slope == 0
    assert "tell nothing" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "options", "named"),
    [
        (by_hand(QUERY[:1]), {}, r"nowhere: its queries show 1 people, some .* at least two people"),
        (by_hand(QUERY[2:]), {}, "nowhere: its queries show 0 people, none "),
        (by_hand(QUERY, GALLERY[3:]), {}, "nowhere: its queries show 2 people, none of them with a match"),
        (by_hand(QUERY[:2], GALLERY[:2]), {}, "nowhere: its queries show 1 people"),
        (by_hand(QUERY, ()), {}, "nowhere: has no gallery"),
        (by_hand(), {"same_share": 0.0}, "same_share 0.0: "),
        (by_hand(), {"same_share": 1.0}, "same_share 1.0: "),
        (by_hand(), {"same_share": float("nan")}, "same_share nan: "),
        (by_hand(), {"protocol": "cuhk03-classic"}, "protocol cuhk03-classic: draws galleries"),
        (by_hand(), {"protocol": "market1501-multi-query"}, "protocol market1501-multi-query: "),
        (by_hand(), {"protocol": "martini"}, "protocol: 'martini' is unknown"),
    ],
)
def test_what_cannot_be_calibrated(dataset, options, named):
    with pytest.raises(InputError, match=f"^{named}"):
        calibrate(Directions(), dataset, **options)


def test_the_table():
    known = calibrate(NoisyPlaces(), crowd(people=60))
    lines = calibration_table(known).splitlines()
    assert lines[0] == "120 searches for 60 people, in 354 pictures (crowd, market1501)"
    assert lines[2].startswith("100 searches")
    point = known.similarity.points[0]
    assert f"{point.threshold:.4f}" in lines[2]
    assert f"{point.low:.4f} to {point.high:.4f}" in lines[2]
    assert f"{100 * point.found:.1f} %" in lines[2]
    assert lines[3].split()[0] == "logit"
    assert lines[4] == "one false alarm in 1,000 searches needs at least 1,000 searches; there are 120"
    assert len(lines) == 2 + 2 + len(RATES) - 1 + 1 + 2
    assert f"({known.logit.slope:.4g} * logit" in lines[-1]
