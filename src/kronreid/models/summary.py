"""Parameters and multiply-adds of a model, by part (HOReID, Table II)."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kronreid.data.transforms import InputOptions
from kronreid.ops.sketch import CountSketch


@dataclass(frozen=True)
class Part:
    """One part of a model.

    Attributes:
        name: Its name in the model.
        parameters: Number of trained parameters.
        multiply_adds: Number of multiply-adds for one picture.
        layers: Number of layers of each kind, like ``{"Conv2d": 3}``.
    """

    name: str
    parameters: int
    multiply_adds: int
    layers: dict[str, int]


@dataclass(frozen=True)
class Summary:
    """A model's size.

    Attributes:
        parameters: Number of trained parameters.
        parameters_with_sketches: The same, counting each count sketch as a dense C×D matrix, as HOReID's
            Table II does.
        multiply_adds: Number of multiply-adds for one picture of the input size. Convolutions and matrix
            products count. Sketches, FFTs, norms and activations do not, as in the paper.
        parts: The size of each part.
    """

    parameters: int
    parameters_with_sketches: int
    multiply_adds: int
    parts: list[Part]


class _OnePicture(nn.Module):
    """A model whose `forward` processes one picture. The FLOP counter names layers relative to it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> None:
        getattr(self.model, "encode", self.model)(images)


def summarise(model: nn.Module, input_options: InputOptions) -> Summary:
    """Count a model's parameters and multiply-adds.

    For a pair model only the encoding of one picture is counted: backbone, hourglass and attention. The cost
    of a pair depends on the form of the matching (see docs/performance.md).

    Args:
        model: The model; it is put into eval mode.
        input_options: The size of its input, and whether a picture is averaged with its mirror image.
    """
    model = model.eval()
    device = next(model.parameters()).device
    passed = 2 if input_options.mirror else 1
    images = torch.zeros(passed, 3, input_options.height, input_options.width, device=device)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        _OnePicture(model)(images)
    prefix = f"{_OnePicture.__name__}.model."
    by_module = {
        name.removeprefix(prefix): sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()
    }
    parts = []
    for name, child in model.named_children():
        kinds = Counter(type(layer).__name__ for layer in child.modules() if not list(layer.children()))
        # A list of modules has no forward of its own, so its members are summed.
        members = [name] if name in by_module else [n for n in by_module if n.rpartition(".")[0] == name]
        flops = sum(by_module[member] for member in members)
        parts.append(Part(name, count(child), flops // 2, dict(kinds)))
    sketches = sum(m.channels * m.dimension for m in model.modules() if isinstance(m, CountSketch))
    total = count(model)
    return Summary(total, total + sketches, counter.get_total_flops() // 2, parts)


def count(module: nn.Module) -> int:
    """The number of trained parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
