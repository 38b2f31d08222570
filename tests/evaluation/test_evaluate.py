import json
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.data.records import Picture, ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation import PROTOCOLS, evaluate, evaluate_dataset, evaluate_scores

from .fakes import FakeEmbedder, fake_dataset, signs
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


def orders_of(dataset, protocol="market1501"):
    q, g = (signs([p.path for p in part], 16, 1) for part in (dataset.query, dataset.gallery))
    g_ids, g_cameras = [p.identity for p in dataset.gallery], [p.camera for p in dataset.gallery]
    return [
        ranked(protocol, g @ q[i], one.identity, one.camera, g_ids, g_cameras)
        for i, one in enumerate(dataset.query)
    ]


def test_dataset_is_embedded_once_without_junk():
    dataset, embedder = fake_dataset(), FakeEmbedder()
    result = evaluate_dataset(embedder, dataset)
    check(result, orders_of(dataset))
    wanted = [p.path for p in (*dataset.query, *dataset.gallery) if p.identity != -1]
    assert sorted(embedder.seen) == sorted(wanted)


def test_pictures_that_ask_and_are_searched_are_embedded_once_and_do_not_find_themselves():
    pictures = fake_dataset().gallery
    pictures = tuple(Picture(p.path, p.identity, -1) for p in pictures if p.identity > 0)
    dataset = ReIDDataset("flat", "no-camera", fake_dataset().root, (), pictures, pictures)
    embedder = FakeEmbedder()
    result = evaluate_dataset(embedder, dataset, protocol="no-camera")
    assert len(embedder.seen) == len(pictures)
    vectors, ids = signs([p.path for p in pictures], 16, 1), [p.identity for p in pictures]
    orders = [
        ranked("no-camera", vectors @ vectors[i], ids[i], -1, ids, ids, [j == i for j in range(len(ids))])
        for i in range(len(ids))
    ]
    check(result, orders)


def test_hardest_queries_come_with_their_lists():
    dataset = fake_dataset()
    result = evaluate_dataset(FakeEmbedder(), dataset, hardest=4)
    orders = {p.path: order for p, order in zip(dataset.query, orders_of(dataset))}
    worst = np.sort(result.average_precision[~np.isnan(result.average_precision)])[:4]
    assert [one.average_precision for one in result.hardest] == worst.tolist()
    people = {p.path: (p.identity, p.camera) for p in (*dataset.query, *dataset.gallery)}
    for one in result.hardest:
        assert len(one.pictures) == 10
        assert (np.diff(one.scores) <= 0).all()
        assert [people[p][0] == people[one.query][0] for p in one.pictures] == one.right.tolist()
        assert not any(
            people[p] == people[one.query] for p in one.pictures
        )  # dropped: same person and camera
        assert orders[one.query][: int(one.first_rank)].count(True) == 1


def test_small_galleries_have_the_ranks_that_they_have():
    dataset = fake_dataset(queries=6, gallery=8, people=3, cameras=2, seed=3)
    result = evaluate_dataset(FakeEmbedder(), dataset)
    assert result.ranks == tuple(rank for rank in (1, 5, 10) if rank <= result.gallery)
    assert result.rank10 == 1.0
    with pytest.raises(InputError, match=r"^ranks: "):
        evaluate_dataset(FakeEmbedder(), dataset, ranks=(10,))


def test_multi_query_takes_the_pictures_of_gt_bbox(tmp_path, caplog):
    query = (Picture(tmp_path / "query" / "0001_c1s1_000001_00.jpg", 1, 1),)
    gallery = tuple(Picture(tmp_path / f"{i}_c2.jpg", i, 2) for i in range(1, 4))
    dataset = ReIDDataset("market1501", "market1501", tmp_path, (), query, gallery)
    embedder = FakeEmbedder()
    with caplog.at_level(logging.WARNING):
        evaluate_dataset(embedder, dataset, protocol="market1501-multi-query")
    assert "gt_bbox" in caplog.text
    more = tuple(
        Picture(tmp_path / "gt_bbox" / f"{who:04d}_c{camera}s1_{frame:06d}_00.jpg", who, camera)
        for who, camera, frame in ((1, 1, 1), (1, 1, 9), (1, 2, 1), (2, 1, 1))
    )
    embedder = FakeEmbedder()
    result = evaluate_dataset(embedder, replace(dataset, multi_query=more), protocol="market1501-multi-query")
    # Those of the query's person and camera, without the query picture, which is drawn by hand there again.
    assert [path for path in embedder.seen if path.name.startswith("0")] == [more[0].path, more[1].path]
    assert result.queries == 1


def test_no_model_is_an_error():
    with pytest.raises(InputError, match=r"^embedder: "):
        evaluate_dataset(None, fake_dataset())
