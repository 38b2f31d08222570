"""Whole checkpoints of torchreid and fast-reid as model folders of kronreid: OSNet and ResNet."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.osnet import WIDTHS
from kronreid.models.storage import build, save
from kronreid.models.weights import Tensors, fitted, read_tensors

#: ResNets by the number of blocks in their stages, and whether the blocks are bottlenecks.
RESNETS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
#: Layers that timm's networks do not have: what their tensors' names contain, and what they are.
STRANGE = {
    r"\.IN\.|\.bn1\.BN\.": "instance normalisation (IBN)",
    r"(^|\.)NL_\d": "non-local blocks",
    r"\.se\.": "squeeze and excitation",
}


@dataclass(frozen=True)
class Converted:
    """What a checkpoint became.

    Attributes:
        project: ``torchreid`` or ``fast-reid``.
        backbone: timm's name of the network, or one of `kronreid.models.osnet.WIDTHS`.
        tensors: Number of tensors that the model took over.
        unused: Tensors of the file that the model does not have, like a classifier's.
    """

    project: str
    backbone: str
    tensors: int
    unused: list[str]


def convert(
    file: Path, out: Path, height: int = 256, width: int = 128, last_stride: int | None = None
) -> Converted:
    """Write a checkpoint of torchreid or fast-reid as a model folder.

    Args:
        file: The checkpoint, ``.pth``; it is read with ``weights_only=True``.
        out: The folder. It must be empty, or not exist.
        height: Height of the input in pixels, which a checkpoint does not tell.
        width: Width of the input in pixels.
        last_stride: Stride of a ResNet's last stage, which a checkpoint does not tell either. None takes 2
            for torchreid's plain ResNets and 1 otherwise.

    Raises:
        InputError: The file cannot be read, its network is not known, or a tensor does not fit.
    """
    if not file.is_file():
        raise InputError(file, "no such file")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(out, "is not an empty folder; give the name of a new one")
    found = {re.sub(r"^(module\.)+", "", name): t for name, t in read_tensors(file, str(file)).items()}
    fast = any(name.startswith("backbone.") for name in found) and any(n.startswith("heads.") for n in found)
    body = {name.removeprefix("backbone."): tensor for name, tensor in found.items()} if fast else found
    for pattern, what in STRANGE.items():
        if any(re.search(pattern, name) for name in body):
            raise InputError(file, f"its network has {what}, which kronreid cannot convert")
    backbone = _osnet(body) or _resnet(body)
    if backbone is None:
        raise InputError(file, "holds neither an OSNet nor a ResNet of torchreid or fast-reid")
    arguments: dict[str, Any] = {"backbone": {"name": backbone, "weights": "none", "last_stride": 1}}
    neck, names = _neck(body)
    arguments["neck"] = neck
    if neck == "fc":
        arguments["channels"] = len(body["fc.0.weight"])
    if not backbone.startswith("osnet"):
        usual = 2 if not fast and neck == "none" else 1
        arguments["backbone"]["last_stride"] = usual if last_stride is None else last_stride
        arguments["ceil_mode"] = fast
    if "heads.pool_layer.p" in body:
        arguments["power"] = float(body["heads.pool_layer.p"].flatten()[0])
    size = InputOptions(height, width, **_normalisation(found))
    model = build("averaged", arguments, str(file), (height, width)).eval()
    taken = {names.get(name, f"backbone.network.{name}"): tensor for name, tensor in body.items()}
    wanted = model.state_dict()
    tensors = fitted({name: _shaped(t, wanted.get(name)) for name, t in taken.items()}, wanted, str(file))
    model.load_state_dict(tensors, strict=False)
    save(out, "averaged", arguments, size, model)
    back = {new: old for old, new in names.items()}
    unused = [back.get(n, n.removeprefix("backbone.network.")) for n in taken if n not in tensors]
    return Converted("fast-reid" if fast else "torchreid", backbone, len(tensors), unused)


def _shaped(tensor: Tensor, wanted: Tensor | None) -> Tensor:
    """A tensor in the wanted shape if the two differ only in sides of 1, which some projects have more of."""
    if wanted is None or _sides(tensor) != _sides(wanted):
        return tensor
    return tensor.reshape(wanted.shape)


def _sides(tensor: Tensor) -> list[int]:
    """A tensor's shape without sides of 1."""
    return [side for side in tensor.shape if side != 1]


def _osnet(body: Tensors) -> str | None:
    """The OSNet with these tensors."""
    heads = (
        "conv1.conv.weight",
        "conv2.0.conv3.conv.weight",
        "conv3.0.conv3.conv.weight",
        "conv5.conv.weight",
    )
    if not all(name in body for name in heads):
        return None
    channels = tuple(len(body[name]) for name in heads)
    return next((name for name, widths in WIDTHS.items() if widths == channels), None)


def _resnet(body: Tensors) -> str | None:
    """The ResNet with these tensors."""
    blocks = [{n.split(".")[1] for n in body if n.startswith(f"layer{stage}.")} for stage in range(1, 5)]
    return RESNETS.get((tuple(map(len, blocks)), "layer1.0.conv3.weight" in body))  # type: ignore[arg-type]


def _neck(body: Tensors) -> tuple[str, dict[str, str]]:
    """The neck of a checkpoint, and its tensors' names in the file with those in `Averaged`."""
    for prefix in ("heads.bottleneck.0.", "heads.bnneck.", "bottleneck."):
        names = {n: f"neck.0.{n.removeprefix(prefix)}" for n in body if n.startswith(prefix)}
        if names:
            return "bn", names
    if "fc.0.weight" in body:
        return "fc", {name: f"neck.{name.removeprefix('fc.')}" for name in body if name.startswith("fc.")}
    return "none", {}


def _normalisation(found: Tensors) -> dict[str, Any]:
    """Mean and deviation of the input, if the file has them (fast-reid, for values from 0 to 255)."""

    def values(tensor: Tensor) -> tuple[float, ...]:
        return tuple(round(value / 255, 6) for value in tensor.flatten().tolist())

    names = {"mean": "pixel_mean", "std": "pixel_std"}
    return {key: values(found[name]) for key, name in names.items() if name in found}
