"""Networks of every family: maps, folding, gradients, frozen stages and layers, under each kind of model."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.export import export
from kronreid.models.backbone import Backbone, BackboneOptions
from kronreid.models.folding import fold
from kronreid.models.loading import load, wrap
from kronreid.models.pairs import PairModel
from kronreid.models.storage import build, save

SIZE = (96, 48)
SMALL_SWIN = {"depths": [1, 1, 2, 1], "embed_dim": 16, "num_heads": [1, 1, 2, 2]}
#: One small network of each family.
FAMILIES: dict[str, dict[str, Any]] = {
    "test_vit": {},
    "deit_tiny_distilled_patch16_224": {"depth": 3, "embed_dim": 48},
    "eva02_tiny_patch14_224": {"depth": 3, "embed_dim": 48},
    "vit_small_patch14_dinov2": {"depth": 3, "embed_dim": 48},
    "vit_tiny_patch16_dinov3_qkvb": {"depth": 3, "embed_dim": 48},
    "vit_base_patch16_clip_224": {"depth": 3, "embed_dim": 48},
    "swin_tiny_patch4_window7_224": SMALL_SWIN,
    "swinv2_tiny_window8_256": SMALL_SWIN,
    "test_maxvit": {},
    "fastvit_t8": {"layers": [1, 1, 1, 1]},
    "hrnet_w18_small": {},
    "test_convnext": {},
    "xcit_nano_12_p16_224": {"depth": 3},
    "levit_128s": {},
}
HEADS: dict[str, dict[str, Any]] = {
    "horeid": {"channels": 16, "dimension": 32, "parts": 4},
    "pooled": {"channels": 16},
    "kpm": {},
}


def made(head: str, name: str, size: tuple[int, int] = SIZE, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    backbone = {"name": name, "weights": "none", "last_stride": 2 if head == "kpm" else 1}
    return build(head, {"backbone": {**backbone, **options}, **HEADS[head]}, size=size)


def vectors(model: nn.Module, images: Tensor) -> Tensor:
    return model.vectors(images) if isinstance(model, PairModel) else model(images).descriptor


@pytest.mark.parametrize(
    ("name", "head"),
    [(name, head) for name in FAMILIES for head in ("horeid", "kpm")]
    + [("test_vit", "pooled"), ("swin_tiny_patch4_window7_224", "pooled")],
)
def test_every_family_under_every_head(name: str, head: str) -> None:
    """It gives maps of the announced shapes, learns in two steps, and its folded form agrees."""
    model = made(head, name, arguments=FAMILIES[name])
    images = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    backbone = model.backbone
    assert isinstance(backbone, Backbone)
    maps = backbone(images)
    assert [one.shape[1] for one in maps] == backbone.channels
    assert all(one.shape[0] == 4 for one in maps)
    if head != "kpm":
        assert backbone.strides[-1] in (14, 16)
        height, width = maps[-1].shape[2:]
        assert height * width >= 6 * 3
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        found = vectors(model.train(), images)
        loss = (found[0] @ found[1] - found[0] @ found[2]).square() + found[0] @ found[3]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] != losses[1]
    learned = [p for p in backbone.parameters() if p.grad is not None and p.grad.any()]
    assert len(learned) > 0.5 * len(list(backbone.parameters()))
    with torch.no_grad():
        torch.testing.assert_close(
            vectors(fold(model), images), vectors(model.eval(), images), atol=1e-4, rtol=1e-3
        )


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_dinov2", "swin_tiny_patch4_window7_224", "hrnet_w18_small"]
)
def test_any_size_is_rounded_and_said(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kronreid"):
        model = made("pooled", name, (100, 50), arguments=FAMILIES[name])
    step = 14 if "14" in name else 32
    assert f"{name} takes multiples of {step} pixels" in caplog.text
    with torch.no_grad():
        below, last = model.eval().backbone(torch.rand(2, 3, 100, 50))  # type: ignore[operator]
    assert below.shape[2:] == last.shape[2:]


def test_a_network_of_one_size_is_saved_and_loaded_at_its_size(tmp_path: Path) -> None:
    arguments = {"backbone": {"name": "test_vit", "weights": "none"}, "channels": 8}
    size = InputOptions(96, 48)
    model = build("pooled", arguments, size=SIZE).eval()
    assert model.backbone.network.model.pos_embed.shape[1] == 1 + 6 * 3  # type: ignore[union-attr]
    save(tmp_path, "pooled", arguments, size, model)
    images = torch.rand(2, 3, *SIZE)
    loaded = load(tmp_path, "cpu").model
    with torch.no_grad():
        torch.testing.assert_close(vectors(loaded, images), vectors(model, images))


def test_export(tmp_path: Path) -> None:
    model = made("pooled", "test_vit", arguments={"depth": 3}).eval()
    report = export(wrap(model, InputOptions(*SIZE)), tmp_path / "model.onnx")
    assert report.agreement == 1


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "resnet18", "swin_tiny_patch4_window7_224"])
def test_frozen_stages_do_not_learn(name: str) -> None:
    options = BackboneOptions(name, "none", 1, FAMILIES.get(name, {}), frozen=2, size=SIZE)
    backbone = Backbone(options, levels=2).train()
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    sum(one.square().mean() for one in backbone(torch.rand(2, 3, *SIZE))).backward()  # type: ignore[union-attr]
    depths = backbone.depths(stages=True)
    frozen = {key for key, parameter in backbone.network.named_parameters() if parameter.grad is None}
    assert {key for key, depth in depths.items() if depth < 2} <= frozen
    assert len(frozen) < len(depths)
    if name == "resnet18":  # neither do the statistics of its normalisations
        after = backbone.state_dict()
        assert torch.equal(
            after["network.layer1.0.bn1.running_mean"], before["network.layer1.0.bn1.running_mean"]
        )
        changed = "network.layer2.0.bn1.running_mean"
        assert not torch.equal(after[changed], before[changed])


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "resnet18", "swin_tiny_patch4_window7_224"])
def test_depths_rise_from_the_input(name: str) -> None:
    options = BackboneOptions(name, "none", 1, FAMILIES.get(name, {}), size=SIZE)
    backbone = Backbone(options)
    depths = backbone.depths()
    assert list(depths) == [key for key, _ in backbone.network.named_parameters()]
    assert set(depths.values()) == set(range(max(depths.values()) + 1))
    stem = next(key for key in depths if "conv1" in key or "stem" in key or "patch_embed" in key)
    assert depths[stem] == 0
    assert depths[list(depths)[-1]] == max(depths.values())


def test_checkpointing_changes_no_gradient() -> None:
    images = torch.rand(2, 3, *SIZE)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = Backbone(
            BackboneOptions("test_vit", "none", checkpointing=checkpointing, size=SIZE)
        ).train()
        backbone(images)[-1].square().mean().backward()
        gradients.append([parameter.grad for parameter in backbone.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_stochastic_depth() -> None:
    backbone = Backbone(BackboneOptions("test_vit", "none", drop_path=0.5, size=SIZE))
    images = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        random = [backbone.train()(images)[-1] for _ in range(8)]
        fixed = [backbone.eval()(images)[-1] for _ in range(2)]
    assert torch.equal(*fixed)
    assert not all(torch.equal(random[0], other) for other in random[1:])


def test_options_that_a_network_cannot_have() -> None:
    def refusal(**options: Any) -> str:
        with pytest.raises(InputError) as caught:
            Backbone(BackboneOptions(weights="none", size=SIZE, **options), levels=3)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert refusal(name="resnet18", frozen=9).startswith("backbone.frozen: 9; resnet18 has 5 stages")
    assert "backbone.checkpointing: this network cannot do it" in refusal(
        name="hrnet_w18_small", checkpointing=True
    )
    assert "drop_path_rate" in refusal(name="hrnet_w18_small", drop_path=0.1)
    assert "()" not in refusal(name="vit_no_such")
    with pytest.raises(InputError, match="it has 6 feature maps, but this model needs 7"):
        Backbone(BackboneOptions("test_vit", "none", size=SIZE), levels=7)
