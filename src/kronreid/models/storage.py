"""Saving and loading model folders: options, weights and a card. Nothing is ever unpickled."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError, one_line
from kronreid.models import MODELS
from kronreid.models.calibration import CALIBRATION
from kronreid.models.card import write_card
from kronreid.models.folders import CONFIG, WEIGHTS, fingerprint, without_folders
from kronreid.models.places import PLACES
from kronreid.options import checked


def build(
    name: str, arguments: dict[str, Any], source: str = "model", size: tuple[int, int] | None = None
) -> nn.Module:
    """Create a model by name.

    Args:
        name: One of `MODELS`.
        arguments: The constructor's arguments as plain values, as YAML or JSON have them.
        source: Where the arguments come from, for messages.
        size: Height and width of the input in pixels, for backbones that are built for one size.

    Raises:
        InputError: An unknown name or argument, or a value of the wrong type.
    """
    backbone = arguments.get("backbone", {})
    if size is not None and isinstance(backbone, dict):
        arguments = {**arguments, "backbone": {**backbone, "size": size}}
    return checked(MODELS.named(name, f"{source}: model"), arguments, f"{source}: model {name}")


def save(
    folder: Path, name: str, arguments: dict[str, Any], input_options: InputOptions, model: nn.Module
) -> None:
    """Write a model folder. Old files are replaced only when the new ones are complete.

    Places and a calibration of the old model do not fit the new one; they are removed. The folder also gets
    the model's card. Folders in the path of the backbone's initial weights are left out, because models are
    shared.

    Args:
        folder: The folder; it is created if it is missing.
        name: The model's name in `MODELS`.
        arguments: The constructor's arguments as plain values.
        input_options: The size and normalisation of the input.
        model: The model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backbone = arguments.get("backbone")
    if isinstance(backbone, dict) and "weights" in backbone:
        backbone = {**backbone, "weights": without_folders(backbone["weights"])}
        arguments = {**arguments, "backbone": backbone}
    config = {"name": name, "arguments": arguments, "input": dataclasses.asdict(input_options)}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
        tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        # safetensors' own file writer would make the file unreadable for other users.
        (Path(new) / WEIGHTS).write_bytes(to_bytes(tensors))
        (Path(new) / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        for file in (PLACES, CALIBRATION):
            (folder / file).unlink(missing_ok=True)
        for file in (WEIGHTS, CONFIG):
            shutil.move(Path(new) / file, folder / file)
    write_card(folder)


def load_folder(folder: Path) -> tuple[nn.Module, InputOptions, str]:
    """Read a model folder.

    Returns:
        The model in eval mode, its input options and its fingerprint, a hash of both files.

    Raises:
        InputError: A file is missing or damaged, or the weights have other names or shapes.
    """
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise InputError(folder, f"has no {file}; a model folder holds {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text())
        name, arguments, size = str(config["name"]), dict(config["arguments"]), dict(config["input"])
        # No default here: with another mean than in training the model would give other outputs. A folder
        # without `mirror` is older than that option.
        if missing := {field.name for field in dataclasses.fields(InputOptions)} - {"mirror"} - size.keys():
            raise KeyError(*sorted(missing))
        # The folder has all weights, so the backbone loads none. Checkpointing is of use in training alone.
        changes = {"weights": "none", "checkpointing": False}
        arguments["backbone"] = {**arguments.get("backbone", {}), **changes}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(folder / CONFIG, f"is damaged ({type(error).__name__}: {error})") from None
    input_options = checked(InputOptions, size, f"{folder / CONFIG}: input")
    shape = (input_options.height, input_options.width)
    model = build(name, arguments, str(folder / CONFIG), shape)
    try:
        tensors = load_file(folder / WEIGHTS)
    except Exception as error:
        raise InputError(folder / WEIGHTS, f"is damaged ({one_line(error)})") from None
    wanted = model.state_dict()
    odd = sorted(set(tensors) ^ set(wanted)) or sorted(
        k for k in wanted if wanted[k].shape != tensors[k].shape
    )
    if odd:
        raise InputError(
            folder / WEIGHTS,
            f"does not fit {CONFIG}: {odd[0]} is missing, unknown or has another shape ({len(odd)} such "
            "tensors)",
        )
    model.load_state_dict(tensors)
    return model.eval(), input_options, fingerprint(folder)
