"""The backbone of every model: any timm network that gives feature maps, convolutional or transformer."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kronreid.torchvision_guard

import timm  # isort: skip
from timm.layers import to_2tuple  # isort: skip
from timm.models import group_parameters  # isort: skip
from timm.models._features import FeatureGetterNet  # isort: skip

import kronreid.models.osnet  # noqa: F401  # adds OSNet to timm's networks
from kronreid.errors import InputError, one_line
from kronreid.models.side_information import CameraEmbeddings, embed_cameras
from kronreid.models.weights import Pretrained, find_weights, timm_name
from kronreid.options import NotNegative, Share

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackboneOptions:
    """The backbone and its initial weights.

    Attributes:
        name: Name of a timm model; the papers use ``resnet50.tv_in1k``.
        weights: ``imagenet`` downloads timm's weights for `name`, and ``none`` initialises at random. Other
            names are weights of the same network: those of timm, like ``resnet50.a1_in1k``, or of the Hugging
            Face hub, like ``timm/resnet50.a1_in1k``. A path names a ``.safetensors`` or ``.pth`` file, or a
            model or run folder whose backbone is loaded; ``${VARIABLE}`` in it is replaced from the
            environment.
        last_stride: Stride of the last stage: 1 in HOReID (maps of 1/16 of the input), 2 in KPM (1/32). The
            maps of a plain vision transformer always have the stride of its patches.
        arguments: Further arguments of ``timm.create_model``, like ``pad_type``.
        drop_path: Rate of stochastic depth: the share of training passes in which the last residual block is
            left out. The rate of earlier blocks is proportionally lower.
        checkpointing: Compute activations again in the backward pass. It saves memory and takes about a third
            more time.
        cameras: The number of cameras in the training pictures, each of which gets an embedding (SIE of
            TransReID, `kronreid.models.side_information`); 0 for none. Plain vision transformers only.
        frozen: How many stages stay as their weights are, counted from the input. The first one is the stem.
            The stages of a plain vision transformer are its blocks.
        size: Height and width of the input in pixels. Only networks that are built for one size use it, like
            most transformers. A config's `input` sets it.
    """

    name: str = "resnet50.tv_in1k"
    weights: str = "imagenet"
    last_stride: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    drop_path: Share = 0.0
    checkpointing: bool = False
    cameras: NotNegative = 0
    frozen: NotNegative = 0
    size: tuple[int, int] = (256, 128)


#: The backbones of HOReID and of KPM.
RESNET50 = BackboneOptions()
RESNET50_STRIDE2 = BackboneOptions(last_stride=2)

#: What timm raises for a network that it cannot create.
_TIMM_ERRORS = (RuntimeError, TypeError, ValueError, NotImplementedError, AssertionError, AttributeError)


class Backbone(nn.Module):
    """The last `levels` feature maps of a timm model, finest first.

    A plain vision transformer gives the patch tokens of its last blocks, after the final normalisation.

    Args:
        options: The network and its initial weights.
        levels: Number of maps.

    Attributes:
        channels: Channels of each map.
        strides: Stride of each map in input pixels.
        cameras: Camera embeddings; None without.

    Raises:
        InputError: timm cannot create the network, or the weights cannot be read or do not fit.
    """

    into: "Resize | None"
    out: "Maps"
    cameras: CameraEmbeddings | None

    def __init__(self, options: BackboneOptions, levels: int = 1) -> None:
        super().__init__()
        if options.last_stride not in (1, 2):
            raise InputError("backbone.last_stride", f"{options.last_stride}; give 1 or 2")
        self.options = options
        with _explained(options):
            self.plan = plan = _Plan(options)
        if levels > len(plan.strides):
            raise InputError(
                f"backbone.name {options.name!r}",
                f"it has {len(plan.strides)} feature maps, but this model needs {levels}",
            )
        source = find_weights(os.path.expandvars(options.weights), options.name)
        with _explained(options):
            network = plan.network(levels, source if isinstance(source, Pretrained) else None)
        if source is not None and not isinstance(source, Pretrained):
            source.load_into(network, plan.skeleton())
        self.network = network
        self.into = Resize(plan.size) if plan.size else None
        self.out = Maps(levels, plan.channels_last(network), plan.enlarges, plan.joins)
        maps = cast(Any, network).feature_info
        self.channels: list[int] = self.out.channels(maps.channels())
        self.strides: list[int] = self.out.strides(maps.reduction())
        if options.checkpointing:
            with _explained(options, "backbone.checkpointing", "this network cannot do it"):
                _checkpoint(network)
        if options.frozen:
            self._freeze(options.frozen)
        self.cameras = embed_cameras(network, options.name, options.cameras) if options.cameras else None

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (N, 3, H, W) to feature maps (N, C_l, H / stride_l, W / stride_l), finest first."""
        if self.into is not None:
            images = self.into(images)
        return self.out(self.network(images)) if self.out.changes else self.network(images)

    def depths(self, stages: bool = False) -> dict[str, int]:
        """The depth of every parameter of `network`, by name: 0 in the stem, 1 in the first layer, and so on.

        Args:
            stages: Count stages instead of blocks.
        """
        whole = cast(Any, self.plan.skeleton())
        names = [name for name, _ in self.network.named_parameters()]
        try:
            groups = group_parameters(whole, whole.group_matcher(coarse=stages), reverse=True)
            found = {name: groups[key] for name in names if (key := timm_name(name)) in groups}
        except _TIMM_ERRORS:  # timm does not know the layers of this network
            found = {}
        if found:
            deepest = max(found.values())
            depth = {name: found.get(name, deepest) for name in names}
        else:
            children = list(dict.fromkeys(name.split(".")[0] for name in names))
            depth = {name: children.index(name.split(".")[0]) for name in names}
        order = {number: rank for rank, number in enumerate(sorted(set(depth.values())))}
        return {name: order[number] for name, number in depth.items()}

    def train(self, mode: bool = True) -> "Backbone":
        """Set the training mode. Normalisations of frozen stages keep their statistics."""
        super().train(mode)
        if mode and self.options.frozen:
            for module in self.network.modules():
                own = list(module.parameters(recurse=False))
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(
                    parameter.requires_grad for parameter in own
                ):
                    module.eval()
        return self

    def _freeze(self, stages: int) -> None:
        depths = self.depths(stages=True)
        number = max(depths.values()) + 1
        if stages > number:
            raise InputError(
                "backbone.frozen", f"{stages}; {self.options.name} has {number} stages, the stem included"
            )
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(depths[name] >= stages)


class Resize(nn.Module):
    """Resizes images to the size that a network is built for.

    It is a module of its own, so that folding can trace the network around it.

    Args:
        size: Height and width in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Resize images (N, 3, H, W)."""
        if tuple(images.shape[2:]) == self.size:
            return images
        return F.interpolate(images, self.size, mode="bilinear", align_corners=False)


class Maps(nn.Module):
    """Brings the maps of a network into the usual form: (N, C, H, W), the last one at stride 16 if wanted.

    Args:
        levels: Number of maps to return.
        channels_last: The network gives (N, H, W, C).
        enlarges: How much larger the last map becomes.
        joins: It gets the size and also the channels of the map below it, which has stride 16.
    """

    def __init__(self, levels: int, channels_last: bool, enlarges: int, joins: bool) -> None:
        super().__init__()
        self.levels, self.channels_last = levels, channels_last
        self.enlarges, self.joins = enlarges, joins
        self.changes = channels_last or enlarges > 1

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Turn and enlarge the network's maps."""
        if self.channels_last:
            maps = [one.permute(0, 3, 1, 2) for one in maps]
        if self.enlarges > 1:
            height, width = maps[-1].shape[2:]
            size = maps[-2].shape[2:] if self.joins else (height * self.enlarges, width * self.enlarges)
            last = F.interpolate(maps[-1], size, mode="bilinear", align_corners=False)
            maps = [*maps[:-1], torch.cat([last, maps[-2]], dim=1) if self.joins else last]
        return maps[-self.levels :]

    def channels(self, channels: list[int]) -> list[int]:
        """The channels of the returned maps, of those of the network's maps."""
        if self.joins:
            channels = [*channels[:-1], channels[-1] + channels[-2]]
        return channels[-self.levels :]

    def strides(self, strides: list[int]) -> list[int]:
        """The strides of the returned maps, of those of the network's maps."""
        return [*strides[:-1], strides[-1] // self.enlarges][-self.levels :]


class _Plan:
    """How timm creates a network.

    Attributes:
        strides: The strides of all its maps, finest first.
        size: Height and width that the network is built for; None if it takes any size.
        enlarges: See `Maps`.
        joins: See `Maps`.
    """

    def __init__(self, options: BackboneOptions) -> None:
        self.options = options
        known = timm.get_pretrained_cfg(options.name, allow_unregistered=True)
        fixed = bool(known and known.fixed_input_size)
        # A network for any size is created as its weights will be, from the same random numbers.
        with torch.device("meta") if fixed else nullcontext():
            probe = timm.create_model(options.name, features_only=True, **options.arguments)
        self.strides: list[int] = [one["reduction"] for one in probe.feature_info.info]
        self.tokens = isinstance(probe, FeatureGetterNet) and len(set(self.strides)) == 1
        self.size: tuple[int, int] | None = None
        self.enlarges, self.joins = 1, False
        step = max(self.strides)
        arguments = dict(options.arguments)
        if fixed or type(probe).__name__ == "HighResolutionNetFeatures":
            self.size = self._rounded(step)
        if fixed:
            self.size = to_2tuple(arguments.setdefault("img_size", self.size))
        if options.drop_path:
            arguments["drop_path_rate"] = options.drop_path
        self.arguments = arguments

    def _rounded(self, step: int) -> tuple[int, int]:
        height, width = (max(step, round(length / step) * step) for length in self.options.size)
        if (height, width) != tuple(self.options.size):
            log.info(
                "%s takes multiples of %d pixels: pictures of %d×%d are resized to %d×%d",
                self.options.name,
                step,
                *self.options.size,
                height,
                width,
            )
        return height, width

    def network(self, levels: int, pretrained: Pretrained | None) -> nn.Module:
        """The network, which gives the last maps, with timm's weights or random ones."""
        options, depth = self.options, len(self.strides)
        arguments = dict(self.arguments)
        if pretrained is not None:
            arguments |= {"pretrained": True, "pretrained_cfg": pretrained.config}
        if self.tokens:
            whole = timm.create_model(options.name, num_classes=0, **arguments)
            return FeatureGetterNet(whole, out_indices=list(range(depth - levels, depth)), norm=True)
        arguments |= {"features_only": True, "out_indices": tuple(range(depth - levels, depth))}
        if options.last_stride == 2:
            return timm.create_model(options.name, **arguments)
        try:
            network = timm.create_model(options.name, output_stride=16, **arguments)
            undo_dilation(network)
            if network.feature_info.reduction()[-1] == 16:
                return network
        except (TypeError, ValueError, AssertionError, NotImplementedError):
            pass  # its strides cannot be changed
        self.enlarges = max(1, self.strides[-1] // 16)
        self.joins = self.enlarges > 1 and 16 in self.strides[-2:-1]
        if self.joins and levels == 1:
            arguments["out_indices"] = (depth - 2, depth - 1)
        return timm.create_model(options.name, **arguments)

    def channels_last(self, network: nn.Module) -> bool:
        """Whether the network gives maps (N, H, W, C)."""
        layout = str(getattr(getattr(network, "output_fmt", None), "value", "NCHW"))
        return layout == "NHWC"

    def skeleton(self) -> nn.Module:
        """The whole network without memory for weights, with the names and shapes of timm's own files."""
        arguments = {key: value for key, value in self.arguments.items() if key != "drop_path_rate"}
        with torch.device("meta"):
            return timm.create_model(self.options.name, num_classes=0, **arguments)


@contextmanager
def _explained(
    options: BackboneOptions, where: str | None = None, what: str = "timm cannot create it"
) -> Iterator[None]:
    """Turn what timm raises into one line."""
    try:
        yield
    except _TIMM_ERRORS as error:
        if isinstance(error, InputError):
            raise
        reason = one_line(error) or type(error).__name__
        raise InputError(where or f"backbone.name {options.name!r}", f"{what} ({reason})") from None
    except OSError as error:  # the hub's own errors are OSErrors
        raise InputError(
            f"backbone.weights {options.weights}",
            f"cannot be downloaded ({one_line(error)[:200]}); give a file, or none for random weights",
        ) from None


def _checkpoint(network: nn.Module) -> None:
    """Switch on gradient checkpointing."""
    target = network.model if isinstance(network, FeatureGetterNet) else network
    cast(Any, target).set_grad_checkpointing(True)


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
