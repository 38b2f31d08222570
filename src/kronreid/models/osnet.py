"""OSNet: omni-scale feature learning for person re-identification (Zhou et al., ICCV 2019).

Importing this module adds ``osnet_x1_0`` and its narrower forms to timm's networks, so that a backbone's
`name` can be one of them. Parameters have the names of the authors' checkpoints.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

import kronreid.torchvision_guard  # noqa: F401

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model  # isort: skip

#: Channels of the stem and of the three stages, by width.
WIDTHS = {
    "osnet_x1_0": (64, 256, 384, 512),
    "osnet_x0_75": (48, 192, 288, 384),
    "osnet_x0_5": (32, 128, 192, 256),
    "osnet_x0_25": (16, 64, 96, 128),
}
#: timm's description of each: it has no weights for them.
default_cfgs = generate_default_cfgs(
    {name: {"input_size": (3, 256, 128), "num_classes": 0, "first_conv": "conv1.conv"} for name in WIDTHS}
)


class Convolution(nn.Module):
    """A convolution without bias, batch normalisation and, if wanted, a ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class Lite(nn.Module):
    """The Lite 3×3 layer: a 1×1 convolution, a depthwise 3×3 convolution, batch normalisation and a ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv2(self.conv1(x))))


class Gate(nn.Module):
    """The aggregation gate, which all streams of a block share: it weights the channels of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class Block(nn.Module):
    """The omni-scale residual block: four streams of one to four Lite layers between 1×1 convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = Convolution(inputs, middle)
        self.conv2a = Lite(middle)
        self.conv2b = nn.Sequential(*(Lite(middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(Lite(middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(Lite(middle) for _ in range(4)))
        self.gate = Gate(middle)
        self.conv3 = Convolution(middle, outputs, relu=False)
        if inputs != outputs:
            self.downsample = Convolution(inputs, outputs, relu=False)
        self.changes = inputs != outputs

    def forward(self, x: Tensor) -> Tensor:
        start = self.conv1(x)
        streams = (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        gated = [self.gate(stream(start)) for stream in streams]
        residual = self.conv3(gated[0] + gated[1] + gated[2] + gated[3])
        return F.relu(residual + (self.downsample(x) if self.changes else x))


def stage(inputs: int, outputs: int, halves: bool) -> nn.Sequential:
    """Two blocks; then, if the stage halves the map, a 1×1 convolution and average pooling."""
    layers: list[nn.Module] = [Block(inputs, outputs), Block(outputs, outputs)]
    if halves:
        layers.append(nn.Sequential(Convolution(outputs, outputs), nn.AvgPool2d(2)))
    return nn.Sequential(*layers)


class OSNet(nn.Module):
    """OSNet without its classifier. Its last map has stride 16.

    Args:
        channels: Channels of the stem and of the three stages.
        in_chans: Channels of the input.
        num_classes: Only 0 exists.
    """

    def __init__(self, channels: tuple[int, ...], in_chans: int = 3, num_classes: int = 0) -> None:
        super().__init__()
        stem, *wide = channels
        self.conv1 = Convolution(in_chans, stem, 7, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.conv2 = stage(stem, wide[0], halves=True)
        self.conv3 = stage(wide[0], wide[1], halves=True)
        self.conv4 = stage(wide[1], wide[2], halves=False)
        self.conv5 = Convolution(wide[2], wide[2])
        self.num_classes, self.num_features = 0, wide[2]
        modules = (("conv1", stem, 2), ("conv2", wide[0], 8), ("conv3", wide[1], 16), ("conv5", wide[2], 16))
        self.feature_info = [{"module": m, "num_chs": c, "reduction": r} for m, c, r in modules]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to the last map (N, C, H/16, W/16)."""
        for layer in (self.conv1, self.maxpool, self.conv2, self.conv3, self.conv4, self.conv5):
            x = layer(x)
        return x


def _entry(name: str) -> Callable[..., nn.Module]:
    def make(pretrained: bool = False, **options: Any) -> nn.Module:
        options["num_classes"] = 0
        return build_model_with_cfg(
            OSNet,
            name,
            pretrained,
            channels=WIDTHS[name],
            feature_cfg={"flatten_sequential": False, "out_indices": (0, 1, 2, 3)},
            **options,
        )

    make.__name__, make.__module__ = name, __name__
    return make


for _name in WIDTHS:
    globals()[_name] = register_model(_entry(_name))
