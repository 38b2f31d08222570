import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.evaluation import PROTOCOLS, prepare

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
