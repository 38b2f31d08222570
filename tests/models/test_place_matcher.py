"""Pairs by places: probabilities, and explanations whose parts are found by loops."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from kronreid.errors import InputError
from kronreid.models.inference import Embedder
from kronreid.models.place_matcher import PlaceMatcher

Make: TypeAlias = Callable[..., Embedder]


@pytest.fixture(scope="module")
def embedder(embedder_with_places: Make) -> Embedder:
    return embedder_with_places(levels=("X_1", "below"), numbers=12)


@pytest.fixture(scope="module")
def matcher(embedder: Embedder) -> PlaceMatcher:
    found = embedder.matcher
    assert found is not None
    return found


def test_it_is_its_embedder(embedder: Embedder, matcher: PlaceMatcher, paths: list[Path]) -> None:
    assert (
        (matcher.dimension, matcher.fingerprint)
        == (embedder.dimension, embedder.fingerprint)
        == (16, "c0ffee")
    )
    np.testing.assert_array_equal(matcher.embed(paths), embedder.embed(paths))
    assert torch.equal(matcher.encode(paths).vectors, embedder.describe(paths).vectors)


def test_scores_are_the_logits_probabilities(matcher: PlaceMatcher, paths: list[Path]) -> None:
    query, candidates = matcher.encode(paths[:2]), matcher.encode(paths)
    logits = matcher.logits(query, candidates)
    assert logits.shape == (2, 7)
    assert logits.std() > 0.1
    expected = 1 / (1 + np.exp(-logits.double().numpy()))
    for sides in ((query, candidates), (paths[:2], candidates), ([str(p) for p in paths[:2]], paths)):
        scores = matcher.score(*sides)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, atol=1e-3 if sides[1] is paths else 1e-6)
    assert matcher.score(paths[0], paths[1]).shape == (1, 1)
    lists = torch.tensor([[6, 0, 3], [1, 1, 2]])
    torch.testing.assert_close(matcher.score_lists(query, candidates, lists), logits.gather(1, lists))


def test_an_explanation_is_the_whole_logit(
    embedder: Embedder, matcher: PlaceMatcher, paths: list[Path]
) -> None:
    described = matcher.encode(paths)
    for a, b in ((0, 1), (3, 3), (5, 2)):
        why = embedder.explain(paths[a], paths[b])
        logit = float(matcher.logits(described[a : a + 1], described[b : b + 1]))
        assert why.logit == pytest.approx(logit, abs=0.02)  # the network's batches differ
        parts = [
            why.vectors,
            *(float(share.sum()) for level in why.levels for share in (level.shares_a, level.shares_b)),
        ]
        assert sum(parts) == pytest.approx(why.logit, abs=1e-4)
        assert why.probability == pytest.approx(1 / (1 + np.exp(-why.logit)), abs=1e-6)
        assert why.cosine == pytest.approx(float(described.vectors[a] @ described.vectors[b]), abs=1e-4)
        state = matcher.places.state_dict()
        expected = float(state["cosine"]) * why.cosine + float(state["linear.bias"])
        assert why.vectors == pytest.approx(expected, abs=1e-5)
        assert why.image_a.shape == why.image_b.shape == (64, 32, 3)
        assert why.image_a.dtype == np.uint8
        np.testing.assert_array_equal(why.image_a, np.asarray(embedder.as_seen(paths[a])))


def test_found_places_and_shares_equal_loops(matcher: PlaceMatcher, paths: list[Path]) -> None:
    why = matcher.explain(paths[0], paths[1])
    described = matcher.encode([matcher.embedder.as_seen(path) for path in paths[:2]])
    state = {name: tensor.double() for name, tensor in matcher.places.state_dict().items()}
    deviations = (state["norm.running_var"] + matcher.places.norm.eps).sqrt()
    begin, half = 0, len(deviations) // 2  # the matches themselves, then how far they go beyond strangers
    for side in ("a", "b"):
        for level, places, (_, height, width) in zip(why.levels, described.levels, matcher.places.sizes):
            first, second = places.unit().double().tolist()
            if side == "b":
                first, second = second, first
            shares, found = getattr(level, f"shares_{side}"), getattr(level, f"found_{side}")
            similarity = getattr(level, f"similarity_{side}")
            assert shares.shape == found.shape == similarity.shape == (height, width)
            for place, u in enumerate(first):
                cosines = [sum(one * other for one, other in zip(u, v)) for v in second]
                best = max(cosines)
                at = divmod(place, width)
                assert cosines[found[at]] == pytest.approx(best, abs=1e-6)
                assert similarity[at] == pytest.approx(best, abs=1e-5)
                common = float(places.common["ab".index(side), place])
                share = 0.0
                for number, value in (
                    (begin + place, best),
                    (begin + place + half, (best - common) / (1.1 - common)),
                ):
                    normed = (value - float(state["norm.running_mean"][number])) / float(deviations[number])
                    share += float(state["linear.weight"][0, number]) * normed
                assert shares[at] == pytest.approx(share, abs=1e-4)
            begin += len(first)
    assert begin == half


def test_bad_input(
    matcher: PlaceMatcher, embedder_with_places: Make, paths: list[Path], tmp_path: Path
) -> None:
    other = embedder_with_places(numbers=5)
    side = matcher.encode(paths[:2])
    for call, message in (
        (lambda: matcher.score([], paths), "images: there are none"),
        (lambda: matcher.score(side, side[:0]), "candidates: there are none"),
        (lambda: matcher.score(side, other.describe(paths[:2])), "describe both sides with one model"),
        (lambda: matcher.score_lists(side, side, torch.tensor([[0], [2]])), "lists: .*outside"),
        (lambda: matcher.explain(paths[0], tmp_path / "none.jpg"), str(tmp_path / "none.jpg")),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_unusable_weights_are_said(embedder_with_places: Make, paths: list[Path]) -> None:
    broken = embedder_with_places()
    torch.nn.init.constant_(broken.needed_matcher().places.linear.weight, torch.nan)
    for call in (broken.explain, broken.needed_matcher().score):
        with pytest.raises(InputError, match=r"^model: its answer is not finite"):
            call(paths[0], paths[1])
