"""The losses of both papers, one function each."""

import torch
import torch.nn.functional as F
from torch import Tensor


def triplet_loss(vectors: Tensor, labels: Tensor, margin: float = 0.2, average: str = "all") -> Tensor:
    """All-triplet loss on cosine similarity (HOReID, Eq. 16, one of its two terms).

    The mean over every valid triplet of the batch of [⟨a, n⟩ − ⟨a, p⟩ + margin]₊.

    Args:
        vectors: (B, D), L2-normalised.
        labels: (B,) identities.
        margin: m_t.
        average: ``all`` triplets as in the paper, or only the ``active`` ones, whose term is not zero: its
            gradient does not fade as the easy triplets are learnt.

    Returns:
        A scalar; zero, with a gradient of zero, where the batch has no valid triplet.
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


def sampler_regulariser(parts: list[Tensor], margin: float = 0.2) -> Tensor:
    """Discriminative sampler regularisation, DSR (HOReID, Eq. 13): different parts shall not look alike.

    Args:
        parts: The part descriptors P_l of each level, (N, C, P) each.
        margin: m_p, the cosine up to which two parts may agree.

    Returns:
        A scalar, the mean over the pictures of Eq. 13.
    """
    total = parts[0].new_zeros((), dtype=torch.float32)
    for level in parts:
        unit = F.normalize(level.float(), dim=1)
        count = unit.shape[2]
        hinge = F.relu(unit.transpose(1, 2) @ unit - margin)
        different = hinge.sum((1, 2)) - hinge.diagonal(dim1=1, dim2=2).sum(1)
        total = total + different.mean() / (2 * len(parts) * count * max(count - 1, 1))
    return total


def verification_loss(logits: Tensor, same: Tensor) -> Tensor:
    """Binary cross-entropy of pairs (KPM, Sec. 4.3): logits (N,), `same` (N,) true for the same person."""
    return F.binary_cross_entropy_with_logits(logits.float(), same.float())


def in_batch_pairs(
    labels: Tensor, negatives: int, generator: torch.Generator, pooled: Tensor | None = None, hard: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs within a PK batch, so that every picture passes the backbone once.

    Each picture is the first of one positive pair, with another picture of its identity drawn at random, and
    of `negatives` pairs with pictures of other identities: the `hard` most similar ones by `pooled`, the rest
    drawn at random. KPM uses 3 negatives a positive on Market-1501, 4 on CUHK03 and DukeMTMC.

    Args:
        labels: (B,) identities.
        negatives: Negative pairs per positive one, as far as there are other identities.
        generator: Draws the partners; on the CPU.
        pooled: (B, D) L2-normalised features, needed for `hard` > 0.
        hard: How many of the negatives are the hardest of the batch.

    Returns:
        First and second picture of each pair and whether both show the same person, (pairs,) each: positives
        first.
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
