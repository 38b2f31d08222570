"""The card of a model: what its folder holds, the same figures as in the evaluation, and no more."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from kronreid.cli import main
from kronreid.data.transforms import InputOptions
from kronreid.models.card import MARK, card, write_card
from kronreid.models.storage import build, save
from kronreid.training.config import read_config
from kronreid.training.train import train

SMALL = [
    "model.backbone.name=test_resnet",
    "model.backbone.weights=none",
    "model.backbone.arguments={}",
    "input.height=64",
    "input.width=32",
    "model.channels=16",
    "model.dimension=16",
    "batch.identities=4",
    "training.iterations=2",
    "training.epoch=1",
    "training.evaluate_every=1",
    "training.accelerator=cpu",
    "training.seed=7",
    "data.workers=0",
    "places.fit=true",
    "places.steps=2",
    "places.lists=2",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pedestrians: Path) -> Path:
    """A trained, evaluated and calibrated run."""
    folder = tmp_path_factory.mktemp("runs") / "horeid"
    row = "horeid/market1501/horeid"
    train(read_config(row, [*SMALL, f"data.root={pedestrians}"]), folder, source=row)
    data = ["--data", str(pedestrians)]
    assert main(["evaluate", str(folder), *data, "--json", str(folder / "evaluation.json")]) == 0
    assert main(["calibrate", str(folder), *data]) == 0
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A model of which nothing is known."""
    arguments = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 8}
    save(tmp_path / "model", "pooled", arguments, InputOptions(64, 32), build("pooled", arguments))
    return tmp_path / "model"


def values_of(header: dict[str, Any]) -> dict[str, float]:
    """The figures of a card's header, by the names that they have there."""
    (index,) = header["model-index"]
    return {one["name"]: one["value"] for result in index["results"] for one in result["metrics"]}


def test_figures_equal_those_of_the_evaluation(run: Path) -> None:
    read = ModelCard.load(run / "README.md")
    evaluation = json.loads((run / "evaluation.json").read_text())
    found = values_of(yaml.safe_load(read.content.split("---")[1]))
    titles = {"rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "mAP": "mAP", "mINP": "mINP"}
    rankings = {
        "vectors": evaluation["first_stage"],
        f"the best {evaluation['rerank_top']} re-scored by the places": evaluation,
    }
    wanted = {f"{titles[key]} ({how})": figures[key] for how, figures in rankings.items() for key in titles}
    assert found == wanted
    for figures in rankings.values():
        low, high = figures["mAP_interval"]
        assert low <= figures["mAP"] <= high
        assert f"{100 * figures['mAP']:.2f} ({100 * low:.2f} to {100 * high:.2f})" in read.text


def test_the_hub_understands_the_header(run: Path) -> None:
    data = ModelCard.load(run / "README.md").data
    assert (data.library_name, data.license) == ("kronreid", "other")
    assert {"kronreid", "horeid"} <= set(data.tags or [])
    assert data.eval_results
    name, results = model_index_to_eval_results(data.to_dict()["model-index"])
    assert name == "horeid"
    assert len(results) == 10


def test_what_the_run_was_stands_there(run: Path, pedestrians: Path) -> None:
    text = (run / "README.md").read_text()
    for words in (
        "horeid/market1501/horeid",
        "| seed | 7 |",
        "pedestrians: fewer pictures than Market-1501 (Zheng et al., ICCV 2015), in its layout, 16 pictures",
        "protocol market1501",
        "## Calibration\n\nMeasured on 3 people of pedestrians",
        "## Intended use",
        "## Forbidden use",
        "## Licence",
        "bytes a picture",
    ):
        assert words in text, words
    assert str(pedestrians.parent) not in text
    assert str(run.parent) not in text


def test_the_best_state_knows_its_run(run: Path) -> None:
    text = (run / "best" / "README.md").read_text()
    assert "16 pictures of 4 people." in text
    assert "chosen by its mAP on the test pictures" in text
    assert "not evaluated" in text


def test_nothing_known_is_said(bare: Path) -> None:
    text = (bare / "README.md").read_text()
    for words in (
        "This model is not evaluated",
        "This model is not calibrated",
        "How it was trained is not known",
        "What this model was trained on is not known",
    ):
        assert words in text, words
    header = yaml.safe_load(text.split("---")[1])
    assert not {"model-index", "datasets", "metrics", "base_model"} & header.keys()


def test_figures_of_other_weights_do_not_stand_there(run: Path, bare: Path) -> None:
    (bare / "evaluation.json").write_text((run / "evaluation.json").read_text())
    assert "This model is not evaluated" in card(bare, "model")


def test_a_card_of_ones_own_stays(bare: Path) -> None:
    mine = (bare / "README.md").read_text().replace(MARK, "").replace("# model", "# Mine")
    (bare / "README.md").write_text(mine)
    write_card(bare)
    assert (bare / "README.md").read_text() == mine


def damage(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


@pytest.mark.parametrize(
    "name", ["run.json", "config.yaml", "history.csv", "evaluation.json", "places.safetensors"]
)
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"3", b"\xff\xfe", b'{"data": 3, "protocol": 1, "mAP": "x", "fingerprint": "y"}'],
    ids=repr,
)
def test_damaged_files_are_left_out(bare: Path, name: str, content: bytes) -> None:
    (bare / name).write_bytes(content)
    text = card(bare, "model")
    assert "This model is not evaluated" in text
    assert "What this model was trained on is not known" in text


def test_an_evaluation_with_impossible_figures_is_left_out(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = json.loads((run / "evaluation.json").read_text())
    for name in ("config.json", "model.safetensors", "places.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "evaluation.json").write_text(json.dumps(values | {"rank1": 1.5}))
    with caplog.at_level(logging.WARNING):
        assert "This model is not evaluated" in card(tmp_path, "model")
    assert "rank1 1.5" in caplog.text


@pytest.mark.parametrize("name", ["a|b", "<script>", "a\nb", "---", "é", "\udcff", "a: b", "`x`"])
def test_names_cannot_break_the_card(bare: Path, name: str) -> None:
    text = card(bare, name)
    header = yaml.safe_load(text.split("\n---\n")[0])
    assert header["library_name"] == "kronreid"
    assert "<script>" not in text
    text.encode()


@pytest.mark.parametrize(
    ("weights", "kept", "base"),
    [
        ("imagenet", "imagenet", "timm/test_resnet"),
        ("none", "none", None),
        ("timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("/home/me/weights/net.safetensors", "net.safetensors", None),
        ("${WEIGHTS}/net.pth", "net.pth", None),
        ("../runs/horeid", "horeid", None),
        ("C:\\weights\\net.pth", "net.pth", None),
        ("~/net.pth", "net.pth", None),
    ],
)
def test_paths_of_this_machine_are_not_saved(
    tmp_path: Path, weights: str, kept: str, base: str | None
) -> None:
    arguments: dict[str, Any] = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 8}
    model = build("pooled", arguments)
    arguments["backbone"]["weights"] = weights
    save(tmp_path / "model", "pooled", arguments, InputOptions(64, 32), model)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["arguments"]["backbone"]["weights"] == kept
    header = yaml.safe_load((tmp_path / "model" / "README.md").read_text().split("---")[1])
    assert header.get("base_model") == base
