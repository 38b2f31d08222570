"""`kronreid papers`: its formats, and a run trained here beside the paper's numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from kronreid.cli import main
from kronreid.papers import row_names

CONFIG = """
model: {name: pooled, backbone: {name: test_resnet, weights: none}, channels: 8}
input: {height: 64, width: 32}
batch: {identities: 4, pictures: 2}
training: {iterations: 4, epoch: 2, evaluate_every: 2, accelerator: cpu}
data: {layout: market1501, workers: 0}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, make_pedestrians: Callable[..., Path]) -> Path:
    """A row of a split, trained as it is and with a change."""
    home = tmp_path_factory.mktemp("home")
    arguments = ["train", "horeid/market1501/gap", "--data", str(make_pedestrians("own-split"))]
    with pytest.MonkeyPatch.context() as patch:  # a row that two cores train in a second
        patch.setattr("kronreid.training.config.row_options", lambda name: yaml.safe_load(CONFIG))
        assert main([*arguments, "--out", str(home / "runs" / "same")]) == 0
        assert main([*arguments, "--out", str(home / "runs" / "other"), "--set", "loss.margin=0.5"]) == 0
    return home


def test_without_runs_it_prints_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers"]) == 0
    both = capsys.readouterr().out
    assert main(["papers", "kpm"]) == 0
    one = capsys.readouterr().out
    assert "95.74 / 88.78" in both
    assert "90.1 / 75.3" in both
    assert "95.74 / 88.78" not in one
    assert "90.1 / 75.3" in one


def test_others_are_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers"]) == 0
    assert "MuDeep [26]" not in capsys.readouterr().out
    assert main(["papers", "--others", "--format", "markdown"]) == 0
    shown = capsys.readouterr().out
    for row in ("| MuDeep [26] | – | 76.3 / – / 96.0 / 98.4 | – |", "| KPM [55] | 90.10 / 75.30 |"):
        assert row in shown
    assert "KPM's numbers follow open-reid's rules" in shown


def test_charts_are_drawn_from_the_runs(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["papers", "--runs", str(home / "runs"), "--charts", str(tmp_path / "charts")]) == 0
    stems = {f"horeid-fig-{number}.{ending}" for number in (7, 8) for ending in ("png", "svg")}
    assert {path.name for path in (tmp_path / "charts").iterdir()} == stems
    (tmp_path / "file").touch()
    assert main(["papers", "--charts", str(tmp_path / "file")]) == 2
    assert "--charts" in capsys.readouterr().err


def test_a_run_on_other_pictures_is_not_market_1501(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = home / "papers.json"
    assert (
        main(["papers", "horeid", "--runs", str(home / "runs"), "--format", "json", "--json", str(out)]) == 0
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    table = next(one for one in printed["papers"]["horeid"]["tables"] if one["name"] == "Table II")
    assert all(not cell["here"] for row in table["rows"] for cell in row["columns"].values())
    runs = {Path(one["run"]["folder"]).name: one["run"] for one in table["elsewhere"]}
    assert runs["same"]["config"] == runs["other"]["config"] == "horeid/market1501/gap"
    assert not runs["same"]["modified"]
    assert runs["other"]["changed"] == {"loss.margin": [0.2, 0.5]}
    assert runs["same"]["data"].startswith("own-split: 16 pictures of 4 people")
    assert runs["same"]["remaining"] == 0
    history = (home / "runs" / "same" / "history.csv").read_text().splitlines()
    last = dict(zip(history[0].split(","), history[-1].split(",")))
    assert runs["same"]["results"]["market1501"]["mAP"] == pytest.approx(float(last["mAP"]))


def test_markdown_names_the_data_and_the_change(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers", "horeid", "--runs", str(home / "runs"), "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert "## Table II" in text
    assert "modified: loss.margin 0.2 → 0.5" in text
    assert "own-split: 16 pictures" in text


def test_rows_are_listed_one_name_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers", "kpm", "--rows"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert names == [name for name in row_names() if name.startswith("kpm/")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["papers", "--runs", "nowhere"], "--runs nowhere: no such folder"),
        (["papers", "hacnn"], "invalid choice: 'hacnn'"),
        (["papers", "--json", "nowhere/x.json"], "--json nowhere/x.json: there is no folder"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
