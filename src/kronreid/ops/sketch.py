"""Count sketch and high-order product (HOReID, Wang et al., Eq. 8-10): the Kronecker product of n vectors,
compressed to D numbers without ever being formed.

A count sketch Psi adds every channel, with a random sign, to a random one of D bins. The sketch of a
Kronecker product is the circular convolution of the factors' sketches, so by the convolution theorem

    Psi(g_1 x ... x g_n)  =  irfft( rfft(Psi_1 g_1) * ... * rfft(Psi_n g_n) ),

and its inner products estimate, without bias, the product of the factors' inner products (Theorem 1).

`high_order_product` is this equation. `high_order_pooling` is its mean over positions as training wants it.
For inference, `fold_convolution` makes a 1x1 convolution, its sketch and its FFT one 1x1 convolution, and
`pool_spectra` does the rest by plain products, with no FFT operator left.

A half spectrum of D real numbers has F = D // 2 + 1 complex ones. As a real tensor it is kept as 2F numbers,
the F real parts, then the F imaginary parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class CountSketch(nn.Module):
    """Psi: R^C -> R^D with fixed random bins h and signs s, (Psi x)_d = sum of s_c x_c over h_c = d.

    Args:
        channels: C.
        dimension: D.
        seed: of a generator of its own, so that a model's sketches do not depend on what was drawn before.

    The buffers h (C,) int64 and s (C,) float32 are saved with the model's weights.
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

    def forward(self, x: Tensor, dim: int = -1) -> Tensor:
        """(..., C, ...) -> (..., D, ...) along `dim`; float32, or float64 for float64."""
        if x.shape[dim] != self.channels:
            raise ValueError(f"count sketch of {self.channels} channels cannot take {x.shape[dim]}")
        x = _full_precision(x)
        shape = list(x.shape)
        shape[dim] = self.dimension
        signs = self.s.to(x.dtype).view(-1, *[1] * (x.dim() - 1 - dim % x.dim()))
        return x.new_zeros(shape).index_add(dim, self.h, x * signs)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.dimension}"


def _full_precision(x: Tensor) -> Tensor:
    # There is no bfloat16 FFT, and the float16 one overflows and knows powers of two only.
    return x if x.dtype == torch.float64 else x.float()


def high_order_product(sketches: Sequence[Tensor]) -> Tensor:
    """Eq. 10: the circular convolution of sketches (..., D) each -> (..., D), in float32 or float64.

    Raises:
        ValueError: no sketches, or of several dimensions.
    """
    if len({sketch.shape[-1] for sketch in sketches}) != 1:
        raise ValueError("high-order product: needs one or more sketches, all of one dimension")
    with torch.autocast(sketches[0].device.type, enabled=False):
        spectrum = torch.fft.rfft(_full_precision(sketches[0]))
        for sketch in sketches[1:]:
            spectrum = spectrum * torch.fft.rfft(_full_precision(sketch))
        return torch.fft.irfft(spectrum, n=sketches[0].shape[-1])


def high_order_pooling(maps: Sequence[Tensor], sketches: Sequence[CountSketch]) -> Tensor:
    """The mean over L positions of the high-order product of n levels: `high_order_product`'s, as fast as the
    processor's cache allows.

    Averaging commutes with the inverse FFT, so there is one inverse transform per picture. A few pictures at
    a time are sketched, transformed and multiplied, channel by channel and over contiguous rows, and the
    backward pass does so again instead of keeping the spectra: 2n·D numbers for each position, more than the
    maps.

    Args:
        maps: n tensors (N, C, L), any floating dtype; safe under autocast, computed in float32.
        sketches: n count sketches of one dimension D.

    Returns:
        (N, D) float32 (float64 for float64), not normalised. It can be differentiated once.

    Raises:
        ValueError: no maps, another number of them than of sketches, or other channels or dimensions.
    """
    if len(maps) != len(sketches) or len({sketch.dimension for sketch in sketches}) != 1:
        raise ValueError(f"high-order pooling: {len(maps)} maps need as many sketches, all of one dimension")
    with torch.autocast(maps[0].device.type, enabled=False):
        return cast(Tensor, _Pooling.apply(list(sketches), *maps))


class _Pooling(torch.autograd.Function):
    """irfft of the mean over positions of S_1 · … · S_n, with S_l = rfft(Psi_l x_l).

    With R the real FFT of the result's gradient, the gradient of Psi_l x_l at every position is
    irfft(R · conj(the other levels' product)) / L: where the adjoint of one transform takes the frequencies
    between the first and the last one double, that of the other takes them half.
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
        mean = torch.fft.rfft(gradient).div_(positions)[:, None]
        gradients = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in maps]
        for part in _chunks(maps[0], dimension):
            spectra = [_spectrum(sketch, x[part]) for sketch, x in zip(sketches, maps)]
            for level, sketch in enumerate(sketches):
                product = mean[part].expand_as(spectra[level])
                for other in spectra[:level] + spectra[level + 1 :]:
                    product = product * other.conj()
                rows = torch.fft.irfft(product, n=dimension)
                in_layout = rows.transpose(1, 2).contiguous().index_select(1, sketch.h)
                gradients[level][part] = in_layout.mul_(sketch.s.to(in_layout.dtype)[:, None])
        return None, *gradients


#: Numbers of one level's sketches held at once: a CPU wants them in its cache, a GPU wants few launches.
_CHUNK_NUMBERS = {"cpu": 1 << 19, "cuda": 1 << 28}


def _chunks(maps: Tensor, dimension: int) -> list[slice]:
    """Pictures that are pooled together."""
    count, _, positions = maps.shape
    size = max(1, _CHUNK_NUMBERS.get(maps.device.type, _CHUNK_NUMBERS["cuda"]) // (positions * dimension))
    return [slice(start, start + size) for start in range(0, count, size)]


def _spectrum(sketch: CountSketch, maps: Tensor) -> Tensor:
    """(N, C, L) to the half spectra of the positions' sketches (N, L, F)."""
    return torch.fft.rfft(sketch(maps.contiguous(), dim=1).transpose(1, 2).contiguous())


def spectral_matrix(sketch: CountSketch) -> Tensor:
    """(C, 2F) float64: x @ matrix is rfft(Psi x), real parts, then imaginary parts."""
    unit_vectors = torch.eye(sketch.channels, dtype=torch.float64, device=sketch.h.device)
    spectrum = torch.fft.rfft(sketch(unit_vectors))
    return torch.cat([spectrum.real, spectrum.imag], dim=1)


def inverse_matrix(dimension: int) -> Tensor:
    """(2F, D) float64: [real parts, imaginary parts] @ matrix is the inverse real FFT."""
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
    """A 1x1 convolution, the count sketch of its output and the FFT of that, as one 1x1 convolution.

    Args:
        weight: (C, C_in) or (C, C_in, 1, 1) with C the sketch's channels.
        bias: (C,) or None.

    Returns:
        weight (2F, C_in) and bias (2F,) or None, in the given weight's dtype, computed in float64.

    Raises:
        ValueError: the kernel is larger than 1x1, or it has other outputs than the sketch has channels.
    """
    if len(weight) != sketch.channels or weight[0].numel() != weight.shape[1]:
        raise ValueError(
            f"a convolution {tuple(weight.shape)} does not fold with a sketch of {sketch.channels}"
        )
    matrix = spectral_matrix(sketch).t()
    folded = (matrix @ weight.flatten(1).double()).to(weight.dtype)
    return folded, None if bias is None else (matrix @ bias.double()).to(weight.dtype)


def spectral_product(spectra: Sequence[Tensor], dim: int = -1) -> Tensor:
    """The complex product of n spectra with 2F real numbers each along `dim`."""
    real, imaginary = spectra[0].chunk(2, dim)
    for spectrum in spectra[1:]:
        a, b = spectrum.chunk(2, dim)
        real, imaginary = (
            torch.addcmul(real * a, imaginary, b, value=-1),
            torch.addcmul(real * b, imaginary, a),
        )
    return torch.cat([real, imaginary], dim)


def pool_spectra(spectra: Sequence[Tensor], inverse: Tensor) -> Tensor:
    """What `high_order_pooling` returns, from the outputs of folded convolutions.

    Args:
        spectra: n tensors (N, 2F, L) or (N, 2F, H, W).
        inverse: `inverse_matrix(D)`, (2F, D), in the dtype wanted.

    Returns:
        (N, D).
    """
    with torch.autocast(inverse.device.type, enabled=False):
        product = spectral_product([spectrum.to(inverse.dtype) for spectrum in spectra], dim=1)
        return product.flatten(2).mean(dim=2) @ inverse
