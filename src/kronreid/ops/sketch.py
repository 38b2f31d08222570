"""Count sketches and high-order products (HOReID, Wang et al., Eq. 8-10).

They compress the Kronecker product of n vectors to D numbers without forming it. A count sketch Psi adds
every channel, with a random sign, to one of D bins, chosen at random. The sketch of a Kronecker product is
the circular convolution of the factors' sketches, so by the convolution theorem

    Psi(g_1 x ... x g_n)  =  irfft( rfft(Psi_1 g_1) * ... * rfft(Psi_n g_n) ).

Its inner products are unbiased estimates of the product of the factors' inner products (Theorem 1).

`high_order_product` is this equation. `high_order_pooling` is its mean over positions, for training. For
inference, `fold_convolution` folds a 1x1 convolution, its sketch and its FFT into one 1x1 convolution, and
`pool_spectra` needs only plain products, so that no FFT operator is left.

The half spectrum of D real numbers has F = D // 2 + 1 complex numbers. As a real tensor it has 2F numbers:
the F real parts, then the F imaginary parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class CountSketch(nn.Module):
    """Psi: R^C -> R^D with fixed random bins h and signs s; (Psi x)_d is the sum of s_c x_c over h_c = d.

    Args:
        channels: C, at least 1.
        dimension: D, at least 2.
        seed: Seed of the sketch's own random generator. It makes a model's sketches independent of all other
            random numbers.

    Attributes:
        h: (C,) int64, a buffer that is saved with the model's weights.
        s: (C,) float32, a buffer that is saved with the model's weights.

    Raises:
        ValueError: C or D is too small.
    """

    h: Tensor
    s: Tensor

    def __init__(self, channels: int, dimension: int, seed: int) -> None:
        super().__init__()
        if channels < 1 or dimension < 2:
            raise ValueError(f"count sketch: {channels} channels to {dimension}; need C >= 1 and D >= 2")
        generator = torch.Generator().manual_seed(seed)
        self.channels = channels
        self.dimension = dimension
        self.register_buffer("h", torch.randint(dimension, (channels,), generator=generator))
        self.register_buffer("s", torch.randint(2, (channels,), generator=generator).float() * 2 - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Sketch (..., C) to (..., D); float32, or float64 for float64 inputs."""
        if x.shape[-1] != self.channels:
            raise ValueError(f"count sketch of {self.channels} channels cannot take {x.shape[-1]}")
        x = _full_precision(x)
        return x.new_zeros(*x.shape[:-1], self.dimension).index_add(-1, self.h, x * self.s.to(x.dtype))

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.dimension}"


def _full_precision(x: Tensor) -> Tensor:
    # There is no bfloat16 FFT. The float16 FFT overflows and supports only powers of two.
    return x if x.dtype == torch.float64 else x.float()


def high_order_product(sketches: Sequence[Tensor]) -> Tensor:
    """Eq. 10: the circular convolution of sketches.

    Args:
        sketches: Tensors (..., D) of one shape, any floating dtype.

    Returns:
        (..., D) float32, or float64 for float64 inputs.

    Raises:
        ValueError: There are no sketches, or their dimensions differ.
    """
    if len({sketch.shape[-1] for sketch in sketches}) != 1:
        raise ValueError("high-order product: needs one or more sketches of the same dimension")
    with torch.autocast(sketches[0].device.type, enabled=False):
        spectrum = torch.fft.rfft(_full_precision(sketches[0]))
        for sketch in sketches[1:]:
            spectrum = spectrum * torch.fft.rfft(_full_precision(sketch))
        return torch.fft.irfft(spectrum, n=sketches[0].shape[-1])


def high_order_pooling(maps: Sequence[Tensor], sketches: Sequence[CountSketch]) -> Tensor:
    """The mean over L positions of the high-order product of n levels.

    Averaging commutes with the inverse FFT, so one inverse transform per picture is enough. A few pictures at
    a time are sketched, transformed and multiplied over contiguous rows, so that they stay in the processor's
    cache. The backward pass recomputes the spectra instead of keeping them: they have 2n·D numbers per
    position, more than the maps.

    Args:
        maps: n tensors (N, C, L), any floating dtype. Under autocast, too, the computation is in float32.
        sketches: n count sketches of the same dimension D.

    Returns:
        (N, D) float32 (float64 for float64 maps), not normalised. It can be differentiated once.

    Raises:
        ValueError: There are no maps, the numbers of maps and sketches differ, or channels or dimensions do
            not fit.
    """
    if len(maps) != len(sketches) or len({sketch.dimension for sketch in sketches}) != 1:
        raise ValueError(f"high-order pooling: {len(maps)} maps need as many sketches of the same dimension")
    with torch.autocast(maps[0].device.type, enabled=False):
        return cast(Tensor, _Pooling.apply(list(sketches), *maps))


class _Pooling(torch.autograd.Function):
    """irfft of the mean over positions of S_1 · … · S_n, with S_l = rfft(Psi_l x_l).

    With R the real FFT of the result's gradient, the gradient of Psi_l x_l at every position is
    irfft(R · conj(product of the other levels)) / L. The adjoint of one transform counts all frequencies but
    the first and the last twice, and the adjoint of the other counts them half, so the factors cancel.
    """

    @staticmethod
    def forward(ctx: Any, sketches: list[CountSketch], *maps: Tensor) -> Tensor:
        means = []
        for part in _chunks(maps[0], sketches[0].dimension):
            first, *others = (_spectrum(sketch, x[part]) for sketch, x in zip(sketches, maps))
            for other in others:
                first.mul_(other)
            means.append(first.mean(dim=1))
        ctx.sketches = sketches
        ctx.save_for_backward(*maps)
        return torch.fft.irfft(torch.cat(means), n=sketches[0].dimension)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, sketches = ctx.saved_tensors, ctx.sketches
        dimension, positions = sketches[0].dimension, maps[0].shape[2]
        # No level is conjugated: conj(R) times the others is the conjugate of the product above, and the
        # transform of a conjugate has the same numbers in reverse order.
        mean = torch.fft.rfft(gradient).conj_physical().div_(positions)[:, None]
        reverse = [-sketch.h % dimension for sketch in sketches]
        gradients = [x.new_empty(len(x), positions, x.shape[1]) for x in maps]
        for part in _chunks(maps[0], dimension):
            spectra = [_spectrum(sketch, x[part]) for sketch, x in zip(sketches, maps)]
            for level, sketch in enumerate(sketches):
                product = mean[part].expand_as(spectra[level]).clone()
                for other in spectra[:level] + spectra[level + 1 :]:
                    product.mul_(other)
                rows = torch.fft.irfft(product, n=dimension)
                own = rows.gather(2, reverse[level].expand(*rows.shape[:2], -1))
                torch.mul(own, sketch.s.to(own.dtype), out=gradients[level][part])
        return None, *(rows.transpose(1, 2) for rows in gradients)


#: Elements of one level's sketches held at a time. A CPU needs them in its cache, a GPU needs few launches.
_CHUNK_NUMBERS = {"cpu": 1 << 19, "cuda": 1 << 28}


def _chunks(maps: Tensor, dimension: int) -> list[slice]:
    """Slices of pictures that are pooled together."""
    count, _, positions = maps.shape
    size = max(1, _CHUNK_NUMBERS.get(maps.device.type, _CHUNK_NUMBERS["cuda"]) // (positions * dimension))
    return [slice(start, start + size) for start in range(0, count, size)]


def _spectrum(sketch: CountSketch, maps: Tensor) -> Tensor:
    """The half spectra (N, L, F) of the sketches of all positions of maps (N, C, L)."""
    return torch.fft.rfft(sketch(maps.transpose(1, 2)))


def spectral_matrix(sketch: CountSketch) -> Tensor:
    """The matrix (C, 2F), float64, with x @ matrix = rfft(Psi x): real parts, then imaginary parts."""
    unit_vectors = torch.eye(sketch.channels, dtype=torch.float64, device=sketch.h.device)
    spectrum = torch.fft.rfft(sketch(unit_vectors))
    return torch.cat([spectrum.real, spectrum.imag], dim=1)


def inverse_matrix(dimension: int) -> Tensor:
    """The matrix (2F, D), float64, of the inverse real FFT: [real parts, imaginary parts] @ matrix."""
    frequencies = dimension // 2 + 1
    eye = torch.eye(frequencies, dtype=torch.float64)
    spectra = torch.cat(
        [torch.complex(eye, torch.zeros_like(eye)), torch.complex(torch.zeros_like(eye), eye)]
    )
    return torch.fft.irfft(spectra, n=dimension)


@torch.no_grad()
def fold_convolution(
    weight: Tensor, bias: Tensor | None, sketch: CountSketch
) -> tuple[Tensor, Tensor | None]:
    """Fold a 1x1 convolution, the count sketch of its output and the sketch's FFT into one 1x1 convolution.

    Args:
        weight: (C, C_in) or (C, C_in, 1, 1), with C the sketch's channels.
        bias: (C,) or None.
        sketch: The count sketch.

    Returns:
        The weight (2F, C_in) and the bias (2F,) or None, computed in float64, in the dtype of `weight`.

    Raises:
        ValueError: The kernel is larger than 1x1, or its outputs do not fit the sketch's channels.
    """
    if len(weight) != sketch.channels or weight[0].numel() != weight.shape[1]:
        raise ValueError(
            f"a convolution {tuple(weight.shape)} does not fit a sketch of {sketch.channels} channels"
        )
    matrix = spectral_matrix(sketch).t()
    folded = (matrix @ weight.flatten(1).double()).to(weight.dtype)
    return folded, None if bias is None else (matrix @ bias.double()).to(weight.dtype)


def spectral_product(spectra: Sequence[Tensor], dim: int = -1) -> Tensor:
    """The complex product of n spectra, each with 2F real numbers along `dim`."""
    real, imaginary = spectra[0].chunk(2, dim)
    for spectrum in spectra[1:]:
        a, b = spectrum.chunk(2, dim)
        real, imaginary = (
            torch.addcmul(real * a, imaginary, b, value=-1),
            torch.addcmul(real * b, imaginary, a),
        )
    return torch.cat([real, imaginary], dim)


def pool_spectra(spectra: Sequence[Tensor], inverse: Tensor) -> Tensor:
    """The result of `high_order_pooling`, computed from the outputs of folded convolutions.

    Args:
        spectra: n tensors (N, 2F, L) or (N, 2F, H, W).
        inverse: `inverse_matrix(D)`, (2F, D), in the dtype of the computation.

    Returns:
        (N, D) in the dtype of `inverse`, not normalised.
    """
    with torch.autocast(inverse.device.type, enabled=False):
        product = spectral_product([spectrum.to(inverse.dtype) for spectrum in spectra], dim=1)
        return product.flatten(2).mean(dim=2) @ inverse
