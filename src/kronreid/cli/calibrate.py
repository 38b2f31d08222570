"""``kronreid calibrate``: which score means the same person."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import (
    add_command,
    add_layout,
    add_split,
    folder_must_exist,
    load_model,
    positive,
    to_json,
    write,
)
from kronreid.errors import InputError
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Its options."""
    sub = add_command(
        commands,
        "calibrate",
        run,
        "Measure which scores mean the same person, and keep that in the model's folder.",
    )
    sub.add_argument("model", type=Path, metavar="MODEL", help="an embedder's or a pair model's folder")
    sub.add_argument(
        "--data", required=True, metavar="ROOT", help="a data set of people that it was not trained on"
    )
    add_layout(sub)
    add_split(sub)
    sub.add_argument(
        "--protocol",
        metavar="NAME",
        help="which pictures are compared, see docs/protocols.md (the layout's own)",
    )
    sub.add_argument(
        "--same-share",
        type=float,
        default=0.5,
        metavar="S",
        help="the share of the pairs you compare that show one person, for which probabilities hold (0.5)",
    )
    sub.add_argument("--batch-size", type=positive, default=64, help="pictures per pass (64)")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.evaluation.calibration.calibrate`."""
    from dataclasses import asdict

    from kronreid.data.readers import read
    from kronreid.evaluation.calibration import calibrate
    from kronreid.evaluation.report import calibration_table
    from kronreid.models.calibration import save_calibration
    from kronreid.models.card import write_card
    from kronreid.models.places import places_fingerprint

    if options.json:
        folder_must_exist(options.json, "--json")
    if not 0 < options.same_share < 1:
        raise InputError(f"--same-share {options.same_share:g}", "a number between 0 and 1 expected")
    dataset = read(options.data, options.layout, options.split)
    model = load_model(str(options.model), "MODEL")
    if not options.model.is_dir():
        raise InputError(options.model, "is no folder; a calibration is kept in a model's folder")
    calibration = calibrate(
        model,
        dataset,
        protocol=options.protocol,
        same_share=options.same_share,
        batch_size=options.batch_size,
        progress=True,
    )
    save_calibration(options.model, calibration, model.fingerprint, places_fingerprint(options.model))
    write_card(options.model)
    if options.json:
        write(options.json, to_json(asdict(calibration)), "--json")
    say(*calibration_table(calibration).splitlines())
