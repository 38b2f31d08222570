"""The fast form of a network computes what the network does, and is used on a CPU unless told otherwise."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models import fusing
from kronreid.models.backbone import BackboneOptions
from kronreid.models.baselines import Concatenated, Pooled
from kronreid.models.folding import fold
from kronreid.models.fusing import FusedConvolution, fuse
from kronreid.models.horeid import HOReID
from kronreid.models.inference import Embedder
from kronreid.models.kpm import KPM
from kronreid.models.loading import load
from kronreid.models.pairs import PairModel
from kronreid.models.places import PlacesOptions

if not torch.backends.mkldnn.is_available():
    pytest.skip("this torch has no oneDNN, so there is no fast form", allow_module_level=True)


def vectors(model: nn.Module, images: Tensor) -> Tensor:
    return model.encode(images).pooled if isinstance(model, PairModel) else model(images).descriptor


def lively(model: nn.Module) -> nn.Module:
    """Gives normalisations numbers that matter."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)  # type: ignore[arg-type]
    return model.eval()


SMALL: dict[str, Any] = {"channels": 16, "dimension": 16, "parts": 4}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet": lambda: HOReID(BackboneOptions("mobilenetv2_050", "none", 1), **SMALL),
    "mobilenet-same": lambda: Pooled(BackboneOptions("mobilenetv2_050", "none", 2, {"pad_type": "same"}), 8),
    "squeezed": lambda: Pooled(BackboneOptions("test_efficientnet", "none", 2), 8),
    "resnet": lambda: HOReID(BackboneOptions("test_resnet", "none", 1), **SMALL),
    "several samplers": lambda: HOReID(
        BackboneOptions("test_resnet", "none", 1), shared_sampler=False, relu=True, kernel=3, **SMALL
    ),
    "concatenated": lambda: Concatenated(BackboneOptions("test_resnet", "none", 1), **SMALL),
    "matcher": lambda: KPM(BackboneOptions("test_resnet", "none", 2)),
    "cannot be traced": lambda: Pooled(BackboneOptions("test_convnext", "none", 2), 8),
    "transformer": lambda: Pooled(BackboneOptions("test_vit", "none", 2, size=(64, 32)), 8),
}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_outputs_are_the_models(name: str) -> None:
    torch.manual_seed(0)
    model = fold(lively(MODELS[name]()))
    images = torch.rand(7, 3, 64, 32).to(memory_format=torch.channels_last)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    fast = fuse(model, lambda one: vectors(one, images[:4]))
    assert fast is not model
    assert not any(type(one) is nn.Conv2d for one in fast.modules())
    for number in (1, 4, 7):
        expected = vectors(model, images[:number])
        torch.testing.assert_close(vectors(fast, images[:number]), expected, atol=1e-5, rtol=1e-4)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_activations_and_additions_are_fused() -> None:
    torch.manual_seed(0)
    for options in (BackboneOptions("mobilenetv2_050", "none"), BackboneOptions("test_resnet", "none")):
        model = fold(lively(Pooled(options, 8)))
        images = torch.rand(2, 3, 64, 32)
        fast = fuse(model, lambda one, images=images: one(images).descriptor)
        kinds = {type(one) for one in fast.backbone.modules()}
        assert not kinds & {nn.ReLU, nn.ReLU6, nn.Conv2d}
        graph: Any = fast.backbone.network.graph
        assert {node.op for node in graph.nodes} <= {"placeholder", "call_module", "output"}


class Small(nn.Module):
    """A network with three convolutions; `forward` is one of the functions below."""

    def __init__(self, forward: Callable[["Small", Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.wide = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 1, 1)
        self.act, self.nothing = nn.ReLU(inplace=True), nn.Identity()
        self.run = forward

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.run(self, x)]


def _in_place(net: Small, x: Tensor) -> Tensor:
    y = net.a(x)
    y += net.b(x)
    return net.act(y)


SHAPES: dict[str, Callable[[Small, Tensor], Tensor]] = {
    "activation": lambda net, x: net.act(net.a(x)),
    "functional": lambda net, x: torch.nn.functional.relu6(net.a(x)),
    "through nothing": lambda net, x: net.act(net.nothing(net.a(x))),
    "shortcut": lambda net, x: net.a(x) + x,
    "shortcut and no ReLU": lambda net, x: torch.nn.functional.silu(net.a(x) + x),
    "shortcut first": lambda net, x: net.act(x + net.a(x)),
    "two branches": lambda net, x: net.act(net.a(x) + net.b(x)),
    "a chain": lambda net, x: net.b(net.act(net.a(x) + x)) + net.a(x).mean(),
    "in place": _in_place,
    "broadcast": lambda net, x: net.a(x) + net.wide(x),
    "broadcast by its own": lambda net, x: net.wide(x) + net.a(x),
    "a number": lambda net, x: net.a(x) + 1,
    "scaled": lambda net, x: torch.add(net.a(x), x, alpha=2),
    "itself": lambda net, x: (lambda y: y + y)(net.a(x)),
    "used twice": lambda net, x: (lambda y: net.act(y.clone()) + y)(net.a(x)),
    "called twice": lambda net, x: net.a(net.act(net.a(x))) + x,
}


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_what_follows_a_convolution(shape: str) -> None:
    network, images = Small(SHAPES[shape]).eval(), torch.randn(3, 8, 9, 5)
    (expected,) = network(images.clone())
    sizes = {f"backbone.network.{name}": images.shape for name in ("a", "b", "wide")}
    fast = fusing._fused_graph(network, {**sizes, "backbone": images.shape}, "backbone")
    assert any(isinstance(one, FusedConvolution) for one in fast.modules()) == (shape != "called twice")
    for _ in range(2):
        torch.testing.assert_close(fast(images.clone())[0], expected, atol=1e-5, rtol=1e-5)


def test_a_form_that_differs_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = fold(lively(Pooled(BackboneOptions("test_resnet", "none"), 8)))
    images = torch.rand(2, 3, 64, 32)
    monkeypatch.setattr(fusing, "_ACTIVATIONS", {nn.ReLU: ("hardtanh", [-6.0, 0.0])})
    with caplog.at_level(logging.WARNING):
        assert fuse(model, lambda one: one(images).descriptor) is model
    assert "is not used" in caplog.text


@pytest.fixture
def folder(tmp_path: Path, save_tiny_models: Callable[[Path], None]) -> Path:
    save_tiny_models(tmp_path)
    return tmp_path


def fused(tool: Any) -> bool:
    return any(isinstance(one, FusedConvolution) for one in tool.network().modules())


@pytest.mark.parametrize("name", ["horeid", "kpm"])
def test_the_engine(folder: Path, paths: list[Path], name: str) -> None:
    tools = {
        "auto": load(folder / name, device="cpu"),
        "torch": load(folder / name, device="cpu", engine="torch"),
        "unfolded": load(folder / name, device="cpu", folded=False),
    }
    assert [fused(tool) for tool in tools.values()] == [True, False, False]
    assert len({tool.fingerprint for tool in tools.values()}) == 1
    found = {key: tool.embed(paths) for key, tool in tools.items()}
    np.testing.assert_allclose(found["auto"], found["torch"], atol=1e-5)
    np.testing.assert_allclose(found["auto"], found["unfolded"], atol=1e-4)
    tools["auto"].autocast = True
    assert not fused(tools["auto"])
    assert not any(isinstance(one, FusedConvolution) for one in tools["auto"].model.modules())


def test_places_come_from_the_fast_form(folder: Path, paths: list[Path], random_places: Any) -> None:
    found = []
    for engine in ("auto", "torch"):
        tool = load(folder / "horeid", device="cpu", engine=engine)  # type: ignore[arg-type]
        assert isinstance(tool, Embedder)
        tool.places = random_places(PlacesOptions(numbers=8), [(16, 4, 2)])
        found.append(tool.describe(paths))
    torch.testing.assert_close(found[0].vectors, found[1].vectors, atol=1e-5, rtol=0)
    for one, other in zip(found[0].levels, found[1].levels):
        torch.testing.assert_close(one.unit(), other.unit(), atol=0.02, rtol=0)


def test_matchers_score_as_before(folder: Path, paths: list[Path]) -> None:
    scores = [
        load(folder / "kpm", device="cpu", engine=engine).score(paths[:2], paths)  # type: ignore[arg-type, union-attr]
        for engine in ("auto", "torch")
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_an_unknown_engine_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="engine 'onnx': give one of auto, torch"):
        load(folder / "horeid", engine="onnx")  # type: ignore[arg-type]


def test_passes_are_small_on_a_cpu(folder: Path, paths: list[Path]) -> None:
    tool = load(folder / "horeid", device="cpu")
    tool.height, tool.width = 300, 600
    assert tool.per_pass == 1
    tool.height, tool.width = 64, 32
    assert tool.per_pass == 144
    sizes = [(len(batch), number) for batch, number in tool._batches(paths, 3, progress=False)]
    assert sizes == [(3, 3), (3, 3), (1, 1)]
