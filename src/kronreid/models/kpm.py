"""KPM: end-to-end deep Kronecker-product matching for person re-identification (Shen et al., CVPR 2018).

Two pictures, each a map of features at three scales. Every place of the first is matched with every place of
the second (Eq. 5, 6), the second is softly warped onto the first (Eq. 8), and the attended difference
(Eq. 9, 10) says whether both show the same person. Names and equation numbers are the paper's.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.backbone import RESNET50_STRIDE2, Backbone, BackboneOptions, initialise
from kronreid.ops.matching import check_temperature, correspondence, match_pairs, match_squares

#: What becomes of a difference before BN (Table 1): δ², |δ|, or the mean of the places' squares.
Normalisation = Literal["square-after", "absolute", "square-before"]
#: Height and width to which `ConfidenceClassifier` brings the maps: those of scale-1 at 256×128.
CONFIDENCE_PLACES = (8, 4)


@dataclass
class ScaleMaps:
    """One scale of N pictures.

    Attributes:
        maps: Features (N, C, H, W), not normalised: the matching normalises, the warp does not.
        weight: Importance 1 + ã of every place (N, H·W), or None for ones.
    """

    maps: Tensor
    weight: Tensor | None


class ResidualSelfAttention(nn.Module):
    """RSA (Sec. 3.1.3): twice 1×1×256 convolution, BN and ReLU, then one map, softmax over places."""

    def __init__(self, channels: int, temperature: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (channels, 256):
            layers += [nn.Conv2d(inputs, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        last = nn.Conv2d(256, 1, 1)
        self.layers = nn.Sequential(*layers, last)
        self.temperature = temperature
        initialise(self.layers)
        # He's normal gives logits a deviation of 16 here: a softmax over one place from the first step on,
        # with no gradient to leave it by. Small weights begin with all places alike.
        nn.init.normal_(last.weight, std=0.001)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to α = 1 + ã (N, H·W) (Eq. 9)."""
        return 1 + (self.layers(maps).flatten(1).float() / self.temperature).softmax(dim=1)


class Hourglass(nn.Module):
    """Multi-scale maps (Sec. 3.2, Fig. 4): each has half the coarser one's channels and twice its size."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        coarse = channels[-1]
        self.down = nn.ModuleList(
            nn.Conv2d(coarse >> i, coarse >> (i + 1), 1) for i in range(len(channels) - 1)
        )
        self.lateral = nn.ModuleList(
            nn.Conv2d(fine, coarse >> (i + 1), 1) for i, fine in enumerate(reversed(channels[:-1]))
        )
        self.channels = [coarse >> i for i in range(len(channels))]

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Backbone maps, finest first, to the scales' maps, coarsest first (scale-1, scale-2, scale-3)."""
        scales = [maps[-1]]
        for down, lateral, fine in zip(self.down, self.lateral, reversed(maps[:-1])):
            up = F.interpolate(down(scales[-1]), size=fine.shape[2:], mode="bilinear", align_corners=False)
            scales.append(up + lateral(fine))
        return scales


class ConfidenceClassifier(nn.Module):
    """ "KPM w/o warp" (Sec. 3.1.4, 4.5): a logit from the matching confidences alone.

    The paper says "a few of convolution and fully-connected layers". Here: one channel per place of the first
    map, each the H×W confidences over the second (the submatrices of Eq. 7); two of (3×3 convolution to 64,
    BN, ReLU); a fully-connected layer to 256 with BN and ReLU; a fully-connected layer to the logit. Maps of
    another size than 8×4 are first averaged (or repeated) to it, so that the layers fit any input.
    """

    def __init__(self) -> None:
        super().__init__()
        places = CONFIDENCE_PLACES[0] * CONFIDENCE_PLACES[1]
        layers: list[nn.Module] = []
        for inputs in (places, 64):
            layers += [nn.Conv2d(inputs, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        # A convolution over all places at once is a fully-connected layer.
        layers += [nn.Conv2d(64, 256, CONFIDENCE_PLACES, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 1))

    def forward(self, beta: Tensor, size: tuple[int, int]) -> Tensor:
        """β (P, H·W, H·W) of maps of that size to logits (P,)."""
        count, places, _ = beta.shape
        over_y = F.adaptive_avg_pool2d(beta.view(count, places, *size), CONFIDENCE_PLACES)
        over_x = over_y.flatten(2).transpose(1, 2).reshape(count, -1, *size)
        both = F.adaptive_avg_pool2d(over_x, CONFIDENCE_PLACES).flatten(2).transpose(1, 2)
        return self.layers(both.reshape(count, -1, *CONFIDENCE_PLACES)).squeeze(1).float()


class KPM(nn.Module):
    """The whole pair model (Fig. 2, 4), and its baseline when all three parts are switched off (Fig. 5).

    Args:
        backbone: The network below, ResNet-50 with last stride 2 in the paper.
        match: Match every place of one map with every place of the other; otherwise places are compared as
            they lie.
        attention: Residual self-attention; it weighs the places of a warped match.
        hourglass: Three scales instead of the coarsest one.
        temperature: τ_KPM of Eq. 5.
        attention_temperature: τ_RSA of Eq. 9.
        warp: Warp the second map onto the first; otherwise the matching confidences alone are classified
            (`ConfidenceClassifier`), at one scale.
        normalisation: What becomes of the difference (Table 1): ``square-after`` pooling, ``absolute`` value,
            or ``square-before`` pooling. The paper has that for places as they lie; with `match` it is the
            squares of x_i minus what was warped there, whose differences of opposite sign do not cancel.
        scale_losses: A classifier and a loss of its own for each scale of the hourglass, whose probabilities
            are averaged ("HG ML"), instead of one for all.
    """

    def __init__(
        self,
        backbone: BackboneOptions = RESNET50_STRIDE2,
        match: bool = True,
        attention: bool = True,
        hourglass: bool = True,
        temperature: float = 0.05,
        attention_temperature: float = 1.0,
        warp: bool = True,
        normalisation: Normalisation = "square-after",
        scale_losses: bool = False,
    ) -> None:
        super().__init__()
        check_temperature(temperature, "model: temperature")
        check_temperature(attention_temperature, "model: attention_temperature")
        check_combination(match, attention, hourglass, warp, normalisation, scale_losses)
        self.backbone = Backbone(backbone, levels=3 if hourglass else 1)
        self.hourglass = Hourglass(self.backbone.channels) if hourglass else None
        self.channels = self.hourglass.channels if self.hourglass else self.backbone.channels
        self.attention = (
            nn.ModuleList(
                ResidualSelfAttention(channels, attention_temperature) for channels in self.channels
            )
            if attention
            else None
        )
        # Squared differences span orders of magnitude between backbones and scales: with a tiny epsilon it is
        # always their variance that BN divides by.
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels, eps=1e-9) for channels in self.channels if warp)
        self.classifier: nn.Linear | nn.ModuleList | ConfidenceClassifier
        if not warp:
            self.classifier = ConfidenceClassifier()
        elif scale_losses:
            self.classifier = nn.ModuleList(nn.Linear(channels, 1) for channels in self.channels)
        else:
            self.classifier = nn.Linear(sum(self.channels), 1)
        self.match, self.warp = match, warp
        self.normalisation = normalisation
        self.temperature = temperature
        self.dimension = self.backbone.channels[-1]
        initialise(*(module for module in (self.hourglass, self.classifier) if module is not None))

    def encode(self, images: Tensor) -> tuple[Tensor, list[ScaleMaps]]:
        """Everything that depends on one picture alone.

        Args:
            images: Normalised (N, 3, H, W).

        Returns:
            The pooled backbone feature (N, D), L2-normalised, for the first ranking; and the scales' maps.
        """
        maps = self.backbone(images)
        scales = self.hourglass(maps) if self.hourglass is not None else maps
        weights = (
            [layer(s) for layer, s in zip(self.attention, scales)] if self.attention is not None else None
        )
        pooled = F.normalize(maps[-1].float().mean((2, 3)))
        return pooled, [
            ScaleMaps(s, weights[i] if weights is not None else None) for i, s in enumerate(scales)
        ]

    def differences(self, scales: list[ScaleMaps], first: Tensor, second: Tensor) -> list[Tensor]:
        """What is compared of P pairs of encoded pictures, (P, C) per scale.

        δ̃ of Eq. 10, the second picture warped onto the first; without matching, the difference of the means
        (Fig. 5). With "square before pooling" the mean of the places' squared differences, warped or not.

        Args:
            scales: Of N pictures.
            first, second: The pictures of each pair, (P,) int64.
        """
        if self.match:
            compare = match_squares if self.normalisation == "square-before" else match_pairs
            return [compare(s.maps, s.maps, first, second, s.weight, self.temperature) for s in scales]
        if self.normalisation == "square-before":
            return [subtract(s.maps.float(), first, second).square().mean((2, 3)) for s in scales]
        return [subtract(s.maps.float().mean((2, 3)), first, second) for s in scales]

    def classify(self, differences: list[Tensor]) -> list[Tensor]:
        """Square (or what `normalisation` says), BN, linear layer.

        Returns:
            Logits (P,), positive: the same person. One of all scales together, or one of each with
            `scale_losses`.
        """
        with torch.autocast(differences[0].device.type, enabled=False):
            scales = [norm(self.magnitude(delta.float())) for norm, delta in zip(self.norms, differences)]
            if isinstance(self.classifier, nn.ModuleList):
                return [layer(scale).squeeze(1) for layer, scale in zip(self.classifier, scales)]
            return [self.classifier(torch.cat(scales, dim=1)).squeeze(1)]

    def magnitude(self, delta: Tensor) -> Tensor:
        """What BN sees of a difference."""
        if self.normalisation == "square-before":
            return delta
        return delta.abs() if self.normalisation == "absolute" else delta.square()

    def logits(self, scales: list[ScaleMaps], first: Tensor, second: Tensor) -> list[Tensor]:
        """What the losses are of: one logit (P,) per pair, or one for each scale with `scale_losses`."""
        if isinstance(self.classifier, ConfidenceClassifier):
            (scale,) = scales
            height, width = scale.maps.shape[2:]
            beta = correspondence(scale.maps[first], scale.maps[second], self.temperature)
            return [self.classifier(beta, (height, width))]
        return self.classify(self.differences(scales, first, second))

    def forward(self, scales: list[ScaleMaps], first: Tensor, second: Tensor) -> Tensor:
        """Logits (P,) of P pairs of N encoded pictures, `first` and `second` (P,) int64."""
        return mean_confidence(self.logits(scales, first, second))

    @torch.no_grad()
    def head(self) -> tuple[list[Tensor], list[float]]:
        """BN and linear layer of a trained model as one.

        Returns:
            a per scale, (C,) each, and b per scale: Σ_c a_c · magnitude(δ)_c + b is the scale's share of the
            one logit, or its own with `scale_losses`.
        """
        classifier = self.classifier
        assert not isinstance(classifier, ConfidenceClassifier)
        layers = classifier if isinstance(classifier, nn.ModuleList) else [classifier]
        pieces = list(torch.cat([layer.get_parameter("weight")[0] for layer in layers]).split(self.channels))
        constants = [float(layer.get_parameter("bias")) for layer in layers]
        constants += [0.0] * (len(pieces) - len(constants))
        folded = []
        for i, (norm, piece) in enumerate(zip(self.norms, pieces)):
            assert isinstance(norm, nn.BatchNorm1d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            folded.append(piece * scale)
            constants[i] += float((piece * (norm.bias - norm.running_mean * scale)).sum())
        return folded, constants

    def combine(self, shares: list[Tensor]) -> Tensor:
        """The scales' shares, as `head` gives them, to the logit of a pair: of any one shape."""
        if isinstance(self.classifier, nn.ModuleList):
            return mean_confidence(shares)
        return sum(shares[1:], start=shares[0])


def mean_confidence(logits: list[Tensor]) -> Tensor:
    """The logit of the mean of some probabilities, from their logits, without leaving the logarithm."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack(logits)
    return F.logsigmoid(stacked).logsumexp(0) - F.logsigmoid(-stacked).logsumexp(0)


def subtract(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """values[first] − values[second] along the first dimension; the backward pass adds rows up quickly."""
    return values.index_select(0, first) - values.index_select(0, second)


def check_combination(
    match: bool, attention: bool, hourglass: bool, warp: bool, normalisation: str, scale_losses: bool
) -> None:
    """Complain about options of `KPM` that contradict each other."""
    if normalisation not in get_args(Normalisation):
        raise InputError(
            f"model: normalisation {normalisation!r} is unknown; one of {', '.join(get_args(Normalisation))}"
        )
    complaints = {
        "attention weighs the places of a warped match; set match and warp: true, or attention: false": (
            attention and not (match and warp)
        ),
        "warp: false classifies the confidences of a match; set match: true": not warp and not match,
        "warp: false works at one scale; set hourglass: false": not warp and hourglass,
        "warp: false makes no difference that normalisation could change; leave it out": (
            not warp and normalisation != "square-after"
        ),
        "scale_losses needs several scales; set hourglass: true": scale_losses and not hourglass,
    }
    for complaint, applies in complaints.items():
        if applies:
            raise InputError(f"model: {complaint}")
