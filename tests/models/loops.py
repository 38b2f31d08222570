"""Networks' tensors and layers in float64, for loops over the papers' equations."""

import numpy as np
from torch import Tensor, nn

Array = np.ndarray


def double(tensor: Tensor | None) -> Array:
    assert tensor is not None
    return tensor.detach().double().numpy()


def normed(norm: nn.Module, vector: Array) -> Array:
    """BN of trained statistics."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    unit = (vector - double(norm.running_mean)) / np.sqrt(double(norm.running_var) + norm.eps)
    return unit * double(norm.weight) + double(norm.bias)
