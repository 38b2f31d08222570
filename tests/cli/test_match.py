"""``kronreid match`` with an embedder that has places: the verdict as a sum, printed, in JSON and drawn."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kronreid
from kronreid.cli import main
from kronreid.data.readers import read
from kronreid.models.inference import Embedder
from kronreid.models.places import PLACES, save_places
from kronreid.training.places import FitOptions, fit_places


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, pedestrians: Path, save_tiny_models: Callable[[Path], None]
) -> Path:
    """Tiny models; ``horeid`` has no places, ``one`` and ``two`` are the same with one and two levels."""
    home = tmp_path_factory.mktemp("home")
    save_tiny_models(home)
    pictures = read(pedestrians, "market1501").train
    for name, levels in (("one", ("X_1",)), ("two", ("X_1", "X_2"))):
        shutil.copytree(home / "horeid", home / name)
        embedder = kronreid.load(home / name)
        assert isinstance(embedder, Embedder)
        options = FitOptions(levels=levels, numbers=8, mates=1, strangers=4, lists=2, steps=3)
        save_places(home / name, fit_places(embedder, pictures, options), embedder.fingerprint)
    return home


@pytest.fixture(scope="module")
def pair(pedestrians: Path) -> list[str]:
    """Two pictures."""
    return [str(path) for path in sorted((pedestrians / "query").iterdir())[:2]]


@pytest.mark.parametrize(("model", "count"), [("one", 1), ("two", 2)])
def test_the_verdict_adds_up_on_the_line_in_json_and_is_drawn(
    home: Path, pair: list[str], tmp_path: Path, model: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    png, file = tmp_path / "why.png", tmp_path / "why.json"
    assert main(["match", *pair, "--model", str(home / model), "--png", str(png), "--json", str(file)]) == 0
    why = json.loads(file.read_text())
    assert set(why) == {"probability", "logit", "cosine", "vectors", "levels"}
    assert len(why["levels"]) == count
    shares = 0.0
    for level in why["levels"]:
        height, width = np.shape(level["shares_a"])
        for side in "ab":
            shares += float(np.sum(level[f"shares_{side}"]))
            assert np.shape(level[f"shares_{side}"]) == (height, width)
            assert np.shape(level[f"similarity_{side}"]) == (height, width)
            found = np.array(level[f"found_{side}"])
            assert found.shape == (height, width)
            assert found.dtype == int
            assert 0 <= found.min() <= found.max() < height * width
    assert why["vectors"] + shares == pytest.approx(why["logit"], abs=1e-4)
    assert why["probability"] == pytest.approx(1 / (1 + math.exp(-why["logit"])))

    first, second = capsys.readouterr().out.splitlines()
    assert first == f"probability of the same person: {why['probability']:.4f}"
    logit, vectors, cosine, gain, loss = (float(number) for number in re.findall(r"[+-]?\d+\.\d\d", second))
    assert logit == pytest.approx(why["logit"], abs=0.006)
    assert cosine == pytest.approx(why["cosine"], abs=0.006)
    assert loss <= 0 <= gain
    assert vectors + gain + loss == pytest.approx(logit, abs=0.021)
    assert Image.open(png).width > 1000


def test_json_is_what_explain_says(home: Path, pair: list[str], tmp_path: Path) -> None:
    for model in ("two", "kpm"):
        file = tmp_path / f"{model}.json"
        assert main(["match", *pair, "--model", str(home / model), "--json", str(file)]) == 0
        why = kronreid.load(home / model).explain(*pair)
        assert json.loads(file.read_text()) == why.to_json()


def test_damaged_places_are_refused_in_one_line(
    home: Path, pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home / "horeid", tmp_path / "damaged")
    places = (home / "one" / PLACES).read_bytes()
    for content in (places[:100], b""):
        (tmp_path / "damaged" / PLACES).write_bytes(content)
        assert main(["match", *pair, "--model", str(tmp_path / "damaged")]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith("kronreid: error: --model ")
        assert PLACES in said
        assert "damaged" in said
