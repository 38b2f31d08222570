"""Which row a run is: recorded at training, read from its folder."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kronreid.data.records import Picture, ReIDDataset
from kronreid.errors import InputError
from kronreid.papers import compare, papers
from kronreid.training.config import Config, make_config, read_config, to_yaml
from kronreid.training.records import changes, read_runs, record

ROW = "horeid/market1501/gap"
ITERATIONS = 75_000
#: Market-1501 as published.
COUNTS = {
    "pictures": {"train": 12936, "query": 3368, "gallery": 19732},
    "identities": {"train": 751, "query": 750, "gallery": 750},
}


@pytest.fixture
def dataset(tmp_path: Path) -> ReIDDataset:
    def pictures(people: list[int]) -> tuple[Picture, ...]:
        return tuple(Picture(tmp_path / f"{i}.jpg", who, 1) for i, who in enumerate(people))

    parts = pictures([1, 1, 2]), pictures([3]), pictures([3, 0, -1])
    return ReIDDataset("market1501", "market1501", tmp_path / "small", *parts)


def run_folder(folder: Path, config: Config, iterations: int = ITERATIONS, kept: str | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    lines = ["iteration,loss,rank1,mAP", "37500,2.0,0.5,0.4", "75000,1.0,0.7,0.6"]
    (folder / "history.csv").write_text("\n".join(lines[: 1 + iterations // 37500]) + "\n")
    if kept is not None:
        (folder / "run.json").write_text(kept)
    return folder


def test_changes_are_those_that_matter() -> None:
    row = read_config(ROW)
    same = ["data.root=/elsewhere", "data.workers=0", "training.seed=3", "training.accelerator=cpu"]
    assert changes(row, read_config(ROW, same)) == {}
    other = read_config(ROW, ["model.channels=16", "loss.margin=0.3", "data.protocol=openreid"])
    assert changes(row, other) == {
        "model.channels": (None, 16),
        "loss.margin": (0.2, 0.3),
        "data.protocol": ("market1501", "openreid"),
    }


@pytest.mark.parametrize(
    ("row", "data", "changed"),
    [
        (ROW, {"layout": "market1501"}, {}),  # as configs said it that fixed their layout
        (ROW, {"usual_layout": "market1501"}, {}),
        ("kpm/market1501/kpm", {"layout": "market1501", "protocol": "openreid"}, {}),
        ("kpm/market1501/kpm", {"layout": "market1501"}, {"data.protocol": ("openreid", "market1501")}),
        (
            "kpm/market1501/kpm",
            {"layout": "list"},
            {"data.layout": ("market1501", "list"), "data.protocol": ("openreid", "cross-camera")},
        ),
        (
            "horeid/cuhk03/gap",
            {"layout": "cuhk03-detected", "protocol": "cuhk03-classic"},
            {},
        ),
    ],
)
def test_what_is_said_of_data_is_compared_with_what_is_usual(row: str, data: dict, changed: dict) -> None:
    values = asdict(read_config(row))
    assert changes(read_config(row), make_config({**values, "data": data})) == changed


@pytest.mark.parametrize("changes", [[], ["data.layout=list", "data.protocol=no-camera"]])
def test_other_data_are_no_change_of_the_row_but_stand_apart(
    tmp_path: Path, dataset: ReIDDataset, changes: list[str]
) -> None:
    """Whether their layout was said or found, so that the gain over a baseline on the same data shows."""
    config = read_config(ROW, changes)
    found = replace(dataset, name="list", protocol="no-camera", root=tmp_path / "people.csv")
    kept = json.loads(record(config, found, ROW))
    assert kept["row"] == ROW
    assert kept["changed"] == {}
    assert (kept["data"]["layout"], kept["data"]["protocol"]) == ("list", "no-camera")
    run_folder(tmp_path / "runs" / "a", config, kept=json.dumps(kept))
    (run,) = read_runs([tmp_path / "runs"])
    assert not run.official
    assert run.unlike_its_row == []
    assert list(run.results) == ["no-camera"]
    assert run.data.startswith("people.csv: ")
    compared = compare(papers()["horeid"], [run])
    assert not any(cell.runs for table in compared for line in table.cells for cell in line.values())


def test_an_option_that_the_row_leaves_out_is_a_change() -> None:
    values = {"model": {"name": "pooled", "backbone": {"name": "test_resnet"}}}
    assert "model.backbone.weights" in changes(read_config(ROW), make_config(values))


def test_record_counts_the_data(dataset: ReIDDataset) -> None:
    kept = json.loads(record(read_config(ROW, ["loss.margin=0.3"]), dataset, ROW))
    assert kept["row"] == "horeid/market1501/gap"
    assert kept["changed"] == {"loss.margin": [0.2, 0.3]}
    assert kept["data"]["pictures"] == {"train": 3, "query": 1, "gallery": 3}
    assert kept["data"]["identities"] == {"train": 2, "query": 1, "gallery": 1}
    assert kept["data"]["protocol"] == "market1501"
    assert kept["data"]["verdict"] == "own"
    assert json.loads(record(read_config(ROW), dataset, None))["row"] is None


def test_a_recorded_run_reads_back(tmp_path: Path, dataset: ReIDDataset) -> None:
    config = read_config(ROW, ["loss.margin=0.3"])
    run_folder(tmp_path / "runs" / "a", config, kept=record(config, dataset, ROW))
    (run,) = read_runs([tmp_path / "runs"])
    assert run.config == "horeid/market1501/gap"
    assert run.changed == {"loss.margin": (0.2, 0.3)}
    assert run.data == "small: 3 pictures of 2 people; 1 queries of 1"
    assert not run.official
    assert run.remaining == 0
    assert run.results == {"market1501": {"rank1": 0.7, "mAP": 0.6}}  # the newest, and the last line


def test_runs_behind_links_are_read_once(tmp_path: Path) -> None:
    for name in ("store/a", "store/b", "runs/c"):
        run_folder(tmp_path / name, read_config(ROW))
    runs = tmp_path / "runs"
    for name, target in (("linked", tmp_path / "store"), ("again", runs / "c"), ("loop", runs)):
        (runs / name).symlink_to(target)
    found = [run.folder for run in read_runs([runs, tmp_path / "store"])]
    assert found == [str(runs / name) for name in ("c", "linked/a", "linked/b")]


def test_the_published_counts_make_it_official(tmp_path: Path, dataset: ReIDDataset) -> None:
    kept = json.loads(record(read_config(ROW), dataset, ROW))
    kept["data"] |= COUNTS
    run_folder(tmp_path / "runs" / "a", read_config(ROW), kept=json.dumps(kept))
    kept["data"]["pictures"] = {**COUNTS["pictures"], "train": 12935}
    run_folder(tmp_path / "runs" / "b", read_config(ROW), kept=json.dumps(kept))
    whole, part = read_runs([tmp_path / "runs"])
    assert whole.official
    assert whole.data == "market1501"
    assert not part.official


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    run_folder(tmp_path / "runs" / "a", read_config(ROW), iterations=37500)
    run_folder(tmp_path / "runs" / "b", read_config(ROW), iterations=0)
    half, none = read_runs([tmp_path / "runs"])
    assert (half.remaining, none.remaining) == (37500, ITERATIONS)
    assert none.results == {}


def test_runs_without_a_record_are_compared_with_the_rows(tmp_path: Path) -> None:
    same = read_config(ROW, ["training.seed=2", "data.root=/data/own-split"])
    run_folder(tmp_path / "runs" / "a", same)
    run_folder(tmp_path / "runs" / "b", read_config(ROW, ["model.channels=16"]))
    first, second = read_runs([tmp_path / "runs"])
    assert first.config == "horeid/market1501/gap"
    assert first.data == "own-split (not counted)"
    assert not first.official
    assert second.config is None


def test_evaluations_in_the_folder_count_by_protocol(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "runs" / "a", read_config(ROW))
    values = {"protocol": "openreid", "rank1": 0.6, "rank5": 0.8, "mAP": 0.5, "queries": 7}
    (folder / "openreid.json").write_text(json.dumps(values))
    (folder / "official.json").write_text(json.dumps(values | {"protocol": "market1501", "mAP": 0.55}))
    (run,) = read_runs([folder])
    assert run.results == {
        "market1501": {"rank1": 0.6, "rank5": 0.8, "mAP": 0.55},
        "openreid": {"rank1": 0.6, "rank5": 0.8, "mAP": 0.5},
    }


def test_of_a_run_with_places_the_vectors_figures_count(tmp_path: Path) -> None:
    """The papers print what vectors reach; fitting places is no change of the row either."""
    config = read_config(ROW, ["places.fit=true", "places.numbers=32"])
    assert changes(read_config(ROW), config) == {}
    folder = run_folder(tmp_path / "runs" / "a", config)
    first = {"protocol": "market1501", "rank1": 0.6, "mAP": 0.5}
    values = {"protocol": "market1501", "rank1": 0.7, "mAP": 0.6, "rerank_with": "places"}
    (folder / "own.json").write_text(json.dumps({**values, "first_stage": first}))
    (run,) = read_runs([folder])
    assert run.results["market1501"] == {"rank1": 0.6, "mAP": 0.5}
    (folder / "own.json").write_text(json.dumps({**values, "first_stage": None}))
    assert read_runs([folder])[0].results["market1501"] == {"rank1": 0.7, "mAP": 0.6}  # of the history


@pytest.mark.parametrize(
    "more",
    [
        {"matcher": "runs/kpm"},
        {"k_reciprocal": True},
        {"matcher_weight": 0.5},
        {"layout": "msmt17"},
        {"precision": "bf16"},
    ],
)
def test_evaluations_that_are_not_the_runs_own_are_passed_over(
    tmp_path: Path, dataset: ReIDDataset, more: dict, caplog: pytest.LogCaptureFixture
) -> None:
    config = read_config(ROW)
    folder = run_folder(tmp_path / "runs" / "a", config, kept=record(config, dataset, ROW))
    alone = {"layout": "market1501", "matcher": None, "matcher_weight": None, "k_reciprocal": False}
    values = {"protocol": "market1501", "rank1": 0.9, "mAP": 0.8, **alone}
    (folder / "own.json").write_text(json.dumps(values))
    assert read_runs([folder])[0].results == {"market1501": {"rank1": 0.9, "mAP": 0.8}}
    (folder / "own.json").write_text(json.dumps(values | more))
    assert read_runs([folder])[0].results == {"market1501": {"rank1": 0.7, "mAP": 0.6}}
    assert "own.json: passed over" in caplog.text


def pair_run(folder: Path, header: str = "", cell: str = "") -> Path:
    run_folder(folder, read_config("kpm/market1501/kpm"))
    (folder / "history.csv").write_text(f"iteration,rank1,mAP{header}\n20200,0.5,0.4{cell}\n")
    return folder


def test_a_pair_models_figures_say_how_many_candidates_it_scored(tmp_path: Path) -> None:
    """Earlier files and histories do not: evaluation scored the best 75 unless told otherwise."""
    history = {"rank1": 0.5, "mAP": 0.4}
    (run,) = read_runs([pair_run(tmp_path / "old")])
    assert run.results == {"openreid, best 75 re-scored": history}
    folder = pair_run(tmp_path / "new", ",rerank_top", ",30")
    evaluated = {"rank1": 0.7, "mAP": 0.6}
    values = {"protocol": "openreid", **evaluated}
    for name, more in (
        ("all", {"rerank_top": "all"}),
        ("half", {"rerank_top": "all", "precision": "bf16-matching"}),
        ("none", {"rerank_top": 0}),
        ("earlier", {"rerank_top": None}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(values | {"rerank_with": "itself"} | more))
    (run,) = read_runs([folder])
    assert run.results == {
        "openreid, best 30 re-scored": history,
        "openreid, all scored": evaluated,
        "openreid, all scored, bf16-matching": evaluated,
        "openreid, pooled features alone": evaluated,
        "openreid, best 75 re-scored": evaluated,
    }


def test_a_run_of_a_model_that_is_not_loaded_is_read(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "a", read_config(ROW))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("name: pooled", "name: elsewhere"))
    (run,) = read_runs([folder])
    assert (run.config, list(run.results)) == (None, ["market1501"])


def test_the_split_is_no_change_of_the_row(tmp_path: Path, dataset: ReIDDataset) -> None:
    config = read_config("horeid/cuhk03/gap", ["data.split=7"])
    kept = json.loads(record(config, replace(dataset, name="cuhk03-detected"), "horeid/cuhk03/gap"))
    assert (kept["changed"], kept["data"]["split"]) == ({}, 7)
    assert kept["evaluation"] == {"matcher": None, "precision": "fp32"}
    kept["changed"] = {"data.split": [0, 7]}  # as records said it before
    run_folder(tmp_path / "a", config, kept=json.dumps(kept))
    (run,) = read_runs([tmp_path])
    assert (run.split, run.changed) == (7, {})


def test_a_run_named_twice_counts_once(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "runs" / "a", read_config(ROW))
    assert len(read_runs([tmp_path / "runs", folder])) == 1


@pytest.mark.parametrize("kept", ["{", "[]", '{"row": 1}', '{"row": null, "changed": {"a": 1}, "data": {}}'])
def test_a_damaged_record_is_named(tmp_path: Path, kept: str) -> None:
    run_folder(tmp_path / "runs" / "a", read_config(ROW), kept=kept)
    with pytest.raises(InputError, match=r"run\.json: damaged"):
        read_runs([tmp_path / "runs"])


def test_folders_without_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="holds no run"):
        read_runs([tmp_path])
