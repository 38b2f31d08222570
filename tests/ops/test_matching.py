"""The pair operations against loops over the equations, each other, and finite differences."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kronreid.errors import InputError
from kronreid.ops import matching
from kronreid.ops.matching import (
    correspondence,
    correspondence_of_all,
    match_pairs,
    match_reference,
    match_squares,
)


def loops(x: Tensor, y: Tensor, w: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Eq. 5 and Eq. 3, 4 for one pair (C, M), with cosines and the mean over positions; delta (C,), beta."""
    (channels, m), m_y = x.shape, y.shape[1]
    beta = torch.zeros(m, m_y, dtype=torch.float64)
    for i in range(m):
        for j in range(m_y):
            dot = sum(float(x[c, i]) * float(y[c, j]) for c in range(channels))
            beta[i, j] = math.exp(dot / float(x[:, i].norm() * y[:, j].norm()) / temperature)
        beta[i] /= beta[i].sum()
    delta = torch.zeros(channels, dtype=torch.float64)
    for i in range(m):
        expected = sum((beta[i, j] * y[:, j] for j in range(m_y)), torch.zeros(channels, dtype=torch.float64))
        delta += float(w[i]) * (x[:, i] - expected)
    return delta / m, beta


def make(pictures: int, channels: int, m: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(pictures, channels, m, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def one_by_one(x: Tensor, y: Tensor, w: Tensor | None = None, temperature: float = 0.05) -> Tensor:
    """`match_pairs` of the first x with the first y, the second with the second, and so on."""
    index = torch.arange(len(x))
    return match_pairs(x, y, index, index, w, temperature)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_reference_follows_the_equations(temperature: float) -> None:
    x, y = make(2, 5, 6), make(2, 5, 6, seed=1)
    w = 1 + make(2, 1, 6, seed=2)[:, 0].softmax(1)
    result = match_reference(x.view(2, 5, 3, 2), y.view(2, 5, 3, 2), w, temperature)
    for n in range(2):
        delta, beta = loops(x[n], y[n], w[n], temperature)
        torch.testing.assert_close(result.delta[n], delta)
        torch.testing.assert_close(result.beta[n], beta)
        torch.testing.assert_close(result.warped[n], y[n] @ beta.t())


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 40),
    m_x=st.integers(1, 30),
    m_y=st.integers(1, 30),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 1000),
)
def test_pairs_equal_reference(channels: int, m_x: int, m_y: int, scale: float, seed: int) -> None:
    x = make(3, channels, m_x, seed, torch.float32) * scale
    y = make(3, channels, m_y, seed + 1, torch.float32) * scale
    w = 1 + torch.rand(3, m_x, generator=torch.Generator().manual_seed(seed))
    expected = match_reference(x, y, w).delta
    torch.testing.assert_close(one_by_one(x, y, w), expected, rtol=1e-5, atol=2e-6 * scale)


def test_all_with_all_equals_one_by_one() -> None:
    x, y = make(3, 5, 6), make(2, 5, 6, seed=1)
    found = correspondence_of_all(x.transpose(1, 2), y.transpose(1, 2), 0.1)
    assert found.shape == (3, 6, 2, 6)
    for q in range(3):
        for g in range(2):
            torch.testing.assert_close(found[q, :, g], correspondence(x[q : q + 1], y[g : g + 1], 0.1)[0])


def test_pairs_equal_gathered_maps_with_gradients() -> None:
    """Repeated and unused pictures included; enough pairs for several chunks."""
    x, y = make(4, 6, 8).requires_grad_(), make(5, 6, 8, seed=1).requires_grad_()
    w = (1 + make(4, 1, 8, seed=2)[:, 0].softmax(1)).requires_grad_()
    i, j = torch.tensor([0, 0, 3, 1, 3, 0, 0]), torch.tensor([4, 4, 2, 0, 0, 1, 2])
    upstream = make(1, 7, 6, seed=3)[0]
    results = [match_reference(x[i], y[j], w[i]).delta, match_pairs(x, y, i, j, w)]
    torch.testing.assert_close(results[1], results[0])
    gradients = [torch.autograd.grad(result, (x, y, w), upstream) for result in results]
    for expected, actual in zip(*gradients):
        torch.testing.assert_close(actual, expected)


def test_squares_are_taken_place_by_place() -> None:
    """Squared before the mean over positions, for pairs given by index, with gradients."""
    x, y = make(3, 4, 5).requires_grad_(), make(2, 4, 5, seed=1).requires_grad_()
    w = (1 + make(3, 1, 5, seed=2)[:, 0].softmax(1)).requires_grad_()
    i, j = torch.tensor([0, 2, 0, 1]), torch.tensor([1, 0, 0, 1])
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for pair, (a, b) in enumerate(zip(i.tolist(), j.tolist())):
        beta = loops(x[a].detach(), y[b].detach(), torch.ones(5), 0.05)[1]
        for place in range(5):
            found = sum(beta[place, k] * y[b, :, k].detach() for k in range(5))
            expected[pair] += w[a, place].detach() * (x[a, :, place].detach() - found) ** 2 / 5
    torch.testing.assert_close(match_squares(x, y, i, j, w).detach(), expected)
    assert torch.autograd.gradcheck(lambda *t: match_squares(t[0], t[1], i, j, t[2], 0.3), (x, y, w))
    assert torch.autograd.gradcheck(lambda x: match_squares(x, x, i, i.flip(0), None, 0.3), x)
    assert match_squares(x, y, i[:0], j[:0]).shape == (0, 4)


def test_squares_are_in_float32_under_autocast() -> None:
    x, pairs = make(3, 8, 5, dtype=torch.float32), (torch.tensor([0, 1]), torch.tensor([2, 0]))
    expected = match_squares(x, x, *pairs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(match_squares(x, x, *pairs), expected)


@pytest.mark.parametrize("function", [match_pairs, match_squares])
def test_chunks_do_not_change_the_result(
    function: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w = make(3, 4, 6).requires_grad_(), torch.rand(3, 6, dtype=torch.float64)
    i, j = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 2, 0, 2, 0])

    def run() -> tuple[Tensor, Tensor]:
        delta = function(x, x, i, j, w)
        return delta, torch.autograd.grad(delta.square().sum(), x)[0]

    whole = run()
    monkeypatch.setitem(matching._CHUNK_ELEMENTS, "cpu", 72)
    for expected, actual in zip(whole, run()):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck(weighted: bool) -> None:
    x, y = make(2, 3, 4).requires_grad_(), make(2, 3, 5, seed=1).requires_grad_()
    w = (1 + torch.rand(2, 4, dtype=torch.float64)).requires_grad_() if weighted else None
    assert torch.autograd.gradcheck(lambda *t: one_by_one(t[0], t[1], t[2], 0.3), (x, y, w))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    """Half precision maps under autocast: float32 results near the reference, finite gradients."""
    x, y = make(3, 64, 32, dtype=torch.float32), make(3, 64, 32, seed=1, dtype=torch.float32)
    maps = (60 * x).to(dtype).requires_grad_()  # squares of these overflow float16
    expected = match_reference(maps.detach(), (60 * y).to(dtype)).delta
    with torch.autocast("cpu", dtype):
        delta = one_by_one(maps, (60 * y).to(dtype))
        beta = correspondence(maps, (60 * y).to(dtype))
    assert delta.dtype == beta.dtype == torch.float32
    torch.testing.assert_close(beta.sum(2), torch.ones(3, 32))
    assert (delta - expected).norm() < 0.02 * expected.norm()
    (gradient,) = torch.autograd.grad(delta.square().sum(), maps)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_a_zero_position_is_uniform_and_finite() -> None:
    x, y = make(1, 4, 6, dtype=torch.float32), make(1, 4, 6, seed=1, dtype=torch.float32)
    x[:, :, 2] = 0
    torch.testing.assert_close(correspondence(x, y)[0, 2], torch.full((6,), 1 / 6))
    x.requires_grad_()
    one_by_one(x, y).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_equal_maps_with_sharp_matching_differ_by_nothing() -> None:
    x = torch.eye(8)[None]
    assert one_by_one(x, x, temperature=0.02).abs().max() < 1e-6
    assert one_by_one(x, x.flip(2), temperature=0.02).abs().max() < 1e-6  # the warp undoes the flip


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf, 1e-45])
def test_bad_temperature(temperature: float) -> None:
    x = make(1, 2, 3)
    for function in (match_reference, one_by_one, correspondence):
        with pytest.raises(InputError, match="temperature"):
            function(x, x, temperature=temperature)


@pytest.mark.parametrize("function", [match_reference, one_by_one])
def test_bad_maps(function: Callable[..., object]) -> None:
    """Shapes that do not fit are our own mistake; NaN and infinity are a broken model's or picture's."""
    x = make(2, 4, 6)
    broken, infinite = x.clone(), x.clone()
    broken[0, 1, 2], infinite[1, 0, 0] = math.nan, math.inf
    for a, b, w, kind, message in (
        (x, make(2, 5, 6), None, ValueError, "channels"),
        (x[0, 0], x[0, 0], None, ValueError, "expected"),
        (x.long(), x.long(), None, ValueError, "floating"),
        (x[:, :, :0], x, None, ValueError, "expected"),
        (x, x, torch.ones(2, 5), ValueError, "weight"),
        (broken, x, None, InputError, "not finite"),
        (x, broken, None, InputError, "not finite"),
        (x, infinite, None, InputError, "not finite"),
    ):
        with pytest.raises(kind, match=message) as caught:
            function(a, b, w)
        assert caught.type is kind
        if w is None:
            with pytest.raises(kind, match=message):
                correspondence(a, b)


@pytest.mark.parametrize("function", [match_pairs, match_squares])
def test_bad_pairs(function: Callable[..., object]) -> None:
    x = make(3, 4, 6)
    with pytest.raises(ValueError, match="pairs") as caught:
        function(x, x, torch.tensor([0, 1]), torch.tensor([0]))
    assert caught.type is ValueError
