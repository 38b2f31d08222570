"""The plug-ins of docs/extending.md do what the page says, and what needs one says so without it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kronreid.cli import main
from kronreid.data.readers import LAYOUTS, detect, read
from kronreid.losses import LOSSES
from kronreid.models import MODELS
from kronreid.plugins import load_plugins
from kronreid.training.history import read_history

from .conftest import Examples
from .markdown import ROOT, blocks
from .shell import SMALL

PLUGINS = ["circle", "gem", "viper", "single_shot"]


@pytest.fixture
def place(own_entries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the page's files."""
    for block in blocks(ROOT / "docs" / "extending.md"):
        if file := re.match(r"# (\w+\.py)\n", block.text):
            (tmp_path / file[1]).write_text(block.text)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(PLUGINS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_plugins() -> Callable[[], None]:
    """Makes the registries what they are in another process that has no plug-ins."""

    def forget() -> None:
        for registry, name in ((LOSSES, "circle"), (MODELS, "gem"), (LAYOUTS, "viper")):
            del registry.things[name]

    return forget


def test_a_loss_and_a_head_train_evaluate_and_need_their_plug_ins(
    place: Path,
    pedestrians: Path,
    without_plugins: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_both = ["--plugin", "circle", "--plugin", "gem.py"]
    changes = [*SMALL, "model.name=gem", "loss.triplet=0", "loss.circle.weight=2", "training.iterations=12"]
    changes += ["training.epoch=6", "training.evaluate_every=2", "optimiser.lr=0.05"]
    train = ["train", "horeid/market1501/gap", "--data", str(pedestrians), "--out", "run"]
    assert main([*train, *with_both, "--set", *changes]) == 0
    rows = read_history(Path("run/history.csv"))
    assert {name for name in rows[0] if name.startswith("loss")} == {"loss", "loss/global-circle"}
    assert rows[-1]["loss"] < rows[0]["loss"]

    load_plugins(["viper"])
    without_plugins()
    capsys.readouterr()
    commands = [
        ["evaluate", "run", "--data", str(pedestrians)],
        ["summary", "run"],
        ["export", "run", "--out", "run.onnx"],
        ["index", str(pedestrians / "query"), "--model", "run", "--gallery", "run.gallery"],
        ["match", "a.jpg", "b.jpg", "--model", "run"],
    ]
    for command in commands:
        assert main(command) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "run/config.json: model: 'gem' is unknown; one of horeid, " in error
        assert "--plugin" in error
    assert main([*train, "--resume", "--set", *changes]) == 2
    assert "loss.circle is unknown" in capsys.readouterr().err
    assert main(["papers", "--runs", "run"]) == 2
    assert "loss.circle is unknown; " in capsys.readouterr().err


def test_a_reader_is_found_and_divides(place: Path, examples: Examples) -> None:
    load_plugins(["viper"])
    root = examples.names["VIPeR"]
    assert detect(root) == ["viper"]
    data = read(root, split=1)
    assert (data.name, data.protocol) == ("viper", "cross-camera")
    assert [len(part) for part in (data.train, data.query, data.gallery)] == [6, 4, 4]
    assert {one.camera for one in data.query} == {1}
    assert len({read(root, split=split).train for split in range(6)}) > 1
    assert main(["data", "check", str(root), "--json", "check.json"]) == 0
    (checked,) = json.loads(Path("check.json").read_text())["layouts"]
    assert (checked["title"], checked["verdict"]) == ("VIPeR (Gray et al., PETS 2007)", "less")


def test_a_protocol_draws(place: Path, examples: Examples) -> None:
    out = ["--json", "figures.json", "--protocol", "single-shot"]
    both = ["--plugin", "viper", "--plugin", "single_shot"]
    model, data = (str(examples.names[name]) for name in ("runs/horeid", "VIPeR"))
    assert main(["evaluate", model, "--data", data, *out, *both]) == 0
    figures = json.loads(Path("figures.json").read_text())
    assert (figures["protocol"], figures["queries"], figures["layout"]) == ("single-shot", 4, "viper")
