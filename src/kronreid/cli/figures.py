"""``kronreid figures``: draw the papers' figures of what trained models see."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, add_layout
from kronreid.errors import InputError
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "figures", run, "Draw the papers' figures of what trained models see.")
    sub.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="model folders, HOReID's or KPM's")
    sub.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the PNG and SVG files"
    )
    sub.add_argument(
        "--pictures",
        nargs="+",
        metavar="PICTURE",
        help="pairs of pictures: the first two show one person, the next two another, and so on",
    )
    sub.add_argument("--data", metavar="ROOT", help="a data set from which three pairs are taken instead")
    add_layout(sub)
    sub.add_argument(
        "--keypoints",
        type=Path,
        metavar="FILE",
        help="the pictures' landmarks, for HOReID's Fig. 5: a COCO keypoint file, or OpenPose's JSON (a "
        "file or a folder)",
    )
    sub.add_argument(
        "--place",
        nargs="+",
        type=point,
        metavar="X,Y",
        help="places of the first pictures whose matching is shown, as fractions (0.5,0.25 0.5,0.5 0.5,0.8)",
    )


def point(text: str) -> tuple[float, float]:
    """``0.5,0.25`` as two numbers."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: X,Y is expected, like 0.5,0.25") from None
    if not (0 <= x < 1 and 0 <= y < 1):
        raise argparse.ArgumentTypeError(f"{text!r}: both must be at least 0 and below 1")
    return x, y


def run(options: argparse.Namespace) -> None:
    """See `kronreid.explain.figures_runs.draw_figures`."""
    from kronreid.data.readers import read
    from kronreid.explain.figures_runs import BODY, NUMBERS, draw_figures, pairs_of

    if (options.pictures is None) == (options.data is None):
        raise InputError("--pictures or --data", "one of the two must say which pictures the figures show")
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out {options.out}", "is a file; a folder is needed")
    pictures = options.pictures or pairs_of(read(options.data, options.layout))
    for drawn in draw_figures(options.runs, pictures, options.out, options.place or BODY, options.keypoints):
        say(f"{options.out / drawn.name}.png and .svg", f"  {drawn.shows}", f"  {drawn.finding}")
    say(options.out / NUMBERS)
