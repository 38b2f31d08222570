import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.evaluation import PROTOCOLS, evaluate, evaluate_scores, prepare

from .oracle import is_dropped, is_match

LABELS = Path(os.environ.get("KRONREID_SHARED", "/nonexistent")) / "data" / "market1501_labels"
official = pytest.mark.skipif(not LABELS.is_dir(), reason="KRONREID_SHARED holds no market1501_labels")


def market_labels():
    from scipy.io import loadmat

    def read(name):
        values = loadmat(LABELS / f"{name}.mat")
        return (
            next(value for key, value in values.items() if not key.startswith("__")).reshape(-1).astype(int)
        )

    return read("queryID"), read("queryCam"), read("testID"), read("testCam")


@official
def test_market_official_lists():
    task = prepare("market1501", *market_labels())
    assert (task.queries, task.gallery, task.junk) == (3368, 15913, 19732 - 15913)
    assert (np.diff(task.special_offsets) > 0).all()


@official
def test_openreid_official_lists():
    task = prepare("openreid", *market_labels())
    assert (task.queries, task.gallery) == (16483, 19281)


@settings(max_examples=60, deadline=None)
@given(
    protocol=st.sampled_from(
        [name for name in PROTOCOLS if name not in ("openreid", "market1501-multi-query")]
    ),
    seed=st.integers(0, 10**6),
)
def test_specials_are_what_the_rules_say(protocol, seed):
    rng = np.random.default_rng(seed)
    q, g = rng.integers(1, 9), rng.integers(1, 25)
    q_ids, q_cameras = rng.integers(-1, 5, q), rng.integers(0, 3, q)
    g_ids, g_cameras = rng.integers(-1, 5, g), rng.integers(0, 3, g)
    q_names, g_names = rng.integers(0, 30, q).tolist(), rng.integers(0, 30, g).tolist()
    if (g_ids == -1).all():
        g_ids[0] = 1
    task = prepare(
        protocol, q_ids, q_cameras, g_ids, g_cameras, query_pictures=q_names, gallery_pictures=g_names
    )
    kept = [j for j in range(g) if g_ids[j] != -1]
    assert (task.gallery_rows - q).tolist() == kept
    rows, columns, positive = task.specials(0, q)
    found = {(i, kept[c]): bool(p) for i, c, p in zip(rows, columns, positive)}
    expected = {}
    for i in range(q):
        for j in kept:
            dropped = is_dropped(
                protocol, q_ids[i], q_cameras[i], g_ids[j], g_cameras[j], q_names[i] == g_names[j]
            )
            if protocol == "cuhk03-classic":  # other people of the camera are masked, not listed
                dropped = dropped and q_ids[i] == g_ids[j]
            if dropped or is_match(protocol, q_ids[i], g_ids[j]):
                expected[i, j] = not dropped
    assert found == expected


def test_openreid_pools_query_and_gallery():
    task = prepare("openreid", [1, 2], [0, 0], [1, 0, -1, 3, 2], [1, 0, 0, 0, 0])
    # Person 3 is in no query: its picture is searched but does not ask. Junk is gone, 0 is a distractor.
    assert task.query_rows.tolist() == [0, 1, 2, 6]
    assert task.query_ids.tolist() == [1, 2, 1, 2]
    assert task.gallery_rows.tolist() == [0, 1, 2, 3, 5, 6]
    rows, columns, positive = task.specials(0, 4)
    assert [(r, task.gallery_rows[c]) for r, c, p in zip(rows, columns, positive) if p] == [(0, 2), (2, 0)]


def test_multi_query_groups_one_camera():
    task = prepare("market1501-multi-query", [7, 3, 7, 7], [1, 1, 1, 2], [7], [3])
    groups = [
        sorted(task.query_rows[a:b].tolist()) for a, b in zip(task.query_groups[:-1], task.query_groups[1:])
    ]
    assert groups == [[1], [0, 2], [3]]
    assert task.query_ids.tolist() == [3, 7, 7]
    assert task.query_cameras.tolist() == [1, 1, 2]


def test_same_rules_differ_where_they_should():
    labels = ([0, 1], [0, 0], [0, 1, 1], [1, 0, 1])
    positives = {name: int(prepare(name, *labels).special_positive.sum()) for name in PROTOCOLS}
    assert positives["market1501"] == 1  # identity 0 is a distractor
    assert positives["dukemtmc"] == positives["cross-camera"] == 2  # and a person elsewhere
    assert positives["no-camera"] == 3  # the same camera counts


def test_tensors_and_lists_are_labels_too():
    task = prepare("msmt17", torch.tensor([4]), [0], np.array([4], np.uint8), torch.tensor([1]))
    assert task.special_positive.tolist() == [True]


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"query_ids": []}, "query_ids"),
        ({"gallery_ids": [], "gallery_cameras": []}, "gallery_ids"),
        ({"gallery_ids": [-1, -1]}, "gallery_ids"),
        ({"query_cameras": None}, "query_cameras"),
        ({"gallery_cameras": [0, -1]}, "gallery_cameras"),
        ({"query_cameras": [0, 1]}, "query_cameras"),
        ({"gallery_cameras": [0]}, "gallery_cameras"),
        ({"query_ids": [1.5]}, "query_ids"),
        ({"query_ids": [[1]]}, "query_ids"),
        ({"gallery_ids": [-2, 1]}, "gallery_ids"),
        ({"protocol": "market"}, "protocol"),
        ({"query_pictures": ["a", "b"], "gallery_pictures": ["c", "d"]}, "query_pictures"),
    ],
)
def test_bad_labels_name_the_argument(change, argument):
    given_ = {
        "protocol": "market1501",
        "query_ids": [1],
        "query_cameras": [0],
        "gallery_ids": [1, 2],
        "gallery_cameras": [1, 1],
    } | change
    with pytest.raises(InputError, match=rf"^{argument}: "):
        prepare(**given_)


def test_junk_needs_no_camera():
    task = prepare("market1501", [1], [0], [1, -1], [1, -1])
    assert task.junk == 1


#: Three queries and seven gallery pictures as (identity, camera): query 0 of person 1 finds, best first,
#:   itself in its camera, junk, a distractor, person 3, **person 1**, person 2, **person 1**;
#: query 1 of person 2 finds its match at once, and so does query 2, a picture of identity 0.
QUERIES = [(1, 1), (2, 2), (0, 3)]
ENTRIES = [(1, 1), (1, 2), (0, 1), (-1, 2), (2, 1), (1, 3), (3, 2)]
SCORES = [
    [0.9, 0.7, 0.8, 0.85, 0.6, 0.5, 0.75],
    [0.1, 0.2, 0.3, 0.4, 0.9, 0.5, 0.8],
    [0.1, 0.2, 0.9, 0.4, 0.6, 0.5, 0.8],
]
# Without the first two, the matches of query 0 stand at ranks 3 and 5 of 5: AP (1/3 + 2/5) / 2 = 11/30,
# by trapezoids ((0 + 1/3) / 2 + (1/4 + 2/5) / 2) / 2 = 59/240, and its last match gives 2/5.
OTHER_CAMERA = {
    "rank1": 2 / 3,
    "mAP": (11 / 30 + 2) / 3,
    "mAP_trapezoid": (59 / 240 + 2) / 3,
    "mINP": 2.4 / 3,
}
BY_HAND = {
    # Identity 0 has no match: query 2 is in none of the means.
    "market1501": {
        "rank1": 1 / 2,
        "mAP": (11 / 30 + 1) / 2,
        "mAP_trapezoid": (59 / 240 + 1) / 2,
        "mINP": 1.4 / 2,
        "queries_without_match": 1,
    },
    **dict.fromkeys(("dukemtmc", "msmt17", "cuhk03-np", "cross-camera"), OTHER_CAMERA),
    # Of the other cameras, query 0 has one of its two matches, at random, and person 3 before either.
    "cuhk03-classic": {"rank1": 2 / 3, "mAP": (1 / 2 + 2) / 3, "mINP": 2.5 / 3, "draws": 100},
    # The picture of its own camera is a match, too: ranks 1, 4 and 6.
    "no-camera": {"rank1": 1.0, "mAP": ((1 + 2 / 4 + 3 / 6) / 3 + 2) / 3, "mINP": (3 / 6 + 2) / 3},
}


@pytest.mark.parametrize("protocol", BY_HAND)
def test_a_case_worked_by_hand(protocol):
    (q_ids, q_cameras), (g_ids, g_cameras) = zip(*QUERIES), zip(*ENTRIES)
    result = evaluate_scores(SCORES, q_ids, q_cameras, g_ids, g_cameras, protocol=protocol, ranks=(1, 2))
    found = result.to_json()
    assert (found["queries"], found["gallery"], found["junk"]) == (3, 6, 1)
    wanted = {"queries_without_match": 0, **BY_HAND[protocol]}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def at(*degrees):
    """Unit vectors at these angles: the smaller the angle between two, the more alike."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)


def test_openreid_worked_by_hand():
    # Query pictures at 0° (person 1) and 90° (2), gallery at 41° (1), 60° (2) and a distractor at 20°.
    # All four of persons 1 and 2 ask: from 0° come 20° wrong, 41° right: 1/2. From 90° comes 60°: 1.
    # From 41° come 60° and 20° wrong, then 0°: 1/3. From 60° comes 41° wrong, then 90°: 1/2.
    labels = ([1, 2], [1, 1], at(41, 60, 20), [1, 2, 0], [2, 2, 1])
    result = evaluate(at(0, 90), *labels, protocol="openreid", ranks=(1,))
    assert (result.queries, result.gallery) == (4, 5)
    assert result.mAP == pytest.approx((1 / 2 + 1 + 1 / 3 + 1 / 2) / 4)
    assert result.rank1 == 1 / 4


def test_multi_query_worked_by_hand():
    # Person 1 at 0° and 80° in one camera, mean 40°. The match is at 45°, somebody else at 10°.
    labels = ([1, 1], [1, 1], at(45, 10), [1, 2], [2, 2])
    single = evaluate(at(0, 80), *labels, ranks=(1,))
    several = evaluate(at(0, 80), *labels, protocol="market1501-multi-query", ranks=(1,))
    assert (single.queries, single.mAP) == (2, pytest.approx((1 / 2 + 1) / 2))
    assert (several.queries, several.mAP) == (1, 1.0)
