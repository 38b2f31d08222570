"""What the papers compare with.

The verification baseline of KPM (Fig. 5) is `KPM` itself without matching, attention and hourglass.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.backbone import RESNET50, Backbone, BackboneOptions, initialise
from kronreid.models.embedding import Embedding


class Pooled(nn.Module):
    """ResNet + GAP, HOReID's baseline (Table II): a 1×1 convolution and average pooling (Eq. 1).

    Args:
        backbone: The network below.
        channels: Length of the descriptor.
    """

    def __init__(self, backbone: BackboneOptions = RESNET50, channels: int = 512) -> None:
        super().__init__()
        if channels < 1:
            raise InputError(f"model: channels {channels} must be positive")
        self.backbone = Backbone(backbone)
        self.reduce = nn.Conv2d(self.backbone.channels[-1], channels, 1, bias=False)
        self.dimension = channels
        initialise(self.reduce)

    def forward(self, images: Tensor) -> Embedding:
        """Normalised images (N, 3, H, W) to their embedding (N, channels)."""
        descriptor = F.normalize(self.reduce(self.backbone(images)[-1]).float().mean((2, 3)))
        return Embedding(descriptor, {"global": descriptor})
