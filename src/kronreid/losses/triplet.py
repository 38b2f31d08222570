"""Triplet losses: over all triplets of the batch (HOReID), or over the hardest of each picture."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kronreid.losses.kinds import VectorLoss
from kronreid.options import Weight


def triplet_loss(vectors: Tensor, labels: Tensor, margin: float = 0.2, average: str = "all") -> Tensor:
    """All-triplet loss on cosine similarity (HOReID, one of the two terms of Eq. 16).

    It is the mean of [⟨a, n⟩ − ⟨a, p⟩ + margin]₊ over every valid triplet of the batch.

    Args:
        vectors: (B, D), L2-normalised.
        labels: (B,) identities.
        margin: m_t.
        average: Mean over ``all`` triplets, as in the paper, or only over the ``active`` ones, whose term is
            not zero. The gradient of the second does not fade as the easy triplets are learnt.

    Returns:
        A scalar. It is zero, with a gradient of zero, if the batch has no valid triplet.
    """
    vectors = vectors.float()
    similarity = vectors @ vectors.t()
    same = labels[:, None] == labels[None, :]
    anchor, positive = (same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)).nonzero(
        as_tuple=True
    )
    hinge = F.relu(
        similarity[anchor] - similarity[anchor, positive][:, None] + margin
    )  # (pairs, B) over negatives
    negative = ~same[anchor]
    count = (negative & (hinge > 0)).sum() if average == "active" else negative.sum()
    return (hinge * negative).sum() / count.clamp_min(1)


def batch_hard_triplet_loss(vectors: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Batch-hard triplet loss (Hermans et al. 2017, Eq. 5) on the Euclidean distance of unit vectors.

    It is the mean of [margin + max_p ‖a − p‖ − min_n ‖a − n‖]₊ over the pictures a: only the farthest picture
    of the same identity and the nearest one of another identity count.

    Args:
        vectors: (B, D), L2-normalised.
        labels: (B,) identities.
        margin: How much farther away than the farthest positive the nearest negative has to be, 0 to 2.

    Returns:
        A scalar, the mean over the pictures that have both. It is zero, with a gradient of zero, if there is
        no such picture.
    """
    vectors = vectors.float()
    squares = 2 - 2 * vectors @ vectors.t()
    distance = squares.clamp_min(1e-12).sqrt()  # the root of zero has no gradient
    same = labels[:, None] == labels[None, :]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    farthest = distance.masked_fill(~positive, 0).amax(1)
    nearest = distance.masked_fill(same, 2).amin(1)
    valid = positive.any(1) & ~same.all(1)
    return (F.relu(margin + farthest - nearest) * valid).sum() / valid.sum().clamp_min(1)


@dataclass(frozen=True)
class Triplet(VectorLoss):
    """Triplets of the batch.

    Attributes:
        margin: m_t (HOReID, Eq. 16).
        mining: ``all`` triplets of the batch, or only the ``hard`` one of each picture.
        average: Mean over ``all`` of all triplets, as in HOReID, or over the ``active`` ones.
    """

    weight: Weight = 1.0
    margin: Annotated[float, Field(ge=0, le=2)] = 0.2
    mining: Literal["all", "hard"] = "all"
    average: Literal["all", "active"] = "all"

    def make(self, channels: int, identities: int) -> Callable[[Tensor, Tensor], Tensor]:
        """The function that `mining` chooses."""
        if self.mining == "hard":
            return partial(batch_hard_triplet_loss, margin=self.margin)
        return partial(triplet_loss, margin=self.margin, average=self.average)
