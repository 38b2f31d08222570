"""HOReID's baselines.

KPM's verification baseline (Fig. 5) is `KPM` itself without matching, attention and hourglass.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.backbone import RESNET50, Backbone, BackboneOptions, initialise
from kronreid.models.embedding import Embedding
from kronreid.models.horeid import Hierarchy, hierarchy, sampling_maps


class Pooled(nn.Module):
    """ResNet + GAP, HOReID's baseline (Table II): a 1×1 convolution and average pooling (Eq. 1).

    Args:
        backbone: The backbone.
        channels: Length of the descriptor, positive.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(self, backbone: BackboneOptions = RESNET50, channels: int = 512) -> None:
        super().__init__()
        if channels < 1:
            raise InputError("model", f"channels {channels} must be positive")
        self.backbone = Backbone(backbone, levels=2)
        self.reduce = nn.Conv2d(self.backbone.channels[-1], channels, 1, bias=False)
        self.dimension = channels
        initialise(self.reduce)

    def forward(self, images: Tensor) -> Embedding:
        """Embed normalised images (N, 3, H, W); the descriptor is (N, channels)."""
        below, last = self.backbone(images)
        reduced = self.reduce(last)
        descriptor = F.normalize(reduced.float().mean((2, 3)))
        return Embedding(descriptor, {"global": descriptor}, maps={"X_1": reduced, "below": below})


class Concatenated(Hierarchy):
    """ResNet + (Atten) + Cat + GAP, HOReID's baselines without a high-order product (Table II).

    The levels are HOReID's, concatenated. For the global vector a 1×1 convolution reduces them to one map,
    which is averaged over all places. For the local vector another 1×1 convolution reduces them to one map,
    which is averaged with the sampler's maps (Eq. 11, 12) and then over the parts. The paper does not specify
    these layers; docs/models.md explains what its parameter counts imply.

    Args:
        backbone: The backbone.
        order: n, the number of levels.
        channels: Channels of X_l.
        dimension: Length of the global and of the local vector.
        parts: P, the number of attention maps; 0 is Cat + GAP, without the local vector.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        backbone: BackboneOptions = RESNET50,
        order: int = 3,
        channels: int = 512,
        dimension: int = 256,
        parts: int = 256,
    ) -> None:
        if dimension < 1 or parts < 0:
            raise InputError(
                "model", f"dimension {dimension} must be positive and parts {parts} must be at least 0"
            )
        super().__init__(backbone, order, channels)
        together = order * channels
        self.whole = nn.Conv2d(together, dimension, 1, bias=False)
        self.local = nn.Conv2d(together, dimension, 1, bias=False) if parts else None
        self.sampler = nn.Conv2d(together, parts, 1, bias=False) if parts else None
        self.dimension = dimension * (2 if parts else 1)
        initialise(*(module for name, module in self.named_children() if name != "backbone"))

    def forward(self, images: Tensor) -> Embedding:
        """Embed normalised images (N, 3, H, W); the descriptor is (N, dimension)."""
        maps = self.maps(images)
        levels = hierarchy(maps)
        together = torch.cat(levels, dim=1)
        branches = {"global": F.normalize(self.whole(together).float().mean((2, 3)))}
        parts: list[Tensor] = []
        if self.local is not None and self.sampler is not None:
            where = sampling_maps(self.sampler, levels).transpose(1, 2)  # (N, H·W, P)
            parts = [self.local(together).flatten(2).float() @ where]
            branches["local"] = F.normalize(parts[0].mean(2))
        return Embedding(F.normalize(torch.cat(list(branches.values()), dim=1)), branches, parts, maps)
