"""``kronreid demo``: train, evaluate, search, explain and follow people on generated pedestrians."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command
from kronreid.extras import require
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(
        commands,
        "demo",
        run,
        "Train, evaluate, search, explain and follow people on generated pictures and videos, with a report.",
    )
    sub.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder of the report (demo)"
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.demo`."""
    require(options.prog, "train", "gallery", "figures", "video")
    from kronreid.demo import run as demo

    say(f"report: {demo(options.out)}")
