"""Backbones: sizes of their maps, the last stride, and weights from a file."""

import hashlib
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.backbone import Backbone, BackboneOptions, initialise
from kronreid.models.storage import build

SAME = {"pad_type": "same"}


def refusal(options: BackboneOptions) -> str:
    with pytest.raises(InputError) as caught:
        Backbone(options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050"])
@pytest.mark.parametrize(("last_stride", "last"), [(1, 16), (2, 32)])
def test_sizes_of_the_maps(name: str, last_stride: int, last: int) -> None:
    backbone = Backbone(BackboneOptions(name, "none", last_stride), levels=3).eval()
    assert backbone.strides == [8, 16, last]
    with torch.no_grad():
        maps = backbone(torch.rand(2, 3, 64, 32))
    for level, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert level.shape == (2, channels, 64 // stride, 32 // stride)
    with torch.no_grad():
        assert len(Backbone(BackboneOptions(name, "none", last_stride))(torch.rand(2, 3, 64, 32))) == 1


def without_last_stride(name: str, convolutions: list[str], arguments: dict) -> nn.Module:
    """timm's network whose last stage had its stride taken away by hand."""
    network = timm.create_model(name, features_only=True, out_indices=(4,), **arguments)
    for path in convolutions:
        convolution = network.get_submodule(path)
        assert convolution.stride == (2, 2)
        convolution.stride = (1, 1)
    return network


@pytest.mark.parametrize(
    ("name", "convolutions", "arguments"),
    [
        ("resnet18", ["layer4.0.conv1", "layer4.0.downsample.0"], {}),
        ("mobilenetv2_050", ["blocks.5.0.conv_dw"], {}),
        ("mobilenetv2_050", ["blocks.5.0.conv_dw"], SAME),
    ],
    ids=["resnet", "mobilenet", "mobilenet-same"],
)
def test_last_stride_takes_the_stride_away_and_dilates_nothing(
    name: str, convolutions: list[str], arguments: dict
) -> None:
    backbone = Backbone(BackboneOptions(name, "none", 1, arguments)).eval()
    for module in backbone.modules():
        assert not isinstance(module, nn.Conv2d) or module.dilation == (1, 1)
    plain = without_last_stride(name, convolutions, arguments).eval()
    plain.load_state_dict(backbone.network.state_dict())
    images = torch.rand(2, 3, 96, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (expected,), (result,) = plain(images), backbone(images)
    assert expected.std() > 0
    torch.testing.assert_close(result, expected)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as timm's own: all tensors of the network and a classifier's."""
    torch.manual_seed(3)
    tensors = Backbone(BackboneOptions("resnet18", "none")).network.state_dict()
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file({**tensors, "fc.weight": torch.zeros(10, 512)}, path)
    return path


def changed(weights: Path, name: str, tensor: Tensor | None) -> Path:
    tensors = load_file(weights)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    path = weights.parent / "changed.safetensors"
    save_file(tensors, path)
    return path


def test_weights_from_a_file(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONREID_TEST_WEIGHTS", str(weights.parent))
    wanted = load_file(weights)
    for name in (str(weights), "${KRONREID_TEST_WEIGHTS}/resnet18.safetensors"):
        tensors = Backbone(BackboneOptions("resnet18", name)).network.state_dict()
        assert all(torch.equal(tensor, wanted[key]) for key, tensor in tensors.items())


def test_weights_without_batch_counts(weights: Path) -> None:
    """PyTorch's counter of batches is in no checkpoint of other frameworks, and nothing needs it."""
    path = changed(weights, "bn1.num_batches_tracked", None)
    loaded = Backbone(BackboneOptions("resnet18", str(path))).network
    assert torch.equal(loaded.state_dict()["conv1.weight"], load_file(path)["conv1.weight"])


def test_weights_of_another_models_folder(weights: Path, tmp_path: Path) -> None:
    """Its backbone is taken, its head is not."""
    tensors = {f"backbone.network.{name}": tensor for name, tensor in load_file(weights).items()}
    save_file({**tensors, "reduce.weight": torch.zeros(8, 512, 1, 1)}, tmp_path / "model.safetensors")
    loaded = Backbone(BackboneOptions("resnet18", str(tmp_path))).network.state_dict()
    wanted = load_file(weights)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.items())
    (tmp_path / "model.safetensors").unlink()
    assert "holds no model.safetensors" in refusal(BackboneOptions("resnet18", str(tmp_path)))


def test_weights_refused(weights: Path, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        message = refusal(BackboneOptions("resnet18", str(path)))
        assert message.startswith(f"backbone.weights {path}: ")
        return message

    assert "no such file" in refused(tmp_path / "none.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("these are no weights")
    assert "not a safetensors file" in refused(text)
    text.write_bytes(weights.read_bytes()[:-100])
    assert "not a safetensors file" in refused(text)
    assert "1 of 120 tensors do not fit: conv1.weight is missing" in refused(
        changed(weights, "conv1.weight", None)
    )
    message = refused(changed(weights, "conv1.weight", torch.zeros(64, 1, 7, 7)))
    assert "conv1.weight is (64, 1, 7, 7), but the network needs (64, 3, 7, 7)" in message


def test_options_refused() -> None:
    assert "backbone.last_stride: 3" in refusal(BackboneOptions("resnet18", "none", 3))
    assert "'resnet0'" in refusal(BackboneOptions("resnet0", "none"))
    assert "'resnet18'" in refusal(BackboneOptions("resnet18", "none", arguments={"colour": "red"}))


def test_initialise() -> None:
    torch.manual_seed(0)
    convolution, norm, linear = nn.Conv2d(50, 40, 3), nn.BatchNorm2d(40), nn.Linear(300, 200)
    initialise(nn.Sequential(convolution, norm), nn.Sequential(nn.Sequential(linear)))
    assert convolution.bias is not None
    assert float(convolution.weight.detach().std()) == pytest.approx((2 / (40 * 9)) ** 0.5, rel=0.05)
    assert float(linear.weight.detach().std()) == pytest.approx(0.001, rel=0.05)
    assert not convolution.bias.any()
    assert not linear.bias.any()
    assert (norm.weight == 1).all()


@pytest.mark.parametrize(
    ("name", "head", "names", "vector"),
    [
        ("mobilenetv2_100", "horeid", "86dcfd70d1c4f8b7", [0.0357908, 0.0194342, 0.0041962]),
        ("mobilenetv2_100", "pooled", "218a71d367954d38", [-0.0225519, -0.0425878, -0.0128602]),
        ("mobilenetv2_100", "kpm", "33cc65fdb00a6652", [0.0168663, 0.0916816, 0.0493015]),
        ("resnet50", "pooled", "29c535d41c4f9575", [0.0040159, 0.0238016, 0.0042484]),
        ("resnet50", "kpm", "3ce4af5087978b93", [0.0, 0.0, 0.0322704]),
    ],
)
def test_networks_of_saved_models_stay_as_they_are(
    name: str, head: str, names: str, vector: list[float]
) -> None:
    """Names, shapes, initial weights and outputs are those that saved models have."""
    torch.manual_seed(0)
    backbone = {"name": name, "weights": "none", "last_stride": 2 if head == "kpm" else 1}
    model = build(head, {"backbone": backbone}).eval()
    shapes = "".join(f"{key}{tuple(tensor.shape)}" for key, tensor in model.state_dict().items())
    assert hashlib.sha256(shapes.encode()).hexdigest()[:16] == names
    torch.manual_seed(1)
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        found = model.vectors(images) if head == "kpm" else model(images).descriptor  # type: ignore[operator]
    torch.testing.assert_close(found.flatten()[:3], torch.tensor(vector), atol=1e-5, rtol=1e-3)
