"""Config files: bases, changes, and what is said about mistakes."""

from pathlib import Path

import pytest
import yaml

from kronreid.errors import InputError
from kronreid.training.config import read_config, to_yaml


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_row_differs_from_its_base_only_in_what_it_says(tmp_path: Path) -> None:
    write(tmp_path / "full.yaml", "model: {name: horeid, order: 3}\nbatch: {identities: 8, pictures: 4}\n")
    row = write(tmp_path / "row.yaml", "base: full.yaml\nmodel: {order: 2}\n")
    config = read_config(row)
    assert config.model == {"name": "horeid", "order": 2}
    assert (config.batch.identities, config.batch.pictures) == (8, 4)


def test_changes_win_over_files_and_keep_their_types(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "model: {name: pooled}\n")
    config = read_config(
        path, ["optimiser.lr=0.5", "model.backbone.name=resnet18", "training.precision=bf16-mixed"]
    )
    assert config.optimiser.lr == 0.5
    assert config.arguments == {"backbone": {"name": "resnet18"}}
    assert config.training.precision == "bf16-mixed"


def test_what_a_run_keeps_reads_back_the_same(tmp_path: Path) -> None:
    config = read_config(write(tmp_path / "a.yaml", "model: {name: kpm}\ninput: {height: 64, width: 32}\n"))
    assert read_config(write(tmp_path / "b.yaml", to_yaml(config))) == config


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        ("model: {name: horeid}\nbatsch: {identities: 8}\n", [], "batsch is unknown; did you mean batch?"),
        (
            "model: {name: horeid}\nbatch: {identitys: 8}\n",
            [],
            "batch.identitys is unknown; did you mean identities?",
        ),
        ("model: {name: horeid}\nbatch: {identities: many}\n", [], "identities"),
        ("model: {name: horeid}\nloss: {average: some}\n", [], "average"),
        ("model: {name: horeid}\nbatch:\n", [], "config.yaml: batch has no value; leave it out"),
        ("model: {name: horeid}\ndata: 3\n", [], "config.yaml: data: 3 must be a mapping of options by name"),
        ("model: {name: horeid}\nnobody:\n", [], "nobody"),
        ("model:\n", [], "'model' needs a name"),
        ("model: {name: horeid}\nbatch: {identities: null}\n", [], "batch.identities has no value"),
        ("model: {name: horeid}\nbatch: {hard_identities: -1}\n", [], "hard_identities"),
        ("model: {name: horeid}\nloss: {oim_temperature: 0}\n", [], "oim_temperature"),
        ("model: {name: horeid}\n", ["optimiser.lr=-1"], "optimiser.lr -1: at least 0 expected"),
        ("model: {name: horeid}\n", ["optimiser.lr=.nan"], "optimiser.lr nan"),
        ("model: {name: horeid}\n", ["optimiser.decay_iterations=0"], "decay_iterations 0: at least 1"),
        ("model: {name: horeid}\n", ["augment.erase=2"], "augment.erase 2: at most 1 expected"),
        ("model: {name: horeid}\n", ["augment.crop_area=[1.0, 0.5]"], "the smaller value first"),
        ("model: {name: kpm}\n", ["batch.negatives=0"], "batch.negatives 0: at least 1 expected"),
        ("model: {order: 3}\n", [], "name"),
        ("model: {name: horeid}\n", ["training.iterations"], "section.key=value"),
        ("model: {name: horeid}\n", ["training.iterations=150"], "multiple"),
        ("model: {name: horeid}\n", ["training.early_scale=0.1"], "early_scale 0.1: 26 × 13 is too small"),
        (
            "model: {name: horeid}\n",
            ["training.seed.deep=1", "training.seed=2", "training.seed.deep=1"],
            "seed",
        ),
        ("- a\n- b\n", [], "mapping"),
        ("a: [\n", [], "YAML"),
        ("base: config.yaml\n", [], "itself"),
        ("base: nowhere.yaml\n", [], "nowhere.yaml"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, text: str, changes: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_config(write(tmp_path / "config.yaml", text), changes)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message


def test_every_option_is_in_what_a_run_keeps(tmp_path: Path) -> None:
    values = yaml.safe_load(to_yaml(read_config(write(tmp_path / "a.yaml", "model: {name: pooled}\n"))))
    sections = {"model", "input", "augment", "data", "batch", "loss", "optimiser", "training", "places"}
    assert set(values) == sections
