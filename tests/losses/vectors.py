"""Vectors for the tests of losses."""

import torch
import torch.nn.functional as F
from torch import Tensor


def unit_vectors(count: int, dimension: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dimension, generator=generator))
