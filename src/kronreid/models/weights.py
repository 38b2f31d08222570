"""Initial weights of backbones: names of timm and of the hub, and files of kronreid and other projects."""

import logging
import math
import pickle
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

import kronreid.torchvision_guard  # noqa: F401

import timm  # isort: skip
from timm.layers import resample_abs_pos_embed  # isort: skip

from kronreid.errors import InputError, one_line

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]

#: Entries of a checkpoint that hold its tensors, the best first.
_INSIDE = ("teacher", "model_ema", "state_dict_ema", "state_dict", "model", "module", "net", "student")
#: The files of a hub repository that can hold weights, the best first.
_HUB_FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
_HUB_ID = re.compile(r"(hf-hub:|hf_hub:)?(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_LISTED = 10


@dataclass(frozen=True)
class Pretrained:
    """Weights that timm downloads.

    Attributes:
        config: timm's description of them; None for the usual ones of the network.
    """

    config: Any = None


@dataclass(frozen=True)
class WeightsFile:
    """Weights in a file.

    Attributes:
        file: A ``.safetensors`` file, or a checkpoint of PyTorch.
        where: Where the weights come from, for messages.
    """

    file: Path
    where: str

    def load_into(self, network: nn.Module, skeleton: nn.Module) -> None:
        """Load the tensors of the file into a network, and log how many fitted.

        Args:
            network: The backbone, changed in place.
            skeleton: The whole network, whose names and shapes are those of timm's files.

        Raises:
            InputError: The file cannot be read, or a tensor is missing or has another shape.
        """
        found = read_tensors(self.file, self.where)
        own = network.state_dict()
        names = {timm_name(name): name for name in own}
        tensors = converted(without_prefix(found, {*names, *own}), skeleton, self.where)
        given = {names.get(name, name): tensor for name, tensor in tensors.items()}
        fitting = fitted(given, own, self.where)
        network.load_state_dict(fitting, strict=False)
        unused = [name for name in given if name not in own]
        log.info("%s: %d of %d tensors fitted%s", self.where, len(fitting), len(own), not_used(unused))


def fitted(found: Tensors, wanted: Tensors, where: str) -> Tensors:
    """The tensors that a network needs, of those that were found.

    Args:
        found: Tensors by the network's names.
        wanted: The network's own.
        where: What a message names.

    Raises:
        InputError: One is missing, but for counters of batches, or has another shape.
    """
    tensors: Tensors = {}
    bad = []
    for name, tensor in wanted.items():
        given = found.get(name)
        if given is None:
            if not name.endswith("num_batches_tracked"):
                bad.append(f"{name} is missing")
        elif given.shape != tensor.shape:
            bad.append(f"{name} is {tuple(given.shape)}, but the network needs {tuple(tensor.shape)}")
        else:
            tensors[name] = given
    if bad:
        more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        raise InputError(
            where, f"{len(bad)} of {len(wanted)} tensors do not fit: {'; '.join(bad[:_LISTED])}{more}"
        )
    return tensors


def not_used(names: list[str]) -> str:
    """The tensors of a file that the network does not have, for a message; empty without any."""
    if not names:
        return ""
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"; not used: {', '.join(names[:_LISTED])}{more}"


def find_weights(weights: str, name: str) -> Pretrained | WeightsFile | None:
    """Where a backbone's initial weights come from; None for random ones.

    Args:
        weights: See `BackboneOptions`, without variables.
        name: timm's name of the network.

    Raises:
        InputError: There is no such file, and it is no known name either; or it names another network's
            weights; or the hub refuses it.
    """
    if weights in ("imagenet", "none"):
        return Pretrained() if weights == "imagenet" else None
    path, where = Path(weights), f"backbone.weights {weights}"
    if path.is_dir():
        path = path / "model.safetensors"
        if not path.is_file():
            raise InputError(where, "holds no model.safetensors")
        where = f"backbone.weights {path}"
    if path.is_file():
        return WeightsFile(path, where)
    network = weights.removeprefix("timm/").split(".")[0]
    if timm.is_model(network) and weights.count("/") <= weights.startswith("timm/"):
        return _timm_weights(weights.removeprefix("timm/"), name, where)
    match = _HUB_ID.fullmatch(weights)
    # If there is a folder "runs", then "runs/horied" is a misspelt path and is not sent to the hub.
    if match and not Path(weights).is_dir() and not Path(match["name"]).parent.is_dir() and not path.suffix:
        return WeightsFile(_download(match["name"], match["revision"], where), where)
    raise InputError(where, "no such file, and no weights of timm or the Hugging Face hub")


def _timm_weights(weights: str, name: str, where: str) -> Pretrained:
    """timm's weights by their name, ``network.tag``."""
    network = weights.split(".")[0]
    if network != name.split(".")[0]:
        raise InputError(where, f"are weights of {network}, but backbone.name is {name}")
    known = timm.list_pretrained(f"{network}.*") or timm.list_pretrained(network)
    if weights not in known and weights != network:
        raise InputError(where, f"timm has no such weights; it has {', '.join(known) or 'none'}")
    return Pretrained(timm.get_pretrained_cfg(weights))


def _download(name: str, revision: str | None, where: str) -> Path:
    """The weights of a hub repository."""
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(_HUB_FILES)))
    except (OSError, HFValidationError) as error:  # the hub's own errors are OSErrors
        raise InputError(
            where, f"no such file, and the Hugging Face hub does not give it ({one_line(error)[:200]})"
        ) from None
    for file in _HUB_FILES:
        if (folder / file).is_file():
            return folder / file
    raise InputError(where, f"the hub's repository has none of {', '.join(_HUB_FILES)}")


def read_tensors(file: Path, where: str) -> Tensors:
    """The tensors of a ``.safetensors`` file or a checkpoint of PyTorch, by their names in the file.

    Nothing but tensors and plain values is ever unpickled.

    Args:
        file: The file.
        where: What a message names.

    Raises:
        InputError: The file cannot be read, holds other objects, or holds no tensors.
    """
    if not zipped_or_pickled(file):
        try:
            return load_file(file)
        except Exception as error:
            raise InputError(where, f"not a safetensors file ({one_line(error)})") from None
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        inside = f" ({found[1]})" if found else ""
        raise InputError(
            where,
            f"holds other objects than tensors{inside}, which are not loaded because they could run code; "
            "save its state_dict alone",
        ) from None
    except Exception as error:  # torch reads zip and pickle files, which fail in many ways when damaged
        raise InputError(where, f"no checkpoint of PyTorch ({one_line(error)[:200]})") from None
    tensors = _tensors(content)
    if not tensors:
        raise InputError(where, "holds no tensors")
    return tensors


def zipped_or_pickled(file: Path) -> bool:
    """Whether a file is a checkpoint of PyTorch, by its first bytes or its name."""
    with file.open("rb") as stream:
        start = stream.read(4)
    return start.startswith((b"PK", b"\x80")) or file.suffix in (".pth", ".pt", ".tar", ".bin", ".ckpt")


def _tensors(content: Any) -> Tensors:
    """The tensors of a checkpoint, which may be some levels deep in mappings."""
    if not isinstance(content, Mapping):
        return {}
    for key in _INSIDE:
        if isinstance(content.get(key), Mapping) and (inside := _tensors(content[key])):
            return inside
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def without_prefix(tensors: Tensors, wanted: set[str]) -> Tensors:
    """Tensors without the prefix that their project puts before the network's names.

    The prefix is the one with which most of the wanted names are found. Tensors without it keep their names.

    Args:
        tensors: The tensors by their names in the file.
        wanted: The names in the network.
    """
    prefixes: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in wanted:
                prefixes[".".join(parts[:start]) + "." if start else ""] += 1
    prefix = prefixes.most_common(1)[0][0] if prefixes else ""
    if not prefix:
        return tensors
    inside = {
        name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)
    }
    return {**{name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}, **inside}


def timm_name(name: str) -> str:
    """The name that a parameter of a backbone has in timm's files.

    timm's wrappers change names: ``model.blocks.0`` is ``blocks.0``, and ``stages_0`` is ``stages.0``.
    """
    return re.sub(r"^([a-z_]+)_(\d+)\.", r"\1.\2.", name.removeprefix("model."))


def converted(tensors: Tensors, skeleton: nn.Module, where: str) -> Tensors:
    """Tensors of another layout in timm's, with position embeddings of the network's size.

    Args:
        tensors: Tensors without a prefix.
        skeleton: The whole network, on the meta device.
        where: What a message names.
    """
    tensors = _clip_reid(_mmcv_swin(tensors))
    tensors = _position_embeddings(tensors, skeleton)
    filter_fn = getattr(sys.modules[type(skeleton).__module__], "checkpoint_filter_fn", None)
    if filter_fn is None or any(timm_name(name) != name for name in tensors):  # the names of a folder of ours
        return tensors
    try:
        return dict(filter_fn(tensors, skeleton))
    except (RuntimeError, AttributeError, KeyError, ValueError, AssertionError) as error:
        raise InputError(
            where, f"does not fit {type(skeleton).__name__} ({one_line(error) or type(error).__name__})"
        ) from None


def _position_embeddings(tensors: Tensors, skeleton: nn.Module) -> Tensors:
    """Resize position embeddings of pictures that are two or three times as high as wide.

    timm resizes those of square pictures.
    """
    grid = getattr(getattr(skeleton, "patch_embed", None), "grid_size", None)
    extra = int(getattr(skeleton, "num_prefix_tokens", 0))
    if grid is None:
        return tensors
    for name in ("pos_embed", "positional_embedding", "visual.positional_embedding"):
        old = tensors.get(name)
        if old is None or old.ndim not in (2, 3):
            continue
        places = old.shape[-2] - extra
        for aspect in (2, 3):
            width = math.isqrt(places // aspect)
            if width and aspect * width * width == places and math.isqrt(places) ** 2 != places:
                posemb = old if old.ndim == 3 else old[None]
                new = resample_abs_pos_embed(
                    posemb, list(grid), old_size=[aspect * width, width], num_prefix_tokens=extra
                )
                tensors = {**tensors, name: new if old.ndim == 3 else new[0]}
    return tensors


def _clip_reid(tensors: Tensors) -> Tensors:
    """The names of OpenAI's CLIP for the image tower of a CLIP-ReID checkpoint."""
    tower = "image_encoder."
    if f"{tower}class_embedding" not in tensors:
        return tensors
    return {f"visual.{n.removeprefix(tower)}": t for n, t in tensors.items() if n.startswith(tower)}


_MMCV = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^stages\.", "layers."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"^norm3\.", "norm."),
)


def _mmcv_swin(tensors: Tensors) -> Tensors:
    """The names of the original Swin for a checkpoint of mmcv's Swin, which SOLIDER is.

    mmcv merges the 2×2 patches in another order of channels.
    """
    prefix = "backbone." if "backbone.patch_embed.projection.weight" in tensors else ""
    if f"{prefix}patch_embed.projection.weight" not in tensors:
        return tensors
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        name = name.removeprefix(prefix)
        if re.search(r"\.downsample\.(reduction|norm)\.", name):
            *rows, channels = tensor.shape
            tensor = tensor.reshape(*rows, channels // 4, 4).transpose(-1, -2)[..., [0, 2, 1, 3], :]
            tensor = tensor.reshape(*rows, channels)
        for old, new in _MMCV:
            name = re.sub(old, new, name)
        renamed[name] = tensor
    return renamed
