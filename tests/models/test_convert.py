"""Checkpoints of torchreid and fast-reid, as their networks write them."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.cli import main
from kronreid.models.averaged import Averaged
from kronreid.models.backbone import Backbone, BackboneOptions
from kronreid.models.loading import load
from kronreid.models.osnet import WIDTHS, OSNet


def shaken(module: nn.Module) -> nn.Module:
    """Statistics and scales away from 0 and 1, so that a missed tensor shows."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.uniform_(part.bias, -0.1, 0.1)
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.8, 1.2)
    return module.eval()


def fully_connected(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


def descriptors(folder: Path, images: Tensor) -> Tensor:
    with torch.no_grad():
        return load(folder, "cpu").model(images).descriptor


def test_osnet_of_torchreid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = shaken(OSNet(WIDTHS["osnet_x0_25"]))
    fc = shaken(fully_connected(128, 512))
    tensors = {f"module.{name}": tensor for name, tensor in body.state_dict().items()}
    tensors |= {f"module.fc.{name}": tensor for name, tensor in fc.state_dict().items()}
    tensors["module.classifier.weight"] = torch.zeros(3, 512)
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "osnet.pth")
    assert main(["convert", str(tmp_path / "osnet.pth"), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "osnet_x0_25 of torchreid" in said
    assert "not used: classifier.weight" in said
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        expected = F.normalize(fc(body(images).mean((2, 3))))
    torch.testing.assert_close(descriptors(tmp_path / "out", images), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dimension", "stride"), [(None, 32), (64, 16)])
def test_resnet_of_torchreid(tmp_path: Path, dimension: int | None, stride: int) -> None:
    """The plain network has stride 32; the one with a fully connected layer has stride 16."""
    body = shaken(timm.create_model("resnet18", num_classes=0))
    tensors = dict(body.state_dict())
    if dimension:
        tensors |= {
            f"fc.{name}": tensor for name, tensor in fully_connected(512, dimension).state_dict().items()
        }
    torch.save(tensors, tmp_path / "resnet.pth")
    assert main(["convert", str(tmp_path / "resnet.pth"), str(tmp_path / "out")]) == 0
    model = load(tmp_path / "out", "cpu").model
    assert isinstance(model, Averaged)
    assert model.backbone.strides[-1] == stride
    assert model.dimension == (dimension or 512)
    if not dimension:
        images = torch.rand(2, 3, 64, 32)
        with torch.no_grad():
            expected = F.normalize(body(images))
        torch.testing.assert_close(descriptors(tmp_path / "out", images), expected, atol=1e-5, rtol=1e-4)


def test_resnet_of_fast_reid(tmp_path: Path) -> None:
    """Its stem pools without padding, GeM averages, and the normalised vector is the descriptor."""
    backbone = shaken(Backbone(BackboneOptions("resnet18", "none", 1)))
    neck = shaken(nn.BatchNorm2d(512))
    tensors = {f"backbone.{name.removeprefix('network.')}": t for name, t in backbone.state_dict().items()}
    tensors |= {f"heads.bottleneck.0.{name}": tensor for name, tensor in neck.state_dict().items()}
    tensors |= {
        "heads.pool_layer.p": torch.tensor([3.0]),
        "heads.weight": torch.zeros(4, 512),
        "pixel_mean": torch.tensor([127.5, 127.5, 127.5]).view(1, 3, 1, 1),
        "pixel_std": torch.tensor([51.0, 51.0, 51.0]).view(1, 3, 1, 1),
    }
    torch.save({"model": tensors}, tmp_path / "fast.pth")
    assert (
        main(
            ["convert", str(tmp_path / "fast.pth"), str(tmp_path / "out"), "--height", "64", "--width", "32"]
        )
        == 0
    )
    tool = load(tmp_path / "out", "cpu")
    assert (tool.input.mean, tool.input.std) == ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    backbone.network["maxpool"] = nn.MaxPool2d(3, 2, ceil_mode=True)
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        maps = backbone(images)[-1].clamp_min(1e-6)
        expected = F.normalize(neck(maps.pow(3).mean((2, 3), keepdim=True).pow(1 / 3)).flatten(1))
    torch.testing.assert_close(descriptors(tmp_path / "out", images), expected, atol=1e-5, rtol=1e-4)


RESNET = {f"layer{stage}.{block}.conv1.weight": torch.zeros(1) for stage in range(1, 5) for block in range(2)}


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({"blocks.0.weight": torch.zeros(1)}, "holds neither an OSNet nor a ResNet"),
        ({**RESNET, "layer1.0.bn1.IN.weight": torch.zeros(1)}, "instance normalisation"),
        ({**RESNET, "NL_2.0.g.weight": torch.zeros(1)}, "non-local"),
        (RESNET, "tensors do not fit: "),
    ],
)
def test_one_line_for_what_it_cannot_convert(
    tensors: Any, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(tensors, tmp_path / "other.pth")
    assert main(["convert", str(tmp_path / "other.pth"), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert what in said
    assert said.startswith(f"kronreid: error: {tmp_path / 'other.pth'}: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_full_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(RESNET, tmp_path / "other.pth")
    assert main(["convert", str(tmp_path / "other.pth"), str(tmp_path)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "none.pth"), str(tmp_path / "out")]) == 2
    assert "no such file" in capsys.readouterr().err
