"""Models on data sets: what is embedded, with which lists the hardest queries come, multi-query."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from kronreid.data.records import Picture, ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation import evaluate_dataset

from .fakes import FakeEmbedder, FakeMatcher, FakePlaces, fake_dataset, signs
from .oracle import check, ranked


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


STAGES = {
    "places": (FakePlaces, {}),
    "all places": (FakePlaces, {"rerank_top": "all"}),
    "places after k-reciprocal": (FakePlaces, {"k_reciprocal": True}),
    "a matcher": (FakeEmbedder, {"matcher": FakeMatcher()}),
    "a matcher instead of places": (FakePlaces, {"matcher": FakeMatcher(), "rerank_top": 9}),
    "a matcher alone": (FakeMatcher, {}),
}


def same_result(one, other):
    for key, value in vars(one).items():
        if key not in ("seconds", "hardest", "first_stage", "rerank_ms_per_query", "rerank_top"):
            np.testing.assert_array_equal(value, getattr(other, key), key)


@pytest.mark.parametrize("name", STAGES)
def test_the_first_stage_is_what_vectors_alone_reach(name):
    make, options = STAGES[name]
    dataset = fake_dataset()
    result = evaluate_dataset(make(), dataset, **options)
    alone = evaluate_dataset(make(), dataset, **{**options, "rerank_top": 0})
    same_result(result.first_stage, alone)
    assert alone.score_kind != result.score_kind == "logit"
    assert alone.first_stage is alone.rerank_ms_per_query is result.first_stage.first_stage is None
    assert (result.average_precision != alone.average_precision).any()
    assert result.rerank_ms_per_query > 0
    figures = result.to_json()
    assert figures["rerank_top"] == (options.get("rerank_top") or (75 if "matcher" in name else 100))
    assert (figures["first_stage"]["rerank_top"], alone.to_json()["rerank_top"]) == (0, 0)
    assert figures["first_stage"] == result.first_stage.to_json()
    assert figures["rerank_ms_per_query"] == result.rerank_ms_per_query
    assert not {"first_stage", "rerank_ms_per_query"} & alone.to_json().keys()


def test_a_matcher_that_scores_all_pairs_has_no_first_stage():
    result = evaluate_dataset(FakeMatcher(), fake_dataset(), rerank_top="all")
    assert (result.first_stage, result.rerank_top) == (None, "all")


def test_a_matcher_re_scores_instead_of_the_places():
    dataset, embedder = fake_dataset(), FakePlaces()
    options = {"matcher": FakeMatcher(), "rerank_top": 9}
    same_result(
        evaluate_dataset(embedder, dataset, **options), evaluate_dataset(FakeEmbedder(), dataset, **options)
    )
    assert embedder.encoded == 0


def test_places_have_the_say_that_is_given_to_them():
    dataset = fake_dataset()
    full, silent, half = (
        evaluate_dataset(FakePlaces(), dataset, rerank_top=999, matcher_weight=weight)
        for weight in (1, 0, 0.5)
    )
    same_result(full, evaluate_dataset(FakePlaces(), dataset, rerank_top=999))
    np.testing.assert_allclose(silent.average_precision, silent.first_stage.average_precision)
    assert (half.average_precision != full.average_precision).any()


@pytest.mark.parametrize(
    ("protocol", "options"), [("cuhk03-classic", {"cameras": 2}), ("market1501-multi-query", {})]
)
def test_where_there_is_no_one_list_vectors_rank_alone(protocol, options):
    dataset, embedder = fake_dataset(**options), FakePlaces()
    result = evaluate_dataset(embedder, dataset, protocol=protocol)
    same_result(result, evaluate_dataset(FakeEmbedder(), dataset, protocol=protocol))
    assert result.first_stage is None
    assert embedder.encoded == 0


def test_all_places_are_scored_in_drawn_galleries():
    dataset = fake_dataset(cameras=2)
    result = evaluate_dataset(FakePlaces(), dataset, protocol="cuhk03-classic", rerank_top="all")
    assert result.draws == 100
    assert result.mAP != result.first_stage.mAP


def test_no_model_is_an_error():
    with pytest.raises(InputError, match=r"^embedder: "):
        evaluate_dataset(None, fake_dataset())
