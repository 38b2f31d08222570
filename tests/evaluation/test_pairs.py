import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.data.readers import read
from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.evaluation import evaluate_dataset
from kronreid.evaluation.pairs import _dense_ranks, fuse
from kronreid.models.backbone import BackboneOptions
from kronreid.models.inference import Matcher
from kronreid.models.kpm import KPM

from .fakes import FakeEmbedder, FakeMatcher, FakePlaces, fake_dataset, signs
from .oracle import check, is_dropped, is_match, ranked


def rescored_orders(dataset, top, logits=None):
    """Rank by the first stage, re-score the first `top` that are not dropped, sort in two groups.

    The logits (Q, G) are those of `FakeMatcher` unless others are given.
    """
    paths = [[p.path for p in part] for part in (dataset.query, dataset.gallery)]
    first = signs(paths[0], 16, 1) @ signs(paths[1], 16, 1).T
    if logits is None:
        logits = signs(paths[0], 8, 2) @ np.roll(signs(paths[1], 8, 2), 1, 1).T
    orders = []
    for i, query in enumerate(dataset.query):
        kept = [
            j
            for j, p in enumerate(dataset.gallery)
            if not is_dropped("market1501", query.identity, query.camera, p.identity, p.camera)
        ]
        order = sorted(kept, key=lambda j: (-first[i, j], j))
        right = {j: is_match("market1501", query.identity, dataset.gallery[j].identity) for j in kept}
        ahead = sorted(order[:top], key=lambda j: (-logits[i, j], right[j]))
        behind = sorted(order[top:], key=lambda j: (-first[i, j], right[j]))
        orders.append([right[j] for j in ahead + behind])
    return orders


@pytest.mark.parametrize("top", [1, 7, 75, 1000])
@pytest.mark.parametrize("memory", [2048, 16, 2])
def test_rescoring_equals_the_oracle(top, memory):
    dataset, matcher = fake_dataset(), FakeMatcher()
    result = evaluate_dataset(
        FakeEmbedder(),
        dataset,
        matcher=matcher,
        rerank_top=top,
        matcher_weight=1,
        pictures_in_memory=memory,
        hardest=0,
    )
    check(result, rescored_orders(dataset, top))
    if memory == 2048:
        assert matcher.encoded <= len(dataset.query) + len(dataset.gallery)
    if top == 7:
        assert matcher.pairs == 7 * len(dataset.query)


def test_a_matcher_alone_ranks_by_its_own_features():
    dataset = fake_dataset(seed=1)
    result = evaluate_dataset(FakeMatcher(), dataset, rerank_top=9)
    check(result, rescored_orders(dataset, 9))


@pytest.mark.parametrize("memory", [2048, 150, 2])
def test_all_pairs_equal_the_oracle(memory):
    dataset, matcher = fake_dataset(queries=9, gallery=140), FakeMatcher()
    result = evaluate_dataset(matcher, dataset, rerank_top="all", pictures_in_memory=memory, hardest=0)
    q, g = ([p.path for p in part] for part in (dataset.query, dataset.gallery))
    logits = signs(q, 8, 2) @ np.roll(signs(g, 8, 2), 1, 1).T
    ids, cameras = ([getattr(p, a) for p in dataset.gallery] for a in ("identity", "camera"))
    orders = [
        ranked("market1501", logits[i], one.identity, one.camera, ids, cameras)
        for i, one in enumerate(dataset.query)
    ]
    check(result, orders)
    assert matcher.seen == []  # no first stage
    if memory == 2048:
        assert matcher.encoded == len(set(q)) + sum(identity != -1 for identity in ids)


def place_logits(dataset):
    embedder = FakePlaces()
    query, gallery = (
        embedder.matcher.encode([p.path for p in part]) for part in (dataset.query, dataset.gallery)
    )
    return embedder.matcher.logits(query, gallery).numpy()


@pytest.mark.parametrize("top", [1, 7, None, 1000, "all"])
def test_rescoring_by_places_equals_the_oracle(top):
    dataset, embedder = fake_dataset(gallery=150), FakePlaces()
    result = evaluate_dataset(embedder, dataset, rerank_top=top, hardest=0)
    count = {None: 100, "all": 1000}.get(top, top)  # 100 unless something is said
    check(result, rescored_orders(dataset, count, place_logits(dataset)))
    assert result.score_kind == "logit"
    assert embedder.seen == []
    wanted = {p.path for p in (*dataset.query, *dataset.gallery) if p.identity != -1}
    assert embedder.encoded == len(wanted), "one pass gives vectors and places"


@pytest.mark.parametrize("top", [5, 30, "all"])
def test_described_pictures_score_as_those_that_a_matcher_encodes(top):
    """The embedder's own places, and the same places as if they were another model."""
    dataset, embedder = fake_dataset(seed=3), FakePlaces()
    own = evaluate_dataset(embedder, dataset, rerank_top=top)
    for memory in (2048, 9):
        other = evaluate_dataset(
            FakeEmbedder(),
            dataset,
            matcher=embedder.matcher,
            rerank_top=top,
            matcher_weight=1,
            pictures_in_memory=memory,
        )
        np.testing.assert_array_equal(own.average_precision, other.average_precision)
        np.testing.assert_array_equal(own.first_rank, other.first_rank)
        np.testing.assert_allclose(
            np.sort(own.positive_scores), np.sort(other.positive_scores), rtol=1e-5, atol=1e-5
        )


def test_real_places_by_lists_and_by_blocks(pedestrians: Path, embedder_with_places) -> None:
    dataset, embedder = read(pedestrians), embedder_with_places(levels=("X_1", "below"))
    found = [
        evaluate_dataset(embedder, dataset, rerank_top=top) for top in (None, len(dataset.gallery), "all")
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other.average_precision, found[0].average_precision)
        np.testing.assert_allclose(
            np.sort(other.positive_scores), np.sort(found[0].positive_scores), rtol=1e-4, atol=1e-4
        )


def test_all_equals_a_list_as_long_as_the_gallery():
    dataset = fake_dataset(seed=2)
    whole = evaluate_dataset(FakeMatcher(), dataset, rerank_top="all")
    long = evaluate_dataset(FakeMatcher(), dataset, rerank_top=len(dataset.gallery))
    np.testing.assert_array_equal(whole.average_precision, long.average_precision)


def test_pairs_shown_are_the_rescored_ones():
    dataset = fake_dataset()
    result = evaluate_dataset(FakeEmbedder(), dataset, matcher=FakeMatcher(), rerank_top=7)
    assert result.score_kind == "logit"
    assert len(result.positive_scores) + len(result.negative_scores) == 7 * len(dataset.query)
    right = sum(sum(order[:7]) for order in rescored_orders(dataset, 7))
    assert len(result.positive_scores) == right


def test_after_k_reciprocal_the_first_stage_is_re_ranked():
    dataset = fake_dataset()
    plain = evaluate_dataset(
        FakeEmbedder(), dataset, matcher=FakeMatcher(), rerank_top=1000, matcher_weight=1
    )
    re_ranked = evaluate_dataset(
        FakeEmbedder(), dataset, matcher=FakeMatcher(), rerank_top=1000, matcher_weight=1, k_reciprocal=True
    )
    np.testing.assert_array_equal(plain.average_precision, re_ranked.average_precision)  # all are re-scored
    short = evaluate_dataset(FakeEmbedder(), dataset, matcher=FakeMatcher(), rerank_top=3, k_reciprocal=True)
    assert short.mAP != plain.mAP


def test_fused_scores_are_means_of_standard_scores():
    logits = np.array([[3.0, 1.0, -4.0, -np.inf]], np.float32)
    similarities = np.array([[0.9, 0.8, 0.4, -np.inf]], np.float32)

    def standard(values):
        return [(v - statistics.fmean(values)) / statistics.pstdev(values) for v in values]

    expected = [0.3 * a + 0.7 * b for a, b in zip(standard([3, 1, -4]), standard([0.9, 0.8, 0.4]))]
    found = fuse(logits, similarities, 0.3)
    np.testing.assert_allclose(found[0, :3], expected, rtol=1e-5)
    assert found[0, 3] == -np.inf
    np.testing.assert_array_equal(fuse(logits, similarities, 1), logits)
    equal = fuse(np.ones((1, 3), np.float32), similarities[:, :3], 0.5)
    assert equal[0].argsort().tolist() == [2, 1, 0]  # logits that say nothing leave the first stage's order
    assert np.isneginf(fuse(np.full((1, 2), -np.inf, np.float32), similarities[:, :2], 0.5)).all()


def test_without_a_say_the_matcher_changes_nothing():
    dataset = fake_dataset()
    alone = evaluate_dataset(FakeEmbedder(), dataset)
    silent = evaluate_dataset(
        FakeEmbedder(), dataset, matcher=FakeMatcher(), rerank_top=999, matcher_weight=0
    )
    np.testing.assert_allclose(silent.average_precision, alone.average_precision)


def test_classic_scores_all_pairs():
    dataset = fake_dataset(cameras=2)
    result = evaluate_dataset(FakeMatcher(), dataset, protocol="cuhk03-classic", rerank_top="all", ranks=(1,))
    assert result.draws == 100
    with pytest.raises(InputError, match=r"^rerank_top: "):
        evaluate_dataset(FakeMatcher(), dataset, protocol="cuhk03-classic")


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=4))
def test_dense_ranks_keep_order_and_ties(values):
    found = _dense_ranks(np.array(values, np.float32))
    for row, ranks in zip(values, found.tolist()):
        assert ranks == [sorted(set(row)).index(value) for value in row]


@pytest.mark.parametrize("matching", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_losses": True},
        {"normalisation": "absolute"},
        {"normalisation": "square-before"},
        {"warp": False, "attention": False, "hourglass": False},
        {"match": False, "attention": False},
        {"match": False, "attention": False, "normalisation": "square-before"},
    ],
    ids=str,
)
def test_a_real_matcher_of_every_kind(pedestrians: Path, options: dict, matching: torch.dtype):
    """Lists as long as the gallery and all pairs find the same, by whatever fast form fits the model."""
    torch.manual_seed(0)
    model = KPM(BackboneOptions("test_resnet", "none", 2), **options)
    for layer in model.classifier.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight)
    matcher = Matcher(model, InputOptions(64, 32))
    matcher.matching = matching
    dataset = read(pedestrians)
    found = [
        evaluate_dataset(matcher, dataset, rerank_top=top, pictures_in_memory=memory)
        for top in (len(dataset.gallery), "all")
        for memory in (2048, 6)
    ]
    assert found[0].score_kind == "logit"
    for other in found[1:]:
        np.testing.assert_allclose(other.average_precision, found[0].average_precision)
        np.testing.assert_allclose(
            np.sort(other.positive_scores), np.sort(found[0].positive_scores), rtol=1e-3, atol=1e-3
        )


class Broken(FakeMatcher):
    def score_lists(self, query, candidates, lists):
        return super().score_lists(query, candidates, lists) * float("nan")


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"rerank_top": -1}, "rerank_top"),
        ({"rerank_top": 7.5}, "rerank_top"),
        ({"rerank_top": "most"}, "rerank_top"),
        ({"rerank_top": True}, "rerank_top"),
        ({"rerank_top": False}, "rerank_top"),
        ({"rerank_top": "all", "k_reciprocal": True}, "k_reciprocal"),
        ({"rerank_top": 5, "protocol": "market1501-multi-query"}, "matcher"),
        ({"rerank_top": "all", "protocol": "market1501-multi-query"}, "matcher"),
        ({"rerank_top": 5, "protocol": "cuhk03-classic"}, "rerank_top"),
        ({"matcher": Broken()}, "matcher"),
        ({"matcher_weight": 1.5}, "matcher_weight"),
    ],
)
@pytest.mark.parametrize("model", [FakeMatcher, FakePlaces])
def test_bad_input_names_the_argument(model, options, argument):
    with pytest.raises(InputError, match=rf"^{argument}: "):
        evaluate_dataset(model(), fake_dataset(cameras=2), **options)


@pytest.mark.parametrize("top", [1, 100, "all"])
def test_nothing_to_re_score_with_is_said(top):
    with pytest.raises(InputError, match=f"^rerank_top {top}: nothing re-scores"):
        evaluate_dataset(FakeEmbedder(), fake_dataset(), rerank_top=top)


def test_broken_places_are_said():
    embedder = FakePlaces()
    torch.nn.init.constant_(embedder.places.cosine, torch.nan)
    with pytest.raises(InputError, match=r"^model: its answer is not finite"):
        evaluate_dataset(embedder, fake_dataset())
