"""The inference form of the models: the same answers from fewer operations.

Batch normalisation with fixed statistics is an affine map per channel and disappears into the convolution
before it. In HOReID each level's convolution, count sketch and FFT are linear, hence one 1×1 convolution; the
product over levels is a complex multiplication, and averaging commutes with the inverse FFT, so there is one
inverse transform per picture, a plain matrix product (docs/performance.md derives it). No FFT operator is
left: the folded form exports everywhere and is safe in half precision.
"""

import copy
import logging
from collections import Counter
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

import kronreid.torchvision_guard  # noqa: F401

from timm.layers import BatchNormAct2d, Conv2dSame  # isort: skip

from kronreid.models.horeid import (
    GlobalHierarchicalPooling,
    HOReID,
    LocalHierarchicalPooling,
    sampling_maps,
    where_to_look,
)
from kronreid.ops.sketch import (
    CountSketch,
    fold_convolution,
    inverse_matrix,
    pool_spectra,
    spectral_matrix,
)

log = logging.getLogger(__name__)

#: Exactly these: a subclass may compute its weight anew in every pass, like weight standardisation.
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def fold(model: M) -> M:
    """A copy of a model for inference, of the same class and with the same answers.

    Batch normalisation goes into the convolutions; HOReID's two poolings become `FoldedGlobalPooling` and
    `FoldedLocalPooling`, so that its embedding has no `parts` any more. The copy is in eval mode and is not
    meant to be trained or saved.

    Example:
        >>> folded = fold(HOReID().eval())
        >>> folded(images).descriptor
    """
    model = copy.deepcopy(model).eval()
    parts = [getattr(model, "backbone", None)]
    for layers in ("blocks", "attention"):
        parts += getattr(model, layers, None) or []
    for part in filter(None, parts):
        fold_batchnorm(part)
    if isinstance(model, HOReID):
        if model.ghp is not None:
            model.ghp = FoldedGlobalPooling(model.ghp)  # type: ignore[assignment]
        if model.lhp is not None:
            model.lhp = FoldedLocalPooling(model.lhp)  # type: ignore[assignment]
    return model


class FoldedGlobalPooling(nn.Module):
    """GHP by products alone.

    Args:
        ghp: The layer to fold.
    """

    inverse: Tensor

    def __init__(self, ghp: GlobalHierarchicalPooling) -> None:
        super().__init__()
        self.convs = _fold_levels(ghp.convs, ghp.sketches)
        self.register_buffer("inverse", _inverse(ghp.sketches))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """{X_l} of (N, C, H, W) each to g̃ (N, D), L2-normalised."""
        return F.normalize(pool_spectra([conv(x) for conv, x in zip(self.convs, levels)], self.inverse))


class FoldedLocalPooling(nn.Module):
    """LHP by products alone. The sampler's weighted average is linear too: the folded convolution goes first,
    and no part is sketched on its own.

    Args:
        lhp: The layer to fold.
    """

    inverse: Tensor

    def __init__(self, lhp: LocalHierarchicalPooling) -> None:
        super().__init__()
        self.sampler = lhp.sampler
        self.convs = _fold_levels(lhp.convs, lhp.sketches)
        self.register_buffer("inverse", _inverse(lhp.sketches))

    def maps(self, levels: list[Tensor]) -> Tensor:
        """Where each part is sampled, (N, P, H·W), rows sum to 1."""
        return sampling_maps(self.sampler, levels)

    def forward(self, levels: list[Tensor], values: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """{X_l} for the sampler and for the convolutions to p̃ (N, D), L2-normalised, and no {P_l}."""
        where = where_to_look(self.sampler, levels)
        spectra = [conv(x).flatten(2).float() @ w for conv, x, w in zip(self.convs, values, where)]
        return F.normalize(pool_spectra(spectra, self.inverse)), []


def _fold_levels(convs: nn.ModuleList, sketches: nn.ModuleList) -> nn.ModuleList:
    """Each level's 1×1 convolution, sketch and FFT as one 1×1 convolution with 2F outputs.

    A ReLU between them is not linear: then sketch and FFT alone are one convolution, behind it.
    """
    folded = nn.ModuleList()
    for conv, sketch in zip(convs, sketches):
        assert isinstance(sketch, CountSketch)
        if isinstance(conv, nn.Sequential):
            weight = spectral_matrix(sketch).t().to(sketch.s)
            folded.append(nn.Sequential(*conv, _pointwise(weight)))
        else:
            folded.append(_pointwise(fold_convolution(cast(Tensor, conv.weight), None, sketch)[0]))
    return folded


def _pointwise(weight: Tensor) -> nn.Conv2d:
    """A fixed 1×1 convolution with this matrix (outputs, inputs)."""
    layer = nn.Conv2d(weight.shape[1], len(weight), 1, bias=False)
    layer.weight = nn.Parameter(weight[:, :, None, None].contiguous(), requires_grad=False)
    return layer


def _inverse(sketches: nn.ModuleList) -> Tensor:
    """The inverse FFT of a pooled spectrum, (2F, D) float32, where the sketches are."""
    sketch = cast(CountSketch, sketches[0])
    return inverse_matrix(sketch.dimension).to(sketch.s)


class _Tracer(fx.Tracer):
    """Follows a network down to what folds and to what has nothing to fold within."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Conv2d | nn.BatchNorm2d):
            return True
        return not any(isinstance(inner, nn.BatchNorm2d) for inner in m.modules())


@torch.no_grad()
def fold_batchnorm(module: nn.Module) -> None:
    """Fold each batch normalisation of a module in eval mode into the convolution before it, in place.

    Which convolution that is, and that nothing else reads its output, is found by tracing, not guessed from
    names: a normalisation before its convolution, or one that shares its input, stays. So does everything
    in a network that cannot be traced.
    """
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # whatever a network's own code does to a stand-in for a tensor
        log.info("batch normalisation of %s is not folded: %s", type(module).__name__, error)
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        if calls[node.target] != 1 or calls[before.target] != 1:  # weights shared with another place
            continue
        conv, norm = module.get_submodule(str(before.target)), module.get_submodule(str(node.target))
        if type(conv) in _CONVOLUTIONS and type(norm) in _NORMS and norm.running_mean is not None:
            _fuse(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm))
            module.set_submodule(
                str(node.target), norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
            )


def _fuse(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Make the convolution do its normalisation's work. Rounded once: everything between is float64."""
    dtype = conv.weight.dtype
    numbers = (conv.bias, norm.running_mean, norm.running_var)
    bias, mean, variance = (None if number is None else number.double() for number in numbers)
    scale, shift = (None if number is None else number.double() for number in (norm.weight, norm.bias))
    assert mean is not None
    assert variance is not None
    weight, bias = fuse_conv_bn_weights(conv.weight.double(), bias, mean, variance, norm.eps, scale, shift)
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
