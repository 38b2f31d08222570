"""Classification of the training identities."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.losses.kinds import VectorLoss
from kronreid.options import Share


class IdentityLoss(nn.Module):
    """Cross-entropy of the training identities, through a BN neck without shift (Luo et al. 2019).

    Args:
        channels: Length of the vectors.
        identities: Number of identities.
        smoothing: Share of the target that is spread over all identities; 0 is plain cross-entropy.
    """

    def __init__(self, channels: int, identities: int, smoothing: float = 0.1) -> None:
        super().__init__()
        self.neck = nn.BatchNorm1d(channels)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(channels, identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)
        self.smoothing = smoothing

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """L2-normalised (B, channels) and the identities' numbers (B,) to a scalar."""
        with torch.autocast(vectors.device.type, enabled=False):
            logits = self.classifier(self.neck(vectors.float()))
            return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class Identity(VectorLoss):
    """Classification of the training identities. Not in HOReID.

    Attributes:
        smoothing: Label smoothing.
    """

    smoothing: Share = 0.1

    def make(self, channels: int, identities: int) -> nn.Module:
        """A classifier of its own for each vector."""
        return IdentityLoss(channels, identities, self.smoothing)
