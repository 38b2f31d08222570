"""KPM's step: the pairs of a batch and the losses of their logits."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from kronreid.errors import InputError
from kronreid.training.config import make_config
from kronreid.training.modules import PairTraining
from kronreid.training.train import lightning_module


@pytest.mark.parametrize("scale_losses", [False, True])
def test_the_loss_is_of_pairs_within_the_batch(monkeypatch: pytest.MonkeyPatch, scale_losses: bool) -> None:
    """Each picture passes the backbone once; with a loss per scale, their sum is minimised."""
    model = {
        "name": "kpm",
        "backbone": {"name": "test_resnet", "weights": "none", "last_stride": 2},
        "scale_losses": scale_losses,
    }
    config = make_config({"model": model, "batch": {"negatives": 2}, "input": {"height": 64, "width": 32}})
    module = lightning_module(config, identities=3)
    assert isinstance(module, PairTraining)
    module.trainer = SimpleNamespace(global_step=3, world_size=1, global_rank=0)  # type: ignore[assignment]
    torch.manual_seed(0)
    for layer in module.model.classifier.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight)
    module.model.eval()  # so that statistics do not change between the two
    labels = torch.tensor([4, 4, 7, 7, 9, 9])
    images = torch.rand(6, 3, 64, 32)
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []
    logits = module.model.way.logits

    def watched(pictures, first, second):  # type: ignore[no-untyped-def]
        asked.append((first, second))
        assert all(len(scale.maps) == 6 for scale in pictures.scales)
        return logits(pictures, first, second)

    monkeypatch.setattr(module.model.way, "logits", watched)
    with torch.no_grad():
        losses = module.losses(images, labels)
        ((first, second),) = asked
        found = logits(module.model.encode(images), first, second)
    assert len(found) == (3 if scale_losses else 1)
    assert len(first) == 6 + 6 * 2
    assert len(set(zip(first.tolist(), second.tolist()))) == len(first)
    same = (labels[first] == labels[second]).float()
    assert same.sum() == 6
    expected = sum(float(F.binary_cross_entropy(one.sigmoid(), same)) for one in found)
    assert losses.keys() == {"verification"}
    assert float(losses["verification"]) == pytest.approx(expected, rel=1e-3)


def test_mirror_images_are_for_embedders() -> None:
    model = {"name": "kpm", "backbone": {"name": "test_resnet", "weights": "none", "last_stride": 2}}
    config = make_config({"model": model, "input": {"height": 64, "width": 32, "mirror": True}})
    with pytest.raises(InputError, match=r"input\.mirror: is for embedding models"):
        lightning_module(config, identities=3)
