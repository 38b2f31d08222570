"""Small models of random weights, on disk."""

from pathlib import Path

import pytest
import torch
from torch import nn

from kronreid.data.files import find_pictures
from kronreid.data.images import open_rgb
from kronreid.data.transforms import InputOptions, normalise, resize, to_tensor
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.kpm import KPM
from kronreid.models.loading import load
from kronreid.models.storage import build, save

SIZE = InputOptions(64, 32, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))
BACKBONE = {"name": "test_resnet", "weights": "none"}
ARGUMENTS = {
    "horeid": {"channels": 16, "dimension": 16, "parts": 4, "normalise_levels": True},
    "pooled": {"channels": 16},
    "kpm": {},
}


@pytest.fixture(scope="session")
def paths(pedestrians: Path) -> list[Path]:
    return find_pictures(pedestrians / "bounding_box_train")[:7]


def settle(model: nn.Module, images: torch.Tensor) -> None:
    """Give BN layers the pictures' statistics, so that vectors of different pictures differ."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.normal_(norm.weight, 1, 0.2)
    model.train()
    with torch.no_grad():
        if isinstance(model, KPM):
            for layer in model.classifier.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, 0, 0.1)
            model(model.encode(images), *torch.triu_indices(len(images), len(images), 1))
        else:
            model(images)
    model.eval()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, paths: list[Path]) -> Path:
    """Model folders, one per kind."""
    home = tmp_path_factory.mktemp("models")
    images = normalise(torch.stack([resize(to_tensor(open_rgb(path)), SIZE) for path in paths]), SIZE)
    torch.manual_seed(0)
    for name, more in ARGUMENTS.items():
        arguments = {"backbone": BACKBONE, **more}
        model = build(name, arguments)
        settle(model, images)
        save(home / name, name, arguments, SIZE, model)
    return home


@pytest.fixture(scope="session")
def embedder(home: Path) -> Embedder:
    tool = load(home / "horeid", device="cpu")
    assert isinstance(tool, Embedder)
    return tool


@pytest.fixture(scope="session")
def matcher(home: Path) -> Matcher:
    tool = load(home / "kpm", device="cpu")
    assert isinstance(tool, Matcher)
    return tool
