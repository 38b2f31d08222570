"""Small networks of both papers, with batch statistics from pictures and heads that are not all zero."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kronreid.data.files import find_pictures
from kronreid.data.images import open_rgb
from kronreid.data.transforms import InputOptions, normalise, resize, to_tensor
from kronreid.models.backbone import BackboneOptions
from kronreid.models.horeid import HOReID
from kronreid.models.kpm import KPM

INPUT = InputOptions(64, 32)


@pytest.fixture(scope="session")
def input_options() -> InputOptions:
    return INPUT


@pytest.fixture(scope="session")
def paths(pedestrians: Path) -> list[Path]:
    """Seven pictures."""
    return find_pictures(pedestrians / "bounding_box_train")[:7]


@pytest.fixture(scope="session")
def images(paths: list[Path]) -> Tensor:
    """The same, as a network takes them: (7, 3, 64, 32)."""
    return normalise(torch.stack([resize(to_tensor(open_rgb(path)), INPUT) for path in paths]), INPUT)


@pytest.fixture(scope="session")
def settle() -> Callable[[nn.Module, Callable[[], object]], None]:
    """Give a network's BN layers the statistics of one forward pass, and random scales and shifts."""

    def settled(model: nn.Module, forward: Callable[[], object]) -> None:
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
            nn.init.normal_(norm.weight, 1, 0.2)
            nn.init.normal_(norm.bias, 0, 0.2)
        model.train()
        with torch.no_grad():
            forward()
        for norm in norms:
            norm.momentum = 0.1
        model.eval()

    return settled


@pytest.fixture(scope="session")
def small() -> Callable[[int], BackboneOptions]:
    """The options of a small random backbone, by its last stride."""
    return lambda last_stride: BackboneOptions("mobilenetv2_050", "none", last_stride)


@pytest.fixture(scope="session")
def horeid(images: Tensor, small, settle) -> HOReID:
    torch.manual_seed(0)
    model = HOReID(small(1), order=3, channels=8, dimension=16, parts=4)
    settle(model, lambda: model(images))
    return model


@pytest.fixture(scope="session")
def make_kpm(images: Tensor, small, settle) -> Callable[..., KPM]:
    """A KPM whose logits are a few units apart, and whose attention prefers some places."""

    def make(**options: object) -> KPM:
        torch.manual_seed(1)
        model = KPM(small(2), **options)  # type: ignore[arg-type]
        for layer in model.classifier.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.1)
                nn.init.normal_(layer.bias, 0, 0.1)
        for attention in model.attention or []:
            nn.init.normal_(attention.layers[-1].weight, 0, 0.1)  # type: ignore[index,union-attr,arg-type]

        settle(model, lambda: model(model.encode(images), *torch.triu_indices(7, 7, 1)))
        return model

    return make


@pytest.fixture(scope="session")
def kpm(make_kpm: Callable[..., KPM]) -> KPM:
    """The full model, at temperatures that are not the defaults."""
    return make_kpm(temperature=0.1, attention_temperature=0.5)
