"""KPM: end-to-end deep Kronecker-product matching for person re-identification (Shen et al., CVPR 2018).

KPM compares two pictures by their feature maps at three scales. It matches every place of the first picture
with every place of the second (Eq. 5, 6) and softly warps the second onto the first (Eq. 8). The difference,
weighted by attention (Eq. 9, 10), tells whether both show the same person. Names and equation numbers are the
paper's.
"""

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.backbone import RESNET50_STRIDE2, Backbone, BackboneOptions, initialise
from kronreid.models.confidences import Confidences
from kronreid.models.differences import (
    AbsoluteMeans,
    AbsoluteWarp,
    Concatenated,
    Differences,
    Means,
    Signed,
    Squares,
    Warp,
    WarpedSquares,
)
from kronreid.models.pairs import Encoded, PairModel, ScaleMaps, Turned, Way
from kronreid.ops.matching import check_temperature

#: The way of comparing for each choice of `match`, `warp` and `normalisation` (Tables 1 and 5).
WAYS: dict[tuple[bool, bool, str], type[Way]] = {
    (True, True, "square-after"): Warp,
    (True, True, "absolute"): AbsoluteWarp,
    (True, True, "square-before"): WarpedSquares,
    (True, False, "square-after"): Confidences,
    (False, True, "square-after"): Means,
    (False, True, "absolute"): AbsoluteMeans,
    (False, True, "square-before"): Squares,
    (False, True, "none"): Signed,
    (False, True, "concatenated"): Concatenated,
}
#: How two places are compared (Eq. 5, 6), and which picture's map is warped onto the other's.
SIMILARITIES, WARPED = ("cosine", "product"), ("second", "first")


class ResidualSelfAttention(nn.Module):
    """RSA (Sec. 3.1.3): two 1×1 convolutions to 256 channels with BN and ReLU, one to a single map, softmax.

    Args:
        channels: Channels of the maps.
        temperature: τ_RSA of Eq. 9.
    """

    def __init__(self, channels: int, temperature: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (channels, 256):
            layers += [nn.Conv2d(inputs, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        last = nn.Conv2d(256, 1, 1)
        self.layers = nn.Sequential(*layers, last)
        self.temperature = temperature
        initialise(self.layers)
        # He's normal would give logits with a deviation of 16. The softmax would pick a single place from the
        # first step on and have no gradient. Small weights start with uniform attention.
        nn.init.normal_(last.weight, std=0.001)

    def forward(self, maps: Tensor) -> Tensor:
        """Weights α = 1 + ã (N, H·W), float32, of maps (N, C, H, W) (Eq. 9)."""
        return 1 + (self.layers(maps).flatten(1).float() / self.temperature).softmax(dim=1)


class Hourglass(nn.Module):
    """Multi-scale maps (Sec. 3.2, Fig. 4). Each has half the channels and twice the size of the coarser one.

    Args:
        channels: Channels of the backbone's maps, finest first.
    """

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
        """Turn backbone maps, finest first, into the maps scale-1, scale-2 and scale-3, coarsest first."""
        scales = [maps[-1]]
        for down, lateral, fine in zip(self.down, self.lateral, reversed(maps[:-1])):
            up = F.interpolate(down(scales[-1]), size=fine.shape[2:], mode="bilinear", align_corners=False)
            scales.append(up + lateral(fine))
        return scales


class KPM(PairModel):
    """The complete pair model (Fig. 2, 4). Without matching, attention and hourglass it is Fig. 5's baseline.

    Args:
        backbone: The backbone; the paper uses ResNet-50 with last stride 2.
        match: Match every place of one map with every place of the other. Otherwise compare each place with
            the place at the same position.
        attention: Use residual self-attention, which weights the places of a warped match.
        hourglass: Use three scales instead of only the coarsest.
        temperature: τ_KPM of Eq. 5, positive.
        attention_temperature: τ_RSA of Eq. 9, positive.
        warp: Warp the second map onto the first. Otherwise classify the matching confidences alone
            (`ConfidenceClassifier`), at one scale.
        normalisation: How differences are made non-negative (Table 1): ``square-after`` pooling, ``absolute``
            value after pooling, or ``square-before`` pooling. The paper uses ``square-before`` only for
            unmatched places. With `match` it squares x_i minus the vector warped there, so that differences
            of opposite sign do not cancel. Without `match` there are also ``none``, the difference as it is,
            and ``concatenated``, both means without a difference; the paper reports that neither converges.
        scale_losses: Give each scale of the hourglass its own classifier and loss, and average their
            probabilities ("HG ML"). Otherwise one classifier reads all scales.
        similarity: How places are matched: ``cosine``, or ``product`` for the inner product as Eq. 5 and 6
            print it.
        warped: Which picture's map is warped onto the other's: the ``second`` (Eq. 8), or the ``first``. When
            a gallery is scored, the query is the first. The attention weights the places of the other one.
        batch_norm: Use BN between the magnitudes and the linear layer (Sec. 3.1.3). The paper's text on the
            baseline does not name it.

    Raises:
        InputError: Options are unknown, out of range, or contradict each other.
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
        normalisation: str = "square-after",
        scale_losses: bool = False,
        similarity: str = "cosine",
        warped: str = "second",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        check_temperature(temperature, "model: temperature")
        check_temperature(attention_temperature, "model: attention_temperature")
        must_be_one_of("similarity", similarity, SIMILARITIES)
        must_be_one_of("warped", warped, WARPED)
        chosen = choose_way(match, attention, hourglass, warp, normalisation, scale_losses)
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
        way = chosen(self.channels, temperature, scale_losses)
        way.cosine = similarity == "cosine"
        if not batch_norm:
            if not isinstance(way, Differences):
                raise InputError("model", "batch_norm: false is for ways with differences; set warp: true")
            way.without_batch_norm()
        self.compare_by(way if warped == "second" else Turned(way))
        self.match = match
        self.dimension = self.backbone.channels[-1]
        initialise(*filter(None, (self.hourglass, *self.way.layers.values())))

    def encode(self, images: Tensor) -> Encoded:
        """Encode normalised images (N, 3, H, W): everything that depends on one picture alone."""
        maps = self.backbone(images)
        scales = self.hourglass(maps) if self.hourglass is not None else maps
        weights = [layer(scale) for layer, scale in zip(self.attention or [], scales)] or [None] * len(scales)
        return Encoded(pool(maps), [ScaleMaps(*both) for both in zip(scales, weights)])

    def vectors(self, images: Tensor) -> Tensor:
        return pool(self.backbone(images))


def pool(maps: list[Tensor]) -> Tensor:
    """The average-pooled coarsest map of the backbone, (N, D) float32, L2-normalised."""
    return F.normalize(maps[-1].float().mean((2, 3)))


def must_be_one_of(option: str, value: str, known: Iterable[str]) -> None:
    """Check a choice.

    Raises:
        InputError: The value is none of the known ones.
    """
    if value not in (names := list(known)):
        raise InputError("model", f"{option} {value!r} is unknown; one of {', '.join(names)}")


def choose_way(
    match: bool, attention: bool, hourglass: bool, warp: bool, normalisation: str, scale_losses: bool
) -> type[Way]:
    """The way that the options of `KPM` select.

    Raises:
        InputError: The normalisation is unknown, or options contradict each other.
    """
    must_be_one_of("normalisation", normalisation, dict.fromkeys(name for _, _, name in WAYS))
    way = WAYS.get((match, warp, normalisation))
    complaints = {
        f"normalisation: {normalisation} compares pooled maps, without a match; set match: false": (
            match and normalisation in ("none", "concatenated")
        ),
        "attention weights the places of a warped match; set match and warp: true, or attention: false": (
            attention and not (way and way.attends)
        ),
        "warp: false classifies the confidences of a match; set match: true": way is None and not match,
        "warp: false works at one scale; set hourglass: false": hourglass and (way is None or way.one_scale),
        "warp: false compares by confidences, which have no normalisation; leave normalisation out": (
            way is None
        ),
        "scale_losses needs several scales; set hourglass: true": scale_losses and not hourglass,
    }
    for complaint, applies in complaints.items():
        if applies:
            raise InputError("model", complaint)
    assert way is not None
    return way
