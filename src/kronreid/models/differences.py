"""The ways that reduce a pair to one difference per channel and scale; BN and a linear layer give the logit.

KPM warps the second picture onto the first (Eq. 8, 10). Its Tables 1 and 5 compare this with pooled maps,
with unmatched places, and with absolute values. Equation numbers are the paper's.
"""

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.pairs import Encoded, EncodedMaps, Named, ScaleMaps, Way, mean_confidence
from kronreid.ops.blocks import PreparedMaps, score_block, score_lists
from kronreid.ops.comparisons import by_lists, score_means, score_places, score_sums, score_warped
from kronreid.ops.matching import correspondence_of_all, match_pairs, match_squares


class Differences(Way):
    """The base of these ways. A subclass defines δ and computes it for training, scoring and export."""

    #: Whether the input of BN is |δ| instead of δ².
    absolute: ClassVar[bool] = False
    #: Length of δ, in multiples of the scale's channels.
    vectors: ClassVar[int] = 1

    def __init__(self, channels: list[int], temperature: float, scale_losses: bool) -> None:
        super().__init__(channels, temperature, scale_losses)
        # The variance of squared differences varies by orders of magnitude between backbones and scales. The
        # tiny epsilon never dominates it.
        self.lengths = [self.vectors * count for count in channels]
        self.norms = nn.ModuleList(nn.BatchNorm1d(count, eps=1e-9) for count in self.lengths)
        inputs = self.lengths if scale_losses else [sum(self.lengths)]
        self.linears = [nn.Linear(count, 1) for count in inputs]
        classifier = nn.ModuleList(self.linears) if scale_losses else self.linears[0]
        self.layers = {"norms": self.norms, "classifier": classifier}

    def without_batch_norm(self) -> None:
        """Leave out the BN layers: the linear layer reads the magnitudes as they are."""
        for number in range(len(self.norms)):
            self.norms[number] = nn.Identity()

    @abstractmethod
    def difference(self, scale: ScaleMaps, first: Tensor, second: Tensor) -> Tensor:
        """δ (P, C) of pairs at one scale, for training."""

    @abstractmethod
    def share(self, x: PreparedMaps, y: PreparedMaps, head: Tensor, lists: Tensor | None) -> Tensor:
        """Σ_c head_c · magnitude(δ)_c at one scale, for scoring: (Q, G), or (Q, K) with `lists`."""

    @abstractmethod
    def difference_of_all(self, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        """δ (Q, G, C) of maps (Q, M, C) with weights (Q, M) and maps (G, M, C), for export."""

    def magnitude(self, delta: Tensor) -> Tensor:
        """The input of BN: δ² or |δ|."""
        return delta.abs() if self.absolute else delta.square()

    def logits(self, pictures: Encoded, first: Tensor, second: Tensor) -> list[Tensor]:
        differences = [self.difference(scale, first, second) for scale in pictures.scales]
        with torch.autocast(differences[0].device.type, enabled=False):
            scales = [norm(self.magnitude(delta.float())) for norm, delta in zip(self.norms, differences)]
            inputs = scales if self.scale_losses else [torch.cat(scales, dim=1)]
            return [linear(one).squeeze(1) for linear, one in zip(self.linears, inputs)]

    def head(self) -> list[tuple[Tensor, Tensor]]:
        """The BN and the linear layer of a trained model, folded into one linear layer.

        Returns:
            Weights a (C,) and bias b () for each scale. Σ_c a_c · magnitude(δ)_c + b is the scale's share of
            the logit, or with `scale_losses` the scale's own logit.
        """
        pieces = torch.cat([linear.weight[0] for linear in self.linears]).split(self.lengths)
        norms: list[Any] = list(self.norms)
        biases: list[Tensor | float] = [*(linear.bias[0] for linear in self.linears), *[0.0] * len(norms)]
        folded = []
        for norm, piece, bias in zip(norms, pieces, biases):
            if isinstance(norm, nn.Identity):
                folded.append((piece, torch.zeros_like(piece[0]) + bias))
                continue
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            folded.append((piece * scale, (piece * (norm.bias - norm.running_mean * scale)).sum() + bias))
        return folded

    def combine(self, shares: list[Tensor]) -> Tensor:
        """Combine the scales' shares, tensors of one shape, into the logits of the pairs; see `head`."""
        return mean_confidence(shares) if self.scale_losses else sum(shares[1:], start=shares[0])

    def score(self, queries: EncodedMaps, candidates: EncodedMaps, lists: Tensor | None = None) -> Tensor:
        shares = []
        for x, y, (a, b) in zip(queries.scales, candidates.scales, self.head()):
            if not torch.isfinite(a).all():
                raise InputError("model", "its weights hold NaN or infinity; they are unusable")
            shares.append(self.share(x, y, a, lists) + b.to(x.norms.device))
        return self.combine(shares)

    def exported(self, queries: Named, candidates: Named, sizes: list[tuple[int, int]]) -> Tensor:
        shares = []
        for number, (a, b) in enumerate(self.head(), start=1):
            x, y = queries[f"maps_{number}"], candidates[f"maps_{number}"]
            weight = queries.get(f"weight_{number}")
            weight = torch.ones_like(x[:, :, 0]) if weight is None else weight
            shares.append(self.magnitude(self.difference_of_all(x, weight, y)) @ a + b)
        return self.combine(shares)


class Means(Differences):
    """The squared difference x̄ − ȳ of average-pooled maps: the baseline (Fig. 5)."""

    keeps_places = False

    def difference(self, scale: ScaleMaps, first: Tensor, second: Tensor) -> Tensor:
        return subtract(scale.maps.float().mean((2, 3)), first, second)

    def share(self, x: PreparedMaps, y: PreparedMaps, head: Tensor, lists: Tensor | None) -> Tensor:
        return by_lists(partial(score_means, head_weight=head, absolute=self.absolute), x, y, lists)

    def difference_of_all(self, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        return x.mean(1)[:, None] - y.mean(1)[None]


class AbsoluteMeans(Means):
    """The absolute difference |x̄ − ȳ| of average-pooled maps (Table 1)."""

    absolute = True


class Signed(Means):
    """The difference x̄ − ȳ as it is, without a square (Sec. 4.3). It fails to converge, the paper reports.

    The logit is linear in both pictures. Exchanging them changes its sign, apart from a constant, although
    they show the same person or not either way.
    """

    def magnitude(self, delta: Tensor) -> Tensor:
        return delta

    def share(self, x: PreparedMaps, y: PreparedMaps, head: Tensor, lists: Tensor | None) -> Tensor:
        return by_lists(partial(score_sums, first_weight=head, second_weight=-head), x, y, lists)


class Concatenated(Signed):
    """x̄ and ȳ one after the other, without a difference (Sec. 4.3). It cannot converge, the paper reports.

    The logit is one number of the first picture plus one of the second.
    """

    vectors = 2

    def difference(self, scale: ScaleMaps, first: Tensor, second: Tensor) -> Tensor:
        means = scale.maps.float().mean((2, 3))
        return torch.cat([means.index_select(0, first), means.index_select(0, second)], dim=1)

    def share(self, x: PreparedMaps, y: PreparedMaps, head: Tensor, lists: Tensor | None) -> Tensor:
        own, other = head.chunk(2)
        return by_lists(partial(score_sums, first_weight=own, second_weight=other), x, y, lists)

    def difference_of_all(self, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        a, b = x.mean(1)[:, None], y.mean(1)[None]
        return torch.cat([a + torch.zeros_like(b), b + torch.zeros_like(a)], dim=2)


class Squares(Differences):
    """The mean of (x_i − y_i)² over the unmatched places, squared *before* pooling (Table 1)."""

    def magnitude(self, delta: Tensor) -> Tensor:
        return delta

    def difference(self, scale: ScaleMaps, first: Tensor, second: Tensor) -> Tensor:
        return subtract(scale.maps.float(), first, second).square().mean((2, 3))

    def share(self, x: PreparedMaps, y: PreparedMaps, head: Tensor, lists: Tensor | None) -> Tensor:
        return by_lists(partial(score_places, head_weight=head), x, y, lists)

    def difference_of_all(self, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        return (x[:, None] - y[None]).square().mean(2)


class Warp(Differences):
    """KPM: δ̃ of Eq. 10, squared. It is computed as (X w − Y βᵀ w) / M, without the warped map.

    docs/performance.md derives this.
    """

    attends = True

    def difference(self, scale: ScaleMaps, first: Tensor, second: Tensor) -> Tensor:
        return match_pairs(scale.maps, scale.maps, first, second, scale.weight, self.temperature, self.cosine)

    def share(self, x: PreparedMaps, y: PreparedMaps, head: Tensor, lists: Tensor | None) -> Tensor:
        if lists is None:
            return score_block(x, y, head, self.temperature, self.absolute)
        return score_lists(x, y, lists, head, self.temperature, self.absolute)

    def difference_of_all(self, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        beta = correspondence_of_all(x, y, self.temperature, self.cosine)
        v = (weight[:, None] @ beta.flatten(2)).view(x.shape[0], y.shape[0], -1)
        warped = (v.transpose(0, 1) @ y).transpose(0, 1)
        return ((weight[:, None] @ x) - warped) / x.shape[1]


class AbsoluteWarp(Warp):
    """The absolute value |δ̃| (Table 1)."""

    absolute = True


class WarpedSquares(Squares):
    """The mean of w_i (x_i − Σ_j β_ij y_j)², squared after the warp and before pooling. Not in the paper."""

    attends = True

    def difference(self, scale: ScaleMaps, first: Tensor, second: Tensor) -> Tensor:
        return match_squares(
            scale.maps, scale.maps, first, second, scale.weight, self.temperature, self.cosine
        )

    def share(self, x: PreparedMaps, y: PreparedMaps, head: Tensor, lists: Tensor | None) -> Tensor:
        return by_lists(partial(score_warped, head_weight=head, temperature=self.temperature), x, y, lists)

    def difference_of_all(self, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        looks = correspondence_of_all(x, y, self.temperature, self.cosine).permute(2, 0, 1, 3).flatten(1, 2)
        difference = x - (looks @ y).view(y.shape[0], *x.shape)
        return (weight[..., None] * difference.square()).mean(2).transpose(0, 1)


def subtract(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """values[first] − values[second] along the first dimension.

    The backward pass of `index_select` is faster than that of indexing.
    """
    return values.index_select(0, first) - values.index_select(0, second)
