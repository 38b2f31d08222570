from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.evaluation import metrics, prepare
from kronreid.evaluation.metrics import Hits
from kronreid.evaluation.scores import FunctionScores, VectorScores

from .oracle import average_precision, evaluate_orders, first_rank, inverse_penalty, market_trapezoid


def hits_of(orders):
    """Hits of rankings given as lists of right and wrong."""
    ahead = [[sum(not o for o in order[:i]) for i, right in enumerate(order) if right] for order in orders]
    flat = np.array([value for one in ahead for value in one], np.int64)
    offsets = np.cumsum([0, *map(len, ahead)])
    return Hits(offsets, np.zeros(len(flat), np.float32), flat)


def test_by_hand():
    # Right at ranks 1 and 3: precision 1 and 2/3. Trapezoid: (1 + 1)/2 and (1/2 + 2/3)/2.
    hits = hits_of([[True, False, True, False], [False, True], [False]])
    np.testing.assert_allclose(metrics.average_precision(hits), [(1 + 2 / 3) / 2, 1 / 2, np.nan])
    np.testing.assert_allclose(
        metrics.average_precision_trapezoid(hits), [(1 + 7 / 12) / 2, (0 + 1 / 2) / 2, np.nan]
    )
    np.testing.assert_allclose(metrics.inverse_negative_penalty(hits), [2 / 3, 1 / 2, np.nan])
    assert metrics.first_rank(hits).tolist() == [1, 2, 0]
    assert metrics.cmc_curve(metrics.first_rank(hits), 3).tolist() == [0.5, 1.0, 1.0]


@settings(max_examples=200, deadline=None)
@given(orders=st.lists(st.lists(st.booleans(), min_size=1, max_size=15), min_size=1, max_size=6))
def test_metrics_equal_loops(orders):
    hits = hits_of(orders)
    ap, trapezoid = metrics.average_precision(hits), metrics.average_precision_trapezoid(hits)
    np.testing.assert_allclose(ap, [average_precision(o) for o in orders])
    np.testing.assert_allclose(trapezoid, [market_trapezoid(o) for o in orders])
    np.testing.assert_allclose(metrics.inverse_negative_penalty(hits), [inverse_penalty(o) for o in orders])
    first = metrics.first_rank(hits)
    np.testing.assert_array_equal(np.where(first > 0, first, np.nan), [first_rank(o) for o in orders])
    found = ~np.isnan(ap)
    assert (trapezoid[found] <= ap[found] + 1e-12).all()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 5, 1000]))
def test_both_ways_of_counting_equal_loops(seed, levels):
    rng = np.random.default_rng(seed)
    q, g = rng.integers(1, 6), rng.integers(1, 60)
    rows = rng.integers(0, levels, (q, g)).astype(np.float32)
    rows[rng.random((q, g)) < 0.2] = -np.inf
    counts = rng.integers(0, 6, q)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    thresholds = np.concatenate(
        [np.sort(rng.integers(0, levels, n))[::-1] for n in counts] or [np.zeros(0)]
    ).astype(np.float32)
    expected = [
        sum(value >= thresholds[j] for value in rows[i])
        for i in range(q)
        for j in range(offsets[i], offsets[i + 1])
    ]
    assert metrics.count_at_least(torch.from_numpy(rows), thresholds, offsets).tolist() == expected
    if len(thresholds):
        assert metrics._count_by_buckets(torch.from_numpy(rows), thresholds, offsets).tolist() == expected


def test_buckets_in_several_steps(monkeypatch):
    rng = np.random.default_rng(0)
    rows, thresholds = rng.random((3, 50)).astype(np.float32), np.array([0.9, 0.1, 0.5], np.float32)
    offsets = np.array([0, 2, 2, 3])
    whole = metrics._count_by_buckets(torch.from_numpy(rows), thresholds, offsets)
    monkeypatch.setattr(metrics, "BUCKET_ENTRIES", 21)
    assert metrics._count_by_buckets(torch.from_numpy(rows), thresholds, offsets).tolist() == whole.tolist()


def labelled(rng, q, g):
    return rng.integers(1, 8, q), rng.integers(0, 3, q), rng.integers(-1, 8, g), rng.integers(0, 3, g)


@pytest.mark.parametrize(("block", "tile"), [(1, 4096), (300, 7), (10**6, 13), (10**6, 1)])
def test_blocks_and_tiles_change_nothing(block, tile, monkeypatch):
    rng = np.random.default_rng(3)
    labels = labelled(rng, 20, 90)
    q, g = (rng.choice([-1.0, 1.0], (n, 16)).astype(np.float32) for n in (20, 90))
    task = prepare("market1501", *labels)
    whole = metrics.count_hits(VectorScores(q, g, task), task)
    monkeypatch.setattr(VectorScores, "tile", tile)
    parts = metrics.count_hits(VectorScores(q, g, task), task, block_scores=block)
    np.testing.assert_array_equal(whole.hits[0].ahead, parts.hits[0].ahead)
    np.testing.assert_array_equal(whole.hits[0].scores, parts.hits[0].scores)


def test_identical_vectors_tie_exactly_wherever_they_stand():
    # Every gallery vector is the same: each negative must be ahead of each positive, in fp32, in any tile.
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(1, 67)).astype(np.float32)
    g = np.repeat(vector, 1003, 0)
    g_ids = np.r_[np.ones(3, int), np.full(1000, 2)][rng.permutation(1003)]
    task = prepare("market1501", [1], [0], g_ids, np.ones(1003, int))
    hits = metrics.count_hits(VectorScores(rng.normal(size=(1, 67)).astype(np.float32), g, task), task).hits[
        0
    ]
    assert hits.ahead.tolist() == [1000, 1000, 1000]


def test_negatives_are_sampled_from_negatives():
    rng = np.random.default_rng(1)
    labels = labelled(rng, 15, 70)
    matrix = rng.random((15, 70))
    task = prepare("market1501", *labels)
    wrong = {
        np.float32(matrix[i, j])
        for i in range(15)
        for j in range(70)
        if labels[2][j] not in (-1, labels[0][i])
    }
    sample = metrics.count_hits(FunctionScores(lambda a, b: matrix[a, b], task), task).negatives
    assert len(sample) > 100
    assert set(sample.tolist()) <= {float(value) for value in wrong}


def test_an_all_same_camera_rule_without_draws():
    rng = np.random.default_rng(2)
    q_ids, q_cameras, g_ids, g_cameras = labelled(rng, 12, 60)
    matrix = rng.integers(0, 9, (12, 60)).astype(float)
    protocol = replace(prepare("cuhk03-classic", q_ids, q_cameras, g_ids, g_cameras).protocol, draws=0)
    task = prepare(protocol, q_ids, q_cameras, g_ids, g_cameras)
    hits = metrics.count_hits(FunctionScores(lambda a, b: matrix[a, b], task), task).hits[0]
    orders = []
    for i in range(12):
        kept = [j for j in range(60) if g_ids[j] != -1 and g_cameras[j] != q_cameras[i]]
        orders.append([m for _, m in sorted((-matrix[i, j], g_ids[j] == q_ids[i]) for j in kept)])
    np.testing.assert_allclose(metrics.average_precision(hits), evaluate_orders(orders, 1)["ap"])


def test_drawn_galleries_hold_one_allowed_picture_of_everybody():
    rng = np.random.default_rng(4)
    labels = labelled(rng, 10, 80)
    task = prepare("cuhk03-classic", *labels)
    draws = metrics.draw_galleries(task, seed=0)
    assert len(draws) == 100
    for chosen in draws:
        for camera, columns in chosen.items():
            allowed = task.gallery_ids[task.gallery_cameras != camera]
            assert sorted(task.gallery_ids[columns]) == sorted(set(allowed.tolist()))
            assert (task.gallery_cameras[columns] != camera).all()
    assert len({tuple(chosen[0].tolist()) for chosen in draws}) > 50
    again = metrics.draw_galleries(task, seed=0)
    assert all((a[0] == b[0]).all() for a, b in zip(draws, again))
