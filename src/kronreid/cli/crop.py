"""``kronreid crop``: people out of full frames."""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command
from kronreid.errors import InputError

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Its options."""
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
        help="a folder of MOT sequences (gt/gt.txt beside img1/), a COCO .json, or a CSV or Parquet list",
    )
    sub.add_argument("--out", required=True, type=Path, metavar="DIR", help="<identity>/<camera>_<frame>.jpg")
    sub.add_argument(
        "--min-height", type=int, default=0, metavar="PIXELS", help="leave out smaller boxes (0)"
    )
    sub.add_argument(
        "--min-visibility",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="leave out people of whom MOT says that less is visible, 0 to 1 (0)",
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.data.crops`."""
    from kronreid.data.crops import find_sources, plan, write

    if not 0 <= options.min_visibility <= 1:
        raise InputError(f"--min-visibility {options.min_visibility}: 0 to 1 expected")
    cuts = plan(find_sources(options.sources), options.min_height, options.min_visibility)
    if not cuts:
        raise InputError(f"{options.sources[0]}: no boxes of people to cut out, or all were left out")
    report = write(cuts, options.out)
    for reason, times in Counter(report.failed).most_common(5):
        print(f"  {reason}" + (f" ({times} boxes)" if times > 1 else ""))
    people = len({cut.name.partition("/")[0] for cut in cuts if "/" in cut.name})
    print(
        f"{report.written:,} written, {report.existing:,} were there, {len(report.failed):,} failed: "
        f"{options.out}, {people:,} people"
    )
    if not report.written and not report.existing:
        raise InputError(f"{options.sources[0]}: none of the {len(cuts):,} boxes could be cut out")
