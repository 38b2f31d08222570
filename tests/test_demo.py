"""The demonstration, shortened: everything it promises is left behind."""

import json
from pathlib import Path

import pytest

from kronreid import demo
from kronreid.data.generated.streets import Street
from kronreid.errors import InputError


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few people and iterations: what is left must be complete, it need not be good."""
    training = {
        **demo.RECIPE["training"],
        "iterations": 4,
        "epoch": 2,
        "evaluate_every": 2,
        "accelerator": "cpu",
    }
    monkeypatch.setitem(demo.RECIPE, "training", training)
    monkeypatch.setitem(demo.RECIPE, "input", {**demo.RECIPE["input"], "height": 64, "width": 32})
    monkeypatch.setitem(demo.RECIPE, "data", {**demo.RECIPE["data"], "workers": 0})
    for options in demo.MODELS.values():
        monkeypatch.setitem(options, "batch", {**options["batch"], "identities": 4})
    monkeypatch.setitem(demo.DATA, "train_identities", 6)
    monkeypatch.setitem(demo.DATA, "test_identities", 6)
    monkeypatch.setitem(demo.DATA, "cameras", 3)
    monkeypatch.setitem(demo.DATA, "distractors", 8)
    monkeypatch.setitem(demo.DATA, "junk", 4)
    monkeypatch.setattr(demo, "FOUND", 9)
    small = Street(cameras=2, people=4, seconds=10.0, seed=3, rate=5, width=320, height=180)
    monkeypatch.setattr(demo.street, "STREET", small)


def test_it_leaves_a_report_metrics_models_and_a_gallery(
    tmp_path: Path, short: None, capsys: pytest.CaptureFixture[str], evaluation_keys: set[str]
) -> None:
    page = demo.run(tmp_path / "demo")
    assert page == tmp_path / "demo" / "index.html"
    text = page.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert 'src="data:image' in text
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    for figures in (
        metrics["horeid"]["untrained"],
        metrics["horeid"]["trained"],
        metrics["kpm"]["untrained"],
        metrics["kpm"]["trained"],
        metrics["reranked"],
    ):
        assert evaluation_keys <= set(figures)
    street = metrics["street"]
    assert {"idf1", "cross_camera_f1", "id_switches", "frames_per_second"} <= street.keys()
    assert street["tracklets"] >= street["people"] >= 1
    assert f"turned the videos into {street['tracklets']} tracklets" in text
    assert text.count('alt="a frame of camera-') == 2
    shown = capsys.readouterr().out
    assert "HOReID untrained" in shown
    assert "KPM trained" in shown
    for name in (
        "runs/horeid/model.safetensors",
        "runs/kpm/model.safetensors",
        "people.gallery",
        "street.gallery",
        "street/camera-2.mp4",
        "query.jpg",
        "data/query",
    ):
        assert (tmp_path / "demo" / name).exists()


def test_it_replaces_only_what_a_demo_left(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="another folder"):
        demo.run(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
