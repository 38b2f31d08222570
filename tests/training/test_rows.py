"""Every row trains two steps, and one of each kind in half precision: a new row is tested by being there."""

import csv
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kronreid.models.folders import HISTORY
from kronreid.papers.rows import OWN, row_names
from kronreid.training.config import Config, read_config
from kronreid.training.hard import HardIdentitySearch
from kronreid.training.train import train


def every_network() -> list[str]:
    """Every row once: on the papers' other data sets it has the same network and losses."""
    first: dict[tuple[str, bool, str], str] = {}
    for name in row_names():
        paper, data, row = name.split("/")
        first.setdefault((paper, data == OWN, row), name)
    return list(first.values())


def every_kind(rows: list[str]) -> list[str]:
    """The first row of each kind of model and loss; rows of one kind differ in sizes, weights and batches."""
    first: dict[str, str] = {}
    for name in rows:
        config = read_config(name)
        options = {key: value for key, value in config.arguments.items() if key != "backbone"}
        first.setdefault(f"{config.name} {without_sizes([options, asdict(config.loss)])}", name)
    return list(first.values())


def without_sizes(value: Any) -> Any:
    """Options in which all numbers but 0 are the same: they lead through the same code."""
    if isinstance(value, dict):
        return {key: without_sizes(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_sizes(inner) for inner in value]
    return value if isinstance(value, bool | str | None) else bool(value)


ROWS = every_network()
KINDS = every_kind(ROWS)
#: Configs that people start their own from.
EXAMPLES = [str(path) for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))]
#: The row's own model and recipe, on a network and pictures that a test can afford: one epoch of two steps.
SMALL = [
    "model.backbone.name=test_resnet",
    "model.backbone.weights=none",
    "model.backbone.arguments={}",
    "batch.identities=4",
    "batch.pictures=2",
    "training.iterations=2",
    "training.epoch=2",
    "training.evaluate_every=0",
    "training.accelerator=cpu",
    "data.layout=market1501",
    "data.protocol=market1501",
    "data.split=0",
    "data.workers=0",
    "places.steps=2",
    "places.lists=2",
]


@pytest.fixture(scope="module")
def root(make_pedestrians: Callable[..., Path]) -> Path:
    return make_pedestrians(train_identities=6)


def small(row: str, root: Path, precision: str) -> Config:
    """The row on the small network and pictures."""
    paper = read_config(row)
    # Pictures keep their shape: twice as high as wide, or square.
    width = 32 * round(2 * paper.input.width / paper.input.height)
    changes = [*SMALL, "input.height=64", f"input.width={width}"]
    if paper.name in ("horeid", "concatenated"):
        changes += ["model.channels=16", "model.dimension=32"]
    if paper.batch.hard_identities:
        changes.append("batch.hard_identities=1")
    return read_config(row, [*changes, f"data.root={root}", f"training.precision={precision}"])


def losses_are_finite(run: Path) -> None:
    with (run / HISTORY).open() as file:
        (line,) = [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
    assert line["iteration"] == 2
    assert all(map(math.isfinite, line.values())), line  # the losses are the means of both steps
    assert line["loss"] > 0


@pytest.mark.parametrize("row", ROWS + EXAMPLES, ids=lambda name: name.removesuffix(".yaml")[-40:])
def test_it_trains_without_a_nan(
    tmp_path: Path, root: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(row, root, "32-true")
    searches = 0
    search = HardIdentitySearch.search

    def counting(*arguments: Any) -> None:
        nonlocal searches
        searches += 1
        search(*arguments)

    monkeypatch.setattr(HardIdentitySearch, "search", counting)
    losses_are_finite(train(config, tmp_path / "run"))
    assert searches == (2 if "ghis" in row else 0)  # at the start and after the epoch


@pytest.mark.parametrize("row", KINDS)
def test_it_trains_in_half_precision(
    tmp_path: Path, root: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also where the CPU only emulates it, and training would use float32.
    monkeypatch.setattr("kronreid.training.train.precision_here", lambda precision, accelerator: precision)
    losses_are_finite(train(small(row, root, "bf16-mixed"), tmp_path / "run"))
