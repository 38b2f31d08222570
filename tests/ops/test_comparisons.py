"""Comparisons of many with many: equal to pair by pair, whatever the tiles."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kronreid.errors import InputError
from kronreid.ops import blocks, comparisons
from kronreid.ops.blocks import prepare
from kronreid.ops.comparisons import by_lists, score_confidences, score_means, score_places, score_warped
from kronreid.ops.matching import correspondence, match_reference


def pictures(count: int, channels: int, m: int, seed: int) -> Tensor:
    return torch.randn(count, channels, m, generator=torch.Generator().manual_seed(seed)) + 1


def head_of(channels: int, seed: int) -> Tensor:
    return torch.randn(channels, generator=torch.Generator().manual_seed(seed))


def classify(beta: Tensor) -> Tensor:
    """Something that tells rows, columns and pairs apart."""
    _, m, n = beta.shape
    return (beta * torch.arange(m * n).view(m, n).sin()).sum((1, 2))


def plain(x: Tensor, y: Tensor, head: Tensor) -> dict[str, Tensor]:
    """Each score, pair by pair, from its definition."""
    scores = ("means", "absolute", "places", "confidences", "warped")
    names: dict[str, list[list[Tensor]]] = {name: [] for name in scores}
    for a in x:
        for rows in names.values():
            rows.append([])
        for b in y:
            mean = a.mean(1) - b.mean(1)
            names["means"][-1].append(head @ mean.square())
            names["absolute"][-1].append(head @ mean.abs())
            names["places"][-1].append(head @ (a - b).square().mean(1))
            names["confidences"][-1].append(classify(correspondence(a[None], b[None], 0.1))[0])
            warped = match_reference(a[None], b[None], temperature=0.1).warped[0]
            names["warped"][-1].append(head @ (a - warped).square().mean(1))
    return {name: torch.stack([torch.stack(row) for row in rows]) for name, rows in names.items()}


def fast(head: Tensor) -> dict[str, comparisons.Block]:
    return {
        "means": partial(score_means, head_weight=head),
        "absolute": partial(score_means, head_weight=head, absolute=True),
        "places": partial(score_places, head_weight=head),
        "confidences": partial(score_confidences, temperature=0.1, classify=classify),
        "warped": partial(score_warped, head_weight=head, temperature=0.1),
    }


@settings(max_examples=25, deadline=None)
@given(
    queries=st.integers(1, 6),
    candidates=st.integers(1, 7),
    channels=st.integers(1, 20),
    m=st.integers(1, 12),
    rows=st.sampled_from([1, 3, 256]),
    tile=st.sampled_from([1, 300, 1 << 20]),
    seed=st.integers(0, 1000),
)
def test_blocks_equal_pairs(
    queries: int, candidates: int, channels: int, m: int, rows: int, tile: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparisons, "_ROWS", rows)
        patch.setitem(blocks._TILE_ELEMENTS, "cpu", tile)
        x, y = pictures(queries, channels, m, seed), pictures(candidates, channels, m, seed + 1)
        head = head_of(channels, seed)
        expected = plain(x, y, head)
        prepared = prepare(x), prepare(y)
        lists = torch.randint(candidates, (queries, 5), generator=torch.Generator().manual_seed(seed))
        for name, score in fast(head).items():
            torch.testing.assert_close(score(*prepared), expected[name], rtol=1e-4, atol=1e-4)
            assert torch.equal(by_lists(score, *prepared, None), score(*prepared))
            torch.testing.assert_close(
                by_lists(score, *prepared, lists), expected[name].gather(1, lists), rtol=1e-4, atol=1e-4
            )


def test_means_need_no_positions() -> None:
    x, y, head = pictures(3, 8, 12, 0), pictures(4, 8, 12, 1), head_of(8, 0)
    small = prepare(x, positions=False), prepare(y, positions=False)
    assert small[0].unit.shape == (3, 0, 8)
    for score in (score_means, partial(score_means, absolute=True)):
        torch.testing.assert_close(score(*small, head), score(prepare(x), prepare(y), head))
    for name in ("places", "confidences", "warped"):
        with pytest.raises(ValueError, match="positions"):
            fast(head)[name](*small)


def test_the_query_s_weights_weigh_its_places() -> None:
    x, y, head = pictures(2, 4, 6, 0), pictures(3, 4, 6, 1), head_of(4, 0)
    weight = 1 + torch.rand(2, 6)
    found = score_warped(prepare(x, weight), prepare(y, torch.rand(3, 6)), head, 0.1)
    for q in range(2):
        for g in range(3):
            warped = match_reference(x[q : q + 1], y[g : g + 1], temperature=0.1).warped[0]
            expected = head @ (weight[q] * (x[q] - warped).square()).mean(1)
            torch.testing.assert_close(found[q, g], expected)


def test_bfloat16_is_near() -> None:
    x, y, head = pictures(5, 64, 32, 0), pictures(6, 64, 32, 1), head_of(64, 0)
    half = prepare(x, dtype=torch.bfloat16), prepare(y, dtype=torch.bfloat16)
    expected = plain(x, y, head)
    for name, score in fast(head).items():
        error = score(*half) - expected[name]
        assert error.norm() < 0.02 * expected[name].norm(), name


def test_memory_does_not_grow_with_the_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 400 candidates, no tensor on the way is larger than a tile."""
    monkeypatch.setitem(blocks._TILE_ELEMENTS, "cpu", 4096)  # the result has 2400 elements
    monkeypatch.setattr(comparisons, "_ROWS", 16)
    x, head = prepare(pictures(6, 8, 16, 0)), head_of(8, 0)
    largest: list[int] = []

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest[-1] = max(largest[-1], result.numel())
            return result

    for name, score in fast(head).items():
        sizes = []
        for count in (200, 400):
            y = prepare(pictures(count, 8, 16, 1))
            largest.append(0)
            with Largest():
                score(x, y)
            sizes.append(largest[-1])
        assert sizes[1] <= 4096, (name, sizes)


def test_bad_input() -> None:
    x, y, head = pictures(2, 4, 6, 0), pictures(3, 4, 6, 1), head_of(4, 0)
    q, g = prepare(x), prepare(y)
    other, huge = prepare(pictures(3, 5, 6, 1)), prepare(1e18 * x)
    lists = torch.zeros(2, 1, dtype=torch.long)
    for score in fast(head).values():
        for a, b, message in ((q[:0], g, "empty"), (q, g[:0], "empty"), (q, other, "differ")):
            with pytest.raises(ValueError, match=message) as caught:
                score(a, b)
            assert caught.type is ValueError
        for wrong, message in ((lists[:, :0], "lists"), (lists[:1], "lists"), (lists + 3, "outside")):
            with pytest.raises(InputError, match=message):
                by_lists(score, q, g, wrong)
    for name in ("means", "places", "warped"):
        with pytest.raises(InputError, match="not finite"):
            fast(1e5 * head)[name](huge, g)
        with pytest.raises(ValueError, match="head_weight"):
            fast(head_of(5, 0))[name](q, g)
    with pytest.raises(InputError, match="temperature"):
        score_confidences(q, g, 0, classify)
    with pytest.raises(InputError, match="temperature"):
        score_warped(q, g, head, 0)
    with pytest.raises(InputError, match="not finite"):
        score_confidences(q, g, 0.1, lambda beta: classify(beta) / 0)
