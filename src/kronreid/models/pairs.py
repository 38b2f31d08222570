"""What a pair model is: it encodes pictures one by one, and a *way* compares two of them.

Training, scoring and export know nothing of a pair model but this. A new way is one file with a subclass of
`Way`, and one entry in the table that `KPM` chooses its way from (`kronreid.models.kpm.WAYS`). A way that
needs more than KPM's options comes with a model of its own, whose entry is in `kronreid.models.MODELS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.backbone import Backbone
from kronreid.ops.blocks import PreparedMaps, prepare
from kronreid.ops.matching import correspondence

#: Tensors by name.
Named: TypeAlias = dict[str, Tensor]


@dataclass
class ScaleMaps:
    """One scale of N pictures.

    Attributes:
        maps: Features (N, C, H, W), not normalised: the matching normalises, the warp does not.
        weight: Importance 1 + ã of every place (N, H·W), or None for ones.
    """

    maps: Tensor
    weight: Tensor | None


class Encoded(NamedTuple):
    """N pictures as a pair model encodes them: everything that depends on one picture alone."""

    pooled: Tensor
    """(N, D), L2-normalised, for the first ranking."""
    scales: list[ScaleMaps]
    """Coarsest first."""


@dataclass
class EncodedMaps:
    """N pictures as a matcher keeps them, made ready once for any number of comparisons.

    Attributes:
        pooled: Pooled backbone features (N, D), L2-normalised.
        scales: The maps of each scale.
    """

    pooled: Tensor
    scales: list[PreparedMaps]

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, index: slice | Tensor) -> "EncodedMaps":
        return EncodedMaps(self.pooled[index], [scale[index] for scale in self.scales])

    @classmethod
    def cat(cls, parts: "Sequence[EncodedMaps]") -> "EncodedMaps":
        """One after the other; all of one model in one precision."""
        scales = [PreparedMaps.cat(scale) for scale in zip(*(part.scales for part in parts))]
        return cls(torch.cat([part.pooled for part in parts]), scales)


class Way(ABC):
    """One way of comparing two encoded pictures, in three forms that give the same logits.

    `logits` trains: pairs given by index, with gradients. `score` compares many pictures with many, without
    gradients, in memory that does not grow with the gallery. `exported` is the graph of an exported scorer.

    A way is no module: its layers are the pair model's, and a checkpoint has them by their own names.

    Args:
        channels: Of each scale's maps, coarsest first.
        temperature: τ_KPM of Eq. 5.
        scale_losses: Give each scale a logit of its own.
    """

    #: Whether the weights of the first picture's places count.
    attends: ClassVar[bool] = False
    #: Whether it compares maps of one scale only.
    one_scale: ClassVar[bool] = False
    #: Whether scoring needs all places, or their mean alone.
    keeps_places: ClassVar[bool] = True

    #: Its layers by name; all its parameters are in them.
    layers: dict[str, nn.Module]

    def __init__(self, channels: list[int], temperature: float, scale_losses: bool) -> None:
        self.channels, self.temperature, self.scale_losses = channels, temperature, scale_losses

    @abstractmethod
    def logits(self, pictures: Encoded, first: Tensor, second: Tensor) -> list[Tensor]:
        """What the losses are of: logits of P pairs, positive for the same person.

        Args:
            pictures: N pictures.
            first, second: The pictures of each pair, (P,) int64.

        Returns:
            One tensor (P,), or with `scale_losses` one of each scale, whose probabilities are averaged.
        """

    @abstractmethod
    def score(self, queries: EncodedMaps, candidates: EncodedMaps, lists: Tensor | None = None) -> Tensor:
        """Logits (Q, G) of every query with every candidate, from what `prepare` made of them.

        With `lists` (Q, K) int64, the logits (Q, K) of each query with the candidates of these numbers alone.
        """

    @abstractmethod
    def exported(self, queries: Named, candidates: Named, sizes: list[tuple[int, int]]) -> Tensor:
        """Logits (Q, G) of every query with every candidate, from the tensors that `inputs` chooses.

        Args:
            queries, candidates: ``pooled`` (N, D), and for the scales 1, 2, … ``maps_1`` (N, H·W, C) and in a
                model with attention ``weight_1`` (N, H·W).
            sizes: Height and width of each scale's maps.
        """

    def inputs(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Which of these tensors `exported` takes of the queries, and which of the candidates."""
        maps = [name for name in names if name.startswith("maps_")]
        return [name for name in names if name != "pooled"], maps

    def prepare(self, pictures: Encoded, dtype: torch.dtype) -> EncodedMaps:
        """What `score` needs of some pictures; no more is kept."""
        scales = [prepare(scale.maps, scale.weight, dtype, self.keeps_places) for scale in pictures.scales]
        return EncodedMaps(pictures.pooled.float(), scales)

    def correspondence(self, x: Tensor, y: Tensor) -> Tensor:
        """Where each place of x looks in y, for explanations: β (N, H·W, H·W) of maps (N, C, H, W)."""
        return correspondence(x, y, self.temperature)


class PairModel(nn.Module):
    """A network that encodes pictures, and its way of comparing them.

    Attributes:
        backbone: The network below.
        channels: Of each scale's maps, coarsest first.
        dimension: Length of the pooled vectors.
        way: How it compares.
    """

    backbone: Backbone
    channels: list[int]
    dimension: int
    way: Way

    def compare_by(self, way: Way) -> None:
        """Take a way, and its layers as one's own."""
        self.way = way
        for name, layer in way.layers.items():
            self.add_module(name, layer)

    def encode(self, images: Tensor) -> Encoded:
        """Normalised images (N, 3, H, W), encoded."""
        raise NotImplementedError

    def vectors(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to what `encode` gives as `pooled`, and nothing else."""
        return self.encode(images).pooled

    def forward(self, pictures: Encoded, first: Tensor, second: Tensor) -> Tensor:
        """Logits (P,) of P pairs of N encoded pictures, `first` and `second` (P,) int64."""
        return mean_confidence(self.way.logits(pictures, first, second))

    @torch.no_grad()
    def score(self, queries: EncodedMaps, candidates: EncodedMaps, lists: Tensor | None = None) -> Tensor:
        """See `Way.score`.

        Raises:
            InputError: The maps are not this model's, of two precisions or not finite, or there are none; or
                `lists` is empty or names a candidate that is not there.
        """
        for which, maps in (("query", queries), ("candidates", candidates)):
            channels = [scale.unit.shape[2] for scale in maps.scales]
            if channels != self.channels:
                raise InputError(
                    which,
                    f"maps of {channels} channels are not this model's, which are of {self.channels}; "
                    "encode both sides with one model",
                )
            if len(maps) == 0:
                raise InputError(which, "there are none to compare; give at least one picture")
        for x, y in zip(queries.scales, candidates.scales):
            kinds = [f"{scale.unit.shape[1]} places in {scale.unit.dtype}" for scale in (x, y)]
            if kinds[0] != kinds[1] or (self.way.keeps_places and x.unit.shape[1] == 0):
                raise InputError(
                    "query and candidates",
                    f"maps of {kinds[0]} do not compare with maps of {kinds[1]}; encode both sides with "
                    "one model in one precision",
                )
        return self.way.score(queries, candidates, lists)


def mean_confidence(logits: list[Tensor]) -> Tensor:
    """The logit of the mean of some probabilities, from their logits, without leaving the logarithm."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack(logits)
    return F.logsigmoid(stacked).logsumexp(0) - F.logsigmoid(-stacked).logsumexp(0)
