"""Initial weights: files of other projects, position embeddings of other sizes, and names."""

import logging
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models import weights as weights_module
from kronreid.models.backbone import Backbone, BackboneOptions
from kronreid.models.weights import converted, find_weights, timm_name, without_prefix

SIZE = (96, 48)
SWIN = {"depths": [1, 1, 2, 1], "embed_dim": 16, "num_heads": [1, 1, 2, 2]}


def refusal(name: str, file: object, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        Backbone(BackboneOptions(name, str(file), size=SIZE, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def whole(name: str, **arguments: Any) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return timm.create_model(name, num_classes=0, **arguments).state_dict()


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return OrderedDict((f"{prefix}{name}", tensor) for name, tensor in tensors.items())


#: How projects save a network: whole entries and prefixes.
LAYOUTS: dict[str, Any] = {
    "plain": lambda t: t,
    "torchreid": lambda t: {"state_dict": prefixed(t, "module."), "epoch": 60, "optimizer": {"state": {}}},
    "fast-reid": lambda t: {
        "model": {
            **prefixed(t, "backbone."),
            "heads.weight": torch.zeros(3, 2),
            "pixel_mean": torch.zeros(3),
        },
        "iteration": 9,
    },
    "TransReID": lambda t: {
        **prefixed(t, "base."),
        **prefixed(t, "b1."),
        "base.sie_embed": torch.zeros(6, 1),
    },
    "LUPerson": lambda t: {
        "arch": "x",
        "state_dict": {
            **prefixed(t, "module.encoder_q."),
            **prefixed({name: -tensor for name, tensor in t.items()}, "module.encoder_k."),
        },
    },
    "DINO": lambda t: {
        "student": prefixed({name: -tensor for name, tensor in t.items()}, "module.backbone."),
        "teacher": {**prefixed(t, "backbone."), "head.mlp.0.weight": torch.zeros(2, 2)},
        "epoch": 3,
    },
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_files_of_other_projects(
    name: str, layout: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = whole(name, **({"img_size": SIZE} if name == "test_vit" else {}))
    file = tmp_path / "other.pth"
    torch.save(LAYOUTS[layout](tensors), file)
    with caplog.at_level(logging.INFO, "kronreid"):
        backbone = Backbone(BackboneOptions(name, str(file), size=SIZE))
    for key, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, tensors[timm_name(key)]), key
    number = len(backbone.network.state_dict())
    assert f"{number} of {number} tensors fitted" in caplog.text
    if layout == "fast-reid":
        assert "not used: " in caplog.text
        assert "heads.weight" in caplog.text


@pytest.mark.parametrize(("old", "grid"), [((256, 128), (16, 8)), ((384, 128), (24, 8)), ((64, 64), (4, 4))])
def test_position_embeddings_are_interpolated(
    old: tuple[int, int], grid: tuple[int, int], tmp_path: Path
) -> None:
    """Embeddings that rise evenly from the top to the bottom still do so at another size."""
    tensors = whole("test_vit", img_size=old)
    rows = torch.linspace(0, 1, grid[0]).repeat_interleave(grid[1])
    tensors["pos_embed"][0, 1:] = rows[:, None]
    torch.save(prefixed(tensors, "base."), tmp_path / "other.pth")
    network = Backbone(BackboneOptions("test_vit", str(tmp_path / "other.pth"), size=SIZE)).network
    result = network.state_dict()["model.pos_embed"]
    assert torch.equal(result[0, 0], tensors["pos_embed"][0, 0])
    found = result[0, 1:, 0].view(6, 3)
    torch.testing.assert_close(found, found[:, :1].expand(6, 3), atol=1e-4, rtol=0)
    assert (found[1:, 0] > found[:-1, 0]).all()


class MmcvMerging(nn.Module):
    """The merging of 2×2 patches as mmcv does it, from its description: unfold, normalise, reduce."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        patches = nn.functional.unfold(maps, 2, stride=2).transpose(1, 2)
        return self.reduction(self.norm(patches))


def mmcv_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's tensors of a Swin by mmcv's names; the mergings stay out."""
    renamed = {}
    for name, tensor in tensors.items():
        if "downsample" in name:
            continue
        for new, old in (
            ("patch_embed.projection.", "patch_embed.proj."),
            (".attn.w_msa.", ".attn."),
            (".ffn.layers.0.0.", ".mlp.fc1."),
            (".ffn.layers.1.", ".mlp.fc2."),
        ):
            name = name.replace(old, new)
        name = name.replace("layers.", "stages.", 1) if name.startswith("layers.") else name
        renamed[f"norm3.{name.removeprefix('norm.')}" if name.startswith("norm.") else name] = tensor
    return renamed


def test_a_swin_of_mmcv(tmp_path: Path) -> None:
    """SOLIDER's files: other names, and another order of channels where patches merge."""
    tensors = mmcv_names(whole("swin_tiny_patch4_window7_224", img_size=(96, 64), **SWIN))
    mergings = []
    for stage in range(3):
        merging = MmcvMerging(16 * 2**stage)
        nn.init.normal_(merging.norm.weight)
        mergings.append(merging)
        tensors |= {f"stages.{stage}.downsample.{key}": value for key, value in merging.state_dict().items()}
    torch.save({"teacher": prefixed(tensors, "backbone.")}, tmp_path / "swin.pth")
    options = BackboneOptions(
        "swin_tiny_patch4_window7_224", str(tmp_path / "swin.pth"), 2, SWIN, size=(96, 64)
    )
    network = Backbone(options, levels=4).network
    for stage, merging in enumerate(mergings):
        maps = torch.rand(2, 16 * 2**stage, 8, 4)
        with torch.no_grad():
            ours = network.get_submodule(f"layers_{stage + 1}.downsample")(maps.permute(0, 2, 3, 1))
            torch.testing.assert_close(ours.flatten(1, 2), merging(maps), atol=1e-5, rtol=1e-4)


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    tensors = whole("resnet18")
    for name in list(tensors)[:12]:
        tensors[name] = tensors[name].new_zeros(3)
    del tensors["layer4.1.bn2.weight"]
    torch.save(tensors, tmp_path / "bad.pth")
    message = refusal("resnet18", tmp_path / "bad.pth")
    assert "of 120 tensors do not fit: conv1.weight is (3,), but the network needs (64, 3, 7, 7); " in message
    assert message.count("but the network needs") == 10
    assert message.endswith("and 3 more")


def test_files_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.pth"
    with file.open("wb") as stream:
        pickle.dump({"model": Path("x")}, stream)
    assert "holds other objects than tensors" in refusal("test_resnet", file)
    file.write_bytes(b"PK\x03\x04 no zip")
    assert "no checkpoint of PyTorch" in refusal("test_resnet", file)
    file.write_bytes(b"")
    assert "no checkpoint of PyTorch" in refusal("test_resnet", file)
    torch.save({"epoch": 3, "state_dict": {}}, file)
    assert "holds no tensors" in refusal("test_resnet", file)
    torch.save([torch.zeros(2)], file)
    assert "holds no tensors" in refusal("test_resnet", file)
    torch.save(whole("test_resnet"), file)
    assert "do not fit" in refusal("test_vit", file)
    assert "do not fit" in refusal("test_convnext", file)


def test_a_file_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "more": Evil()}, tmp_path / "evil.pth")
    assert "could run code" in refusal("resnet18", tmp_path / "evil.pth")
    assert not (tmp_path / "touched").exists()


def test_names_of_timm() -> None:
    found = find_weights("resnet50.a1_in1k", "resnet50.tv_in1k")
    assert isinstance(found, weights_module.Pretrained)
    assert found.config.tag == "a1_in1k"
    assert find_weights("timm/resnet50.a1_in1k", "resnet50") == found
    for name, what in (
        ("resnet50.nothing", "timm has no such weights; it has "),
        ("resnet18.tv_in1k", "are weights of"),
    ):
        with pytest.raises(InputError, match=what):
            find_weights(name, "resnet50")
    with pytest.raises(InputError, match="no such file"):
        find_weights("runs/none.pth", "resnet50")


def test_names_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's repository is read like a file; the transfer itself is the hub's library's."""
    asked: list[tuple[str, str | None]] = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        return str(tmp_path)

    monkeypatch.setattr(weights_module, "snapshot_download", download)
    tensors = whole("resnet18")
    save_file(tensors, tmp_path / "model.safetensors")
    network = Backbone(BackboneOptions("resnet18", "hf-hub:someone/theirs@v2")).network
    assert asked == [("someone/theirs", "v2")]
    assert torch.equal(network.state_dict()["conv1.weight"], tensors["conv1.weight"])
    (tmp_path / "model.safetensors").unlink()
    assert "the hub's repository has none of model.safetensors" in refusal("resnet18", "someone/theirs")


def test_the_prefix_is_the_one_of_most_tensors() -> None:
    tensors = {"a.b.x": torch.zeros(1), "a.b.y": torch.zeros(1), "c.x": torch.zeros(1), "d.z": torch.zeros(1)}
    assert without_prefix(tensors, {"x", "y"}).keys() == {"x", "y", "c.x", "d.z"}
    assert without_prefix({"x": torch.zeros(1)}, {"x"}).keys() == {"x"}
    assert without_prefix({"q": torch.zeros(1)}, {"x"}).keys() == {"q"}


def test_a_tower_of_clip_reid_has_openais_names() -> None:
    skeleton = timm.create_model("test_vit", num_classes=0)
    tensors = {f"image_encoder.{name}": torch.zeros(2) for name in ("class_embedding", "ln_pre.weight")}
    tensors["prompt_learner.x"] = torch.zeros(2)
    assert "norm_pre.weight" in converted(tensors, skeleton, "x")
