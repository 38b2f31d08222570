"""A folded model gives the unfolded model's answers, and has nothing left to fold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import kronreid.torchvision_guard  # noqa: F401

from timm.layers import BatchNormAct2d  # isort: skip

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.backbone import Backbone, BackboneOptions
from kronreid.models.baselines import Concatenated
from kronreid.models.folding import FoldedGlobalPooling, FoldedLocalPooling, fold, fold_batchnorm
from kronreid.models.horeid import GlobalHierarchicalPooling, HOReID, LocalHierarchicalPooling
from kronreid.models.inference import Embedder
from kronreid.models.kpm import KPM
from kronreid.models.loading import load
from kronreid.models.storage import build, save

M = TypeVar("M", bound=nn.Module)
BACKBONES = {
    "mobilenet": BackboneOptions("mobilenetv2_050", "none", 1),
    "mobilenet-same": BackboneOptions("mobilenetv2_050", "none", 2, {"pad_type": "same"}),
    "resnet": BackboneOptions("resnet18", "none", 1),
    "small": BackboneOptions("test_resnet", "none", 1),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def shaken(module: M) -> M:
    """The module in eval mode, its batch normalisation random but of a size that keeps magnitudes."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            if norm.affine:
                nn.init.normal_(norm.weight, 1, 0.2)
                nn.init.normal_(norm.bias, 0, 0.2)
            if norm.running_mean is not None and norm.running_var is not None:
                nn.init.normal_(norm.running_mean, 0, 0.1)
                nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(inner, nn.BatchNorm2d) for inner in module.modules())


def distance(a: Tensor, b: Tensor) -> float:
    """The largest relative difference of two batches of vectors or maps."""
    a, b = a.flatten(1), b.flatten(1)
    return float(((a - b).norm(dim=1) / b.norm(dim=1)).max())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_are_exact(images: Tensor, backbone: str) -> None:
    """In float64, where rounding is no excuse."""
    network = shaken(Backbone(BACKBONES[backbone], levels=2)).double()
    with torch.no_grad():
        expected = network(images[:2].double())
        fold_batchnorm(network)
        for maps, wanted in zip(network(images[:2].double()), expected, strict=True):
            assert distance(maps, wanted) < 1e-12
    assert norms(network) == 0


@pytest.mark.parametrize(("order", "dimension"), [(1, 16), (2, 30), (3, 32)])
def test_poolings(order: int, dimension: int) -> None:
    levels = [torch.randn(3, 12, 6, 4) for _ in range(order)]
    values = [torch.randn(3, 12, 6, 4) for _ in range(order)]
    ghp = GlobalHierarchicalPooling(order, 12, dimension)
    lhp = LocalHierarchicalPooling(order, 12, dimension, parts=5)
    with torch.no_grad():
        assert distance(FoldedGlobalPooling(ghp)(levels), ghp(levels)) < 1e-5
        folded = FoldedLocalPooling(lhp)
        assert distance(folded(levels, values)[0], lhp(levels, values)[0]) < 1e-5
        assert torch.equal(folded.maps(levels), lhp.maps(levels))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_poolings_of_table_1(relu: bool, shared: bool) -> None:
    """Exact in float64; with a ReLU the convolutions before it stay as they are."""
    levels = [torch.randn(3, 12, 6, 4).double() for _ in range(3)]
    ghp = GlobalHierarchicalPooling(3, 12, 32, relu).double()
    lhp = LocalHierarchicalPooling(3, 12, 32, 5, relu, shared).double()
    with torch.no_grad():
        assert distance(FoldedGlobalPooling(ghp)(levels), ghp(levels)) < 1e-12
        folded = FoldedLocalPooling(lhp)
        # The maps are averaged in float32.
        assert distance(folded(levels, levels)[0], lhp(levels, levels)[0]) < 1e-5
        assert torch.equal(folded.maps(levels), lhp.maps(levels))


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("mobilenet", {"order": 2, "dimension": 30}),
        ("mobilenet-same", {"normalise_levels": True, "first_order": True}),
        ("resnet", {}),
        ("resnet", {"normalise_levels": True}),
        ("resnet", {"order": 1, "parts": 0}),
    ],
    ids=str,
)
def test_horeid(images: Tensor, backbone: str, options: dict[str, Any]) -> None:
    options = {"order": 3, "channels": 24, "dimension": 32, "parts": 5, **options}
    model = shaken(HOReID(BACKBONES[backbone], **options))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold(model)
    with torch.no_grad():
        expected, result = model(images), folded(images)
    # Random networks magnify rounding, which differs between processors and numbers of threads: up to 2e-5
    # for the ResNet. The order of a MobileNet's pixels in memory alone changes up to 4e-5.
    tolerance = 1e-4 if backbone == "resnet" else 2e-4
    assert distance(result.descriptor, expected.descriptor) < tolerance
    assert list(result.branches) == list(expected.branches)
    for name, branch in result.branches.items():
        assert distance(branch, expected.branches[name]) < tolerance
    assert norms(folded) == 0
    # The model itself is as it was.
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize(
    "options",
    [
        {"order": 5, "parts": 8},
        {"kernel": 3, "shared_sampler": False},
        {"relu": True},
        {"relu": True, "shared_sampler": False},
        {"shared_sampler": False, "sampler_reads": "maps"},
        {"relu": True, "shared_sampler": False, "sampler_reads": "maps"},
        {"hierarchical": False},
        {"ghp": False},
        {"ghp": False, "relu": True, "order": 2},
    ],
    ids=str,
)
def test_variants_of_horeid(images: Tensor, options: dict[str, Any]) -> None:
    """In float64 but for the sampler's maps: a sampler of random weights magnifies its input's rounding."""
    options = {"order": 3, "channels": 24, "dimension": 32, "parts": 5, **options}
    model = shaken(HOReID(BACKBONES["small"], **options)).double()
    folded = fold(model)
    with torch.no_grad():
        expected, result = model(images.double()), folded(images.double())
    assert list(result.branches) == list(expected.branches)
    for name, branch in result.branches.items():
        assert distance(branch, expected.branches[name]) < 1e-5
    assert norms(folded) == 0


@pytest.mark.parametrize("parts", [0, 5])
def test_concatenated(images: Tensor, parts: int) -> None:
    model = shaken(Concatenated(BACKBONES["small"], order=3, channels=24, dimension=12, parts=parts))
    folded = fold(model)
    with torch.no_grad():
        expected, result = model(images), folded(images)
    assert distance(result.descriptor, expected.descriptor) < 1e-5
    assert norms(folded) == 0 < norms(model)


def test_different_pictures_stay_different(horeid: HOReID, images: Tensor) -> None:
    """With statistics of pictures, which magnify rounding (2e-4 in the maps with two threads); and
    channels-last, as `Embedder` runs it."""
    folded = fold(horeid).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected, result = horeid(images).descriptor, folded(batch).descriptor
        torch.testing.assert_close(folded.part_maps(batch), horeid.part_maps(images), rtol=1e-2, atol=1e-3)
    assert (expected[0] - expected[1]).norm() > 0.01
    assert distance(result, expected) < 1e-3


def test_autocast(images: Tensor) -> None:
    model = shaken(HOReID(BACKBONES["small"], order=2, channels=24, dimension=32, parts=5))
    with torch.no_grad():
        expected = model(images).descriptor
        with torch.autocast("cpu", torch.bfloat16):
            half = fold(model)(images).descriptor
    assert half.dtype == torch.float32
    assert (half * expected).sum(dim=1).min() > 0.98


class Recorder(TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def test_there_is_no_fft_left(horeid: HOReID, images: Tensor) -> None:
    def transforms(model: nn.Module) -> list[str]:
        with torch.no_grad(), Recorder() as recorder:
            model(images[:1])
        return [name for name in recorder.names if "fft" in name]

    assert transforms(horeid)
    assert not transforms(fold(horeid))
    options: dict[str, Any] = {"relu": True, "shared_sampler": False}
    table_1 = HOReID(BACKBONES["small"], order=2, channels=8, dimension=16, parts=3, **options).eval()
    assert transforms(table_1)
    assert not transforms(fold(table_1))


def test_kpm(images: Tensor) -> None:
    kpm = shaken(KPM(BACKBONES["resnet"]))
    nn.init.normal_(kpm.classifier.weight, 0, 0.1)
    folded = fold(kpm)
    with torch.no_grad():
        pictures, folded_pictures = kpm.encode(images), folded.encode(images)
    assert distance(folded_pictures.pooled, pictures.pooled) < 1e-5
    assert len(pictures.scales) == 3
    for scale, folded_scale in zip(pictures.scales, folded_pictures.scales, strict=True):
        assert scale.weight is not None
        assert folded_scale.weight is not None
        assert distance(folded_scale.maps, scale.maps) < 1e-5
        torch.testing.assert_close(folded_scale.weight, scale.weight, rtol=0, atol=1e-3)
    assert norms(folded) == 0
    index = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    with torch.no_grad():
        logits, folded_logits = kpm(pictures, *index), folded(folded_pictures, *index)
    assert logits.std() > 1e-3
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
    module = shaken({**UNFOLDABLE, **FOLDABLE}[name]())
    batch = torch.randn(2, 3, 6, 5)
    with torch.no_grad():
        expected = module(batch)
        fold_batchnorm(module)
        torch.testing.assert_close(module(batch), expected, rtol=1e-5, atol=1e-5)
    assert bool(norms(module)) == (name in UNFOLDABLE)


@pytest.mark.parametrize("name", ["horeid", "concatenated", "pooled", "kpm"])
def test_load_folds(name: str, paths: list[Path], input_options: InputOptions, tmp_path: Path) -> None:
    backbone = {"name": "test_resnet", "weights": "none"}
    sizes: dict[str, Any] = {"order": 2, "channels": 8, "dimension": 16, "parts": 3}
    own = {"horeid": sizes, "concatenated": sizes, "pooled": {"channels": 8}, "kpm": {}}
    arguments = {"backbone": backbone, **own[name]}
    save(tmp_path, name, arguments, input_options, shaken(build(name, arguments)))
    tool, plain = load(tmp_path, device="cpu"), load(tmp_path, device="cpu", folded=False)
    assert norms(tool.model) == 0 < norms(plain.model)
    assert type(tool.model) is type(plain.model)
    assert tool.fingerprint == plain.fingerprint
    vectors = torch.from_numpy(tool.embed(paths))
    assert distance(vectors, torch.from_numpy(plain.embed(paths))) < 1e-4
    if isinstance(tool, Embedder) and isinstance(plain, Embedder):
        if name == "horeid":
            np.testing.assert_allclose(tool.part_maps(paths[0]), plain.part_maps(paths[0]), rtol=1e-3)
        else:
            with pytest.raises(InputError, match="part sampler"):
                tool.part_maps(paths[0])
