"""A config's data set: what a person says of it, what the config was written for, and what is found."""

import csv
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kronreid.data.extract import SPLITS, picture_folder
from kronreid.data.readers import read
from kronreid.data.records import ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation.protocols import PROTOCOLS
from kronreid.papers.rows import row_names, row_options
from kronreid.training.config import DataOptions, make_config
from kronreid.training.data import check_evaluation, read_dataset
from kronreid.training.train import train

#: What rows say of their data, each once.
SECTIONS = sorted({json.dumps(row_options(name)["data"]) for name in row_names()})
PARTS = ("train", "query", "gallery")


def folders(market: Path, place: Path) -> Path:
    """The people of `market` in a folder each."""
    for part in PARTS:
        for picture in getattr(read(market, "market1501"), part):
            if picture.identity > 0:
                person = place / "people" / f"{picture.identity}"
                person.mkdir(parents=True, exist_ok=True)
                shutil.copy(picture.path, person / f"{picture.camera}_{picture.path.name}")
    return place / "people"


def listed(market: Path, place: Path, cameras: bool = True, parts: tuple[str, ...] = PARTS) -> Path:
    """The pictures of `market` in a list."""
    path = place / "people.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "identity", "split", *["camera"] * cameras])
        for part in parts:
            for picture in getattr(read(market, "market1501"), part):
                writer.writerow([picture.path, picture.identity, part, *[picture.camera] * cameras])
    return path


def cuhk03(market: Path, place: Path) -> Path:
    """Four people as CUHK03's, of whom two test; boxes of both kinds."""
    names = [f"1_{person:03d}_{camera}_{camera:02d}.png" for person in range(1, 5) for camera in (1, 2)]
    (place / "cuhk03").mkdir()
    for kind in ("labeled", "detected"):
        folder = picture_folder(place / "cuhk03", kind)
        folder.mkdir()
        for name in names:
            shutil.copy(next((market / "query").iterdir()), folder / name)
    kept = {"people": [4], "pictures": {"labeled": 8, "detected": 8}, "test": [[[1, 1], [1, 2]]]}
    (place / "cuhk03" / SPLITS).write_text(json.dumps(kept))
    return place / "cuhk03"


#: A root, its layout and that layout's own protocol.
FOUND: dict[str, tuple[Callable[[Path, Path], Path], str, str]] = {
    "market1501": (lambda market, place: market, "market1501", "market1501"),
    "folders": (folders, "folders", "cross-camera"),
    "list": (listed, "list", "cross-camera"),
    "list without cameras": (lambda market, place: listed(market, place, False), "list", "no-camera"),
}


def test_rows_do_not_say_what_a_person_says() -> None:
    assert len(SECTIONS) > 5
    for section in map(json.loads, SECTIONS):
        assert not {"layout", "protocol"} & set(section)
        assert section["usual_layout"]
        assert section.get("usual_protocol", "market1501") in PROTOCOLS


@pytest.mark.parametrize("found", FOUND)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_row_reads_what_is_there(
    pedestrians: Path, tmp_path: Path, section: str, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, layout, protocol = FOUND[found]
    options = DataOptions(**{**json.loads(section), "root": str(make(pedestrians, tmp_path))})
    with caplog.at_level(logging.INFO, logger="kronreid.training.data"):
        dataset = read_dataset(options)
    assert dataset.name == layout
    lines = [record for record in caplog.records if record.name == "kronreid.training.data"]
    if layout == options.usual_layout:
        assert dataset.protocol == (options.usual_protocol or protocol)
        assert not lines
    else:
        assert dataset.protocol == protocol
        assert f"read as layout {layout} and evaluated by protocol {protocol}" in lines[0].message
    check_evaluation(dataset, pairs=True)


@pytest.mark.parametrize(
    ("said", "layout", "protocol"),
    [
        ({"usual_layout": "cuhk03-labeled", "usual_protocol": "openreid"}, "cuhk03-labeled", "openreid"),
        ({"usual_layout": "cuhk03-detected"}, "cuhk03-detected", "cuhk03-classic"),
        (
            {"usual_layout": "cuhk03-labeled", "layout": "cuhk03-detected"},
            "cuhk03-detected",
            "cuhk03-classic",
        ),
        (
            {"usual_layout": "cuhk03-labeled", "usual_protocol": "openreid", "protocol": "market1501"},
            "cuhk03-labeled",
            "market1501",
        ),
        (
            {"layout": "cuhk03-labeled", "usual_layout": "market1501", "usual_protocol": "openreid"},
            "cuhk03-labeled",
            "cuhk03-classic",
        ),
        ({"layout": "folders", "usual_layout": "cuhk03-labeled"}, None, None),
        ({"usual_layout": "market1501", "usual_protocol": "openreid"}, None, None),
        ({}, None, None),
    ],
)
def test_the_usual_layout_decides_between_several_and_a_person_above_it(
    pedestrians: Path, tmp_path: Path, said: dict[str, str], layout: str | None, protocol: str | None
) -> None:
    options = DataOptions(str(cuhk03(pedestrians, tmp_path)), **said)
    if layout is None:
        with pytest.raises(InputError, match=r"cuhk03"):
            read_dataset(options)
    else:
        dataset = read_dataset(options)
        assert (dataset.name, dataset.protocol) == (layout, protocol)


def test_no_root_is_named() -> None:
    with pytest.raises(InputError, match=r"^--data: "):
        read_dataset(DataOptions())


@pytest.mark.parametrize("cameras", [True, False])
def test_a_pair_model_learns_from_a_list(pedestrians: Path, tmp_path: Path, cameras: bool) -> None:
    """KPM's recipe draws across cameras and re-scores while it trains, also where no camera is known."""
    sections = {
        "model": {"name": "kpm", "backbone": {"name": "test_resnet", "weights": "none"}},
        "input": {"height": 64, "width": 32},
        "data": {
            "root": str(listed(pedestrians, tmp_path, cameras)),
            "usual_layout": "market1501",
            "usual_protocol": "openreid",
            "workers": 0,
        },
        "batch": {"identities": 4, "pictures": 2, "across_cameras": True},
        "training": {"iterations": 2, "epoch": 1, "evaluate_every": 1, "accelerator": "cpu"},
    }
    run = train(make_config(sections), tmp_path / "run")
    data = json.loads((run / "run.json").read_text())["data"]
    assert (data["layout"], data["protocol"]) == ("list", "cross-camera" if cameras else "no-camera")
    assert "mAP" in (run / "history.csv").read_text()


def test_what_cannot_train_or_be_evaluated_is_named(pedestrians: Path, tmp_path: Path) -> None:
    test_only = listed(pedestrians, tmp_path, parts=("query", "gallery"))
    model = {"name": "pooled", "backbone": {"name": "test_resnet", "weights": "none"}}
    config = make_config({"model": model, "data": {"root": str(test_only)}})
    with pytest.raises(InputError, match=r"people\.csv: has no pictures to train on"):
        train(config, tmp_path / "run")
    whole = read_dataset(config.data)
    for part in ("query", "gallery"):
        rest = ReIDDataset(**{**vars(whole), part: ()})
        with pytest.raises(
            InputError, match=rf"while training: .*people\.csv: has no {part} pictures.*evaluate_every=0"
        ):
            check_evaluation(rest, pairs=False)
