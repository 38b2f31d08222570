"""The interface of pair models: a pair model encodes single pictures, and its *way* compares two of them.

Training, scoring and export use only this interface. A new way is one file with a subclass of `Way`, and one
entry in `kronreid.models.kpm.WAYS`, the table from which `KPM` chooses. A way that needs other options than
KPM's comes with its own model, which is registered in `kronreid.models.MODELS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.backbone import Backbone
from kronreid.ops.blocks import PreparedMaps, check_lists, prepare
from kronreid.ops.matching import correspondence

#: Tensors by name.
Named: TypeAlias = dict[str, Tensor]


@dataclass
class ScaleMaps:
    """The feature maps of N pictures at one scale.

    Attributes:
        maps: Features (N, C, H, W), not normalised. The matching normalises them for cosines, the warp does
            not.
        weight: Weight 1 + ã of every place (N, H·W); None for ones.
    """

    maps: Tensor
    weight: Tensor | None


class Encoded(NamedTuple):
    """N pictures encoded by a pair model: everything that depends on one picture alone."""

    pooled: Tensor
    """Pooled features (N, D), L2-normalised, for a first ranking."""
    scales: list[ScaleMaps]
    """The maps of each scale, coarsest first."""


@dataclass
class EncodedMaps:
    """N pictures prepared once for any number of comparisons.

    Attributes:
        pooled: Pooled backbone features (N, D) float32, L2-normalised.
        scales: The prepared maps of each scale, coarsest first.
    """

    pooled: Tensor
    scales: list[PreparedMaps]

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, index: slice | Tensor) -> "EncodedMaps":
        return EncodedMaps(self.pooled[index], [scale[index] for scale in self.scales])

    @classmethod
    def cat(cls, parts: "Sequence[EncodedMaps]") -> "EncodedMaps":
        """Concatenate pictures that one model encoded in one precision."""
        scales = [PreparedMaps.cat(scale) for scale in zip(*(part.scales for part in parts))]
        return cls(torch.cat([part.pooled for part in parts]), scales)


class Way(ABC):
    """One way of comparing two encoded pictures, in three forms that give the same logits.

    `logits` is for training: it compares pairs given by index, with gradients. `score` compares many pictures
    with many, without gradients, and its memory does not grow with the gallery. `exported` is the graph of
    an exported scorer.

    A way is not a module. The pair model owns its layers, and a checkpoint stores them by their own names.

    Args:
        channels: Channels of each scale's maps, coarsest first.
        temperature: τ_KPM of Eq. 5.
        scale_losses: Give each scale its own logit.
    """

    #: Whether it uses the attention weights of the first picture.
    attends: bool = False
    #: Whether it compares maps of a single scale only.
    one_scale: bool = False
    #: Whether scoring needs all places; otherwise it needs only their mean.
    keeps_places: bool = True
    #: Whether places are matched by cosines; otherwise by plain inner products, as Eq. 5 prints them. The
    #: model sets it.
    cosine: bool = True

    #: Its layers by name. They hold all its parameters.
    layers: dict[str, nn.Module]

    def __init__(self, channels: list[int], temperature: float, scale_losses: bool) -> None:
        self.channels, self.temperature, self.scale_losses = channels, temperature, scale_losses

    @abstractmethod
    def logits(self, pictures: Encoded, first: Tensor, second: Tensor) -> list[Tensor]:
        """Logits of P pairs for the losses; positive logits mean the same person.

        Args:
            pictures: N encoded pictures.
            first: (P,) int64, the index of each pair's first picture.
            second: (P,) int64, the index of each pair's second picture.

        Returns:
            One tensor (P,), or with `scale_losses` one per scale, whose probabilities are averaged.
        """

    @abstractmethod
    def score(self, queries: EncodedMaps, candidates: EncodedMaps, lists: Tensor | None = None) -> Tensor:
        """Logits (Q, G) float32 of every query with every candidate.

        Args:
            queries: Q pictures as `prepare` returns them.
            candidates: G pictures as `prepare` returns them.
            lists: (Q, K) int64 indices into `candidates`. With it the result is (Q, K): the logits of each
                query with its own list.
        """

    @abstractmethod
    def exported(self, queries: Named, candidates: Named, sizes: list[tuple[int, int]]) -> Tensor:
        """Logits (Q, G) of every query with every candidate, from the tensors that `inputs` chooses.

        Args:
            queries: ``pooled`` (Q, D), and for the scales 1, 2, … ``maps_1`` (Q, H·W, C) and, in a model with
                attention, ``weight_1`` (Q, H·W).
            candidates: The same tensors of the G candidates.
            sizes: Height and width of each scale's maps.
        """

    def inputs(self, names: list[str]) -> tuple[list[str], list[str]]:
        """The names of the tensors that `exported` needs of the queries, and of the candidates."""
        maps = [name for name in names if name.startswith("maps_")]
        return [name for name in names if name != "pooled"], maps

    def prepare(self, pictures: Encoded, dtype: torch.dtype) -> EncodedMaps:
        """Keep only what `score` needs of encoded pictures, the maps in `dtype` (float32 or bfloat16)."""
        scales = [
            prepare(scale.maps, scale.weight, dtype, self.keeps_places, self.cosine)
            for scale in pictures.scales
        ]
        return EncodedMaps(pictures.pooled.float(), scales)

    def correspondence(self, x: Tensor, y: Tensor) -> Tensor:
        """The correspondences β (N, H·W, H·W) of maps (N, C, H, W), for explanations.

        Row i says where place i of x looks in y.
        """
        return correspondence(x, y, self.temperature, self.cosine)


class Turned(Way):
    """Another way with the two pictures exchanged: the first is warped onto the second.

    The attention weights are then those of the second picture, whose places the difference is of.

    Args:
        inner: The way.
    """

    def __init__(self, inner: Way) -> None:
        super().__init__(inner.channels, inner.temperature, inner.scale_losses)
        self.inner, self.layers, self.cosine = inner, inner.layers, inner.cosine
        self.attends, self.one_scale, self.keeps_places = inner.attends, inner.one_scale, inner.keeps_places

    def logits(self, pictures: Encoded, first: Tensor, second: Tensor) -> list[Tensor]:
        return self.inner.logits(pictures, second, first)

    def score(self, queries: EncodedMaps, candidates: EncodedMaps, lists: Tensor | None = None) -> Tensor:
        if lists is None:
            return self.inner.score(candidates, queries).t()
        check_lists(lists, len(queries), len(candidates))
        rows = [self.inner.score(candidates[row], queries[i : i + 1]).t() for i, row in enumerate(lists)]
        return torch.cat(rows)

    def exported(self, queries: Named, candidates: Named, sizes: list[tuple[int, int]]) -> Tensor:
        return self.inner.exported(candidates, queries, sizes).transpose(0, 1)

    def inputs(self, names: list[str]) -> tuple[list[str], list[str]]:
        first, second = self.inner.inputs(names)
        return second, first

    def correspondence(self, x: Tensor, y: Tensor) -> Tensor:
        """β (N, H·W, H·W) of maps (N, C, H, W): column j says where place j of y looks in x, and sums to 1.

        Row i thus says which places of y look at place i of x, and how strongly.
        """
        return self.inner.correspondence(y, x).transpose(1, 2)


class PairModel(nn.Module):
    """A network that encodes pictures, and its way of comparing them.

    Attributes:
        backbone: The backbone.
        channels: Channels of each scale's maps, coarsest first.
        dimension: Length of the pooled vectors.
        way: The way of comparing.
    """

    backbone: Backbone
    channels: list[int]
    dimension: int
    way: Way

    def compare_by(self, way: Way) -> None:
        """Set the way of comparing and register its layers."""
        self.way = way
        for name, layer in way.layers.items():
            self.add_module(name, layer)

    def encode(self, images: Tensor) -> Encoded:
        """Encode normalised images (N, 3, H, W)."""
        raise NotImplementedError

    def vectors(self, images: Tensor) -> Tensor:
        """Only the pooled vectors (N, D) of `encode`, for normalised images (N, 3, H, W)."""
        return self.encode(images).pooled

    def forward(self, pictures: Encoded, first: Tensor, second: Tensor) -> Tensor:
        """Logits (P,) of P pairs of N encoded pictures; `first` and `second` are (P,) int64 indices."""
        return mean_confidence(self.way.logits(pictures, first, second))

    @torch.no_grad()
    def score(self, queries: EncodedMaps, candidates: EncodedMaps, lists: Tensor | None = None) -> Tensor:
        """See `Way.score`.

        Raises:
            InputError: The maps come from another model, have different precisions, are not finite, or there
                are none. Or `lists` is empty or has an index outside the candidates.
        """
        for which, maps in (("query", queries), ("candidates", candidates)):
            channels = [scale.unit.shape[2] for scale in maps.scales]
            if channels != self.channels:
                raise InputError(
                    which,
                    f"its maps have {channels} channels, but this model's have {self.channels}; encode both "
                    "sides with this model",
                )
            if len(maps) == 0:
                raise InputError(which, "is empty; give at least one picture")
        for x, y in zip(queries.scales, candidates.scales):
            kinds = [f"{scale.unit.shape[1]} places in {scale.unit.dtype}" for scale in (x, y)]
            if kinds[0] != kinds[1] or (self.way.keeps_places and x.unit.shape[1] == 0):
                raise InputError(
                    "query and candidates",
                    f"maps with {kinds[0]} cannot be compared with maps with {kinds[1]}; encode both sides "
                    "with one model in one precision",
                )
        return self.way.score(queries, candidates, lists)


def check_input(options: InputOptions) -> None:
    """Complain about options of the input that pair models do not have.

    Raises:
        InputError: Pictures are to be averaged with their mirror images.
    """
    if options.mirror:
        raise InputError("input.mirror", "is for embedding models, not for pair models; set it to false")


def mean_confidence(logits: list[Tensor]) -> Tensor:
    """The logit of the mean of the probabilities with these logits, computed stably in the log domain."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack(logits)
    return F.logsigmoid(stacked).logsumexp(0) - F.logsigmoid(-stacked).logsumexp(0)
