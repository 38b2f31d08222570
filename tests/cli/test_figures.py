"""`kronreid figures`: files from runs, and one line for what is wrong."""

from pathlib import Path

import pytest
import torch

from kronreid.cli import main
from kronreid.data.files import find_pictures
from kronreid.data.transforms import InputOptions
from kronreid.models.storage import build, save

BACKBONE = {"name": "test_resnet", "weights": "none"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "kpm"
    arguments = {"backbone": BACKBONE, "attention": False, "hourglass": False}
    save(folder, "kpm", arguments, InputOptions(height=64, width=32), build("kpm", arguments))
    return folder


def test_from_a_data_set(
    run: Path, pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "figures"
    assert main(["figures", str(run), "--data", str(pedestrians), "--out", str(out)]) == 0
    stems = ("kpm-matching", "kpm-temperatures-matching")
    drawn = {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")}
    assert {path.name for path in out.iterdir()} == drawn | {"numbers.json"}
    printed = capsys.readouterr().out
    assert "KPM, Fig. 6: where chosen places look" in printed
    assert "highest confidence and places covered: scale-1" in printed


def test_from_pictures_at_a_place(run: Path, pedestrians: Path, tmp_path: Path) -> None:
    pictures = [str(path) for path in find_pictures(pedestrians / "query")[:2]]
    arguments = ["figures", str(run), "--pictures", *pictures, "--place", "0.1,0.9", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert (tmp_path / "kpm-matching.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--pictures or --data: one of the two"),
        (["--data", "x", "--pictures", "y"], "--pictures or --data: one of the two"),
        (["--pictures", "a.jpg"], "--pictures: 1 given"),
        (["--pictures", "a.jpg", "b.jpg"], "a.jpg"),
        (["--pictures", "a.jpg", "b.jpg", "--place", "1,0"], "argument --place: '1,0'"),
        (["--pictures", "a.jpg", "b.jpg", "--place", "half"], "argument --place: 'half': X,Y is expected"),
        (["--data", "nowhere"], "nowhere: no such folder"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(
    run: Path,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figures", str(run), "--out", "out", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_out_must_be_a_folder(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["figures", str(run), "--data", "x", "--out", str(tmp_path / "file")]) == 2
    assert "is a file; a folder is needed" in capsys.readouterr().err
