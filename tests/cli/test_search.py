"""`kronreid search` with a calibrated embedder that has places."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import kronreid
from kronreid.cli import main
from kronreid.models.places import save_places
from kronreid.models.storage import save


@pytest.fixture
def gallery(
    tmp_path: Path, pedestrians: Path, embedder_with_places: Callable[..., kronreid.Embedder]
) -> Path:
    """A gallery of an embedder with places that have learned nothing, and the model beside it."""
    embedder = embedder_with_places(numbers=4)
    arguments = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 16}
    save(tmp_path / "model", "pooled", arguments, embedder.input, embedder.model)
    loaded = kronreid.load(tmp_path / "model")
    save_places(tmp_path / "model", embedder.places, loaded.fingerprint)
    people = tmp_path / "people.gallery"
    arguments = [str(pedestrians / "bounding_box_test"), "--model", str(tmp_path / "model")]
    assert main(["index", *arguments, "--gallery", str(people)]) == 0
    return people


def test_places_re_rank_and_a_limit_leaves_hits_out(
    gallery: Path, pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = str(sorted((pedestrians / "query").iterdir())[0])
    ask = ["search", query, "--gallery", str(gallery), "--top", "5"]
    capsys.readouterr()
    assert main(ask) == 0
    assert len(re.findall(r"  match \d\.\d{3}  ", capsys.readouterr().out)) == 5
    assert main([*ask, "--rerank-top", "0", "--html", str(tmp_path / "plain.html")]) == 0
    assert "  match " not in capsys.readouterr().out
    assert main([*ask, "--min-similarity", "1", "--html", str(tmp_path / "none.html")]) == 0
    assert "nobody here, at a similarity of at least 1\n" in capsys.readouterr().out
    assert main([*ask, "--top", "2", "--html", str(tmp_path / "why.html")]) == 0
    assert (tmp_path / "why.html").read_text().count("<summary>why</summary>") == 2


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("auto", "--min-similarity auto: the model has no calibration; measure one with kronreid calibrate"),
        ("2", "--min-similarity: '2': a number from -1 to 1, or auto, is expected"),
        ("nan", "--min-similarity: 'nan': a number from -1 to 1, or auto, is expected"),
    ],
)
def test_a_limit_that_cannot_be(
    wanted: str, message: str, gallery: Path, pedestrians: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = str(sorted((pedestrians / "query").iterdir())[0])
    assert main(["search", query, "--gallery", str(gallery), "--min-similarity", wanted]) == 2
    assert message in capsys.readouterr().err
