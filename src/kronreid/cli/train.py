"""``kronreid train``: train a model from a config."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_changes, add_command, add_layout
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "train", run, "Train a model.")
    sub.add_argument("config", metavar="ROW|CONFIG", help="a row (kronreid papers --rows) or a YAML file")
    sub.add_argument("--data", metavar="ROOT", help="the data set's folder, instead of the config's")
    add_layout(sub)
    sub.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (runs/<name of the row>)")
    sub.add_argument("--resume", action="store_true", help="go on where an interrupted run in --out stopped")
    add_changes(sub)


def run(options: argparse.Namespace) -> None:
    """See `kronreid.training.train`."""
    from kronreid.training.config import read_config
    from kronreid.training.train import train

    named = {"data.root": options.data, "data.layout": options.layout}
    changes = [f"{key}={json.dumps(value)}" for key, value in named.items() if value]
    config = read_config(options.config, [*options.set, *changes])
    out = options.out or Path("runs") / Path(options.config).name.removesuffix(".yaml")
    say(f"run: {train(config, out, options.resume, options.config)}")
