"""What is exported: each network with everything between a decoded picture and its numbers inside.

Pictures enter as uint8 RGB of the network's size: the type says the scale, and mean and standard deviation
cannot be forgotten, given twice or mistaken for another model's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.data.transforms import InputOptions
from kronreid.models.pairs import Encoded, PairModel
from kronreid.models.places import PlaceMatching


class _Normalise(nn.Module):
    """`kronreid.data.transforms.normalise` as one product and one sum."""

    scale: Tensor
    shift: Tensor

    def __init__(self, options: InputOptions) -> None:
        super().__init__()
        mean, std = (
            torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (options.mean, options.std)
        )
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, images: Tensor) -> Tensor:
        return images.float() * self.scale + self.shift


class EmbedderGraph(nn.Module):
    """uint8 pictures (N, 3, H, W) to vectors (N, D), L2-normalised.

    With places their projected maps (N, D, h, w) come beside them, level by level.
    """

    def __init__(self, model: nn.Module, options: InputOptions, places: PlaceMatching | None = None) -> None:
        super().__init__()
        self.normalise = _Normalise(options)
        self.model, self.places = model, places

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        embedding = self.model(self.normalise(images))
        vectors = F.normalize(embedding.descriptor)
        return vectors if self.places is None else (vectors, *self.places.project(embedding.maps))


class EncoderGraph(nn.Module):
    """uint8 pictures (N, 3, H, W) to all that their comparisons need, see `outputs`."""

    def __init__(self, model: PairModel, options: InputOptions) -> None:
        super().__init__()
        self.normalise = _Normalise(options)
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(outputs(self.model.encode(self.normalise(images))).values())


def outputs(pictures: Encoded) -> dict[str, Tensor]:
    """The encoder's outputs by name: the pooled vector (N, D), then per scale, coarsest first, maps (N, M, C)
    and, in a model with attention, the places' weights (N, M)."""
    found = {"pooled": pictures.pooled}
    for number, scale in enumerate(pictures.scales, start=1):
        found[f"maps_{number}"] = scale.maps.flatten(2).transpose(1, 2)
        if scale.weight is not None:
            found[f"weight_{number}"] = scale.weight
    return found


class ScorerGraph(nn.Module):
    """Logits (Q, G) of every query against every candidate, from what `EncoderGraph` made of them.

    The inputs are `names`: what the model's way takes of the queries, then of the candidates, whose attention
    does not count (Eq. 9 weighs the places of the first picture). The plain form that it equals is
    `PairModel.forward`, pair by pair.

    Args:
        model: The matcher.
        example: Pictures that it encoded.
    """

    def __init__(self, model: PairModel, example: Encoded) -> None:
        super().__init__()
        self.queries, self.candidates = model.way.inputs(list(outputs(example)))
        self.names = [f"query_{name}" for name in self.queries]
        self.names += [f"candidate_{name}" for name in self.candidates]
        self.way, self.layers = model.way, nn.ModuleDict(model.way.layers)
        self.sizes = [(scale.maps.shape[2], scale.maps.shape[3]) for scale in example.scales]

    def forward(self, *inputs: Tensor) -> Tensor:
        queries = dict(zip(self.queries, inputs))
        return self.way.exported(queries, dict(zip(self.candidates, inputs[len(queries) :])), self.sizes)
