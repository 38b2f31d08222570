"""The usual baseline of re-identification: an averaged map and a neck. Checkpoints are converted to it."""

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.backbone import RESNET50, Backbone, BackboneOptions
from kronreid.models.embedding import Embedding
from kronreid.options import Positive


class Averaged(nn.Module):
    """A backbone whose last map is averaged over all places, and a neck.

    Args:
        backbone: The backbone.
        neck: What follows the average: ``none``; ``bn``, batch normalisation (BNNeck, Luo et al. 2019); or
            ``fc``, a linear layer with batch normalisation and a ReLU (torchreid).
        channels: Length of the descriptor with the neck ``fc``.
        power: p of the generalised mean; 1 is the plain average.
        ceil_mode: The pooling of ResNet's stem has no padding and rounds its size up, as in fast-reid.
    """

    def __init__(
        self,
        backbone: BackboneOptions = RESNET50,
        neck: Literal["none", "bn", "fc"] = "none",
        channels: Positive = 512,
        power: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, levels=2)
        width = self.backbone.channels[-1]
        if ceil_mode:
            network = self.backbone.network
            if not isinstance(network, nn.ModuleDict) or "maxpool" not in network:
                raise InputError("model.ceil_mode", f"{backbone.name} has no pooling in its stem")
            network["maxpool"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.power = power
        self.dimension = channels if neck == "fc" else width
        layers: list[nn.Module] = []
        if neck == "bn":
            layers = [nn.BatchNorm1d(width)]
        if neck == "fc":
            layers = [nn.Linear(width, channels), nn.BatchNorm1d(channels), nn.ReLU()]
        self.neck = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Embedding:
        """Embed normalised images (N, 3, H, W); the descriptor is L2-normalised."""
        below, last = self.backbone(images)
        places = last.float()
        if self.power != 1:
            places = places.clamp_min(1e-6).pow(self.power)
        pooled = places.mean((2, 3))
        if self.power != 1:
            pooled = pooled.pow(1 / self.power)
        descriptor = F.normalize(self.neck(pooled).float())
        return Embedding(descriptor, {"global": descriptor}, maps={"X_1": last, "below": below})
