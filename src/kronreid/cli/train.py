"""``kronreid train``: train a model from a config."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_changes, add_command, add_layout, add_split_or_all
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "train", run, "Train a model.")
    sub.add_argument("config", metavar="ROW|CONFIG", help="a row (kronreid papers --rows) or a YAML file")
    sub.add_argument("--data", metavar="ROOT", help="the data set's folder, instead of the config's")
    add_layout(sub)
    add_split_or_all(sub, "which of CUHK03's splits, or all: one run for each, and their mean (the config's)")
    sub.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (runs/<name of the row>)")
    sub.add_argument("--resume", action="store_true", help="go on where an interrupted run in --out stopped")
    add_changes(sub)


def run(options: argparse.Namespace) -> None:
    """See `kronreid.training.train`."""
    from kronreid.training.config import read_config
    from kronreid.training.train import train

    named = {"data.root": options.data, "data.layout": options.layout}
    changes = [f"{key}={json.dumps(value)}" for key, value in named.items() if value]
    out = options.out or Path("runs") / Path(options.config).name.removesuffix(".yaml")

    def train_on(split: int | None, folder: Path) -> Path:
        chosen = [] if split is None else [f"data.split={split}"]
        config = read_config(options.config, [*options.set, *changes, *chosen])
        return train(config, folder, options.resume, options.config)

    if options.split != "all":
        say(f"run: {train_on(options.split, out)}")
        return
    from kronreid.data.readers import count_splits
    from kronreid.evaluation.report import aligned
    from kronreid.evaluation.splits import split_folder, summary, summary_lines
    from kronreid.models.folders import HISTORY
    from kronreid.training.data import read_dataset
    from kronreid.training.history import read_history

    config = read_config(options.config, [*options.set, *changes, "data.split=0"])
    splits = range(count_splits(read_dataset(config.data)))
    runs = [train_on(split, split_folder(out, split)) for split in splits]
    say(f"runs: {out} with {len(runs)} splits")
    evaluated = [[line for line in read_history(run / HISTORY) if "mAP" in line] for run in runs]
    if all(evaluated):
        say(*aligned(summary_lines(summary([lines[-1] for lines in evaluated]))))
