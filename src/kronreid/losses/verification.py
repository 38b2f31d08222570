"""KPM's verification loss, and the pairs of a batch that it is computed on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kronreid.losses.kinds import PairLoss
from kronreid.options import Weight


def verification_loss(logits: Tensor, same: Tensor) -> Tensor:
    """Binary cross-entropy of pairs (KPM, Sec. 4.3): logits (N,), `same` (N,) true for the same person."""
    return F.binary_cross_entropy_with_logits(logits.float(), same.float())


def in_batch_pairs(
    labels: Tensor, negatives: int, generator: torch.Generator, pooled: Tensor | None = None, hard: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Form pairs within a PK batch, so that every picture passes through the backbone once.

    Each picture is the first of one positive pair, whose second picture is drawn from the others of its
    identity. It is also the first of `negatives` pairs with pictures of other identities: the `hard` most
    similar ones by `pooled`, and others that are drawn. KPM uses 3 negatives for each positive on
    Market-1501, and 4 on CUHK03 and DukeMTMC.

    Args:
        labels: (B,) identities.
        negatives: Negative pairs for each positive one, or as many as the batch has.
        generator: Draws the partners. It is on the CPU.
        pooled: (B, D) L2-normalised features; needed if `hard` is not 0.
        hard: How many of the negatives are the hardest ones of the batch.

    Returns:
        First and second picture of each pair, and whether both show the same person, (pairs,) each. Positive
        pairs come first.
    """
    negatives = min(negatives, len(labels))
    hard = min(hard, negatives)
    same = labels[:, None] == labels[None, :]
    different = ~same
    same = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchors = torch.arange(len(labels), device=labels.device)
    noise = torch.rand(same.shape, generator=generator).to(labels.device)
    mates = noise.masked_fill(~same, -1).argmax(1)
    has_mate = same.any(1)
    order = noise.masked_fill(~different, -1)
    if hard:
        if pooled is None:
            raise ValueError("hard negatives need pooled features")
        similar = (pooled @ pooled.t()).masked_fill(~different, -torch.inf)
        order = order.scatter(1, similar.topk(hard, dim=1).indices, 2.0)
    others = order.masked_fill(~different, -1).topk(negatives, dim=1).indices
    valid = different.gather(1, others).flatten()
    first = torch.cat([anchors[has_mate], anchors.repeat_interleave(negatives)[valid]])
    second = torch.cat([mates[has_mate], others.flatten()[valid]])
    target = torch.zeros(len(first), dtype=torch.bool, device=labels.device)
    target[: int(has_mate.sum())] = True
    return first, second, target


@dataclass(frozen=True)
class Verification(PairLoss):
    """Binary cross-entropy of pairs."""

    weight: Weight = 1.0

    def make(self) -> Callable[[Tensor, Tensor], Tensor]:
        """See `verification_loss`."""
        return verification_loss
