"""Inference in bfloat16: autocast for a whole network except its depthwise convolutions.

An output of a depthwise convolution is a sum of few products, nine in MobileNets, and their weights often
nearly cancel. Rounding the weights then shifts a whole channel by much of its value, and no other products
average it out. In a trained MobileNetV2 the mean cosine to the vectors of float32 is 0.985 with all layers in
bfloat16 and 0.999 with the depthwise ones in float32. Scaling the channels of neighbouring layers against
each other, which is usual before a quantisation to int8, does not help here: bfloat16 rounds relatively.
"""

import copy
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class InFullPrecision:
    """The forward pass of a convolution without autocast. A copy of the module gets a copy of this object."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv = conv

    def __call__(self, x: Tensor) -> Tensor:
        """Compute in fp32, as the convolution's own class does, and return the input's dtype."""
        with torch.autocast(x.device.type, enabled=False):
            return type(self.conv).forward(self.conv, x.float()).to(x.dtype)


def depthwise(network: nn.Module) -> list[nn.Conv2d]:
    """The depthwise convolutions of a network."""
    return [
        one for one in network.modules() if isinstance(one, nn.Conv2d) and one.groups == one.in_channels > 1
    ]


def with_same_weights(model: M) -> M:
    """A copy of a model that shares its parameters and buffers."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, cast(Any, shared))


def for_autocast(model: M) -> M:
    """A form of a model for inference under autocast, with depthwise convolutions in float32.

    It shares the model's weights. A model without depthwise convolutions is returned as it is.
    """
    if not depthwise(model):
        return model
    twin = with_same_weights(model)
    for conv in depthwise(twin):
        conv.forward = InFullPrecision(conv)  # type: ignore[method-assign,assignment]
    return twin
