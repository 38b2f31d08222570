"""The backbone of every model: any timm model that gives feature maps."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

import kronreid.torchvision_guard  # noqa: F401

import timm  # isort: skip

from kronreid.errors import InputError


@dataclass(frozen=True)
class BackboneOptions:
    """The backbone and its initial weights.

    Attributes:
        name: Name of a timm model; the papers use ``resnet50.tv_in1k``.
        weights: ``imagenet`` downloads timm's weights, ``none`` initialises at random. A path names a
            safetensors file in timm's layout, or a model or run folder whose backbone is loaded;
            ``${VARIABLE}`` in it is replaced from the environment.
        last_stride: Stride of the last stage: 1 in HOReID (maps of 1/16 of the input), 2 in KPM (1/32).
        arguments: Further arguments of ``timm.create_model``, like ``pad_type``.
    """

    name: str = "resnet50.tv_in1k"
    weights: str = "imagenet"
    last_stride: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)


#: The backbones of HOReID and of KPM.
RESNET50 = BackboneOptions()
RESNET50_STRIDE2 = BackboneOptions(last_stride=2)


class Backbone(nn.Module):
    """The last `levels` feature maps of a timm model, finest first.

    Args:
        options: The network and its initial weights.
        levels: Number of maps.

    Attributes:
        channels: Channels of each map.
        strides: Stride of each map in input pixels.

    Raises:
        InputError: timm cannot create the network, or the weights cannot be read or do not fit.
    """

    def __init__(self, options: BackboneOptions, levels: int = 1) -> None:
        super().__init__()
        if options.last_stride not in (1, 2):
            raise InputError("backbone.last_stride", f"{options.last_stride}; give 1 or 2")
        arguments = dict(options.arguments)
        if options.last_stride == 1:
            arguments["output_stride"] = 16
        try:
            depth = len(timm.create_model(options.name, features_only=True, **options.arguments).feature_info)
            network = timm.create_model(
                options.name,
                features_only=True,
                pretrained=options.weights == "imagenet",
                out_indices=tuple(range(depth - levels, depth)),
                **arguments,
            )
        except (RuntimeError, TypeError, ValueError, NotImplementedError, AssertionError) as error:
            raise InputError(f"backbone.name {options.name!r}", f"timm cannot create it ({error})") from None
        if options.last_stride == 1:
            undo_dilation(network)
        if options.weights not in ("imagenet", "none"):
            load_backbone_weights(network, Path(os.path.expandvars(options.weights)))
        self.network = network
        self.channels: list[int] = network.feature_info.channels()
        self.strides: list[int] = network.feature_info.reduction()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (N, 3, H, W) to feature maps (N, C_l, H / stride_l, W / stride_l), finest first."""
        return self.network(images)


def undo_dilation(network: nn.Module) -> None:
    """Replace every dilated convolution by a plain one with the same output size, in place.

    timm's ``output_stride`` replaces strides by dilations, as is usual in segmentation. Re-identification
    (PCB, MGN, HOReID) only removes the stride and applies the pretrained kernels without dilation.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.dilation != (1, 1):
            if module.padding != (0, 0):  # it is zero if timm pads dynamically ("same")
                module.padding = tuple((size - 1) // 2 for size in module.kernel_size)
            module.dilation = (1, 1)


def load_backbone_weights(network: nn.Module, path: Path) -> None:
    """Load a safetensors file in timm's layout, or the backbone of a model or run folder.

    Other tensors in the file, like a classifier's, are ignored.

    Args:
        network: The backbone, changed in place.
        path: The file or the folder.

    Raises:
        InputError: The file cannot be read, or a tensor is missing or has another shape.
    """
    folder = path.is_dir()
    file = path / "model.safetensors" if folder else path
    if not file.is_file():
        raise InputError(f"backbone.weights {file}", "no such file")
    try:
        tensors = load_file(file)
    except Exception as error:
        raise InputError(f"backbone.weights {file}", f"not a safetensors file ({error})") from None
    if folder:
        prefix = "backbone.network."
        tensors = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    if missing:
        raise InputError(
            f"backbone.weights {file}", f"{len(missing)} tensors are missing, the first is {missing[0]}"
        )
    for name, tensor in wanted.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            raise InputError(
                f"backbone.weights {file}",
                f"{name} is {tuple(tensors[name].shape)}, but the network needs {tuple(tensor.shape)}",
            )
    network.load_state_dict({name: tensors[name] for name in wanted if name in tensors}, strict=False)


def initialise(*modules: nn.Module) -> None:
    """Initialise new layers: He's normal for convolutions, small weights (0.001) for linear layers."""
    for module in (inner for outer in modules for inner in outer.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.001)
            nn.init.zeros_(module.bias)
