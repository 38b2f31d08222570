"""The losses of both papers and of what they compare with: one function each, one module where a loss has a
state.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def batch_hard_triplet_loss(vectors: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Batch-hard triplet loss (Hermans et al. 2017, Eq. 5), on the Euclidean distance of unit vectors.

    The mean over the pictures a of [margin + max_p ‖a − p‖ − min_n ‖a − n‖]₊: only the farthest picture of
    the same identity and the nearest of another one count.

    Args:
        vectors: (B, D), L2-normalised.
        labels: (B,) identities.
        margin: By how much the nearest negative shall be farther away than the farthest positive, 0 to 2.

    Returns:
        A scalar, the mean over the pictures that have both; zero, with a gradient of zero, without any.
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


class IdentityLoss(nn.Module):
    """Cross-entropy of the training identities, through a BN neck without shift (Luo et al. 2019).

    Args:
        channels: Length of the vectors.
        identities: How many there are.
        smoothing: Share of the target that is spread over all identities; 0 for plain cross-entropy.
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


class OIM(nn.Module):
    """Online instance matching (Xiao et al. 2017): cross-entropy of the identities by a table of features.

    The table has a row for every training identity; it is not trained but follows the features,
    t ← η · t + (1 − η) · x, normalised. The paper's circular queue is for persons without a label, which
    person search has and re-identification sets do not: there is none here.

    Args:
        channels: Length of the vectors.
        identities: How many rows.
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
        """L2-normalised (B, channels) and the identities' numbers (B,) to a scalar, by the table as it is."""
        with torch.autocast(vectors.device.type, enabled=False):
            # A copy: the table changes before the gradient is taken.
            cosines = vectors.float() @ self.table.clone().t()
            return F.cross_entropy(cosines / self.temperature, labels)

    @torch.no_grad()
    def update(self, vectors: Tensor, labels: Tensor) -> None:
        """Let the table follow these features, picture after picture."""
        earlier = (labels[:, None] == labels[None, :]).tril(-1).sum(1)
        for turn in range(int(earlier.max()) + 1):  # the first pictures of all identities, then the second …
            now = earlier == turn
            rows = self.momentum * self.table[labels[now]] + (1 - self.momentum) * vectors[now].float()
            self.table[labels[now]] = F.normalize(rows)


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
