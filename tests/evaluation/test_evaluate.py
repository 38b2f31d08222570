import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.evaluation import PROTOCOLS, evaluate, evaluate_scores

from .oracle import check, ranked

MATRIX_PROTOCOLS = [
    name for name in PROTOCOLS if name not in ("openreid", "market1501-multi-query", "cuhk03-classic")
]


def case(seed, levels=4):
    """Labels with junk, distractors, people in few cameras, and people who are in no gallery."""
    rng = np.random.default_rng(seed)
    q, g = int(rng.integers(1, 8)), int(rng.integers(1, 40))
    people, cameras = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    labels = (
        rng.integers(-1, people, q),
        rng.integers(0, cameras, q),
        rng.integers(-1, people, g),
        rng.integers(0, cameras, g),
    )
    return rng, labels, rng.integers(0, levels, (q, g)).astype(np.float64)


def agree(run, orders):
    """The result equals the oracle's rankings, or both find that nothing matches."""
    if not orders or not any(map(any, orders)):
        with pytest.raises(InputError, match="_ids: "):
            run()
    else:
        check(run(), orders)


@settings(max_examples=120, deadline=None)
@given(
    protocol=st.sampled_from(MATRIX_PROTOCOLS),
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([2, 5, 10**6]),
)
def test_matrices_and_functions_equal_the_oracle(protocol, seed, levels):
    rng, (q_ids, q_cameras, g_ids, g_cameras), matrix = case(seed, levels)
    names = rng.integers(0, 60, sum(matrix.shape))
    q_names, g_names = names[: len(q_ids)].tolist(), names[len(q_ids) :].tolist()
    orders = [
        ranked(
            protocol, matrix[i], q_ids[i], q_cameras[i], g_ids, g_cameras, [q_names[i] == n for n in g_names]
        )
        for i in range(len(q_ids))
    ]
    options = {"protocol": protocol, "ranks": (1,), "query_pictures": q_names, "gallery_pictures": g_names}
    labels = (q_ids, q_cameras, g_ids, g_cameras)
    agree(lambda: evaluate_scores(matrix, *labels, **options), orders)
    agree(lambda: evaluate_scores(lambda a, b: matrix[a, b], *labels, **options), orders)
    agree(lambda: evaluate_scores(-matrix, *labels, distances=True, **options), orders)


@settings(max_examples=100, deadline=None)
@given(
    protocol=st.sampled_from([*MATRIX_PROTOCOLS, "openreid"]),
    seed=st.integers(0, 10**6),
    euclidean=st.booleans(),
)
def test_vectors_equal_the_oracle(protocol, seed, euclidean):
    rng, (q_ids, q_cameras, g_ids, g_cameras), matrix = case(seed)
    # Signs in 16 dimensions have length 4 and few distances: every score is exact and many tie.
    q, g = (rng.choice([-1.0, 1.0], (n, 16)).astype(np.float32) for n in matrix.shape)
    labels = (q_ids, q_cameras, g_ids, g_cameras)
    if protocol == "openreid":
        people = set(q_ids.tolist()) - {-1, 0}
        ids, cameras = np.r_[q_ids, g_ids], np.r_[q_cameras, g_cameras]
        everything = np.r_[q, g]
        orders = [
            ranked(protocol, everything @ everything[i], ids[i], cameras[i], ids, cameras)
            for i in range(len(ids))
            if ids[i] in people
        ]
    else:
        orders = [ranked(protocol, g @ q[i], q_ids[i], q_cameras[i], g_ids, g_cameras) for i in range(len(q))]
    metric = "euclidean" if euclidean else "cosine"
    run = partial(
        evaluate,
        q,
        *labels[:2],
        torch.from_numpy(g),
        *labels[2:],
        protocol=protocol,
        metric=metric,
        ranks=(1,),
    )
    agree(run, orders)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_multi_query_equals_the_oracle(seed):
    rng, (q_ids, q_cameras, g_ids, g_cameras), matrix = case(seed)
    q, g = (rng.normal(size=(n, 6)) for n in matrix.shape)
    unit = q / np.linalg.norm(q, axis=1, keepdims=True)
    orders = []
    for who, camera in sorted(set(zip(q_ids.tolist(), q_cameras.tolist()))):
        mean = unit[(q_ids == who) & (q_cameras == camera)].mean(0)
        scores = g @ mean / np.linalg.norm(g, axis=1)
        orders.append(ranked("market1501-multi-query", scores, who, camera, g_ids, g_cameras))
    run = partial(
        evaluate, q, q_ids, q_cameras, g, g_ids, g_cameras, protocol="market1501-multi-query", ranks=(1,)
    )
    agree(run, orders)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_classic_with_nothing_to_draw_equals_the_oracle(seed):
    # Two cameras and one picture of everybody in each: every drawn gallery is the other camera's.
    rng = np.random.default_rng(seed)
    people = np.arange(1, 8)
    g_ids, g_cameras = np.tile(people, 2), np.repeat([0, 1], 7)
    q_ids, q_cameras = rng.integers(1, 9, 10), rng.integers(0, 2, 10)
    matrix = rng.integers(0, 6, (10, 14)).astype(float)
    orders = [
        ranked("cuhk03-classic", matrix[i], q_ids[i], q_cameras[i], g_ids, g_cameras) for i in range(10)
    ]
    options = {"protocol": "cuhk03-classic", "ranks": (1,)}
    agree(lambda: evaluate_scores(matrix, q_ids, q_cameras, g_ids, g_cameras, **options), orders)


def test_classic_averages_over_the_draws():
    # The match is drawn as the good or the bad of two pictures: rank 1 or rank 2, each in about half.
    result = evaluate_scores(
        [[9.0, 1.0, 5.0]], [1], [0], [1, 1, 2], [1, 1, 1], protocol="cuhk03-classic", ranks=(1, 2)
    )
    assert result.draws == 100
    assert 0.35 < result.rank1 < 0.65
    assert result.cmc_at(2) == 1
    assert result.mAP == pytest.approx(result.rank1 + (1 - result.rank1) / 2)
    assert result.first_rank[0] == pytest.approx(result.rank1 + 2 * (1 - result.rank1))
    again = evaluate_scores(
        [[9.0, 1.0, 5.0]], [1], [0], [1, 1, 2], [1, 1, 1], protocol="cuhk03-classic", ranks=(1,)
    )
    assert again.rank1 == result.rank1


def test_by_hand():
    # Gallery, best first: junk, own camera, distractor, match, stranger, match tied with a stranger.
    scores = [[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4]]
    result = evaluate_scores(
        np.array(scores), [3], [1], [-1, 3, 0, 3, 4, 3, 5], [2, 1, 2, 2, 2, 3, 3], ranks=(1, 2)
    )
    # Ranks: distractor 1, match 2, stranger 3, tied stranger 4, match 5.
    assert result.mAP == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert result.mAP_trapezoid == pytest.approx(((0 + 1 / 2) / 2 + (1 / 4 + 2 / 5) / 2) / 2)
    assert result.mINP == pytest.approx(2 / 5)
    assert (result.rank1, result.cmc_at(2), result.rank5) == (0, 1, 1)
    assert (result.gallery, result.junk) == (6, 1)


def test_duplicates_count_each_and_queries_without_match_are_reported():
    vectors = np.eye(3, dtype=np.float32)
    g = vectors[[0, 0, 1]]
    result = evaluate(vectors, [1, 2, 3], [0] * 3, g, [1, 1, 2], [1] * 3, ranks=(1,))
    assert (result.queries, result.queries_without_match, result.mAP) == (3, 1, 1.0)
    assert np.isnan(result.average_precision[2])


def test_result_as_json():
    vectors = np.eye(12, dtype=np.float32)
    figures = evaluate(
        vectors, range(12), [0] * 12, vectors, range(12), [1] * 12, protocol="msmt17", ranks=(3,)
    ).to_json()
    assert json.loads(json.dumps(figures)) == figures
    for key in ("rank1", "rank3", "rank5", "rank10", "mAP", "mAP_trapezoid", "mINP"):
        assert figures[key] == 1.0
    assert (figures["protocol"], figures["queries"], figures["gallery"]) == ("msmt17", 12, 12)
    assert figures["seconds"] > 0


GOOD = {
    "query_vectors": np.eye(4, dtype=np.float32)[:2],
    "query_ids": [1, 2],
    "query_cameras": [0, 0],
    "gallery_vectors": np.eye(4, dtype=np.float32),
    "gallery_ids": [1, 2, 3, 4],
    "gallery_cameras": [1, 1, 1, 1],
    "ranks": (1, 4),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_ids": [1]}, "query_vectors: 2 rows, but query_ids has 1"),
        ({"gallery_vectors": np.eye(4)[:3]}, "gallery_vectors: 3 rows, but gallery_ids has 4"),
        (
            {"gallery_vectors": np.zeros((0, 4)), "gallery_ids": [], "gallery_cameras": []},
            "gallery_ids: the gallery is empty",
        ),
        ({"gallery_vectors": np.full((4, 4), np.nan)}, "gallery_vectors: row 0 holds NaN"),
        ({"query_vectors": np.full((2, 4), np.inf)}, "query_vectors: row 0 holds NaN or inf"),
        ({"query_cameras": None}, "query_cameras: protocol market1501 needs camera labels"),
        ({"ranks": (1, 5)}, "ranks: rank 5 does not exist in a gallery of 4"),
        ({"ranks": (0,)}, "ranks: rank 0"),
        ({"query_ids": [8, 9]}, "query_ids: none of the 2 queries has a match"),
        ({"protocol": "veri776"}, "protocol: 'veri776' is unknown"),
    ],
)
def test_bad_input_names_the_argument(change, message):
    with pytest.raises(InputError, match=rf"^{message}"):
        evaluate(**(GOOD | change))


@pytest.mark.parametrize("protocol", ["openreid", "market1501-multi-query"])
def test_a_matrix_cannot_be_pooled_or_averaged(protocol):
    with pytest.raises(InputError, match=r"^protocol: "):
        evaluate_scores(np.ones((2, 2)), [1, 2], [0, 0], [1, 2], [1, 1], protocol=protocol)


def test_a_matrix_of_another_shape():
    with pytest.raises(InputError, match=r"^scores: shape"):
        evaluate_scores(np.ones((2, 3)), [1, 2], [0, 0], [1, 2], [1, 1])


def test_a_rank_beyond_the_curve():
    n = 80
    vectors = np.eye(n, dtype=np.float32)
    labels = (range(1, n + 1), [0] * n)
    result = evaluate(vectors, *labels, vectors, labels[0], [1] * n)
    with pytest.raises(InputError, match=r"^rank: 60"):
        result.cmc_at(60)
    assert evaluate(vectors, *labels, vectors, labels[0], [1] * n, ranks=(60,)).cmc_at(60) == 1
