"""`kronreid fit-places`: a trained embedder gets its places, and one line for what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import kronreid
from kronreid.cli import main
from kronreid.data.transforms import InputOptions
from kronreid.models.inference import Embedder
from kronreid.models.places import PLACES, PlacesOptions
from kronreid.models.storage import CONFIG, build, save

QUICK = ["--set", "places.steps=3", "--set", "places.lists=2", "--set", "places.numbers=6"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An embedder that has learned nothing."""
    return saved(tmp_path / "run", "pooled", channels=16)


def saved(folder: Path, name: str, **options: int) -> Path:
    torch.manual_seed(0)
    arguments = {"backbone": {"name": "test_resnet", "weights": "none"}, **options}
    save(folder, name, arguments, InputOptions(height=64, width=32), build(name, arguments))
    return folder


def test_a_model_gets_places_that_re_rank(
    run: Path, pedestrians: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = kronreid.load(run).fingerprint
    assert main(["fit-places", str(run), "--data", str(pedestrians), *QUICK]) == 0
    embedder = kronreid.load(run)
    assert isinstance(embedder, Embedder)
    assert embedder.places is not None
    assert embedder.fingerprint == fingerprint
    assert embedder.places.options == PlacesOptions(numbers=6)
    printed = capsys.readouterr().out
    assert printed == f"{run}: places of {embedder.places.bytes_per_picture:,} bytes a picture\n"

    figures = {}
    for top in (None, "0", "all"):
        file = tmp_path / "figures.json"
        more = [] if top is None else ["--rerank-top", top]
        assert main(["evaluate", str(run), "--data", str(pedestrians), "--json", str(file), *more]) == 0
        figures[top] = json.loads(file.read_text())
    first = figures[None]["first_stage"]
    assert {key: figures["0"][key] for key in ("mAP", "rank1")} == {
        key: first[key] for key in ("mAP", "rank1")
    }
    assert figures[None]["rerank_with"] == figures["all"]["rerank_with"] == "places"
    assert figures["0"]["rerank_with"] is None
    assert figures[None]["mAP"] == figures["all"]["mAP"]  # a gallery of less than 100 pictures
    assert figures[None]["rerank_ms_per_query"] > 0
    assert "first_stage" not in figures["0"]

    capsys.readouterr()
    assert main(["summary", str(run), "--json", str(tmp_path / "summary.json")]) == 0
    size = embedder.places.bytes_per_picture
    assert f"places: 8 of X_1; {size:,} bytes a picture in int8" in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text())["bytes_per_picture"] == size


def test_the_runs_own_options_come_first_and_changes_above_them(run: Path, pedestrians: Path) -> None:
    (run / "config.yaml").write_text(
        "model: {name: pooled}\nplaces: {numbers: 5, steps: 2, levels: [below], precision: bf16}\n"
    )
    assert main(["fit-places", str(run), "--data", str(pedestrians), "--set", "places.numbers=7"]) == 0
    embedder = kronreid.load(run)
    assert isinstance(embedder, Embedder)
    assert embedder.places is not None
    assert embedder.places.options == PlacesOptions(("below",), 7, "bf16")


def test_fitting_anew_replaces_what_was_there(run: Path, pedestrians: Path) -> None:
    contents = []
    for seed in (0, 1, 0):
        arguments = [*QUICK, "--set", f"places.seed={seed}"]
        assert main(["fit-places", str(run), "--data", str(pedestrians), *arguments]) == 0
        contents.append((run / PLACES).read_bytes())
    assert contents[0] == contents[2] != contents[1]


def test_places_that_do_not_fit_the_model_are_fitted_anew(
    run: Path, pedestrians: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the message says that stops every other command."""
    fit = ["fit-places", str(run), "--data", str(pedestrians), *QUICK]
    assert main(fit) == 0
    config = json.loads((run / CONFIG).read_text())
    config["input"]["mirror"] = True
    (run / CONFIG).write_text(json.dumps(config))
    for wrong in ("was fitted on another model", "damaged"):
        capsys.readouterr()
        assert main(["evaluate", str(run), "--data", str(pedestrians)]) == 2
        assert f"{PLACES}: {wrong}" in capsys.readouterr().err
        assert main(fit) == 0
        kronreid.load(run)
        (run / PLACES).write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["places.levels=[X_7]"], "places.levels: this model has no map 'X_7'; it has X_1, below"),
        (["places.numbers=0"], "numbers 0: at least 1 expected"),
        (["places.nubmers=3"], "nubmers is unknown; did you mean numbers?"),
        (["places.precision=int4"], "precision 'int4'"),
        (["places.levels=[]"], "name at least one map"),
        (["loss.margin=3"], "--set loss: only places are fitted here"),
        (["places.numbers"], "section.key=value"),
    ],
)
def test_bad_options_leave_the_folder_as_it_was(
    run: Path, pedestrians: Path, capsys: pytest.CaptureFixture[str], changes: list[str], message: str
) -> None:
    before = {path.name for path in run.iterdir()}
    options = [word for change in changes for word in ("--set", change)]
    assert main(["fit-places", str(run), "--data", str(pedestrians), *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert {path.name for path in run.iterdir()} == before


def test_what_has_no_places_is_one_line(
    run: Path,
    pedestrians: Path,
    make_pedestrians: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kpm = saved(tmp_path / "kpm", "kpm")
    one_camera = make_pedestrians("one-camera", cameras=1, pictures_per_camera=4)
    bare = tmp_path / "bare"
    bare.mkdir()
    for part in ("query", "bounding_box_test"):
        (bare / part).symlink_to(pedestrians / part)
    for folder, data, message in (
        (tmp_path / "none", pedestrians, f"{tmp_path / 'none'}: no {CONFIG}"),
        (bare, pedestrians, f"{bare}: no {CONFIG}"),
        (kpm, pedestrians, f"{kpm}: is a pair model"),
        (run, tmp_path / "nothing", str(tmp_path / "nothing")),
        (run, one_camera, "places: 4 people, and 0 pictures"),
        (run, bare, f"{bare}: has no pictures to fit places on"),
    ):
        assert main(["fit-places", str(folder), "--data", str(data), *QUICK]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert len(said.splitlines()) == 1
    assert not list(tmp_path.rglob(PLACES))
