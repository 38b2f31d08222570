"""``kronreid crop``: cut people out of full frames, by the boxes of a list or a detector."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_categories, add_command, add_set
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
        "Cut people out of full frames, by the boxes of MOT, COCO or a list, or out of videos by a detector; "
        "resumable.",
    )
    sub.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a folder of MOT sequences (gt/gt.txt beside img1/), a gt.txt or det.txt of one, a COCO .json, "
        "or a CSV or Parquet list; with --detector a video, a folder of frames, a MOT sequence, an address "
        "(rtsp://, http://) or a webcam (/dev/video0)",
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
    frames = sub.add_argument_group("videos and frames")
    frames.add_argument(
        "--detector",
        metavar="NAME",
        help="what finds the people: motion, an .onnx file, org/name of the hub, or module:function",
    )
    add_set(frames, "options of the detector, like threshold=0.6")
    frames.add_argument("--camera", metavar="NAME", help="the camera's name (from the source's name)")
    frames.add_argument(
        "--start", metavar="TIME", help="when the first frame was taken, like 2026-03-01T12:00 (detected)"
    )
    frames.add_argument("--rate", type=float, metavar="FPS", help="frames per second to search (all of them)")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.data.crops` and `kronreid.cameras.cropping`."""
    if not 0 <= options.min_visibility <= 1:
        raise InputError(f"--min-visibility {options.min_visibility}", "a number from 0 to 1 expected")
    if options.min_height < 0:
        raise InputError(f"--min-height {options.min_height}", "a number of 0 or more expected")
    if options.detector is None:
        _must_not_have(
            options, ("set", "camera", "start", "rate"), "is for videos and frames; it needs --detector"
        )
        _crop_lists(options)
    else:
        _must_not_have(options, ("category", "min_visibility"), "is for lists of boxes; leave out --detector")
        _crop_frames(options)


def _must_not_have(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    for name in names:
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')}", why)


def _crop_frames(options: argparse.Namespace) -> None:
    """Crop what a detector finds in videos and frames."""
    from kronreid.cameras.cropping import crop_frames
    from kronreid.cameras.detectors import named
    from kronreid.cameras.sources import open_source
    from kronreid.data.values import pairs

    values = pairs(options.set, "--set")
    detectors = [named(options.detector, **values) for _ in options.sources]
    sources = [open_source(text, options.camera, options.start, options.rate) for text in options.sources]
    report = crop_frames(list(zip(sources, detectors)), options.out, options.min_height)
    _tell("failed", report.failed)
    say(
        f"{report.written:,} written, {report.existing:,} were there: {options.out}; "
        f"{report.frames:,} frames, {report.damaged:,} damaged, {report.dropped:,} dropped"
    )
    if report.failed and not report.written and not report.existing:
        raise InputError("", report.failed[0])


def _crop_lists(options: argparse.Namespace) -> None:
    """Crop the boxes of lists."""
    from kronreid.data.crops import cut_out, find_boxes, find_sources
    from kronreid.data.lists import counted

    sources = find_sources(map(Path, options.sources))
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
