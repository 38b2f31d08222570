"""``kronreid fit-places``: places for an embedder that is trained already."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, add_layout, add_set, add_split
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Its options."""
    sub = add_command(
        commands,
        "fit-places",
        run,
        "Fit the places of a trained embedder, with which it re-ranks and explains.",
    )
    sub.add_argument(
        "run_folder", type=Path, metavar="RUN", help="the embedder's folder, where they are kept"
    )
    sub.add_argument("--data", required=True, metavar="ROOT", help="a data set with training pictures")
    add_layout(sub)
    add_split(sub)
    add_set(sub, "change how they are fitted, like places.numbers=32")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.training.train.fit_run`."""
    from kronreid.data.readers import read
    from kronreid.errors import InputError
    from kronreid.models.storage import CONFIG
    from kronreid.training.config import read_place_options
    from kronreid.training.train import fit_run

    folder = options.run_folder
    if not (folder / CONFIG).is_file():
        raise InputError(folder, f"no {CONFIG}; the folder of a trained embedder is needed")
    places = read_place_options(folder, options.set)
    dataset = read(options.data, options.layout, options.split)
    fitted = fit_run(folder, dataset, places)
    say(f"{folder}: places of {fitted.bytes_per_picture:,} bytes a picture")
