"""Places: what is kept of them, and their best matches by every form against loops over the formulas."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kronreid.errors import InputError
from kronreid.ops import places
from kronreid.ops.places import (
    DTYPES,
    Places,
    best_matches,
    best_places,
    commonness,
    keep,
    project,
    score_block,
    score_lists,
    score_reference,
    unit,
)

seeds = st.integers(0, 1000)
precisions = st.sampled_from(sorted(DTYPES))


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit_places(seed: int, count: int, m: int, d: int) -> Tensor:
    """Unit vectors, of which each picture's first place is zero where it has several."""
    vectors = torch.nn.functional.normalize(random(seed, count, m, d), dim=2)
    if m > 2:
        vectors[:, 0] = 0
    return vectors


def kept_places(seed: int, count: int, m: int, d: int, precision: Any = "int8") -> Places:
    return keep(unit_places(seed, count, m, d), random(seed, count, m), precision)


# --- what is kept ------------------------------------------------------------------------------------


@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 70), precisions, seeds)
def test_what_is_kept_is_near_what_was_given(count: int, m: int, d: int, precision: Any, seed: int) -> None:
    vectors, common = unit_places(seed, count, m, d), random(seed, count, m)
    kept = keep(vectors, common, precision)
    assert torch.equal(kept.common, common.half())
    assert kept.numbers.dtype == DTYPES[precision]
    assert kept.scales.dtype == torch.float16
    assert kept.scales.shape == (count, m if precision == "int8" else 0)
    back = kept.unit()
    assert back.dtype == torch.float32
    assert back.shape == vectors.shape
    error = (back - vectors).abs()
    if precision == "fp32":
        assert (error == 0).all()
    elif precision == "bf16":
        assert (error <= 2**-8 * vectors.abs()).all()
    else:  # half a step, the largest number's scale being rounded to half precision
        step = vectors.abs().amax(2, keepdim=True) / 127 * (1 + 2**-10)
        assert (error <= 0.5 * step + 1e-7).all()
    assert (back[vectors.abs().sum(2) == 0] == 0).all(), "a place of zeros stays zero"
    again = keep(back, common, precision)
    torch.testing.assert_close(again.unit(), back, rtol=0, atol=2e-3 if precision == "int8" else 0)
    assert kept.bytes_per_picture == (
        0 if not count else m * (2 + {"int8": d + 2, "bf16": 2 * d, "fp32": 4 * d}[precision])
    )


@given(st.integers(1, 64), seeds)
def test_int8_uses_the_whole_range_without_leaving_it(d: int, seed: int) -> None:
    """The largest number of a place is one that int8 holds, whatever way its scale was rounded."""
    kept = kept_places(seed, 3, 2, d)
    largest = kept.numbers.abs().amax(2)
    assert ((largest == 127) | (largest == 126)).all()
    assert (kept.numbers != -128).all()


def test_places_index_and_join() -> None:
    kept = kept_places(0, 6, 4, 5)
    parts = Places.cat([kept[:2], kept[torch.tensor([4, 2])]])
    order = [0, 1, 4, 2]
    assert len(parts) == 4
    assert torch.equal(parts.numbers, kept.numbers[order])
    assert torch.equal(parts.scales, kept.scales[order])
    assert torch.equal(parts.common, kept.common[order])
    assert torch.equal(kept.to("cpu").unit(), kept.unit())
    assert kept[1:3].numbers.data_ptr() == kept.numbers[1:].data_ptr(), "a slice is a view"
    assert parts.bytes_per_picture == kept.bytes_per_picture == 4 * (5 + 2 + 2)
    assert kept[:0].bytes_per_picture == 0


def test_unit_places_of_maps() -> None:
    maps, projection = random(0, 2, 3, 4, 5), random(1, 3, 2)
    maps[1, :, 2, 3] = 0
    projected = project(maps.half(), projection)
    assert projected.shape == (2, 2, 4, 5)
    found = unit(projected)
    assert found.dtype == torch.float32
    assert found.shape == (2, 20, 2)
    for n in range(2):
        for row in range(4):
            for column in range(5):
                vector = maps.half()[n, :, row, column].double().numpy()
                number = vector @ projection.double().numpy()
                length = np.linalg.norm(number)
                expected = number / length if length else number
                np.testing.assert_allclose(found[n, 5 * row + column], expected, atol=1e-6)
    assert (found[1, 13] == 0).all()


# --- best matches ------------------------------------------------------------------------------------


def loops(x: Tensor, y: Tensor) -> tuple[list[float], list[float], list[int], list[int]]:
    """m, n and where they lie, of the places (M_x, D) and (M_y, D) of one pair, by the formulas."""
    first, second = x.double().tolist(), y.double().tolist()
    s = [[sum(a * b for a, b in zip(u, v)) for v in second] for u in first]
    columns = [list(column) for column in zip(*s)]
    m, n = [max(row) for row in s], [max(column) for column in columns]
    return m, n, [row.index(max(row)) for row in s], [column.index(max(column)) for column in columns]


@pytest.mark.parametrize(("m_x", "m_y", "d"), [(1, 1, 1), (4, 6, 3), (7, 2, 5)])
def test_best_matches_equal_loops(m_x: int, m_y: int, d: int) -> None:
    x, y = (torch.nn.functional.normalize(random(s, 3, m, d), dim=2) for s, m in ((0, m_x), (1, m_y)))
    (m, n), (i, j) = best_matches(x, y), best_places(x, y)
    for pair in range(3):
        expected = loops(x[pair], y[pair])
        np.testing.assert_allclose(m[pair], expected[0], atol=1e-6)
        np.testing.assert_allclose(n[pair], expected[1], atol=1e-6)
        if d > 1:  # in one dimension matches tie
            assert i[pair].tolist() == expected[2]
            assert j[pair].tolist() == expected[3]


def test_commonness_equals_loops() -> None:
    """The mean of the largest cosines, whatever the order of the strangers."""
    vectors, strangers = unit_places(0, 2, 4, 3), unit_places(1, 1, 9, 3)[0]
    found = commonness(vectors, strangers, nearest=4)
    assert found.shape == (2, 4)
    for n in range(2):
        for place in range(4):
            cosines = sorted(float(vectors[n, place] @ stranger) for stranger in strangers)
            assert float(found[n, place]) == pytest.approx(sum(cosines[-4:]) / 4, abs=1e-6)
    torch.testing.assert_close(commonness(vectors, strangers.flip(0), nearest=4), found)
    assert (commonness(vectors, torch.zeros(9, 3)) == 0).all(), "nothing is common without strangers"


def test_best_matches_train() -> None:
    x, y = (random(s, 2, m, 3).double().requires_grad_() for s, m in ((0, 4), (1, 5)))
    assert torch.autograd.gradcheck(best_matches, (x, y))


# --- weighted sums of them ---------------------------------------------------------------------------


def test_the_reference_equals_loops() -> None:
    x, y = kept_places(0, 2, 4, 3, "fp32"), kept_places(1, 3, 5, 3, "fp32")
    weight_x, weight_y = random(2, 2, 4), random(3, 3, 5)
    scores = score_reference(x, y, weight_x, weight_y)
    assert scores.shape == (2, 3)
    for q in range(2):
        for g in range(3):
            m, n, *_ = loops(x.numbers[q], y.numbers[g])
            expected = math.fsum(w * v for w, v in zip(weight_x[q].tolist(), m))
            expected += math.fsum(w * v for w, v in zip(weight_y[g].tolist(), n))
            assert float(scores[q, g]) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=60)
@given(
    queries=st.integers(1, 9),
    candidates=st.integers(1, 9),
    m_x=st.integers(1, 13),
    m_y=st.integers(1, 13),
    d=st.integers(1, 35),
    precision=precisions,
    side=st.sampled_from([1, 3, 4]),
    elements=st.sampled_from([1, 300, 1 << 20]),
    seed=seeds,
)
def test_every_form_equals_the_reference(
    queries: int,
    candidates: int,
    m_x: int,
    m_y: int,
    d: int,
    precision: Any,
    side: int,
    elements: int,
    seed: int,
) -> None:
    x = kept_places(seed, queries, m_x, d, precision)
    y = kept_places(seed + 1, candidates, m_y, d, precision)
    weight_x, weight_y = random(seed, queries, m_x), random(seed + 1, candidates, m_y)
    expected = score_reference(x, y, weight_x, weight_y)
    lists = torch.randint(candidates, (queries, 5), generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(places._SIDE_BY_SIDE, "cpu", side)
        patch.setitem(places._TILE_ELEMENTS, "cpu", elements)
        found = score_block(x, y, weight_x, weight_y)
        exchanged = score_block(y, x, weight_y, weight_x)
        chosen = score_lists(x, y, lists, weight_x, weight_y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(exchanged.t(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(chosen, expected.gather(1, lists), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("queries", "candidates"), [(1, 1), (1, 70), (31, 40), (32, 3), (33, 31), (70, 1), (65, 66)]
)
def test_blocks_of_the_usual_size_equal_the_reference(queries: int, candidates: int) -> None:
    """Around the 32 pictures that lie side by side."""
    x, y = kept_places(0, queries, 11, 10), kept_places(1, candidates, 7, 10)
    weight_x, weight_y = random(0, queries, 11), random(1, candidates, 7)
    expected = score_reference(x, y, weight_x, weight_y)
    torch.testing.assert_close(score_block(x, y, weight_x, weight_y), expected, rtol=1e-5, atol=1e-5)


def test_memory_does_not_grow_with_the_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the result, ten times the pictures take what one times takes."""
    monkeypatch.setitem(places._TILE_ELEMENTS, "cpu", 4096)
    made: list[int] = []
    whole = Places.unit

    def watched(self: Places) -> Tensor:
        vectors = whole(self)
        made.append(vectors.numel())
        return vectors

    monkeypatch.setattr(Places, "unit", watched)
    largest = []
    for queries, candidates in ((100, 100), (1000, 100), (100, 1000), (1, 1000)):
        made.clear()
        x, y = kept_places(0, queries, 8, 6), kept_places(1, candidates, 8, 6)
        score_block(x, y, torch.ones(queries, 8), torch.ones(candidates, 8))
        largest.append(max(made))
    assert largest == [64 * 8 * 6] * 4


def test_bad_input() -> None:
    x, y = kept_places(0, 2, 4, 3), kept_places(1, 3, 5, 3)
    w, v = torch.ones(2, 4), torch.ones(3, 5)
    whole = torch.zeros(2, 1, dtype=torch.long)
    shapes: list[tuple[Callable[[], object], str]] = [
        (lambda: score_block(x[:0], y, w[:0], v), "empty"),
        (lambda: score_block(x, y[:0], w, v), "empty"),
        (lambda: score_block(x, kept_places(1, 3, 5, 4), w, v), "differ"),
        (lambda: score_block(x, kept_places(1, 3, 5, 3, "bf16"), w, v), "differ"),
        (lambda: score_block(x, y, v, v), "weight_x"),
        (lambda: score_block(x, y, w, w), "weight_y"),
        (lambda: score_block(x, y, w[0], v), "weight_x"),
        (lambda: score_lists(x[:0], y, whole[:0], w, v), "empty"),
        (lambda: score_lists(x, y, whole, w, w), "weight_y"),
    ]
    lists: list[tuple[Callable[[], object], str]] = [
        (lambda: score_lists(x, y, whole.int(), w, v), "int64"),
        (lambda: score_lists(x, y, whole[:, :0], w, v), "K > 0"),
        (lambda: score_lists(x, y, whole[:1], w, v), "expected"),
        (lambda: score_lists(x, y, whole[:, 0], w, v), "expected"),
        (lambda: score_lists(x, y, whole + 3, w, v), "outside"),
        (lambda: score_lists(x, y, whole - 1, w, v), "outside"),
    ]
    for kind, cases in ((ValueError, shapes), (InputError, lists)):
        for function, message in cases:
            with pytest.raises(kind, match=message) as caught:
                function()
            assert caught.type is kind
