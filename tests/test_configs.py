"""Every config file trains a few steps: a new file is tested by being there."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from kronreid.data.pedestrians import write_market1501
from kronreid.training.callbacks import HISTORY
from kronreid.training.config import Config, read_config
from kronreid.training.hard import HardIdentitySearch
from kronreid.training.rows import changes
from kronreid.training.train import train

CONFIGS = Path(__file__).parent.parent / "configs"
ROWS = sorted(path.relative_to(CONFIGS) for path in CONFIGS.glob("*/*/*.yaml"))
#: The row's own model and recipe, on a network and pictures that a test can afford: two epochs of one step.
SMALL = [
    "model.backbone.name=test_resnet",
    "model.backbone.weights=none",
    "model.backbone.arguments={}",
    "batch.identities=4",
    "training.iterations=2",
    "training.epoch=1",
    "training.evaluate_every=0",
    "training.accelerator=cpu",
    "data.layout=market1501",
    "data.protocol=market1501",
    "data.split=0",
    "data.workers=0",
]
#: The other data sets' rows have the same networks and losses.
IN_HALF = [row for row in ROWS if row.parts[1].startswith("market1501")]


NO_DSR = {"loss.regulariser": 0.0}
R101 = {"model.backbone.name": "resnet101.tv_in1k"}
GHIS = {"batch.hard_identities": 10}
POOLED = {"model.name": "pooled", "model.order": None, "model.parts": None}
CAT = {"model.name": "concatenated", "model.parts": 0}
ATTEN = {"model.name": "concatenated", **NO_DSR}
SINGLE = {"model.attention": False, "model.hourglass": False}
BASELINE = {**SINGLE, "model.match": False}
SQUARE = {"input.height": 224, "input.width": 224}
RANDOM = {"model.backbone.weights": "none"}


def of_order(n: int, **more: Any) -> dict[str, Any]:
    return more if n == 3 else {**more, "model.order": n}


#: What each row changes of its full model, `horeid` or `kpm-rsa-hg`, with all that it takes from its bases.
CHANGED: dict[str, dict[str, dict[str, Any]]] = {
    "horeid": {
        "gap": POOLED,
        "gap-r101": {**POOLED, **R101},
        **{f"cat-n{n}": of_order(n, **CAT) for n in (2, 3)},
        **{f"atten-cat-n{n}": of_order(n, **ATTEN) for n in (2, 3)},
        **{f"ghp-n{n}": of_order(n, **{"model.parts": 0}) for n in range(1, 6)},
        **{f"lhp-n{n}": of_order(n, **{"model.ghp": False}, **NO_DSR) for n in range(1, 6)},
        **{f"ghp-lhp-n{n}": of_order(n, **NO_DSR) for n in range(1, 6)},
        **{f"horeid-n{n}": of_order(n) for n in (1, 2, 4, 5)},
        **{f"horeid-p{parts}": {"model.parts": parts} for parts in (8, 16, 32, 64, 128, 512)},
        "horeid": {},
        "horeid-3x3": {"model.kernel": 3},
        "horeid-3x3-unshared": {"model.kernel": 3, "model.shared_sampler": False},
        "horeid-unshared": {"model.shared_sampler": False},
        "horeid-relu": {"model.relu": True},
        "horeid-no-hierarchy": {"model.hierarchical": False},
        "horeid-ghis": GHIS,
        "horeid-r101": R101,
        "horeid-r101-ghis": {**R101, **GHIS},
    },
    "kpm": {
        "baseline": BASELINE,
        "baseline-1to1": {**BASELINE, **SQUARE},
        "baseline-1to1-random": {**BASELINE, **SQUARE, **RANDOM},
        "baseline-random": {**BASELINE, **RANDOM},
        "baseline-absolute": {**BASELINE, "model.normalisation": "absolute"},
        "baseline-square-before": {**BASELINE, "model.normalisation": "square-before"},
        "baseline-hg": {**BASELINE, "model.hourglass": True},
        "baseline-hg-ml": {**BASELINE, "model.hourglass": True, "model.scale_losses": True},
        "kpm": SINGLE,
        "kpm-no-warp": {**SINGLE, "model.warp": False},
        "kpm-rsa": {"model.hourglass": False},
        "kpm-rsa-hg": {},
        "kpm-rsa-hg-tau-kpm-0.5": {"model.temperature": 0.5},
        "kpm-rsa-hg-tau-kpm-1.0": {"model.temperature": 1.0},
        "kpm-rsa-hg-tau-rsa-0.5": {"model.attention_temperature": 0.5},
        "kpm-rsa-hg-tau-rsa-0.1": {"model.attention_temperature": 0.1},
    },
}
FULL = {"horeid": "horeid", "kpm": "kpm-rsa-hg"}
#: Those of other losses have a recipe of their own.
PAPERS_ROWS = [
    row for row in ROWS if not row.parts[1].endswith("-split") and not row.stem.startswith("loss-")
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


def small(row: Path, root: Path, precision: str) -> Config:
    """The row on the small network and pictures."""
    paper = read_config(CONFIGS / row)
    # Pictures keep their shape: twice as high as wide, or square.
    width = 32 * round(2 * paper.input.width / paper.input.height)
    changes = [*SMALL, "input.height=64", f"input.width={width}"]
    if paper.name in ("horeid", "concatenated"):
        changes += ["model.channels=16", "model.dimension=32"]
    if paper.batch.hard_identities:
        changes.append("batch.hard_identities=1")
    return read_config(CONFIGS / row, [*changes, f"data.root={root}", f"training.precision={precision}"])


def losses_are_finite(run: Path) -> None:
    with (run / HISTORY).open() as file:
        lines = [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
    assert len(lines) == 2
    for line in lines:
        assert all(map(math.isfinite, line.values())), line
        assert line["loss"] > 0


def test_there_are_rows() -> None:
    names = {str(row.with_suffix("")) for row in ROWS}
    for data in ("market1501", "dukemtmc", "msmt17"):
        figures = {f"{way}-n{n}" for way in ("ghp", "lhp", "ghp-lhp") for n in range(1, 6)}
        parts = {f"horeid-p{parts}" for parts in (8, 16, 32, 64, 128, 512)}
        assert {f"horeid/{data}/{row}" for row in figures | parts | {"gap", "horeid"}} <= names
    assert "kpm/market1501/kpm-rsa-hg" in names


@pytest.mark.parametrize("row", [row for row in ROWS if not row.parts[1].endswith("-split")], ids=str)
def test_it_says_which_row_it_is(row: Path) -> None:
    first = (CONFIGS / row).read_text().splitlines()[0]
    assert first.startswith(("# Table ", "# Fig. ")), first
    assert "Paper: " in first


@pytest.mark.parametrize("row", PAPERS_ROWS, ids=str)
def test_it_changes_of_the_full_model_what_it_says(row: Path) -> None:
    paper = row.parts[0]
    full = read_config(CONFIGS / row.parent / f"{FULL[paper]}.yaml")
    found = changes(full, read_config(CONFIGS / row))
    assert {name: new for name, (_, new) in found.items()} == CHANGED[paper][row.name.removesuffix(".yaml")]


@pytest.mark.parametrize("paper", FULL)
def test_the_full_model_changes_with_the_data_what_they_need(paper: str) -> None:
    market = read_config(CONFIGS / paper / "market1501" / f"{FULL[paper]}.yaml")
    for path in (CONFIGS / paper).glob(f"*/{FULL[paper]}.yaml"):
        if not path.parent.name.endswith("-split"):
            schedule = {"training.iterations", "training.epoch", "optimiser.decay_iterations"}
            allowed = {"data.layout", "data.protocol"} | (
                {*schedule, "batch.negatives"} if paper == "kpm" else set()
            )
            assert set(changes(market, read_config(path))) <= allowed, path


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_trains_without_a_nan(
    tmp_path: Path, root: Path, row: Path, monkeypatch: pytest.MonkeyPatch
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
    assert searches == (3 if "ghis" in row.stem else 0)  # at the start and after each of two epochs


@pytest.mark.parametrize("row", IN_HALF, ids=str)
def test_it_trains_in_half_precision(tmp_path: Path, root: Path, row: Path) -> None:
    losses_are_finite(train(small(row, root, "bf16-mixed"), tmp_path / "run"))
