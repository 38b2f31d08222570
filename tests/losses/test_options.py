"""The options of losses in a config: the papers' in the section itself, others in sections of their own."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.losses import LOSSES, Loss, PairLoss, PartLoss, VectorLoss
from kronreid.losses.identity import IdentityLoss
from kronreid.losses.options import KEYS
from kronreid.options import Positive, Share
from kronreid.training.config import Config, make_config, read_config, to_yaml
from kronreid.training.train import lightning_module

BACKBONE = {"name": "test_resnet", "weights": "none"}
HOREID = {"name": "horeid", "backbone": BACKBONE, "channels": 16, "dimension": 16, "parts": 4}


def config(loss: dict[str, Any], model: dict[str, Any] | None = None) -> Config:
    return make_config({"model": model or HOREID, "input": {"height": 64, "width": 32}, "loss": loss})


@dataclass(frozen=True)
class Sum(VectorLoss):
    """The sum of all numbers, with a factor that is learnt."""

    factor: Positive = 2
    share: Share = 0.5

    def make(self, channels: int, identities: int) -> nn.Module:
        class Summed(nn.Module):
            def __init__(self, factor: int) -> None:
                super().__init__()
                self.factor = nn.Parameter(torch.full((identities, channels), float(factor)))

            def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
                return (vectors * self.factor[labels]).sum()

        return Summed(self.factor)


@dataclass(frozen=True)
class Size(PartLoss):
    def make(self) -> Callable[[list[Tensor]], Tensor]:
        return lambda parts: torch.stack([level.square().mean() for level in parts]).sum()


@dataclass(frozen=True)
class Hinge(PairLoss):
    def make(self) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda logits, same: torch.relu(1 - torch.where(same, logits, -logits)).mean()


def test_every_option_of_the_papers_losses_has_a_key() -> None:
    of = {(name, option) for name, option in KEYS.values()}
    assert of == {(name, option) for name, loss in LOSSES.items() for option in loss.__dataclass_fields__}


def test_chosen_are_those_with_a_weight() -> None:
    loss = config({"identity": 0.5, "smoothing": 0.0, "margin": 0.3, "regulariser": 0.0}).loss
    assert {name: asdict(one) for name, one in loss.chosen(Loss).items()} == {
        "triplet": {"weight": 1.0, "margin": 0.3, "mining": "all", "average": "all"},
        "identity": {"weight": 0.5, "smoothing": 0.0},
        "verification": {"weight": 1.0},
    }
    assert list(loss.chosen(PairLoss)) == ["verification"]
    assert not loss.chosen(PartLoss)


def test_a_loss_of_ones_own_has_a_section_and_trains(own_entries: None, tmp_path: Path) -> None:
    before = config({})
    LOSSES.add("sum", Sum)
    made = config({"triplet": 0.0, "sum": {"weight": 3.0, "factor": 4}})
    assert made.loss.chosen(VectorLoss) == {"sum": Sum(3.0, 4, 0.5)}
    assert asdict(config({}).loss) == {**asdict(before.loss), "sum": asdict(Sum())}
    assert list(before.loss.chosen(VectorLoss)) == ["triplet"]  # a config from before knows nothing of it
    path = tmp_path / "a.yaml"
    path.write_text(to_yaml(made))
    assert yaml.safe_load(path.read_text())["loss"]["sum"] == {"weight": 3.0, "factor": 4, "share": 0.5}
    assert read_config(path) == made
    assert read_config(path, ["loss.sum.factor=5"]).loss.chosen(Sum)["sum"].factor == 5

    module = lightning_module(made, identities=3)
    assert set(module.heads) == {"global-sum", "local-sum"}
    assert {"heads.global-sum.factor"} <= {name for name, _ in module.named_parameters()}
    module.gathered = lambda own: own  # type: ignore[method-assign]
    vectors, labels = torch.nn.functional.normalize(torch.ones(2, 16), dim=1), torch.tensor([2, 0])
    losses = module.vector_losses({"global": vectors, "local": vectors}, labels)
    assert {name: float(value.detach()) for name, value in losses.items()} == pytest.approx(
        {"global-sum": 3 * 4 * 2 * 4.0, "local-sum": 3 * 4 * 2 * 4.0}
    )


def test_losses_of_parts_and_of_pairs(own_entries: None) -> None:
    LOSSES.add("size", Size)
    LOSSES.add("hinge", Hinge)
    parts = lightning_module(config({"size": {"weight": 2.0}}), identities=3)
    parts.gathered = lambda own: own  # type: ignore[method-assign]
    images = torch.randn(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    losses = parts.losses(images, torch.tensor([0, 0, 1, 1]))
    assert set(losses) == {"global", "local", "regulariser", "size"}
    expected = torch.stack([level.square().mean() for level in parts.model(images).parts]).sum()
    torch.testing.assert_close(losses["size"], 2 * expected)
    pairs = config({"verification": 0.0, "hinge": {"weight": 1.0}}, {"name": "kpm", "backbone": BACKBONE})
    assert set(lightning_module(pairs, identities=3).terms) == {"regulariser", "hinge"}


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (
            {"sun": {"weight": 1.0}},
            "loss.sun is unknown; did you mean sum? (a name that a plug-in adds needs",
        ),
        ({"sum": {"wieght": 1.0}}, "loss.sum.wieght is unknown; did you mean weight?"),
        ({"sum": {"factor": 0}}, "loss.sum.factor 0: at least 1 expected"),
        ({"sum": 1.0}, "loss.sum: 1.0 must be a mapping of options by name"),
        (3, "loss: 3 must be a mapping of options by name"),
        (None, "loss has no value"),
        ({"regulariser": -1}, "loss.regulariser -1: at least 0 expected"),
    ],
)
def test_a_mistake_is_named(own_entries: None, loss: Any, said: str) -> None:
    LOSSES.add("sum", Sum)
    with pytest.raises(InputError, match=r"^config: ") as error:
        config(loss)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "name", ["margin", "oim_momentum", "pooled", "chosen", "losses", "my-loss", "global"]
)
def test_names_that_a_section_cannot_have(own_entries: None, name: str) -> None:
    LOSSES.add(name, Sum)
    with pytest.raises(InputError, match=f"loss '{name}': .*choose another name"):
        config({})


@pytest.mark.parametrize(
    ("model", "loss", "said"),
    [
        (HOREID, {"triplet": 0}, "nothing is minimised; give triplet or identity or oim a weight"),
        (
            {"name": "kpm", "backbone": BACKBONE},
            {"verification": 0},
            "nothing is minimised; give verification a weight",
        ),
    ],
)
def test_nothing_to_learn_from(model: dict[str, Any], loss: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^loss: {said}"):
        lightning_module(config(loss, model), identities=3)


def test_the_pooled_features_have_losses_if_asked_for() -> None:
    kpm = {"name": "kpm", "backbone": BACKBONE}
    assert set(lightning_module(config({"identity": 1.0}, kpm), 3).terms) == {"regulariser", "verification"}
    module = lightning_module(config({"identity": 1.0, "pooled": 0.5}, kpm), 3)
    assert set(module.terms) == {"regulariser", "verification", "pooled", "pooled-identity"}
    assert isinstance(module.heads["pooled-identity"], IdentityLoss)
