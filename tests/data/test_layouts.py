"""Every layout from its files to figures: the commands that read data sets, on miniature copies."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from kronreid.cli import main
from kronreid.data.extract import extract
from kronreid.data.images import open_rgb
from kronreid.data.readers import LAYOUTS, read
from kronreid.data.samplers import TrainingPictures
from kronreid.data.transforms import AugmentOptions, InputOptions, TrainTransform
from kronreid.evaluation import evaluate_dataset
from kronreid.models.storage import build, save
from kronreid.training.history import read_history

from . import miniatures
from .miniatures import picture

SIZE = InputOptions(height=64, width=32)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained embedder."""
    folder = tmp_path_factory.mktemp("model")
    arguments = {
        "backbone": {"name": "test_resnet", "weights": "none"},
        "channels": 16,
        "dimension": 16,
        "parts": 4,
    }
    torch.manual_seed(0)
    save(folder, "horeid", arguments, SIZE, build("horeid", arguments))
    return folder


def cuhk03(root: Path) -> Path:
    miniatures.cuhk03(root)
    extract(root / "cuhk03_release" / "cuhk-03.mat", root, progress=False)
    return root


def own_folders(root: Path) -> Path:
    for number, name in enumerate(("ann", "bob", "cleo", "dan")):
        for camera in (1, 2):
            for shot in (1, 2):
                picture(root / name / f"{camera}_{shot}.jpg", number, camera, shot)
    return root


def divided(root: Path) -> Path:
    for part, cameras in (("train", (1, 2)), ("query", (1,)), ("gallery", (2, 3))):
        for camera in cameras:
            for number, name in enumerate(("ann", "bob")):
                picture(root / part / name / f"c{camera}_1.jpg", number, camera)
    return root


def own_list(root: Path) -> Path:
    return miniatures.people_list(root / "people.csv")


#: Layout, what makes its root, protocol, queries, gallery without junk, queries without a match.
CASES = [
    ("market1501", miniatures.market, "market1501", 2, 4, 0),
    ("market1501+500k", miniatures.market, "market1501", 2, 6, 0),
    ("dukemtmc", miniatures.duke, "dukemtmc", 1, 3, 0),
    ("msmt17", miniatures.msmt17, "msmt17", 2, 4, 0),
    ("msmt17-v2", partial(miniatures.msmt17, version=2), "msmt17", 2, 4, 0),
    ("cuhk03-labeled", cuhk03, "cuhk03-classic", 8, 8, 0),
    ("cuhk03-detected", cuhk03, "cuhk03-classic", 8, 8, 0),
    ("cuhk03-np-labeled", cuhk03, "cuhk03-np", 13, 17, 1),
    ("cuhk03-np-detected", cuhk03, "cuhk03-np", 13, 17, 1),
    ("folders", own_folders, "cross-camera", 4, 4, 0),
    ("list", own_list, "cross-camera", 3, 3, 0),
]


def test_there_is_a_case_of_every_layout() -> None:
    assert [case[0] for case in CASES] == list(LAYOUTS)


@pytest.mark.parametrize(("layout", "make", "protocol", "queries", "gallery", "unmatched"), CASES)
def test_evaluate_and_check(
    tmp_path: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    layout: str,
    make: Callable[[Path], Path],
    protocol: str,
    queries: int,
    gallery: int,
    unmatched: int,
) -> None:
    root = make(tmp_path / "root")
    data = read(root, layout)
    assert (data.name, data.protocol) == (layout, LAYOUTS[layout].protocol)
    out = tmp_path / "a.json"
    assert run("evaluate", model, "--data", root, "--layout", layout, "--json", out) == 0
    figures = json.loads(out.read_text())
    found = tuple(figures[name] for name in ("protocol", "queries", "gallery", "queries_without_match"))
    assert found == (protocol, queries, gallery, unmatched)
    assert run("data", "check", root, "--layout", layout, "--json", out) == 0
    (checked,) = json.loads(out.read_text())["layouts"]
    assert (checked["layout"], checked["protocol"]) == (layout, protocol)
    assert checked["parts"]["query"]["pictures"] == queries
    assert checked["queries_without_match"] == unmatched
    assert f"{layout}: " in capsys.readouterr().out


def test_one_command_trains_and_evaluates_every_split(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CUHK03's numbers in papers are means over its 20 splits; the miniature has 3."""
    root, runs = cuhk03(tmp_path / "root"), tmp_path / "runs"
    data = ("--data", root, "--layout", "cuhk03-detected", "--split", "all")
    small = ["model.backbone.name=test_resnet", "model.backbone.weights=none", "data.workers=0"]
    small += ["input.height=64", "input.width=32", "batch.identities=2", "batch.pictures=2"]
    small += ["training.iterations=1", "training.epoch=1", "training.evaluate_every=1"]
    small += ["training.accelerator=cpu"]
    assert run("train", "horeid/cuhk03/gap", *data, "--out", runs, "--set", *small) == 0
    printed = capsys.readouterr().out
    records = [json.loads((runs / f"split-{split}" / "run.json").read_text()) for split in range(3)]
    assert [record["data"]["split"] for record in records] == [0, 1, 2]
    assert "data.split" not in records[2]["changed"]
    histories = [read_history(runs / f"split-{split}" / "history.csv")[-1] for split in range(3)]
    assert f"mean of 3  {100 * np.mean([line['rank1'] for line in histories]):.2f} ±" in printed
    assert all("rank5" in line for line in histories)

    out = tmp_path / "all.json"
    assert run("evaluate", runs, *data, "--json", out) == 0
    figures = json.loads(out.read_text())
    assert (figures["splits"], len(figures["each"]), figures["protocol"]) == (3, 3, "cuhk03-classic")
    assert figures["rank1"] == pytest.approx(np.mean([one["rank1"] for one in figures["each"]]))
    assert figures["deviation"]["mAP"] == pytest.approx(np.std([o["mAP"] for o in figures["each"]], ddof=1))
    for one, line in zip(figures["each"], histories, strict=True):
        assert one["rank1"] == pytest.approx(line["rank1"]), "each is evaluated by its own run"

    assert run("evaluate", runs / "split-1", *data) == 2
    assert "was trained on split 1, whose training people are test people" in capsys.readouterr().err
    assert run("evaluate", model, *data) == 0, "a model that learned from none of them"
    (runs / "split-1").rename(tmp_path / "away")
    assert run("evaluate", runs, *data) == 2
    assert "has no split-1; train all 3 splits first" in capsys.readouterr().err
    assert run("evaluate", runs, *data, "--html", tmp_path / "a.html") == 2
    assert "a report is of one split" in capsys.readouterr().err
    market = miniatures.market(tmp_path / "market")
    assert run("evaluate", model, "--data", market, "--split", "all") == 2
    assert "--split all: layout market1501 has one division" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "folder"),
    [(miniatures.market, miniatures.TRAIN), (miniatures.duke, miniatures.TRAIN), (divided, "train")],
)
def test_evaluation_does_without_training_pictures(
    tmp_path: Path, model: Path, make: Callable[[Path], Path], folder: str
) -> None:
    root, results = make(tmp_path / "root"), []
    for remaining in (True, False):
        if not remaining:
            shutil.rmtree(root / folder)
        assert run("evaluate", model, "--data", root, "--json", tmp_path / "a.json") == 0
        results.append(json.loads((tmp_path / "a.json").read_text()) | {"seconds": 0})
        assert run("data", "check", root) == 0
    assert results[0] == results[1]


def test_the_split_is_chosen(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = cuhk03(tmp_path / "root"), tmp_path / "a.json"
    options = ("evaluate", model, "--data", root, "--layout", "cuhk03-detected", "--json", out)
    assert run(*options, "--split", 1) == 0
    # Of the two test people of this division, one has pictures of one camera only.
    assert json.loads(out.read_text())["queries_without_match"] == 3
    assert run(*options, "--split", 3) == 2
    assert "--split 3" in capsys.readouterr().err


def test_multi_query_averages_gt_bbox(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "a.json"
    root = miniatures.market(tmp_path / "root")
    assert run("evaluate", model, "--data", root, "--protocol", "market1501-multi-query", "--json", out) == 0
    assert json.loads(out.read_text())["queries"] == 2


def test_check_looks_at_all_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = miniatures.cuhk03(tmp_path)
    assert run("data", "check", root) == 2
    assert "kronreid data extract" in capsys.readouterr().err
    assert run("data", "extract", root) == 0
    assert "105 pictures written, 0 were there" in capsys.readouterr().out
    assert run("data", "extract", root) == 0
    assert "0 pictures written, 105 were there" in capsys.readouterr().out
    (root / "images_labeled" / "1_001_1_01.png").unlink()
    assert run("data", "check", root, "--json", tmp_path / "a.json") == 0
    printed = capsys.readouterr().out
    assert printed.count("not readable: ") == 2
    assert "cuhk03-np-detected: CUHK03, detected, new protocol" in printed
    content = json.loads((tmp_path / "a.json").read_text())
    assert [one["layout"] for one in content["layouts"]] == ["cuhk03-detected", "cuhk03-np-detected"]
    assert len(content["errors"]) == 2


def test_check_refuses_parts_that_do_not_belong_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = miniatures.duke(tmp_path)
    query = root / "query" / "0005_c2_f0046985.jpg"
    query.rename(query.with_name("0099_c2_f0046985.jpg"))
    assert run("data", "check", root) == 2
    printed = capsys.readouterr()
    assert "none of the 1 queries has a match" in printed.err
    assert "DukeMTMC-reID" in printed.out  # what was found is said all the same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data", "check", "nowhere"), "nowhere: no such folder"),
        (("data", "check", ".", "--layout", "zoo"), "--layout (or data.layout): 'zoo' is unknown"),
        (("data", "extract", "."), "no cuhk-03.mat"),
        (("crop", "nowhere", "--out", "out"), "nowhere: no such file"),
        (("crop", "people.csv", "--out", "out", "--min-visibility", "2"), "--min-visibility 2.0"),
        (("crop", "people.csv", "--out", "out", "--min-height", "99"), "no usable boxes"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    miniatures.people_list(tmp_path / "people.csv")
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_crop_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = miniatures.people_list(tmp_path / "people.csv")
    assert run("crop", source, "--out", tmp_path / "out") == 0
    assert "10 written, 0 were there, 0 failed" in capsys.readouterr().out
    (tmp_path / "frames" / "south.png").unlink()
    (crop,) = (tmp_path / "out" / "ann").glob("2_south_*.jpg")
    crop.unlink()
    assert run("crop", source, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "0 written, 9 were there, 1 failed" in printed
    assert f"{tmp_path / 'frames' / 'south.png'}: no such file" in printed


def test_training_sees_the_box_alone(tmp_path: Path) -> None:
    data = read(miniatures.people_list(tmp_path / "people.csv"))
    pictures = TrainingPictures(data.train, TrainTransform(SIZE, AugmentOptions(flip=0, erase=0)))
    for index, grey in ((0, 60), (1, 100)):
        pixels, _ = pictures[index, 0]
        assert pixels.shape == (3, 64, 32)
        assert set(pixels.unique().tolist()) == {grey}


def test_every_box_of_a_frame_is_a_picture_of_its_own(tmp_path: Path, model: Path) -> None:
    class Seen:
        images: ClassVar[list[object]] = []

        def embed(self, images: Any, batch_size: int = 64, progress: bool = False) -> np.ndarray:
            self.images.extend(images)
            return np.stack([np.eye(256)[open_rgb(image).getpixel((0, 0))[0]] for image in images])

    root = miniatures.people_list(tmp_path / "people.csv")
    data = read(root)
    result = evaluate_dataset(Seen(), data, protocol=data.protocol)
    assert Seen.images == [*data.query, *data.gallery]
    assert (result.queries, result.gallery, result.rank1) == (3, 3, 1.0)
    page = tmp_path / "a.html"
    assert run("evaluate", model, "--data", root, "--html", page) == 0
    assert "north.png#50,5,20,40" in page.read_text()
