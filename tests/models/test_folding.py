"""A folded model gives the unfolded model's answers, and has nothing left to fold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kronreid.torchvision_guard  # noqa: F401

from timm.layers import BatchNormAct2d  # isort: skip

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.backbone import BackboneOptions
from kronreid.models.baselines import Pooled
from kronreid.models.folding import fold, fold_batchnorm
from kronreid.models.horeid import HOReID
from kronreid.models.inference import Embedder, load
from kronreid.models.kpm import KPM
from kronreid.models.storage import save

Settle = Callable[[nn.Module, Callable[[], object]], None]
BACKBONES = {
    "mobilenet": BackboneOptions("mobilenetv2_050", "none", 1),
    "mobilenet-same": BackboneOptions("mobilenetv2_050", "none", 2, {"pad_type": "same"}),
    "resnet": BackboneOptions("resnet18", "none", 1),
}


def norms(module: nn.Module) -> int:
    return sum(isinstance(inner, nn.BatchNorm2d) for inner in module.modules())


def distance(a: Tensor, b: Tensor) -> float:
    """The largest relative difference of two batches of vectors or maps."""
    a, b = a.flatten(1), b.flatten(1)
    return float(((a - b).norm(dim=1) / b.norm(dim=1)).max())


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("mobilenet", {}),
        ("mobilenet", {"order": 2, "dimension": 30}),
        ("mobilenet-same", {"normalise_levels": True, "first_order": True}),
        ("resnet", {"normalise_levels": True}),
        ("resnet", {"order": 1, "parts": 0}),
        ("resnet", {}),
    ],
    ids=str,
)
def test_horeid(images: Tensor, settle: Settle, backbone: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    options = {"order": 3, "channels": 24, "dimension": 32, "parts": 5, **options}
    model = HOReID(BACKBONES[backbone], **options)
    settle(model, lambda: model(images))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold(model)
    with torch.no_grad():
        expected, result = model(images), folded(images)
    assert distance(result.descriptor, expected.descriptor) < 1e-5
    assert list(result.branches) == list(expected.branches)
    for name, branch in result.branches.items():
        assert distance(branch, expected.branches[name]) < 1e-5
    assert norms(folded) == 0
    assert (expected.descriptor[0] - expected.descriptor[1]).norm() > 0.01
    # The model itself is as it was.
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_channels_last_and_bf16(horeid: HOReID, images: Tensor) -> None:
    folded = fold(horeid).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = horeid(images).descriptor
        assert distance(folded(batch).descriptor, expected) < 1e-5
        with torch.autocast("cpu", torch.bfloat16):
            half = folded(batch).descriptor
    assert half.dtype == torch.float32
    assert (half * expected).sum(dim=1).min() > 0.9


def test_part_maps(horeid: HOReID, images: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(fold(horeid).part_maps(images), horeid.part_maps(images))


def test_there_is_no_fft_left(horeid: HOReID, images: Tensor) -> None:
    def transforms(model: nn.Module) -> list[str]:
        program = torch.export.export(model, (images[:2],)).module()
        return [str(node.target) for node in program.graph.nodes if "fft" in str(node.target)]  # type: ignore[union-attr]

    class Descriptor(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, pictures: Tensor) -> Tensor:
            return self.model(pictures).descriptor

    assert transforms(Descriptor(horeid))
    assert not transforms(Descriptor(fold(horeid)))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_pooled(images: Tensor, settle: Settle, backbone: str) -> None:
    torch.manual_seed(0)
    model = Pooled(BACKBONES[backbone], channels=24)
    settle(model, lambda: model(images))
    folded = fold(model)
    with torch.no_grad():
        assert distance(folded(images).descriptor, model(images).descriptor) < 1e-5
    assert norms(folded) == 0


def test_kpm(kpm: KPM, images: Tensor) -> None:
    folded = fold(kpm)
    with torch.no_grad():
        pooled, scales = kpm.encode(images)
        folded_pooled, folded_scales = folded.encode(images)
    assert distance(folded_pooled, pooled) < 1e-5
    assert len(scales) == 3
    for scale, folded_scale in zip(scales, folded_scales, strict=True):
        assert scale.weight is not None
        assert folded_scale.weight is not None
        assert distance(folded_scale.maps, scale.maps) < 1e-5
        assert distance(folded_scale.weight - 1, scale.weight - 1) < 1e-4
    assert norms(folded) == 0
    index = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    with torch.no_grad():
        logits = kpm(*([scale.take(i) for scale in scales] for i in index))
        folded_logits = folded(*([scale.take(i) for scale in folded_scales] for i in index))
    torch.testing.assert_close(folded_logits, logits, rtol=1e-3, atol=1e-3)


class Twice(nn.Module):
    """One convolution whose output is normalised and also read as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x + self.norm(x)


class Shared(nn.Module):
    """One convolution, used with and without the normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + self.conv(x)


class Undecided(nn.Module):
    """What it does depends on numbers, so it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) if x.sum() > 0 else x


class Standardised(nn.Conv2d):
    """A convolution that computes its weight anew in every pass."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight, self.bias)


UNFOLDABLE: dict[str, Callable[[], nn.Module]] = {
    "read twice": Twice,
    "shared": Shared,
    "untraceable": Undecided,
    "own weight": lambda: nn.Sequential(Standardised(3, 4, 1), nn.BatchNorm2d(4)),
    "norm first": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)),
    "something between": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
    "no statistics": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
}
FOLDABLE: dict[str, Callable[[], nn.Module]] = {
    "no bias": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
    "bias": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)),
    "groups": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)),
    "not affine": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)),
    "with activation": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 1), BatchNormAct2d(4, act_layer=nn.SiLU), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)
    ),
}


@pytest.mark.parametrize("name", [*UNFOLDABLE, *FOLDABLE])
def test_fold_batchnorm(name: str) -> None:
    torch.manual_seed(0)
    module = {**UNFOLDABLE, **FOLDABLE}[name]()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
            if norm.affine:
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
    module.eval()
    batch = torch.randn(2, 3, 6, 5)
    with torch.no_grad():
        expected = module(batch)
        fold_batchnorm(module)
        torch.testing.assert_close(module(batch), expected, rtol=1e-5, atol=1e-5)
    assert bool(norms(module)) == (name in UNFOLDABLE)


@pytest.mark.parametrize("name", ["horeid", "pooled", "kpm"])
def test_load_folds(
    name: str,
    small: Callable[[int], BackboneOptions],
    settle: Settle,
    images: Tensor,
    paths: list[Path],
    input_options: InputOptions,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"order": 2, "channels": 8, "dimension": 16, "parts": 3}
    options = {"horeid": sizes, "pooled": {"channels": 8}, "kpm": {}}[name]
    model = {"horeid": HOReID, "pooled": Pooled, "kpm": KPM}[name](small(2), **options)
    settle(model, lambda: model.encode(images) if isinstance(model, KPM) else model(images))
    backbone = {"name": "mobilenetv2_050", "weights": "none", "last_stride": 2}
    save(tmp_path, name, {"backbone": backbone, **options}, input_options, model)
    tool, plain = load(tmp_path, device="cpu"), load(tmp_path, device="cpu", folded=False)
    assert norms(tool.model) == 0 < norms(plain.model)
    assert type(tool.model) is type(plain.model)
    assert tool.fingerprint == plain.fingerprint
    vectors = tool.embed(paths)
    assert distance(torch.from_numpy(vectors), torch.from_numpy(plain.embed(paths))) < 1e-5
    if isinstance(tool, Embedder) and isinstance(plain, Embedder):
        if name == "horeid":
            np.testing.assert_allclose(tool.part_maps(paths[0]), plain.part_maps(paths[0]), rtol=1e-3)
        else:
            with pytest.raises(InputError, match="part sampler"):
                tool.part_maps(paths[0])
