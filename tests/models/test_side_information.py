"""Camera embeddings: TransReID's sum, the mean where nothing is told, and what a saved model does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.export import export
from kronreid.models.backbone import Backbone, BackboneOptions
from kronreid.models.folding import fold
from kronreid.models.loading import load, wrap
from kronreid.models.side_information import WEIGHT, CameraEmbeddings
from kronreid.models.storage import build, save

SIZE = (64, 32)
IMAGES = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def backbone(cameras: int, name: str = "test_vit", **options: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(BackboneOptions(name, "none", cameras=cameras, size=SIZE, **options))


def test_tokens_and_embeddings_by_hand() -> None:
    cameras = CameraEmbeddings(3, 8)
    tokens = torch.randn(4, 5, 8)
    mean = cameras.embedding.mean(0)
    torch.testing.assert_close(cameras(tokens), tokens + WEIGHT * mean)  # nothing is told yet
    cameras.told = torch.tensor([2, -1, 0, 2])
    found = cameras(tokens)
    for picture, row in enumerate([cameras.embedding[2], mean, cameras.embedding[0], cameras.embedding[2]]):
        torch.testing.assert_close(found[picture], tokens[picture] + WEIGHT * row)
    torch.testing.assert_close(cameras.eval()(tokens), tokens + WEIGHT * mean)


def test_some_cameras_are_not_told() -> None:
    cameras = CameraEmbeddings(3, 8)
    torch.manual_seed(0)
    cameras.tell(torch.arange(3).repeat(400))
    assert cameras.told is not None
    unknown = cameras.told == -1
    assert 0.2 < float(unknown.float().mean()) < 0.3
    assert torch.equal(cameras.told[~unknown], torch.arange(3).repeat(400)[~unknown])


def test_the_rest_of_the_network_stays_as_it_is() -> None:
    plain, embedded = backbone(0), backbone(2)
    assert plain.network.state_dict().keys() == embedded.network.state_dict().keys()
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(tensor, embedded.network.state_dict()[name]), name
    assert embedded.cameras is not None
    nn.init.zeros_(embedded.cameras.embedding)
    with torch.no_grad():
        torch.testing.assert_close(embedded.eval()(IMAGES)[-1], plain.eval()(IMAGES)[-1])


def test_the_camera_counts_in_training_alone() -> None:
    made = backbone(2)
    assert made.cameras is not None
    with torch.no_grad():
        maps = []
        for told in ([0] * 4, [1] * 4):
            made.cameras.told = torch.tensor(told)
            maps += [made.train()(IMAGES)[-1], made.eval()(IMAGES)[-1]]
    assert not torch.allclose(maps[0], maps[2])
    assert torch.equal(maps[1], maps[3])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_cameras_that_were_told(checkpointing: bool) -> None:
    made = backbone(3, checkpointing=checkpointing).train()
    assert made.cameras is not None
    made.cameras.told = torch.tensor([0, 0, 2, 2])
    made(IMAGES)[-1].square().mean().backward()
    gradient = made.cameras.embedding.grad
    assert gradient is not None
    assert gradient[0].any()
    assert gradient[2].any()
    assert not gradient[1].any()


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_other_networks_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^backbone.cameras: .* is no plain vision transformer"):
        backbone(2, name)


def test_models_are_saved_folded_and_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = {
        "backbone": {"name": "test_vit", "weights": "none", "cameras": 2, "arguments": {"depth": 3}},
        "channels": 8,
    }
    model = build("pooled", arguments, size=SIZE)
    nn.init.normal_(model.backbone.cameras.embedding)
    save(tmp_path / "model", "pooled", arguments, InputOptions(*SIZE), model)
    loaded = load(tmp_path / "model", folded=False).model
    with torch.no_grad():
        expected = model.eval()(IMAGES).descriptor
        torch.testing.assert_close(loaded(IMAGES).descriptor, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(fold(model)(IMAGES).descriptor, expected, atol=1e-5, rtol=1e-4)
        nn.init.zeros_(model.backbone.cameras.embedding)
        assert not torch.allclose(model(IMAGES).descriptor, expected)
    export(wrap(loaded, InputOptions(*SIZE)), tmp_path / "model.onnx")  # which is checked against it
    assert (tmp_path / "model.onnx").is_file()
