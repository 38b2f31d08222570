"""``kronreid demo``: the whole job on generated pedestrians."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command
from kronreid.extras import require

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Its options."""
    sub = add_command(
        commands, "demo", run, "The whole job on generated pedestrians, with a report at the end."
    )
    sub.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder of the report (demo)"
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.demo`."""
    require(options.prog, "train", "gallery", "figures")
    from kronreid.demo import run as demo

    print(f"report: {demo(options.out)}")
