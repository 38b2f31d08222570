"""Online instance matching."""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kronreid.losses.kinds import VectorLoss
from kronreid.options import Share


class OIMLoss(nn.Module):
    """Online instance matching (Xiao et al. 2017): cross-entropy of the identities by a table of features.

    The table has a row for every training identity. It is not trained but follows the features:
    t ← η · t + (1 − η) · x, normalised. The paper also has a circular queue for persons without a label.
    These occur in person search but not in re-identification data sets, so there is no queue here.

    Args:
        channels: Length of the vectors.
        identities: Number of rows.
        temperature: τ, which divides the cosines.
        momentum: η.
    """

    table: Tensor

    def __init__(
        self, channels: int, identities: int, temperature: float = 1 / 30, momentum: float = 0.5
    ) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(identities, channels))
        self.temperature, self.momentum = temperature, momentum

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """L2-normalised (B, channels) and the identities' numbers (B,) to a scalar, by the table as it is.

        Afterwards the table follows these vectors, unless the module is in eval mode.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            # A copy: the table changes before the gradient is taken.
            cosines = vectors.float() @ self.table.clone().t()
            loss = F.cross_entropy(cosines / self.temperature, labels)
        if self.training:
            self.update(vectors, labels)
        return loss

    @torch.no_grad()
    def update(self, vectors: Tensor, labels: Tensor) -> None:
        """Let the table follow these vectors, one picture of an identity after the other."""
        earlier = (labels[:, None] == labels[None, :]).tril(-1).sum(1)
        for turn in range(int(earlier.max()) + 1):  # the first pictures of all identities, then the second …
            now = earlier == turn
            rows = self.momentum * self.table[labels[now]] + (1 - self.momentum) * vectors[now].float()
            self.table[labels[now]] = F.normalize(rows)


@dataclass(frozen=True)
class OIM(VectorLoss):
    """Online instance matching.

    Attributes:
        temperature: τ.
        momentum: η, the share of its row that the table keeps.
    """

    temperature: Annotated[float, Field(ge=1e-6)] = 1 / 30
    momentum: Share = 0.5

    def make(self, channels: int, identities: int) -> nn.Module:
        """A table of its own for each vector."""
        return OIMLoss(channels, identities, self.temperature, self.momentum)
