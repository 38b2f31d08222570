"""Every config file trains a few steps, in fp32 and bf16: a new file is tested by being there."""

import csv
import math
from pathlib import Path

import pytest

from kronreid.data.pedestrians import write_market1501
from kronreid.training.callbacks import HISTORY
from kronreid.training.config import read_config
from kronreid.training.train import train

CONFIGS = Path(__file__).parent.parent / "configs"
ROWS = sorted(path.relative_to(CONFIGS) for path in CONFIGS.glob("*/*/*.yaml"))
#: The row's own model and recipe on a network and pictures that a test can afford.
SMALL = [
    "model.backbone.name=test_resnet",
    "model.backbone.weights=none",
    "model.backbone.arguments={}",
    "input.height=64",
    "input.width=32",
    "batch.identities=4",
    "training.iterations=4",
    "training.epoch=2",
    "training.evaluate_every=0",
    "training.accelerator=cpu",
    "data.workers=0",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "market"
    write_market1501(
        root,
        train_identities=5,
        test_identities=2,
        cameras=2,
        pictures_per_camera=2,
        distractors=1,
        junk=1,
        progress=False,
    )
    return root


def test_there_are_rows() -> None:
    assert Path("horeid/market1501/horeid.yaml") in ROWS
    assert Path("kpm/market1501/kpm-rsa-hg.yaml") in ROWS


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_trains_without_a_nan(tmp_path: Path, root: Path, row: Path, precision: str) -> None:
    config = read_config(CONFIGS / row, [*SMALL, f"data.root={root}", f"training.precision={precision}"])
    run = train(config, tmp_path / "run")
    with (run / HISTORY).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for line in rows:
        values = {name: float(value) for name, value in line.items()}
        assert all(map(math.isfinite, values.values())), values
        assert values["loss"] > 0
