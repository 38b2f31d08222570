"""``kronreid crop``: cut people out of full frames."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_categories, add_command
from kronreid.errors import InputError
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(
        commands,
        "crop",
        run,
        "Cut people out of full frames, by the boxes of MOT, COCO or a list; resumable.",
    )
    sub.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="SOURCE",
        help="a folder of MOT sequences (gt/gt.txt beside img1/), a gt.txt or det.txt of one, a COCO .json, "
        "or a CSV or Parquet list",
    )
    sub.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="gets <person>/<camera>_<frame>_<hash>.jpg, and crops.csv, which describes each file",
    )
    add_categories(sub)
    sub.add_argument(
        "--min-height", type=int, default=0, metavar="PIXELS", help="leave out smaller boxes (0)"
    )
    sub.add_argument(
        "--min-visibility",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="leave out people of whom less is visible, as MOT says, 0 to 1 (0)",
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.data.crops`."""
    from kronreid.data.crops import cut_out, find_boxes, find_sources
    from kronreid.data.lists import counted

    if not 0 <= options.min_visibility <= 1:
        raise InputError(f"--min-visibility {options.min_visibility}", "a number from 0 to 1 expected")
    if options.min_height < 0:
        raise InputError(f"--min-height {options.min_height}", "a number of 0 or more expected")
    sources = find_sources(options.sources)
    boxes = find_boxes(sources, options.min_height, options.min_visibility, options.category)
    report = cut_out(boxes.rows, options.out)
    failed = Counter(report.failed)
    _tell("skipped", boxes.skipped)
    _tell("failed", [f"{why} ({times} boxes)" if times > 1 else why for why, times in failed.most_common()])
    if boxes.left_out:
        say(f"  left out: {counted(boxes.left_out)}")
    say(
        f"{report.written:,} written, {report.existing:,} were there, {len(report.failed):,} failed, "
        f"{len(boxes.skipped):,} skipped: {options.out}, {report.people:,} people"
    )
    if not report.written and not report.existing:
        raise InputError(options.sources[0], f"none of the {len(boxes.rows):,} boxes could be cut out")


def _tell(what: str, lines: Sequence[str], count: int = 5) -> None:
    """Print the first of many problems."""
    for line in lines[:count]:
        say(f"  {what}: {line}")
    if len(lines) > count:
        say(f"  {what}: {len(lines) - count:,} more")
