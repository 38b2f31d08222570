"""The ablation: every row and seed once, resumable, evaluated by its newest weights, and reported."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import ablation
from ablation_report import PEOPLE
from kronreid.data.readers import read
from kronreid.errors import InputError
from kronreid.evaluation import evaluate, evaluate_dataset
from kronreid.locks import alone
from kronreid.models.loading import load
from kronreid.papers.rows import merge
from kronreid.training import records
from kronreid.training.config import read_config

BASE = """
model: {backbone: {name: test_resnet, weights: none}}
input: {height: 64, width: 32}
batch: {identities: 4, pictures: 2, negatives: 1}
optimiser: {name: adamw, lr: 1.0e-3, schedule: cosine}
training: {iterations: 2, epoch: 1, evaluate_every: 1, accelerator: cpu}
data: {workers: 0, layout: market1501, root: "ROOT"}
"""
ROWS = {
    "horeid/toy/gap": "model: {name: pooled, channels: 16}",
    "horeid/toy/ghp": "model: {name: horeid, order: 2, channels: 16, dimension: 16, parts: 0}",
    "kpm/toy/warm": "model: {name: kpm, hourglass: false, backbone: {weights: runs/gap}}",
}
GAP, GHP, WARM = ROWS


@pytest.fixture(scope="module", autouse=True)
def toys(pedestrians: Path) -> Iterator[None]:
    """Rows that two cores train in a second."""

    def options(name: str) -> dict[str, Any]:
        if name not in ROWS:
            raise InputError(name, "neither a config file nor a row")
        return merge(yaml.safe_load(BASE.replace("ROOT", str(pedestrians))), yaml.safe_load(ROWS[name]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kronreid.training.config.row_options", options)
        for user in (ablation, records):
            patch.setattr(user, "row_names", lambda: tuple(ROWS))
        yield


def command(out: Path, *more: str) -> list[str]:
    return [WARM, GAP, GHP, "--out", str(out), *more]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows with two seeds, trained and reported."""
    out = tmp_path_factory.mktemp("ablation") / "out"
    reports = [f"--table={out}.md", f"--json={out}.json", f"--png={out}.png"]
    options = ["--seeds", "0", "1", "--rerank", "ghp", "kpm/warm", "--compare", "ghp", "gap"]
    assert ablation.main(command(out, *options, *reports)) == 0
    return out


def evaluation(folder: Path, name: str = ablation.EVALUATION) -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def test_every_row_and_seed_is_a_run_folder_of_its_own(done: Path) -> None:
    for row in ROWS:
        for seed in (0, 1):
            folder = done / row / f"seed-{seed}"
            assert read_config(folder / "config.yaml").training.seed == seed
            assert "iteration 2/2" in (folder / "train.log").read_text()
            assert json.loads((folder / "run.json").read_text())["row"] == row
    first, second = (load(done / GAP / f"seed-{seed}").fingerprint for seed in (0, 1))
    assert first != second


def test_a_run_is_evaluated_by_the_weights_that_it_leaves(done: Path, pedestrians: Path) -> None:
    dataset = read(pedestrians)
    for row in ROWS:
        folder = done / row / "seed-1"
        found = evaluate_dataset(load(folder), dataset)
        assert evaluation(folder)["mAP"] == pytest.approx(found.mAP)
        assert evaluation(folder)["rank1"] == pytest.approx(found.rank1)


def test_a_pair_models_own_ranking_is_evaluated_beside_its_re_scored_one(
    done: Path, pedestrians: Path
) -> None:
    dataset, folder = read(pedestrians), done / WARM / "seed-0"
    parts = (dataset.query, dataset.gallery)
    matcher = load(folder)
    vectors, ids, cameras = (
        [matcher.embed([picture.path for picture in part]) for part in parts],
        [[picture.identity for picture in part] for part in parts],
        [[picture.camera for picture in part] for part in parts],
    )
    pooled = evaluate(vectors[0], ids[0], cameras[0], vectors[1], ids[1], cameras[1], ranks=(1,))
    assert evaluation(folder, ablation.POOLED)["mAP"] == pytest.approx(pooled.mAP)
    assert not (done / GAP / "seed-0" / ablation.POOLED).exists()


def test_a_row_that_starts_from_another_takes_the_run_of_its_own_seed(done: Path) -> None:
    for seed in (0, 1):
        config = read_config(done / WARM / f"seed-{seed}" / "config.yaml")
        assert config.model["backbone"]["weights"] == str(done / GAP / f"seed-{seed}")


def test_the_report_gives_mean_and_spread_over_seeds(done: Path) -> None:
    figures = json.loads(Path(f"{done}.json").read_text())
    values = [evaluation(done / GHP / f"seed-{seed}")["mAP"] for seed in (0, 1)]
    assert figures["ghp: seeds"] == [0, 1]
    assert figures["ghp: mAP_by_seed"] == values
    assert figures["ghp: mAP"] == pytest.approx(sum(values) / 2)
    assert figures["ghp: mAP_spread"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert {"warm, pooled alone: mAP", "warm, its best 75 re-scored: mAP"} <= figures.keys()
    table = Path(f"{done}.md").read_text()
    (ghp,) = (line for line in table.splitlines() if line.startswith("| ghp |"))
    assert f"{100 * figures['ghp: mAP']:.1f} ± {100 * figures['ghp: mAP_spread']:.1f}" in ghp
    assert "| 0, 1 |" in ghp
    assert "| 16 |" in ghp  # 2 iterations of 4 × 2 pictures
    assert "| 16 after 16 |" in table
    with Image.open(f"{done}.png") as png:
        assert png.width == 1920  # two panels, each with its legend beside it: embedding and pair models


def test_the_report_compares_rows_query_by_query(done: Path, pedestrians: Path) -> None:
    figures = json.loads(Path(f"{done}.json").read_text())
    gained = [
        evaluation(done / GHP / f"seed-{seed}")["mAP"] - evaluation(done / GAP / f"seed-{seed}")["mAP"]
        for seed in (0, 1)
    ]
    assert figures["ghp over gap: mAP_by_seed"] == pytest.approx(gained, abs=1e-5)
    low, high = figures["ghp over gap: mAP_interval"]
    assert low <= figures["ghp over gap: mAP"] <= high
    assert "| ghp over gap |" in Path(f"{done}.md").read_text()
    found = evaluation(done / GHP / "seed-0")
    assert found[PEOPLE] == [picture.identity for picture in read(pedestrians).query]


def test_the_folders_small_files_are_enough_to_report(done: Path, tmp_path: Path) -> None:
    shutil.copytree(
        done, tmp_path / "records", ignore=shutil.ignore_patterns("*.safetensors", "*.ckpt", "best")
    )
    report = ["--rerank", "ghp", "kpm/warm", "--compare", "ghp", "gap", f"--table={tmp_path}/again.md"]
    assert ablation.main(["--report-only", "--out", str(tmp_path / "records"), *report]) == 0
    again, first = (path.read_text().splitlines() for path in (tmp_path / "again.md", Path(f"{done}.md")))
    assert sorted(again) == sorted(first)  # without rows they come in the order of their names


def test_runs_whose_weights_are_gone_are_neither_trained_nor_re_ranked_again(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records"
    shutil.copytree(done, records, ignore=shutil.ignore_patterns("*.safetensors", "*.ckpt", "best"))
    for file in records.rglob("config.yaml"):  # which names the run that it starts from
        file.write_text(file.read_text().replace(str(done), str(records)))
    arguments = command(records, "--seeds", "0", "1", "--rerank", "ghp", "warm")
    assert ablation.main(arguments) == 0
    assert "are not there" not in capsys.readouterr().out
    (reranked,) = records.glob("reranked/*/seed-1.json")
    reranked.unlink()
    assert ablation.main(arguments) == 0
    assert "re-ranked by kpm/toy/warm seed 1: one of the runs has no weights" in capsys.readouterr().out


def test_two_rows_together_are_evaluated_for_each_seed(done: Path, pedestrians: Path) -> None:
    figures = json.loads(Path(f"{done}.json").read_text())
    for say, weight in (("equal say", 0.5), ("alone", 1.0)):
        expected = [
            evaluate_dataset(
                load(done / GHP / f"seed-{seed}"),
                read(pedestrians),
                matcher=load(done / WARM / f"seed-{seed}"),  # type: ignore[arg-type]
                matcher_weight=weight,
            ).mAP
            for seed in (0, 1)
        ]
        found = figures[f"ghp, its best 75 re-ranked by warm, {say}: mAP_by_seed"]
        assert found == pytest.approx(expected)


def test_what_is_finished_is_not_trained_again(
    done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*arguments: Any, **options: Any) -> Path:
        raise AssertionError("trained again")

    monkeypatch.setattr(ablation, "train", never)
    monkeypatch.setattr(ablation, "evaluate_dataset", never)
    arguments = command(done, "--seeds", "0", "1", "--rerank", "ghp", "warm")
    assert ablation.main(arguments) == 0
    assert "6 of 6 runs are finished" in capsys.readouterr().out
    assert ablation.main(["--report-only", "--out", str(done)]) == 0
    table = capsys.readouterr().out
    assert "| ghp |" in table
    assert "re-ranked by" in table


def test_a_trained_run_that_was_not_evaluated_only_is(done: Path, tmp_path: Path) -> None:
    folder = tmp_path / GAP / "seed-0"
    shutil.copytree(done / GAP / "seed-0", folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / ablation.EVALUATION).unlink()
    assert ablation.main([GAP, "--out", str(tmp_path)]) == 0
    assert (folder / "model.safetensors").read_bytes() == weights
    found, before = evaluation(folder), evaluation(done / GAP / "seed-0")
    assert {**found, "seconds": 0} == {**before, "seconds": 0}


def test_an_interrupted_sequence_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[tuple[str, bool]] = []
    train = ablation.train

    def stopping(config: Any, out: Path, resume: bool, source: Path) -> Path:
        trained.append((Path(out).parent.name, resume))
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(config, out, resume, source)

    monkeypatch.setattr(ablation, "train", stopping)
    rows = [GAP, GHP, "--out", str(tmp_path / "out")]
    assert ablation.main(rows) == 130
    assert ablation.main(rows) == 0
    assert trained == [("gap", True), ("ghp", True), ("ghp", True)]
    assert "[1/1] horeid/toy/ghp seed 0: mAP " in capsys.readouterr().out


def test_a_run_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ablation.train

    def failing(config: Any, out: Path, resume: bool, source: Path) -> Path:
        if config.name == "pooled":
            raise RuntimeError("out of memory")
        return train(config, out, resume, source)

    monkeypatch.setattr(ablation, "train", failing)
    out = tmp_path / "out"
    assert ablation.main(command(out)) == 1
    printed = capsys.readouterr().out
    assert "gap seed 0: FAILED (out of memory)" in printed
    assert "RuntimeError: out of memory" in (out / GAP / "seed-0" / "train.log").read_text()
    assert (out / GHP / "seed-0" / ablation.EVALUATION).is_file()
    assert f"warm seed 0: FAILED (starts from {out / GAP / 'seed-0'}, which is not finished)" in printed


def test_a_folder_trained_otherwise_is_refused(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = command(done, "--set", "optimiser.lr=0.5")
    assert ablation.main(arguments) == 2
    error = capsys.readouterr().err
    assert "seed-0: was trained with optimiser.lr 0.001, not 0.5" in error


def test_one_training_at_a_time(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with alone(done, "busy"):
        assert ablation.main(command(done)) == 2
        assert "another process is training there" in capsys.readouterr().err
        assert ablation.main(["--report-only", *command(done)]) == 0


def test_bad_rows_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gap.yaml").write_text("")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "gap.yaml").write_text("")
    for arguments, message in (
        ([], "name at least one row"),
        ([str(tmp_path / "no.yaml")], "no such config file"),
        ([str(tmp_path / "more" / "gap.yaml"), str(tmp_path / "gap.yaml")], "has the name of"),
        ([str(tmp_path / "gap.yaml")], "a mapping of sections is expected"),
        (["horeid/toy/hgp"], "neither a config file nor a row"),
        (["--report-only"], "has no run"),
        ([*command(tmp_path)[:2], "--rerank", "warm", "gap"], "gap: is an embedder"),
        ([*command(tmp_path)[:2], "--set", "training.devices=2"], "only 1 works here"),
        ([*command(tmp_path)[:2], "--rerank", "gap", "kpm"], "--rerank kpm: matches none of the rows"),
        ([*command(tmp_path)[:1], "--json", str(tmp_path / "no" / "x.json")], "there is no folder"),
    ):
        assert ablation.main([*arguments, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert list(ablation.rows_of(["horeid/toy", "kpm/toy/"])) == [GAP, GHP, WARM]


def test_the_records_make_the_table_that_the_documents_show(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    assert ablation.main(["--report-only", "--out", str(root / "benchmarks" / "records")]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    shown = (root / "docs" / "results.md").read_text().splitlines()
    assert len(table) > 2
    assert [line for line in table if line not in shown] == []
