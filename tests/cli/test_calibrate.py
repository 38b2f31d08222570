"""`kronreid calibrate`: a file in the model's folder, a table, and one line for what is wrong."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kronreid.cli import main
from kronreid.models.calibration import CALIBRATION
from kronreid.models.inference import Embedder
from kronreid.models.loading import load


@pytest.fixture
def runs(save_tiny_models: Callable[[Path], None], tmp_path: Path) -> Path:
    save_tiny_models(tmp_path / "runs")
    return tmp_path / "runs"


def test_embedders_and_pair_models(
    runs: Path, pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(pedestrians)]
    assert main(["calibrate", str(runs / "horeid"), *data, "--json", str(tmp_path / "vectors.json")]) == 0
    assert main(["fit-places", str(runs / "horeid"), *data, "--set", "places.steps=2"]) == 0
    assert not (runs / "horeid" / CALIBRATION).exists()
    capsys.readouterr()
    assert main(["calibrate", str(runs / "horeid"), *data, "--json", str(tmp_path / "places.json")]) == 0
    printed, said = capsys.readouterr()
    assert printed.startswith("6 searches for 3 people, in 7 pictures (pedestrians, market1501)\n")
    assert "one false alarm in 1,000 searches needs at least 1,000 searches; there are 6\n" in printed
    assert "* similarity" in printed
    assert "* logit" in printed
    assert "calibrat" not in said  # nothing is stale
    assert main(["calibrate", str(runs / "kpm"), *data, "--json", str(tmp_path / "pairs.json")]) == 0
    wanted = {"vectors": (True, False), "places": (True, True), "pairs": (False, True)}
    for name, there in wanted.items():
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert tuple(found[score] is not None for score in ("similarity", "logit")) == there
        assert (found["people"], found["gallery"], found["same_share"]) == (3, 7, 0.5)
    embedder, matcher = load(runs / "horeid"), load(runs / "kpm")
    assert isinstance(embedder, Embedder)
    assert embedder.calibration is not None
    assert embedder.needed_matcher().calibration == embedder.calibration
    assert matcher.calibration is not None
    assert len(matcher.calibration.of("logit").strangers) == 6


def test_the_share_of_same_pairs_and_the_protocol_are_ones_own(runs: Path, pedestrians: Path) -> None:
    command = ["calibrate", str(runs / "horeid"), "--data", str(pedestrians)]
    assert main([*command, "--same-share", "0.05", "--protocol", "openreid"]) == 0
    known = load(runs / "horeid").calibration
    assert known is not None
    assert (known.same_share, known.protocol) == (0.05, "openreid")
    assert len(known.of("similarity").strangers) > 6  # all test pictures ask


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--same-share", "1"], "--same-share 1: a number between 0 and 1 expected"),
        (["--same-share", "nan"], "--same-share nan: "),
        (["--same-share", "half"], "argument --same-share: "),
        (["--protocol", "cuhk03-classic"], "protocol cuhk03-classic: draws galleries"),
        (["--json", "nowhere/a.json"], "--json nowhere/a.json: there is no folder nowhere"),
        (["--data", "nowhere"], "nowhere: no such folder"),
    ],
    ids=str,
)
def test_bad_options_are_one_line(
    runs: Path, pedestrians: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(runs / "horeid"), "--data", str(pedestrians), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (runs / "horeid" / CALIBRATION).exists()


def test_too_few_people_are_one_line(
    runs: Path, pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("query", "bounding_box_test"):
        (tmp_path / "alone" / part).mkdir(parents=True)
        for path in sorted((pedestrians / part).glob("0005_*")):
            (tmp_path / "alone" / part / path.name).symlink_to(path)
    (tmp_path / "alone" / "bounding_box_train").symlink_to(pedestrians / "bounding_box_train")
    command = ["calibrate", str(runs / "horeid"), "--data", str(tmp_path / "alone")]
    assert main([*command, "--layout", "market1501"]) == 2
    error = capsys.readouterr().err
    assert "at least two people" in error
    assert error.count("\n") == 1


def test_a_model_without_a_folder_is_one_line(
    pedestrians: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", str(tmp_path / "none.onnx"), "--data", str(pedestrians)]
    assert main(command) == 2
    assert "MODEL" in capsys.readouterr().err
    monkeypatch.setattr("kronreid.cli.calibrate.load_model", lambda path, option: None)  # one that opens
    assert main(command) == 2
    assert "none.onnx: is no folder; a calibration is kept in a model's folder" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="names that are no text")
def test_names_of_data_that_are_no_text(runs: Path, pedestrians: Path, tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"caf\xe9")
    data.symlink_to(pedestrians)
    command = ["calibrate", str(runs / "horeid"), "--data", str(data), "--layout", "market1501"]
    assert main([*command, "--json", str(tmp_path / "a.json")]) == 0
    known = load(runs / "horeid").calibration
    assert known is not None
    assert known.folder == "caf\\xe9" == json.loads((tmp_path / "a.json").read_text())["folder"]
