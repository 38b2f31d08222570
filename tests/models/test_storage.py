"""A model on disk: the same model again, or one line that says what is wrong with the folder."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.folders import CARD
from kronreid.models.pairs import PairModel
from kronreid.models.storage import CONFIG, WEIGHTS, build, load_folder, save

BACKBONE = {"name": "mobilenetv2_050", "weights": "none", "last_stride": 1}
MODELS: dict[str, dict[str, Any]] = {
    "pooled": {"channels": 8},
    "horeid": {"order": 2, "channels": 8, "dimension": 16, "parts": 3, "normalise_levels": True},
    "kpm": {"temperature": 0.1, "hourglass": False},
}
INPUT = InputOptions(64, 32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def write(folder: Path, name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    arguments = {"backbone": BACKBONE, **MODELS[name]}
    model = build(name, arguments)
    save(folder, name, arguments, INPUT, model)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "pooled")
    return tmp_path


def output(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        if not isinstance(model, PairModel):
            return model(images).descriptor
        return model(model.encode(images), torch.tensor([0, 1]), torch.tensor([2, 3]))


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o027, 0o077])
def test_who_may_read_a_model_is_for_the_umask_to_say(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "run", "pooled")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()}
    assert modes == dict.fromkeys((CONFIG, WEIGHTS, CARD), 0o666 & ~mask)


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(
    tmp_path: Path, images: Tensor, settle: Callable[[nn.Module, Callable[[], object]], None], name: str
) -> None:
    model = write(tmp_path / "run", name)
    settle(model, lambda: output(model, images))
    save(tmp_path / "run", name, {"backbone": BACKBONE, **MODELS[name]}, INPUT, model)
    loaded, options, fingerprint = load_folder(tmp_path / "run")
    assert type(loaded) is type(model)
    assert not loaded.training
    assert options == INPUT
    assert len(fingerprint) == 64
    assert torch.equal(output(loaded, images), output(model, images))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {CONFIG, WEIGHTS, CARD}


def test_channels_last_models_are_saved_plainly(folder: Path, images: Tensor) -> None:
    model, options, fingerprint = load_folder(folder)
    config = json.loads((folder / CONFIG).read_text())
    save(folder, config["name"], config["arguments"], options, model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    assert load_folder(folder)[2] == fingerprint


def test_fingerprint_is_of_weights_and_config(folder: Path) -> None:
    fingerprints = {load_folder(folder)[2]}
    assert load_folder(folder)[2] in fingerprints
    write(folder, "pooled", seed=1)
    fingerprints.add(load_folder(folder)[2])
    config = json.loads((folder / CONFIG).read_text())
    config["input"]["height"] = 96
    (folder / CONFIG).write_text(json.dumps(config))
    fingerprints.add(load_folder(folder)[2])
    assert len(fingerprints) == 3


def test_a_folder_from_before_mirror_images_opens(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    assert config["input"].pop("mirror") is False
    (folder / CONFIG).write_text(json.dumps(config))
    assert load_folder(folder)[1] == INPUT


def test_a_failed_save_leaves_the_old_model(folder: Path) -> None:
    model, options, fingerprint = load_folder(folder)
    with pytest.raises(TypeError):
        save(folder, "pooled", {"channels": object()}, options, model)
    assert load_folder(folder)[2] == fingerprint
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, CARD}


def test_weights_of_the_backbone_are_not_loaded_twice(folder: Path) -> None:
    """A model trained from a file that is not on this machine still opens."""
    config = json.loads((folder / CONFIG).read_text())
    config["arguments"]["backbone"]["weights"] = "/elsewhere/imagenet.safetensors"
    (folder / CONFIG).write_text(json.dumps(config))
    load_folder(folder)


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_file_missing(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert refusal(folder).startswith(f"{folder}: has no {file}")


def changed(key: str, value: Any) -> Callable[[dict], Any]:
    def change(config: dict) -> None:
        *sections, last = key.split(".")
        place = config
        for section in sections:
            place = place[section]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("name", None, "name"),
        ("name", "resnet", "'resnet' is unknown; one of horeid, pooled, kpm"),
        ("name", ["pooled"], "is unknown"),
        ("arguments", None, "arguments"),
        ("arguments", 3, "damaged"),
        ("arguments.depth", 3, "depth"),
        ("arguments.channels", "many", "channels"),
        ("arguments.channels", -4, "channels -4"),
        ("arguments.backbone", "resnet18", "damaged"),
        ("arguments.backbone.name", "resnet0", "'resnet0'"),
        ("arguments.backbone.colour", "red", "colour"),
        ("input", None, "input"),
        ("input.mean", None, "mean"),
        ("input.mean", [0.5, 0.5], "mean"),
        ("input.std", ["a", "b", "c"], "std"),
        ("input.height", "tall", "height"),
        ("input.height", 8, "too small"),
        ("input.depth", 3, "depth"),
    ],
)
def test_config_refused(folder: Path, key: str, value: Any, named: str) -> None:
    config = json.loads((folder / CONFIG).read_text())
    changed(key, value)(config)
    (folder / CONFIG).write_text(json.dumps(config))
    message = refusal(folder)
    assert named in message


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"pooled"', "\xff\xfe"])
def test_config_damaged(folder: Path, text: str) -> None:
    (folder / CONFIG).write_bytes(text.encode("latin-1"))
    assert refusal(folder).startswith(f"{folder / CONFIG}: is damaged")


def test_weights_damaged(folder: Path) -> None:
    for data in (b"", b"no weights", (folder / WEIGHTS).read_bytes()[:-10]):
        (folder / WEIGHTS).write_bytes(data)
        assert refusal(folder).startswith(f"{folder / WEIGHTS}: is damaged")


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit(folder: Path, change: str) -> None:
    tensors = load_file(folder / WEIGHTS)
    if change == "missing":
        del tensors["reduce.weight"]
    elif change == "unknown":
        tensors["reduce.bias"] = torch.zeros(8)
    else:
        tensors["reduce.weight"] = torch.zeros(9, 160, 1, 1)
    save_file(tensors, folder / WEIGHTS)
    message = refusal(folder)
    assert message.startswith(f"{folder / WEIGHTS}: does not fit {CONFIG}: reduce.")
    assert "(1 such tensors)" in message


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("resnet", {}, "'resnet'"),
        ("horeid", {"ordr": 2}, "ordr"),
        ("horeid", {"order": "two"}, "order"),
        ("horeid", {"order": 2.5}, "order"),
        ("horeid", {"first_order": "maybe"}, "first_order"),
        ("horeid", {"order": 0}, "order 0"),
        ("kpm", {"backbone": {"last_stride": "one"}}, "last_stride"),
        ("kpm", {"backbone": {"strid": 1}}, "strid"),
        ("kpm", {"backbone": 3}, "backbone: 3"),
        ("kpm", {"backbone": {"arguments": 3}}, "arguments"),
        ("kpm", {"backbone": {**BACKBONE, "last_stride": 4}}, "backbone.last_stride"),
        ("pooled", {"channels": None}, "channels"),
    ],
)
def test_build_refuses(name: str, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as caught:
        build(name, arguments, source="a.yaml")
    message = str(caught.value)
    assert named in message
    assert "\n" not in message


def test_build_takes_plain_values() -> None:
    model = build("horeid", {"backbone": {**BACKBONE, "arguments": {"pad_type": "same"}}, **MODELS["horeid"]})
    assert len(model.ghp.convs) == 2  # type: ignore[arg-type,union-attr]
    assert model.normalise_levels is True
    assert model.dimension == 32
