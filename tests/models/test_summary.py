"""Sizes of the models against HOReID's Table II, and against counting by hand."""

from typing import Any

import pytest
import torch
from torch import nn

from kronreid.data.transforms import InputOptions
from kronreid.models.backbone import BackboneOptions
from kronreid.models.baselines import Concatenated, Pooled
from kronreid.models.horeid import HOReID
from kronreid.models.kpm import KPM
from kronreid.models.summary import summarise
from kronreid.ops.sketch import CountSketch

PAPER = InputOptions(384, 128)
RESNET50 = BackboneOptions("resnet50.tv_in1k", "none")


#: Millions of parameters, the sketches counted, and billions of multiply-adds: ours, then the paper's.
TABLE_2: list[tuple[type[nn.Module], dict[str, Any], tuple[float, float], tuple[float, float]]] = [
    (Pooled, {}, (24.557, 6.281), (24.56, 6.28)),
    (Concatenated, {"order": 2, "parts": 0}, (25.082, 6.382), (25.72, 6.39)),
    (Concatenated, {"order": 2}, (25.606, 6.495), (26.86, 6.50)),
    (HOReID, {"order": 2, "parts": 0}, (25.868, 6.432), (25.87, 6.43)),
    (HOReID, {"order": 2}, (27.179, 6.634), (27.05, 6.56)),
    (Concatenated, {"order": 3, "parts": 0}, (25.476, 6.457), (26.47, 6.46)),
    (Concatenated, {"order": 3}, (26.263, 6.621), (27.72, 6.62)),
    (HOReID, {"order": 3, "parts": 0}, (26.656, 6.533), (26.65, 6.53)),
    (HOReID, {"order": 3}, (28.622, 6.835), (27.99, 6.76)),
]


@pytest.mark.parametrize(
    ("model", "options", "ours", "papers"),
    TABLE_2,
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_table_2(
    model: type[nn.Module],
    options: dict[str, Any],
    ours: tuple[float, float],
    papers: tuple[float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What docs/models.md says; GAP and GHP, whose layers the paper gives, are as it counts."""
    for name in ("kaiming_normal_", "kaiming_uniform_"):  # sizes do not depend on the weights
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
    network = model(RESNET50, **options)
    summary = summarise(network, PAPER)
    counts = summary.parameters_with_sketches / 1e6, summary.multiply_adds / 1e9
    assert counts == pytest.approx(ours, abs=5e-4)
    settled = model is Pooled or (model is HOReID and "parts" in options)
    assert counts[0] == pytest.approx(papers[0], abs=0.01 if settled else 1.5)
    assert counts[1] == pytest.approx(papers[1], abs=0.1 if model is HOReID and not settled else 0.01)
    layers = sum(isinstance(module, CountSketch) for module in network.modules())
    assert summary.parameters == summary.parameters_with_sketches - 512 * 512 * layers
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


def test_samplers_of_their_own_cost_what_a_shared_one_does() -> None:
    """n samplers of one level each weigh what one that reads n levels does; 3×3 kernels nine times 1×1."""
    options: dict[str, Any] = {"order": 3, "channels": 8, "dimension": 16, "parts": 4}
    backbone = BackboneOptions("mobilenetv2_050", "none")
    made = ({}, {"shared_sampler": False}, {"kernel": 3})
    shared, unshared, wide = (
        {
            part.name: part
            for part in summarise(HOReID(backbone, **options, **change), InputOptions(64, 32)).parts
        }
        for change in made
    )
    assert unshared["lhp"] == shared["lhp"]
    assert wide["blocks"].multiply_adds == 9 * shared["blocks"].multiply_adds == 9 * 2 * 8 * 8 * 8


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


def test_a_mirror_image_costs_as_much_as_the_picture() -> None:
    model = HOReID(BackboneOptions("mobilenetv2_050", "none"), channels=8, dimension=16, parts=4)
    once, twice = (summarise(model, InputOptions(64, 32, mirror=mirror)) for mirror in (False, True))
    assert twice.multiply_adds == 2 * once.multiply_adds
    assert twice.parameters == once.parameters


def test_counting_trains_nothing() -> None:
    model = HOReID(BackboneOptions("mobilenetv2_050", "none"), order=1, channels=8, dimension=16, parts=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    summarise(model.train(), InputOptions(64, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
