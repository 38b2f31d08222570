"""What is exported: each network with everything between a decoded picture and its numbers inside.

Pictures enter as uint8 RGB of the network's size: the type says the scale, and mean and standard deviation
cannot be forgotten, given twice or mistaken for another model's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.data.transforms import InputOptions
from kronreid.models.kpm import KPM, ConfidenceClassifier
from kronreid.ops.matching import EPSILON


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
    """uint8 pictures (N, 3, H, W) to vectors (N, D), L2-normalised."""

    def __init__(self, model: nn.Module, options: InputOptions) -> None:
        super().__init__()
        self.normalise = _Normalise(options)
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.model(self.normalise(images)).descriptor)


class EncoderGraph(nn.Module):
    """uint8 pictures (N, 3, H, W) to all that their comparisons need, see `names`."""

    def __init__(self, model: KPM, options: InputOptions) -> None:
        super().__init__()
        self.normalise = _Normalise(options)
        self.model = model

    @property
    def names(self) -> list[str]:
        """The pooled vector (N, D), then per scale, coarsest first, maps (N, M, C) and, in a model with
        attention, the places' weights (N, M)."""
        names = ["pooled"]
        for number in range(1, len(self.model.channels) + 1):
            names.append(f"maps_{number}")
            if self.model.attention is not None:
                names.append(f"weight_{number}")
        return names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pooled, scales = self.model.encode(self.normalise(images))
        outputs = [pooled]
        for scale in scales:
            outputs.append(scale.maps.flatten(2).transpose(1, 2))
            if scale.weight is not None:
                outputs.append(scale.weight)
        return tuple(outputs)


class ScorerGraph(nn.Module):
    """Logits (Q, G) of every query against every candidate, from what `EncoderGraph` made of them.

    The inputs are `names`: the queries' maps and weights of every scale, then the candidates' maps; what
    attention the candidates have does not count (Eq. 9 weighs the places of the first picture). The plain
    form that it equals is `KPM.forward`, pair by pair.

    Args:
        model: The matcher.
        size: Height and width of its coarsest maps.
    """

    def __init__(self, model: KPM, size: tuple[int, int]) -> None:
        super().__init__()
        self.confidences = model.classifier if isinstance(model.classifier, ConfidenceClassifier) else None
        self.constants: list[float] = []
        if self.confidences is None:
            head, self.constants = model.head()
            for number, weight in enumerate(head):
                self.register_buffer(f"head_{number}", weight.clone())
        self.scales = len(model.channels)
        self.attention = model.attention is not None
        self.match, self.before = model.match, model.normalisation == "square-before"
        self.temperature = model.temperature
        self.size = size
        self.magnitude, self.combine = model.magnitude, model.combine

    @property
    def names(self) -> list[str]:
        """Of the inputs, in order."""
        queries = []
        for number in range(1, self.scales + 1):
            queries.append(f"query_maps_{number}")
            if self.attention:
                queries.append(f"query_weight_{number}")
        return [*queries, *(f"candidate_maps_{number}" for number in range(1, self.scales + 1))]

    def forward(self, *inputs: Tensor) -> Tensor:
        each = 2 if self.attention else 1
        shares = []
        for number, y in enumerate(inputs[each * self.scales :]):
            x = inputs[each * number]
            if self.confidences is not None:
                beta = self._beta(x, y).transpose(1, 2)
                return self.confidences(beta.flatten(0, 1), self.size).view(x.shape[0], y.shape[0])
            weight = inputs[each * number + 1] if self.attention else torch.ones_like(x[:, :, 0])
            if self.match and self.before:
                delta = self._squares(x, weight, y)
            elif self.match:
                delta = self._delta(x, weight, y)
            elif self.before:
                delta = (x[:, None] - y[None]).square().mean(2)
            else:
                delta = x.mean(1)[:, None] - y.mean(1)[None]
            shares.append(self.magnitude(delta) @ getattr(self, f"head_{number}") + self.constants[number])
        return self.combine(shares)

    def _beta(self, x: Tensor, y: Tensor) -> Tensor:
        """β of Eq. 5, (Q, M, G, M), of maps (Q, M, C) and (G, M, C)."""
        (queries, places, channels), candidates = x.shape, y.shape[0]  # len() would be a fixed number
        x_unit = F.normalize(x, dim=2, eps=EPSILON).view(queries * places, channels)
        y_unit = F.normalize(y, dim=2, eps=EPSILON).view(candidates * places, channels)
        cosines = (x_unit @ y_unit.t()).view(queries, places, candidates, places)
        return (cosines / self.temperature).softmax(dim=3)

    def _delta(self, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        """δ̃ of Eq. 10, (Q, G, C), by the collapsed warp: (X w − Y βᵀ w) / M (docs/performance.md)."""
        beta = self._beta(x, y)
        v = (weight[:, None] @ beta.flatten(2)).view(x.shape[0], y.shape[0], -1)
        warped = (v.transpose(0, 1) @ y).transpose(0, 1)
        return ((weight[:, None] @ x) - warped) / x.shape[1]

    def _squares(self, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        """mean_i w_i (x_i − Σ_j β_ij y_j)², (Q, G, C)."""
        looks = self._beta(x, y).permute(2, 0, 1, 3).flatten(1, 2)
        difference = x - (looks @ y).view(y.shape[0], *x.shape)
        return (weight[..., None] * difference.square()).mean(2).transpose(0, 1)
