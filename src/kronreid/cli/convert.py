"""``kronreid convert``: a checkpoint of another project as a model folder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, positive
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(
        commands,
        "convert",
        run,
        "Write an OSNet or ResNet checkpoint of torchreid or fast-reid as a model folder.",
    )
    sub.add_argument("file", type=Path, metavar="FILE", help="the checkpoint, like osnet_x1_0_msmt17.pth")
    sub.add_argument("out", type=Path, metavar="OUT", help="the model's folder, which must not exist yet")
    sub.add_argument("--height", type=positive, default=256, metavar="PIXELS", help="of the input (256)")
    sub.add_argument("--width", type=positive, default=128, metavar="PIXELS", help="of the input (128)")
    sub.add_argument(
        "--last-stride",
        type=int,
        choices=[1, 2],
        help="of a ResNet's last stage (2 for torchreid's plain ResNets, otherwise 1)",
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.models.convert.convert`."""
    from kronreid.models.convert import convert
    from kronreid.models.weights import not_used

    made = convert(options.file, options.out, options.height, options.width, options.last_stride)
    fitted = f"{made.tensors} tensors fitted{not_used(made.unused)}"
    say(f"{options.out}  {made.backbone} of {made.project}, {fitted}")
