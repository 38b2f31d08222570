"""The inference form of the models, which gives the same outputs with fewer operations.

Batch normalisation with fixed statistics is an affine map per channel, which folds into the preceding
convolution. In HOReID each level's convolution, count sketch and FFT are linear and fold into one 1×1
convolution. The product over levels is a complex multiplication. Averaging commutes with the inverse FFT, so
one inverse transform per picture is enough, and it is a plain matrix product (docs/performance.md derives
this). No FFT operator is left, so the folded form can be exported and is safe in half precision.
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

#: Subclasses do not count: they may compute their weight in every pass, as weight standardisation does.
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def fold(model: M) -> M:
    """A copy of a model for inference, of the same class and with the same outputs.

    Batch normalisation is folded into the convolutions. HOReID's two poolings become `FoldedGlobalPooling`
    and `FoldedLocalPooling`, so its embedding has no `parts`. The copy is in eval mode and cannot be trained
    or saved.

    Args:
        model: The model; it is not changed.

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
    """GHP in its folded form: only matrix products and complex multiplications.

    Args:
        ghp: The layer to fold.
    """

    inverse: Tensor

    def __init__(self, ghp: GlobalHierarchicalPooling) -> None:
        super().__init__()
        self.convs = _fold_levels(ghp.convs, ghp.sketches)
        self.register_buffer("inverse", _inverse(ghp.sketches))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Pool the levels X_l (N, C, H, W) to g̃ (N, D), L2-normalised."""
        return F.normalize(pool_spectra([conv(x) for conv, x in zip(self.convs, levels)], self.inverse))


class FoldedLocalPooling(nn.Module):
    """LHP in its folded form.

    The sampler's weighted average is linear too, so it follows the folded convolution, and the parts need no
    sketches of their own.

    Args:
        lhp: The layer to fold.
    """

    inverse: Tensor

    def __init__(self, lhp: LocalHierarchicalPooling) -> None:
        super().__init__()
        self.sampler = lhp.sampler
        #: The maps Ḡ_l, if the samplers read them.
        self.read = lhp.convs if lhp.reads_maps else None
        self.convs = _fold_levels(lhp.convs, lhp.sketches)
        self.register_buffer("inverse", _inverse(lhp.sketches))

    def maps(self, levels: list[Tensor], values: list[Tensor] | None = None) -> Tensor:
        """As `LocalHierarchicalPooling.maps`."""
        return sampling_maps(self.sampler, self._read(levels, values or levels))

    def _read(self, levels: list[Tensor], values: list[Tensor]) -> list[Tensor]:
        return levels if self.read is None else [conv(x) for conv, x in zip(self.read, values)]

    def forward(self, levels: list[Tensor], values: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """As `LocalHierarchicalPooling.forward`: p̃ (N, D), L2-normalised; the list of P_l is empty."""
        where = where_to_look(self.sampler, self._read(levels, values))
        spectra = [conv(x).flatten(2).float() @ w for conv, x, w in zip(self.convs, values, where)]
        return F.normalize(pool_spectra(spectra, self.inverse)), []


def _fold_levels(convs: nn.ModuleList, sketches: nn.ModuleList) -> nn.ModuleList:
    """Fold each level's 1×1 convolution, sketch and FFT into one 1×1 convolution with 2F outputs.

    A ReLU after the convolution is not linear. Then only sketch and FFT are folded, into a second
    convolution.
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
    """A frozen 1×1 convolution with this matrix (outputs, inputs)."""
    layer = nn.Conv2d(weight.shape[1], len(weight), 1, bias=False)
    layer.weight = nn.Parameter(weight[:, :, None, None].contiguous(), requires_grad=False)
    return layer


def _inverse(sketches: nn.ModuleList) -> Tensor:
    """The matrix of the inverse FFT, (2F, D) float32, on the device of the sketches."""
    sketch = cast(CountSketch, sketches[0])
    return inverse_matrix(sketch.dimension).to(sketch.s)


class _Tracer(fx.Tracer):
    """Traces down to convolutions, batch normalisations, and modules that contain no batch normalisation."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Conv2d | nn.BatchNorm2d):
            return True
        return not any(isinstance(inner, nn.BatchNorm2d) for inner in m.modules())


@torch.no_grad()
def fold_batchnorm(module: nn.Module) -> None:
    """Fold each batch normalisation of a module in eval mode into the convolution before it, in place.

    Tracing finds the convolution and makes sure that nothing else reads its output. A normalisation that
    follows no convolution, or shares its input, stays as it is. A network that cannot be traced stays
    unchanged.
    """
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # a network's own code may fail in any way on a proxy for a tensor
        log.info("batch normalisation of %s is not folded: %s", type(module).__name__, error)
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        if calls[node.target] != 1 or calls[before.target] != 1:  # used more than once: weights are shared
            continue
        conv, norm = module.get_submodule(str(before.target)), module.get_submodule(str(node.target))
        if type(conv) in _CONVOLUTIONS and type(norm) in _NORMS and norm.running_mean is not None:
            _fuse(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm))
            module.set_submodule(
                str(node.target), norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
            )


def _fuse(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Fold the normalisation into the convolution. Computing in float64 rounds the result only once."""
    dtype = conv.weight.dtype
    numbers = (conv.bias, norm.running_mean, norm.running_var)
    bias, mean, variance = (None if number is None else number.double() for number in numbers)
    scale, shift = (None if number is None else number.double() for number in (norm.weight, norm.bias))
    assert mean is not None
    assert variance is not None
    weight, bias = fuse_conv_bn_weights(conv.weight.double(), bias, mean, variance, norm.eps, scale, shift)
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
