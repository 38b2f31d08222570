"""``kronreid train``: a model from a config."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Its options."""
    sub = add_command(commands, "train", run, "Train a model.")
    sub.add_argument("config", metavar="ROW|CONFIG", help="a row (kronreid papers --rows) or a YAML file")
    sub.add_argument("--data", metavar="ROOT", help="the data set's folder, instead of the config's")
    sub.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (runs/<name of the row>)")
    sub.add_argument("--resume", action="store_true", help="go on where an interrupted run in --out stopped")
    changes = "change options, like training.iterations=200"
    sub.add_argument("--set", nargs="+", action="extend", default=[], metavar="key=value", help=changes)


def run(options: argparse.Namespace) -> None:
    """See `kronreid.training.train`."""
    from kronreid.training.config import read_config
    from kronreid.training.train import train

    changes = [*options.set, *([f"data.root={json.dumps(options.data)}"] if options.data else [])]
    config = read_config(options.config, changes)
    out = options.out or Path("runs") / Path(options.config).name.removesuffix(".yaml")
    print(f"run: {train(config, out, options.resume, options.config)}")
