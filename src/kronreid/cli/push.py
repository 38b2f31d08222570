"""``kronreid push``: a model onto the Hugging Face hub."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(
        commands,
        "push",
        run,
        "Upload a model with its places, calibration and card to the Hugging Face hub. The token is that of "
        "HF_TOKEN in the environment.",
    )
    sub.add_argument("run_folder", type=Path, metavar="RUN", help="the model's folder")
    sub.add_argument("name", metavar="NAME", help="its name on the hub, like org/name; created if missing")
    sub.add_argument("--private", action="store_true", help="only people whom you allow may see it")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.models.hub.push`."""
    from kronreid.models.hub import push

    say(f"{options.name}: {push(options.run_folder, options.name, options.private)}")
