"""Sizes of the models against HOReID's Table II, and against counting by hand."""

from typing import Any

import pytest
import torch
from torch import nn

from kronreid.data.transforms import InputOptions
from kronreid.models.backbone import BackboneOptions
from kronreid.models.baselines import Pooled
from kronreid.models.horeid import HOReID
from kronreid.models.kpm import KPM
from kronreid.models.summary import summarise

PAPER = InputOptions(384, 128)
RESNET50 = BackboneOptions("resnet50.tv_in1k", "none")


@pytest.mark.parametrize(
    ("model", "options", "parameters", "multiply_adds"),
    [
        (Pooled, {}, 24.56, 6.28),
        (HOReID, {"order": 2, "parts": 0}, 25.87, 6.43),
        (HOReID, {"order": 3, "parts": 0}, 26.65, 6.53),
    ],
    ids=["gap", "ghp-n2", "ghp-n3"],
)
def test_table_2(
    model: type[nn.Module], options: dict[str, Any], parameters: float, multiply_adds: float
) -> None:
    """Millions of parameters, the sketches counted, and billions of multiply-adds."""
    network = model(RESNET50, **options)
    summary = summarise(network, PAPER)
    assert summary.parameters_with_sketches / 1e6 == pytest.approx(parameters, abs=0.01)
    assert summary.multiply_adds / 1e9 == pytest.approx(multiply_adds, abs=0.01)
    sketches = 512 * 512 * options.get("order", 0)
    assert summary.parameters == summary.parameters_with_sketches - sketches
    assert summary.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_heads_counted_by_hand() -> None:
    model = HOReID(BackboneOptions("mobilenetv2_050", "none"), order=2, channels=8, dimension=16, parts=4)
    parts = {part.name: part for part in summarise(model, InputOptions(64, 32)).parts}
    places = 4 * 2
    assert set(parts) == {"backbone", "reduce", "blocks", "ghp", "lhp"}
    assert parts["reduce"].parameters == 160 * 8
    assert parts["reduce"].multiply_adds == 160 * 8 * places
    assert parts["blocks"].parameters == 8 * 8 + 2 * 8
    assert parts["blocks"].multiply_adds == 8 * 8 * places
    assert parts["ghp"].multiply_adds == 2 * 8 * 8 * places
    # Two convolutions, a sampler that reads both levels, and the weighted averages of four parts per level.
    assert parts["lhp"].multiply_adds == (2 * 8 * 8 + 16 * 4 + 2 * 8 * 4) * places
    assert parts["blocks"].layers == {"Conv2d": 1, "BatchNorm2d": 1}
    assert parts["lhp"].layers == {"Conv2d": 3, "CountSketch": 2}


@pytest.mark.parametrize(("name", "device"), [("horeid", "cpu"), ("kpm", "cpu"), ("kpm", "meta")])
def test_parts_make_the_whole(name: str, device: str) -> None:
    """On the model's own device, also on one that only counts."""
    backbone = BackboneOptions("mobilenetv2_050", "none")
    model = KPM(backbone) if name == "kpm" else HOReID(backbone, channels=8, dimension=16, parts=4)
    summary = summarise(model.to(device), InputOptions(64, 32))
    assert sum(part.parameters for part in summary.parts) == summary.parameters > 100_000
    assert sum(part.multiply_adds for part in summary.parts) == summary.multiply_adds > 1_000_000
    if name == "kpm":
        assert {part.name for part in summary.parts if part.multiply_adds} == {
            "backbone",
            "hourglass",
            "attention",
        }


def test_counting_trains_nothing() -> None:
    model = HOReID(BackboneOptions("mobilenetv2_050", "none"), order=1, channels=8, dimension=16, parts=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    summarise(model.train(), InputOptions(64, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
