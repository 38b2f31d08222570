"""HOReID's regularisation of the part sampler."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kronreid.losses.kinds import PartLoss
from kronreid.options import Weight


def sampler_regulariser(parts: list[Tensor], margin: float = 0.2) -> Tensor:
    """Discriminative sampler regularisation, DSR (HOReID, Eq. 13): different parts have to look different.

    Args:
        parts: The part descriptors P_l of each level, (N, C, P) each.
        margin: m_p, the cosine up to which two parts may agree.

    Returns:
        A scalar, the mean of Eq. 13 over the pictures.
    """
    total = parts[0].new_zeros((), dtype=torch.float32)
    for level in parts:
        unit = F.normalize(level.float(), dim=1)
        count = unit.shape[2]
        hinge = F.relu(unit.transpose(1, 2) @ unit - margin)
        different = hinge.sum((1, 2)) - hinge.diagonal(dim1=1, dim2=2).sum(1)
        total = total + different.mean() / (2 * len(parts) * count * max(count - 1, 1))
    return total


@dataclass(frozen=True)
class Regulariser(PartLoss):
    """DSR. Its weight is λ_reg.

    Attributes:
        margin: m_p (Eq. 13).
    """

    weight: Weight = 0.1
    margin: Annotated[float, Field(ge=-1, le=1)] = 0.2

    def make(self) -> Callable[[list[Tensor]], Tensor]:
        """DSR with this margin."""
        return partial(sampler_regulariser, margin=self.margin)
