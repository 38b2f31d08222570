"""Training: exact resuming, interruption, several processes, run folders."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import kronreid
from kronreid.cli import main
from kronreid.data.readers import read
from kronreid.data.samplers import PKBatchSampler
from kronreid.errors import InputError
from kronreid.evaluation import evaluate_dataset
from kronreid.models.folders import HISTORY
from kronreid.models.loading import load, wrap
from kronreid.training.callbacks import CHECKPOINT, mean_of_weights
from kronreid.training.config import Config, make_config
from kronreid.training.hard import HardIdentitySearch
from kronreid.training.modules import ReIDTraining
from kronreid.training.train import TrainingData, lightning_module, train

Running: TypeAlias = Callable[..., AbstractContextManager[subprocess.Popen]]

SMALL = {
    "input": {"height": 64, "width": 32},
    "data": {"workers": 0},
    "batch": {"identities": 4, "pictures": 3, "negatives": 2},
    "optimiser": {"name": "adamw", "lr": 1e-3, "schedule": "cosine"},
    "training": {
        "iterations": 8,
        "epoch": 2,
        "evaluate_every": 2,
        "average_weights": 0.9,
        "accelerator": "cpu",
    },
}
BACKBONE = {"name": "test_resnet", "weights": "none"}
MODELS = {
    "horeid": {"name": "horeid", "backbone": BACKBONE, "channels": 16, "dimension": 16, "parts": 4},
    "kpm": {"name": "kpm", "backbone": BACKBONE},
    "transformer": {
        "name": "pooled",
        "backbone": {
            "name": "test_vit",
            "weights": "none",
            "drop_path": 0.2,
            "frozen": 1,
            "checkpointing": True,
            "cameras": 2,
        },
        "channels": 16,
    },
}


@pytest.fixture(scope="module")
def root(make_pedestrians: Callable[..., Path]) -> Path:
    return make_pedestrians(train_identities=6)


def small(
    root: Path, model: str = "horeid", sections: dict[str, dict] | None = None, **training: object
) -> Config:
    values = {**SMALL, "model": MODELS[model], "data": {**SMALL["data"], "root": str(root)}}
    for section, changes in {"training": training, **(sections or {})}.items():
        values[section] = {**values.get(section, {}), **changes}
    return make_config(values)


def losses(run: Path) -> list[dict[str, str]]:
    with (run / HISTORY).open() as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)
        ]


#: What there is to save beside the model: heads, a table of features, and the identities' mean features,
#: which belong to the weights of an earlier epoch.
STATES = {
    "identities": {"loss": {"identity": 0.5}},
    "oim": {"loss": {"triplet": 0.0, "oim": 1.0}},
    "hard identities": {"loss": {"mining": "hard"}, "batch": {"hard_identities": 3}},
    "layers": {"optimiser": {"layer_decay": 0.8, "new_lr": 1e-2}},
}


@pytest.mark.parametrize(
    ("model", "state"),
    [
        ("horeid", ""),
        ("kpm", ""),
        *(("transformer" if name == "layers" else "horeid", name) for name in STATES),
    ],
)
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(
    tmp_path: Path, root: Path, model: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(root, model, STATES.get(state))
    train(config, tmp_path / "whole")
    # The other run dies in its third epoch, after two that are complete.
    calls = 0
    from kronreid.training import modules

    step = modules.ReIDTraining.training_step

    def dying(self: object, batch: object, batch_idx: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise RuntimeError("the power is gone")
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(modules.ReIDTraining, "training_step", dying)
    with pytest.raises(RuntimeError, match="power"):
        train(config, tmp_path / "cut")
    monkeypatch.setattr(modules.ReIDTraining, "training_step", step)
    assert len(losses(tmp_path / "cut")) == 2
    train(config, tmp_path / "cut", resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    one, other = (kronreid.load(tmp_path / run) for run in ("whole", "cut"))
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


@pytest.mark.parametrize("model", ["horeid", "kpm"])
def test_the_first_iterations_see_smaller_pictures(
    tmp_path: Path, root: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(root, model, iterations=4, evaluate_every=0, early_iterations=3, early_scale=0.625)
    seen: list[tuple[int, ...]] = []
    losses_of = ReIDTraining.sized

    def watched(module: ReIDTraining, pictures: torch.Tensor) -> torch.Tensor:
        result = losses_of(module, pictures)
        seen.append(tuple(result.shape[2:]))
        return result

    monkeypatch.setattr(ReIDTraining, "sized", watched)
    train(config, tmp_path / "whole")
    assert seen == [(40, 20)] * 3 + [(64, 32)]
    assert load(tmp_path / "whole").input.height == 64


def test_hard_identities_are_searched_with_the_weights_as_they_are(tmp_path: Path, root: Path) -> None:
    """The mean features that a finished run has saved are those of its model."""
    sections = {"batch": {"hard_identities": 2}}
    run = train(small(root, sections=sections, average_weights=0.0), tmp_path / "run")
    saved = torch.load(run / CHECKPOINT, weights_only=True)["callbacks"]["HardIdentitySearch"]["means"]
    pictures = read(root).train
    vectors = load(run, folded=False).embed(pictures)
    for row, identity in zip(saved, sorted({picture.identity for picture in pictures}), strict=True):
        mine = [vector for vector, picture in zip(vectors, pictures) if picture.identity == identity]
        mean = np.mean(mine, axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


def test_each_layer_of_the_backbone_has_a_learning_rate(root: Path) -> None:
    sections = {"optimiser": {"lr": 0.1, "new_lr": 0.3, "layer_decay": 0.5, "warmup": 0}}
    module = lightning_module(small(root, "transformer", sections), 6)
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert [group["lr"] for group in groups] == [*(0.1 * 0.5**n for n in range(6, -1, -1)), 0.3]
    network = module.model.backbone.network.model
    assert any(one is network.patch_embed.proj.weight for one in groups[0]["params"])
    assert any(one is network.blocks[5].mlp.fc1.weight for one in groups[6]["params"])
    assert any(one is module.model.reduce.weight for one in groups[7]["params"])
    grouped = [id(one) for group in groups for one in group["params"]]
    assert sorted(grouped) == sorted(map(id, module.parameters()))


class Share:
    """One of two processes: what it hands to the other is kept, and what it gets back is its own."""

    def __init__(self, rank: int) -> None:
        self.global_rank, self.world_size, self.is_global_zero = rank, 2, rank == 0
        self.strategy = self

    def reduce(self, sums: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        self.sums = sums
        return sums


def test_processes_share_the_search(root: Path) -> None:
    config = small(root, sections={"batch": {"hard_identities": 1}})
    data = TrainingData(read(root), config)
    module = lightning_module(config, 6)
    module.model.train()
    search = HardIdentitySearch(data.nearest, data.pictures, config)
    shares = [Share(rank) for rank in (0, 1)]
    for share in shares:
        search.search(share, module)  # type: ignore[arg-type]
    assert module.model.training
    vectors = torch.from_numpy(wrap(module.model, config.input).embed(data.pictures.pictures)).double()
    for number in range(6):
        mine = [vector for vector, label in zip(vectors, data.pictures.labels) if label == number]
        torch.testing.assert_close(
            shares[0].sums[number] + shares[1].sums[number], torch.stack(mine).sum(0), atol=1e-5, rtol=0
        )
        assert shares[0].sums[number].any()
        assert shares[1].sums[number].any()


def test_a_table_follows_the_pictures_of_all_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = lightning_module(small(root, sections={"loss": {"triplet": 0.0, "oim": 1.0}}), 6)
    others = {"labels": torch.tensor([4, 5]), "vectors": torch.eye(32)[:2, :16]}
    monkeypatch.setattr(
        module,
        "gathered",
        lambda own: torch.cat([own, others["vectors" if own.is_floating_point() else "labels"]]),
    )
    vectors = {"global": torch.eye(16)[2:5], "local": torch.eye(16)[2:5]}
    module.vector_losses(vectors, torch.tensor([0, 1, 3]))
    assert set(module.heads) == {"global-oim", "local-oim"}
    for head in module.heads.values():
        assert head.table.any(dim=1).tolist() == [True, True, False, True, True, True]


def test_oim_learns(tmp_path: Path, root: Path) -> None:
    """It can be all there is; the table is with the training, not with the model."""
    sections = {"loss": {"triplet": 0.0, "oim": 1.0}}
    run = train(small(root, sections=sections, iterations=40, epoch=10, evaluate_every=0), tmp_path / "run")
    rows = losses(run)
    assert {name for name in rows[0] if name.startswith("loss/")} == {
        "loss/global-oim",
        "loss/local-oim",
        "loss/regulariser",
    }
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert not [name for name in load_file(run / "model.safetensors") if "table" in name]


def test_nothing_to_learn_from(tmp_path: Path, root: Path) -> None:
    with pytest.raises(InputError, match="give triplet or identity or oim a weight"):
        train(small(root, sections={"loss": {"triplet": 0.0}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_run_folder_opens_and_its_curve_is_complete(tmp_path: Path, root: Path) -> None:
    run = train(small(root), tmp_path / "run")
    assert kronreid.load(run).embed(np.zeros((64, 32, 3), np.uint8)).shape == (1, 32)
    kronreid.load(run / "best")
    rows = losses(run)
    assert [int(row["iteration"]) for row in rows] == [2, 4, 6, 8]
    assert [bool(row["mAP"]) for row in rows] == [False, True, False, True]
    assert int(rows[-1]["pictures"]) == 8 * 12
    assert any((run / "tensorboard").iterdir())
    assert not list(run.glob(".new*"))


@pytest.mark.parametrize("options", [{}, {"match": False, "attention": False}], ids=["matching", "pooled"])
def test_evaluation_while_training_is_what_evaluate_says(
    tmp_path: Path, root: Path, options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the training computes in bf16, which a CPU may only emulate."""
    monkeypatch.setattr("kronreid.training.train.precision_here", lambda precision, accelerator: precision)
    values = {**SMALL, "model": {**MODELS["kpm"], **options}, "data": {"workers": 0, "root": str(root)}}
    training = {**SMALL["training"], "iterations": 4, "precision": "bf16-mixed", "average_weights": 0.0}
    run = train(make_config({**values, "training": training}), tmp_path / "run")
    dataset = read(root)
    model = load(run, folded=False)
    result = evaluate_dataset(model, dataset, protocol=dataset.protocol)
    assert float(losses(run)[-1]["mAP"]) == pytest.approx(result.mAP, abs=1e-9)


def test_every_epoch_has_batches_of_its_own(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    batch = PKBatchSampler.batch

    def recording(self: PKBatchSampler, iteration: int) -> list[tuple[int, int]]:
        drawn.append(iteration)
        return batch(self, iteration)

    monkeypatch.setattr(PKBatchSampler, "batch", recording)
    train(small(root, evaluate_every=0), tmp_path / "run")
    assert drawn == list(range(8))


def test_another_number_of_workers_changes_nothing(tmp_path: Path, root: Path) -> None:
    runs = []
    for workers in (0, 2):
        values = {**SMALL, "model": MODELS["horeid"], "data": {"workers": workers, "root": str(root)}}
        config = make_config(
            {**values, "training": {**SMALL["training"], "iterations": 2, "evaluate_every": 0}}
        )
        runs.append(losses(train(config, tmp_path / str(workers))))
    assert runs[0] == runs[1]


def test_a_running_mean_leaves_whole_numbers_alone() -> None:
    average = mean_of_weights(0.9)._kwargs["avg_fn"]
    bins = torch.arange(512)
    assert torch.equal(average(bins, bins, torch.tensor(5)), bins)
    mean = average(torch.zeros(1), torch.ones(1), torch.tensor(10**6))
    assert mean.item() == pytest.approx(0.1)
    assert average(torch.zeros(1), torch.ones(1), torch.tensor(0)).item() == pytest.approx(0.9)


def test_a_full_folder_is_not_overwritten(tmp_path: Path, root: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(InputError, match="--resume"):
        train(small(root), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_data_that_do_not_fit_leave_nothing_behind(tmp_path: Path, root: Path) -> None:
    values = {
        **SMALL,
        "model": MODELS["horeid"],
        "data": {"root": str(root)},
        "batch": {"identities": 7, "pictures": 2},
    }
    with pytest.raises(InputError, match="6 identities"):
        train(make_config(values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_one_line_whatever_process_reads_it(
    tmp_path: Path, root: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root, tmp_path / "data")
    damaged = sorted((tmp_path / "data" / "bounding_box_train").iterdir())
    for path in damaged:
        path.write_bytes(path.read_bytes()[:300])
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**SMALL, "model": MODELS["horeid"]}))
    paths = [str(tmp_path / name) for name in ("small.yaml", "data", "run")]
    config, data, out = paths
    assert main(["train", config, "--data", data, "--out", out, "--set", f"data.workers={workers}"]) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("kronreid: ")]
    assert line.startswith("kronreid: error: ")
    assert line.removeprefix("kronreid: error: ").partition(": the picture is damaged")[0] in map(
        str, damaged
    )


def test_processes_share_a_batch(root: Path) -> None:
    dataset = read(root)
    data = TrainingData(dataset, small(root))
    whole = data.sampler(0, 1).batch(5)
    shares = [data.sampler(rank, 2).batch(5) for rank in (0, 1)]
    people = [[dataset.train[index].identity for index, _ in batch] for batch in (whole, *shares)]
    assert people[1] + people[2] == people[0]
    assert not set(people[1]) & set(people[2])


def command(root: Path, out: Path, *changes: str) -> list[str]:
    config = out.parent / f"{out.name}.yaml"
    config.write_text(yaml.safe_dump({**SMALL, "model": MODELS["horeid"]}))
    start = [sys.executable, "-m", "kronreid", "train", str(config)]
    return [*start, "--data", str(root), "--out", str(out), "--set", *changes]


def test_control_c_leaves_a_run_that_can_be_resumed(tmp_path: Path, root: Path, running: Running) -> None:
    """Training is the first thing that the process imports.

    Lightning imports torchvision by a way of its own: the guard must be there before.
    """
    out = tmp_path / "run"
    changes = ("training.iterations=4000", "training.evaluate_every=0")
    first = (
        "import sys, kronreid; kronreid.train; from kronreid.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    python, _, _, *words = command(root, out, *changes)
    with running([python, "-c", first, *words], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (out / CHECKPOINT).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "stopped" in said
    done = len(losses(out))
    config = make_config(yaml.safe_load((out / "config.yaml").read_text()))
    more = make_config(
        {
            **yaml.safe_load((out / "config.yaml").read_text()),
            "training": {**SMALL["training"], "iterations": 2 * (done + 1)},
        }
    )
    assert config.training.iterations == 4000
    train(more, out, resume=True)
    assert len(losses(out)) == done + 1


def test_two_processes_train_one_model(tmp_path: Path, root: Path, running: Running) -> None:
    """The losses of two processes' shares differ from one process's only by BatchNorm's smaller batches.

    So it is with batches of identities that look alike, and with a table of features.
    """
    out = tmp_path / "run"
    sections = {"batch": {"hard_identities": 1}, "loss": {"oim": 0.02}}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PL_", "LOCAL_"))}
    changes = ("training.devices=2", "batch.hard_identities=1", "loss.oim=0.02")
    with running(command(root, out, *changes), env=environment, stderr=subprocess.PIPE, text=True) as process:
        _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    rows = losses(out)
    assert len(rows) == 4
    train(small(root, sections=sections), tmp_path / "single")
    single = losses(tmp_path / "single")
    assert rows[0]["pictures"] == single[0]["pictures"]
    assert float(rows[-1]["loss"]) == pytest.approx(float(single[-1]["loss"]), abs=0.1)
    kronreid.load(out)


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("horeid", {"protocol": "marke1501"}, "'marke1501' is unknown"),
        ("kpm", {"protocol": "cuhk03-classic"}, "data.protocol: cuhk03-classic"),
        ("kpm", {"protocol": "market1501-multi-query"}, "data.protocol: market1501-multi-query"),
    ],
)
def test_what_would_stop_the_first_evaluation_is_said_at_once(
    tmp_path: Path, root: Path, model: str, data: dict, said: str
) -> None:
    sections = {"data": {**SMALL["data"], "root": str(root), **data}}
    with pytest.raises(InputError, match=re.escape(said)):
        train(small(root, model, sections), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(small(root, model, sections, evaluate_every=0, iterations=2), tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named(tmp_path: Path, root: Path) -> None:
    with pytest.raises(InputError, match=r"training\.accelerator gpu"):
        train(small(root, accelerator="gpu"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mistake_in_the_model_names_the_config(tmp_path: Path, root: Path) -> None:
    config = small(root)
    config.model["ordr"] = 2
    with pytest.raises(InputError, match=r"row\.yaml: model horeid: .*ordr"):
        train(config, tmp_path / "run", source=tmp_path / "row.yaml")
