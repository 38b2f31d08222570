"""The exported graphs: each network together with the normalisation of its input.

The input is uint8 RGB of the network's size. The type defines the scale, and nobody can forget mean and
standard deviation, apply them twice, or confuse them with another model's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.data.transforms import InputOptions
from kronreid.models.embedding import embedded
from kronreid.models.pairs import Encoded, PairModel
from kronreid.models.places import PlaceMatching


class _Normalise(nn.Module):
    """`kronreid.data.transforms.normalise` as one multiplication and one addition."""

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
    """Maps uint8 pictures (N, 3, H, W) to vectors (N, D), L2-normalised.

    With places their projected maps (N, D, h, w) come beside them, level by level.
    """

    def __init__(self, model: nn.Module, options: InputOptions, places: PlaceMatching | None = None) -> None:
        super().__init__()
        self.normalise = _Normalise(options)
        self.model, self.mirror, self.places = model, options.mirror, places

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        embedding = embedded(self.model, self.normalise(images), self.mirror)
        vectors = F.normalize(embedding.descriptor)
        return vectors if self.places is None else (vectors, *self.places.project(embedding.maps))


class EncoderGraph(nn.Module):
    """Maps uint8 pictures (N, 3, H, W) to everything that their comparisons need, see `outputs`."""

    def __init__(self, model: PairModel, options: InputOptions) -> None:
        super().__init__()
        self.normalise = _Normalise(options)
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(outputs(self.model.encode(self.normalise(images))).values())


def outputs(pictures: Encoded) -> dict[str, Tensor]:
    """The encoder's outputs by name.

    They are the pooled vector (N, D), and for each scale, coarsest first, the maps (N, M, C) and, in a model
    with attention, the weights of the places (N, M).
    """
    found = {"pooled": pictures.pooled}
    for number, scale in enumerate(pictures.scales, start=1):
        found[f"maps_{number}"] = scale.maps.flatten(2).transpose(1, 2)
        if scale.weight is not None:
            found[f"weight_{number}"] = scale.weight
    return found


class ScorerGraph(nn.Module):
    """Maps the outputs of `EncoderGraph` to logits (Q, G) of every query with every candidate.

    The inputs are `names`: the tensors that the model's way needs of the queries, then those of the
    candidates. The candidates' attention is not needed, since Eq. 9 weights only the places of the first
    picture. The result equals `PairModel.forward`, pair by pair.

    Args:
        model: The pair model.
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
