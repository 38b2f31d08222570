"""KPM: end-to-end deep Kronecker-product matching for person re-identification (Shen et al., CVPR 2018).

Two pictures, each a map of features at three scales. Every place of the first is matched with every place of
the second (Eq. 5, 6), the second is softly warped onto the first (Eq. 8), and the attended difference
(Eq. 9, 10) says whether both show the same person. Names and equation numbers are the paper's.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.backbone import RESNET50_STRIDE2, Backbone, BackboneOptions, initialise
from kronreid.ops.matching import match_collapsed


@dataclass
class ScaleMaps:
    """One scale of N pictures.

    Attributes:
        maps: Features (N, C, H, W), not normalised: the matching normalises, the warp does not.
        weight: Importance 1 + ã of every place (N, H·W), or None for ones.
    """

    maps: Tensor
    weight: Tensor | None

    def take(self, index: Tensor) -> "ScaleMaps":
        """The pictures of these numbers."""
        return ScaleMaps(self.maps[index], None if self.weight is None else self.weight[index])


class ResidualSelfAttention(nn.Module):
    """RSA (Sec. 3.1.3): twice 1×1×256 convolution, BN and ReLU, then one map, softmax over places."""

    def __init__(self, channels: int, temperature: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (channels, 256):
            layers += [nn.Conv2d(inputs, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(256, 1, 1))
        self.temperature = temperature

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


class KPM(nn.Module):
    """The whole pair model (Fig. 2, 4), and its baseline when all three parts are switched off (Fig. 5).

    Args:
        backbone: The network below, ResNet-50 with last stride 2 in the paper.
        match: Warp the second map onto the first; otherwise places are compared as they lie.
        attention: Residual self-attention; it weighs the places of a match, so it needs `match`.
        hourglass: Three scales instead of the coarsest one.
        temperature: τ_KPM of Eq. 5.
        attention_temperature: τ_RSA of Eq. 9.
    """

    def __init__(
        self,
        backbone: BackboneOptions = RESNET50_STRIDE2,
        match: bool = True,
        attention: bool = True,
        hourglass: bool = True,
        temperature: float = 0.05,
        attention_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if temperature <= 0 or attention_temperature <= 0:
            raise InputError(f"model: temperatures {temperature} and {attention_temperature} must be above 0")
        if attention and not match:
            raise InputError(
                "model: attention weighs the places of a match; set match: true or attention: false"
            )
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
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels, eps=1e-9) for channels in self.channels)
        self.classifier = nn.Linear(sum(self.channels), 1)
        self.match = match
        self.temperature = temperature
        self.dimension = self.backbone.channels[-1]
        initialise(
            *(module for module in (self.hourglass, self.attention, self.classifier) if module is not None)
        )

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

    def differences(self, x: list[ScaleMaps], y: list[ScaleMaps]) -> list[Tensor]:
        """δ̃ of Eq. 10 for N pairs, (N, C) per scale; y is warped onto x."""
        if self.match:
            return [match_collapsed(a.maps, b.maps, a.weight, self.temperature) for a, b in zip(x, y)]
        return [a.maps.float().mean((2, 3)) - b.maps.float().mean((2, 3)) for a, b in zip(x, y)]

    def classify(self, differences: list[Tensor]) -> Tensor:
        """Square, BN, one linear layer over all scales: a logit per pair (N,), positive: the same person."""
        with torch.autocast(differences[0].device.type, enabled=False):
            squares = [norm(delta.float().square()) for norm, delta in zip(self.norms, differences)]
            return self.classifier(torch.cat(squares, dim=1)).squeeze(1)

    def forward(self, x: list[ScaleMaps], y: list[ScaleMaps]) -> Tensor:
        """Logits (N,) of N encoded pairs."""
        return self.classify(self.differences(x, y))

    @torch.no_grad()
    def head(self) -> tuple[list[Tensor], float]:
        """BN and linear layer of a trained model as one: logit = Σ_s δ_s² · a_s + b.

        Returns:
            a per scale, (C,) each, and b.
        """
        pieces = self.classifier.weight[0].split(self.channels)
        constant = float(self.classifier.bias[0])
        folded = []
        for norm, piece in zip(self.norms, pieces):
            assert isinstance(norm, nn.BatchNorm1d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            folded.append(piece * scale)
            constant += float((piece * (norm.bias - norm.running_mean * scale)).sum())
        return folded, constant
