"""Count sketches: the equations by loops, Theorem 1 in expectation, and the equality of all forms."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kronreid.ops import sketch as sketch_module
from kronreid.ops.sketch import (
    CountSketch,
    fold_convolution,
    high_order_pooling,
    high_order_product,
    inverse_matrix,
    pool_spectra,
    spectral_matrix,
    spectral_product,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sketches(order: int, channels: int, dimension: int, seed: int = 0) -> list[CountSketch]:
    return [CountSketch(channels, dimension, seed=100 * seed + level) for level in range(order)]


def circular_convolution(a: Tensor, b: Tensor) -> Tensor:
    d = len(a)
    return torch.stack([sum(a[i] * b[(k - i) % d] for i in range(d)) for k in range(d)])  # type: ignore[arg-type]


def sketch_of_kronecker_product(vectors: list[Tensor], maps: list[CountSketch]) -> Tensor:
    """Eq. 8 by loops, then the sketch whose bins add modulo D and whose signs multiply (Pagh)."""
    result = torch.zeros(maps[0].dimension, dtype=torch.float64)
    for index in torch.cartesian_prod(*[torch.arange(len(v)) for v in vectors]).view(-1, len(vectors)):
        bins = sum(int(m.h[c]) for m, c in zip(maps, index)) % maps[0].dimension
        signs = functools.reduce(lambda a, b: a * b, (float(m.s[c]) for m, c in zip(maps, index)))
        result[bins] += signs * functools.reduce(
            lambda a, b: a * b, (float(v[c]) for v, c in zip(vectors, index))
        )
    return result


def test_sketch_by_loop() -> None:
    sketch = CountSketch(7, 4, seed=3)
    x = normal(2, 5, 7)
    expected = torch.zeros(2, 5, 4, dtype=torch.float64)
    for channel in range(7):
        expected[..., int(sketch.h[channel])] += sketch.s[channel] * x[..., channel]
    torch.testing.assert_close(sketch(x), expected)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("dimension", [5, 8])
def test_product_is_the_sketch_of_the_kronecker_product(order: int, dimension: int) -> None:
    maps = sketches(order, 6, dimension)
    vectors = [normal(6, seed=level) for level in range(order)]
    sketched = [m(v) for m, v in zip(maps, vectors)]
    product = high_order_product(sketched)
    torch.testing.assert_close(product, functools.reduce(circular_convolution, sketched))
    torch.testing.assert_close(product, sketch_of_kronecker_product(vectors, maps))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_theorem_1_without_bias(order: int) -> None:
    """The mean over many seeds is the product of the inner products, and the error shrinks with D."""
    a, b = [normal(8, seed=i) for i in range(order)], [normal(8, seed=10 + i) for i in range(order)]
    truth = float(torch.stack([x @ y for x, y in zip(a, b)]).prod())
    spread = float(torch.stack([x.norm() * y.norm() for x, y in zip(a, b)]).prod())
    deviations = []
    for dimension in (16, 256):
        estimates = torch.tensor(
            [
                float(
                    high_order_product([m(x) for m, x in zip(maps, a)])
                    @ high_order_product([m(x) for m, x in zip(maps, b)])
                )
                for maps in (sketches(order, 8, dimension, seed) for seed in range(600))
            ]
        )
        deviations.append(float(estimates.std()))
        assert abs(float(estimates.mean()) - truth) < 4 * deviations[-1] / 600**0.5
        # Pham and Pagh: the variance is at most (3^n - 1) / D times the product of the squared norms
        assert deviations[-1] < 1.2 * ((3**order - 1) / dimension) ** 0.5 * spread
    assert deviations[1] < 0.5 * deviations[0]  # 1 / sqrt(16) = 0.25 expected


@settings(max_examples=25, deadline=None)
@given(
    order=st.integers(1, 4),
    channels=st.integers(1, 12),
    dimension=st.integers(2, 17),
    positions=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_all_forms_are_equal(order: int, channels: int, dimension: int, positions: int, seed: int) -> None:
    """Paper form, training form, folded form; odd dimensions too."""
    maps = sketches(order, channels, dimension, seed)
    levels = [normal(3, channels, positions, seed=seed + i) for i in range(order)]
    paper = high_order_product([m(x.transpose(1, 2)) for m, x in zip(maps, levels)]).mean(1)
    torch.testing.assert_close(high_order_pooling(levels, maps), paper)
    spectra = [(x.transpose(1, 2) @ spectral_matrix(m)).transpose(1, 2) for m, x in zip(maps, levels)]
    torch.testing.assert_close(pool_spectra(spectra, inverse_matrix(dimension)), paper)


def test_folded_convolution() -> None:
    """Convolution with bias, sketch and FFT as one convolution; on maps (N, C, H, W), in float32 to 1e-5."""
    convs = [torch.nn.Conv2d(6, 10, 1) for _ in range(3)]
    maps = sketches(3, 10, 16)
    x = normal(2, 6, 4, 3).float()
    with torch.no_grad():
        expected = high_order_pooling([conv(x).flatten(2) for conv in convs], maps)
        spectra = []
        for conv, sketch in zip(convs, maps):
            weight, bias = fold_convolution(conv.weight, conv.bias, sketch)
            spectra.append(torch.nn.functional.conv2d(x, weight[:, :, None, None], bias))
        folded = pool_spectra(spectra, inverse_matrix(16).float())
    assert spectra[0].shape == (2, 18, 4, 3)
    assert (folded - expected).norm() < 1e-5 * expected.norm()
    assert fold_convolution(convs[0].weight, None, maps[0])[1] is None


def test_spectra_are_those_of_the_fft() -> None:
    sketch, x = CountSketch(6, 9, seed=1), normal(4, 6)
    spectrum = torch.fft.rfft(sketch(x))
    as_real = x @ spectral_matrix(sketch)
    torch.testing.assert_close(as_real, torch.cat([spectrum.real, spectrum.imag], 1))
    torch.testing.assert_close(as_real @ inverse_matrix(9), sketch(x))
    cube = spectral_product([as_real] * 3)
    torch.testing.assert_close(cube, torch.cat([(spectrum**3).real, (spectrum**3).imag], 1))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("dimension", [8, 7])
def test_gradcheck(order: int, dimension: int) -> None:
    maps = sketches(order, 5, dimension)
    levels = tuple(normal(2, 5, 3, seed=i).requires_grad_() for i in range(order))
    assert torch.autograd.gradcheck(lambda *x: high_order_pooling(x, maps), levels)
    assert torch.autograd.gradcheck(lambda *x: high_order_product([m(v.mT) for m, v in zip(maps, x)]), levels)


@pytest.mark.parametrize("numbers", [1, 2 * 3 * 8, 1 << 20])
@pytest.mark.parametrize("channels_last", [False, True])
def test_pictures_at_a_time_change_nothing(
    numbers: int, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture after another, two, all five; value and gradients are the paper form's."""
    monkeypatch.setitem(sketch_module._CHUNK_NUMBERS, "cpu", numbers)
    maps = sketches(3, 6, 8)
    levels = [normal(5, 6, 3, seed=i) for i in range(3)]
    if channels_last:  # how a convolution's output is laid out
        levels = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in levels]
    levels = [x.requires_grad_() for x in levels]
    paper = high_order_product([m(x.transpose(1, 2)) for m, x in zip(maps, levels)]).mean(1)
    pooled = high_order_pooling(levels, maps)
    torch.testing.assert_close(pooled, paper)
    weights = normal(5, 8, seed=9)
    for fast, plain in zip(
        torch.autograd.grad((pooled * weights).sum(), levels),
        torch.autograd.grad((paper * weights).sum(), levels),
    ):
        torch.testing.assert_close(fast, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dimension", [16, 12])
def test_autocast(dtype: torch.dtype, dimension: int) -> None:
    """Half precision maps, whose products would overflow float16, and a dimension that is no power of two."""
    maps = sketches(3, 24, dimension)
    levels = [(100 * normal(2, 24, 6, seed=i)).to(dtype).requires_grad_() for i in range(3)]
    expected = high_order_pooling([x.detach().float() for x in levels], maps)
    with torch.autocast("cpu", dtype):
        pooled = high_order_pooling(levels, maps)
        product = high_order_product([m(x.transpose(1, 2)) for m, x in zip(maps, levels)])
    assert pooled.dtype == product.dtype == torch.float32
    torch.testing.assert_close(pooled, expected)
    for gradient in torch.autograd.grad((pooled / pooled.norm()).sum(), levels):
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_seed_decides_and_state_dict_keeps_the_sketch() -> None:
    torch.manual_seed(1)
    first = CountSketch(32, 8, seed=5)
    torch.manual_seed(2)
    second, other = CountSketch(32, 8, seed=5), CountSketch(32, 8, seed=6)
    assert torch.equal(first.h, second.h)
    assert torch.equal(first.s, second.s)
    assert not torch.equal(first.h, other.h)
    assert set(first.s.tolist()) == {-1.0, 1.0}
    other.load_state_dict(first.state_dict())
    assert torch.equal(first(normal(32)), other(normal(32)))


def test_bad_input() -> None:
    maps = sketches(2, 4, 8)
    for function in (
        lambda: CountSketch(0, 8, seed=0),
        lambda: CountSketch(4, 1, seed=0),
        lambda: maps[0](normal(2, 5)),
        lambda: high_order_product([]),
        lambda: high_order_product([normal(2, 8), normal(2, 6)]),
        lambda: high_order_pooling([normal(2, 4, 3)], maps),
        lambda: high_order_pooling([], []),
        lambda: fold_convolution(normal(5, 3), None, maps[0]),
        lambda: fold_convolution(normal(4, 3, 3, 3), None, maps[0]),
    ):
        with pytest.raises(ValueError, match=r"sketch|high-order|fold"):
            function()
