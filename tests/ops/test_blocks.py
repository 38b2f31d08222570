"""Many against many: equal to the reference pair by pair, whatever the tiles."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kronreid.errors import InputError
from kronreid.ops import blocks
from kronreid.ops.blocks import PreparedMaps, match_block, prepare, score_block, score_lists
from kronreid.ops.matching import match_reference


def pictures(count: int, channels: int, m: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, channels, m, generator=generator)
    return maps, 1 + torch.randn(count, m, generator=generator).softmax(1)


def reference(x: Tensor, w: Tensor, y: Tensor, temperature: float) -> Tensor:
    rows = [
        match_reference(
            x[q : q + 1].expand(len(y), -1, -1), y, w[q : q + 1].expand(len(y), -1), temperature
        ).delta
        for q in range(len(x))
    ]
    return torch.stack(rows)


@settings(max_examples=25, deadline=None)
@given(
    queries=st.integers(1, 7),
    candidates=st.integers(1, 9),
    channels=st.integers(1, 20),
    m=st.integers(1, 12),
    rows=st.sampled_from([1, 16, 512]),
    tile=st.sampled_from([1, 300, 1 << 20]),
    seed=st.integers(0, 1000),
)
def test_block_equals_reference(
    queries: int, candidates: int, channels: int, m: int, rows: int, tile: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_ROWS", rows)
        patch.setitem(blocks._TILE_ELEMENTS, "cpu", tile)
        (x, w), (y, _) = pictures(queries, channels, m, seed), pictures(candidates, channels, m, seed + 1)
        head = torch.randn(channels, generator=torch.Generator().manual_seed(seed))
        expected = reference(x, w, y, 0.1)
        prepared = prepare(x, w), prepare(y)
        torch.testing.assert_close(match_block(*prepared, temperature=0.1), expected, rtol=1e-5, atol=3e-6)
        torch.testing.assert_close(
            score_block(*prepared, head, temperature=0.1), expected.square() @ head, rtol=1e-4, atol=1e-5
        )
        absolute = score_block(*prepared, head, temperature=0.1, absolute=True)
        torch.testing.assert_close(absolute, expected.abs() @ head, rtol=1e-4, atol=1e-5)
        lists = torch.randint(candidates, (queries, 5), generator=torch.Generator().manual_seed(seed))
        chosen = expected.gather(1, lists[:, :, None].expand(-1, -1, channels))
        torch.testing.assert_close(
            score_lists(*prepared, lists, head, temperature=0.1), chosen.square() @ head, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            score_lists(*prepared, lists, head, temperature=0.1, absolute=True),
            chosen.abs() @ head,
            rtol=1e-4,
            atol=1e-5,
        )


def test_bfloat16_ranks_as_float32() -> None:
    """Candidates that are noisy copies of the queries' maps: nearest first in both, deltas close."""
    x, w = pictures(4, 64, 32, 0)
    noise = torch.linspace(0.1, 2, 12)[None, :, None, None]
    y = (x[:, None] + noise * torch.randn(4, 12, 64, 32, generator=torch.Generator().manual_seed(1))).flatten(
        0, 1
    )
    head = torch.full((64,), 1.0)
    exact = score_block(prepare(x, w), prepare(y), head)
    half = score_block(prepare(x, w, torch.bfloat16), prepare(y, dtype=torch.bfloat16), head)
    assert (half - exact).norm() < 0.02 * exact.norm()
    assert (half.argsort(1)[:, :10] == exact.argsort(1)[:, :10]).float().mean() > 0.9
    assert prepare(x, w, torch.bfloat16).unit.dtype == torch.bfloat16


def test_memory_does_not_grow_with_the_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffers of 400 candidates are those of 40."""
    monkeypatch.setitem(blocks._TILE_ELEMENTS, "cpu", 4096)
    sizes: list[int] = []

    class Recording(blocks._Workspace):
        def get(self, name, shape, dtype=torch.float32):
            result = super().get(name, shape, dtype)
            sizes[-1] = sum(buffer.numel() for buffer in self._buffers.values())
            return result

    monkeypatch.setattr(blocks, "_Workspace", Recording)
    x, w = pictures(6, 8, 16, 0)
    for count in (40, 400):
        sizes.append(0)
        score_block(prepare(x, w), prepare(pictures(count, 8, 16, 1)[0]), torch.ones(8))
    assert 0 < sizes[0] == sizes[1]


def test_prepared_maps_index_and_join() -> None:
    maps, w = pictures(6, 4, 8, 0)
    whole = prepare(maps.view(6, 4, 4, 2), w)
    assert len(whole) == 6
    torch.testing.assert_close(whole.unit * whole.norms[..., None], maps.transpose(1, 2))
    torch.testing.assert_close(whole.weighted_mean, (maps * w[:, None]).mean(2))
    parts = PreparedMaps.cat([whole[:2], whole[torch.tensor([4, 2])]])
    expected = prepare(maps[[0, 1, 4, 2]], w[[0, 1, 4, 2]])
    for name in ("unit", "norms", "weight", "weighted_mean"):
        torch.testing.assert_close(getattr(parts, name), getattr(expected, name))
    assert whole[:2].unit.data_ptr() == whole.unit.data_ptr()
    assert whole.size == whole[:2].size == parts.size == whole.to("cpu").size == (4, 2)
    assert prepare(maps, w).size is None


def test_prepared_without_positions() -> None:
    maps, w = pictures(6, 4, 8, 0)
    means = prepare(maps.view(6, 4, 4, 2), w, positions=False)
    assert len(means) == 6
    assert len(PreparedMaps.cat([means[:2], means[torch.tensor([4])]])) == 3
    torch.testing.assert_close(means.weighted_mean, prepare(maps, w).weighted_mean)
    assert means.unit.numel() == means.norms.numel() == means.weight.numel() == 0
    lists = torch.zeros(6, 1, dtype=torch.long)
    for function in (
        lambda: score_block(means, means, torch.ones(4)),
        lambda: match_block(means, means),
        lambda: score_lists(means, means, lists, torch.ones(4)),
    ):
        with pytest.raises(ValueError, match="positions"):
            function()


def test_query_and_candidate_are_not_the_same_role() -> None:
    (x, w), (y, v) = pictures(1, 6, 8, 0), pictures(1, 6, 8, 1)
    forth, back = match_block(prepare(x, w), prepare(y, v)), match_block(prepare(y, v), prepare(x, w))
    assert (forth + back).abs().max() > 1e-3


def test_bad_input() -> None:
    """Broken maps, options and lists are named as bad input; shapes that do not fit are our own mistake."""
    (x, w), (y, _) = pictures(2, 4, 6, 0), pictures(3, 4, 6, 1)
    q, g = prepare(x, w), prepare(y)
    head = torch.ones(4)
    broken = y.clone()
    broken[1, 2, 3] = float("nan")
    huge = prepare(1e18 * y)  # whose squared differences still are finite, and no longer when weighed
    maps: list[tuple[Callable[[], object], str]] = [
        (lambda: prepare(broken), "NaN"),
        (lambda: prepare(y * float("inf")), "NaN or infinity"),
        (lambda: prepare(y, torch.full((3, 6), float("nan"))), "NaN"),
        (lambda: prepare(y, dtype=torch.float16), "dtype"),
        (lambda: score_block(q, g, head, temperature=0), "temperature"),
        (lambda: score_block(q, g, head, temperature=1e-45), "temperature"),
        (lambda: score_block(q, huge, 1e5 * head), "not finite"),
        (lambda: score_block(q, g, head * float("nan")), "not finite"),
        (lambda: score_lists(q, huge, torch.tensor([[0], [1]]), 1e5 * head), "not finite"),
        (lambda: score_lists(q, g, torch.zeros(2, 1), head), "int64"),
        (lambda: score_lists(q, g, torch.zeros(2, 0, dtype=torch.long), head), "lists"),
        (lambda: score_lists(q, g, torch.zeros(3, 1, dtype=torch.long), head), "lists"),
        (lambda: score_lists(q, g, torch.tensor([[0], [3]]), head), "outside"),
        (lambda: score_lists(q, g, torch.tensor([[0], [-1]]), head), "outside"),
    ]
    shapes: list[tuple[Callable[[], object], str]] = [
        (lambda: prepare(y, w), "weight"),
        (lambda: score_block(q, g[:0], head), "empty"),
        (lambda: score_block(q[:0], g, head), "empty"),
        (lambda: score_block(q, g, torch.ones(5)), "head_weight"),
        (lambda: match_block(q, prepare(pictures(2, 5, 6, 0)[0])), "differ"),
        (lambda: match_block(q, prepare(y, dtype=torch.bfloat16)), "differ"),
    ]
    for kind, cases in ((InputError, maps), (ValueError, shapes)):
        for function, message in cases:
            with pytest.raises(kind, match=message) as caught:
                function()
            assert caught.type is kind
