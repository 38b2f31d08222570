"""``kronreid summary``: a model's parameters, multiply-adds and layers."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_changes, add_command, to_json, write
from kronreid.errors import InputError
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "summary", run, "Parameters, multiply-adds and layers of a model.")
    sub.add_argument("model", metavar="ROW|CONFIG|MODEL", help="a row, a config file or a model folder")
    add_changes(sub)
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the figures")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.models.summary`."""
    from dataclasses import asdict

    from kronreid.models.places import load_places
    from kronreid.models.storage import load_folder
    from kronreid.models.summary import summarise
    from kronreid.training.config import build_model, read_config

    path, places = Path(options.model), None
    if path.is_dir():
        if options.set:
            raise InputError("--set", f"{path} is a model folder, whose options cannot change; name a config")
        model, size, fingerprint = load_folder(path)
        places = load_places(path, fingerprint)
    else:
        config = read_config(options.model, [*options.set, "model.backbone.weights=none"])
        model, size = build_model(config, options.model), config.input
    summary = summarise(model, size)
    if options.json:
        kept = {
            "places": None if places is None else places.places,
            "bytes_per_picture": None if places is None else places.bytes_per_picture,
        }
        write(options.json, to_json(asdict(summary) | kept), "--json")
    say(f"{'part':12} {'parameters':>12} {'multiply-adds':>15}  layers")
    for part in summary.parts:
        layers = ", ".join(f"{number} {kind}" for kind, number in part.layers.items())
        say(f"{part.name:12} {part.parameters:12,} {part.multiply_adds:15,}  {layers}")
    say(
        f"{'total':12} {summary.parameters:12,} {summary.multiply_adds:15,}  "
        f"for one {size.height} × {size.width} picture{' and its mirror image' if size.mirror else ''}"
    )
    say(f"{'with count sketches as dense matrices':25} {summary.parameters_with_sketches:,}")
    if places is not None:
        levels = ", ".join(f"{count} of {name}" for count, name in zip(places.places, places.options.levels))
        say(f"places: {levels}; {places.bytes_per_picture:,} bytes a picture in {places.options.precision}")
