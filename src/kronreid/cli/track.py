"""``kronreid track``: follow the people in videos and in front of cameras."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronreid.cli.options import (
    add_blur,
    add_command,
    add_gallery,
    add_login,
    add_set,
    check_shown,
    load_model,
    login,
)
from kronreid.errors import InputError
from kronreid.extras import require
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cameras.pipeline import Report, Summary
    from kronreid.cli.options import Commands
    from kronreid.gallery import Gallery

#: With --group, tracklets are grouped this often, in seconds, and at the end.
_GROUP_SECONDS = 60.0


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(
        commands, "track", run, "Follow the people in videos and in front of cameras; resumable."
    )
    sub.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="video files, folders of frames, MOT sequences, streams (rtsp://, http://) and webcams",
    )
    sub.add_argument("--model", required=True, metavar="MODEL", help="the embedder")
    add_gallery(sub)
    add_login(sub)
    sub.add_argument(
        "--detector",
        default="motion",
        metavar="D",
        help="motion, an .onnx file, org/name of the hub, or module:function (motion)",
    )
    add_set(sub, "options of the detector, see docs/cameras.md")
    sub.add_argument(
        "--camera",
        nargs="+",
        metavar="NAME",
        help="the camera of all sources, or of each (from the source's name)",
    )
    sub.add_argument(
        "--start",
        nargs="+",
        metavar="TIME",
        help="when the first frame was taken, of all sources or of each (from the file or its name)",
    )
    sub.add_argument("--rate", type=float, metavar="N", help="look at so many frames per second (all)")
    sub.add_argument(
        "--min-seconds", type=float, default=1.0, metavar="S", help="leave out shorter tracks (1)"
    )
    sub.add_argument("--crops", type=Path, metavar="DIR", help="where pictures are kept (GALLERY.crops)")
    sub.add_argument(
        "--save-video",
        type=Path,
        metavar="DIR",
        help="write a video of each source with boxes and identities",
    )
    add_blur(sub, "people in saved videos", "tracklets")
    sub.add_argument(
        "--group", action="store_true", help="join the tracklets of one person, now and then and at the end"
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.cameras.pipeline.follow`."""
    require("kronreid track", "video", "gallery")
    from kronreid.cameras.detectors import named
    from kronreid.cameras.drawing import Blur
    from kronreid.cameras.pipeline import Options, follow
    from kronreid.cameras.sources import open_source
    from kronreid.data.values import pairs
    from kronreid.gallery import Gallery
    from kronreid.gallery.crops import crops_folder
    from kronreid.memory import return_memory

    return_memory()
    _check(options)
    crops = options.crops or crops_folder(options.gallery)
    if crops is None:
        raise InputError("--crops", f"names the folder for pictures, which {options.gallery} needs")
    cameras = _for_each(options.camera, options.sources, "--camera")
    starts = _for_each(options.start, options.sources, "--start")
    settings = pairs(options.set, "--set")
    sources = [
        (open_source(source, camera, start, options.rate), named(options.detector, **settings))
        for source, camera, start in zip(options.sources, cameras, starts)
    ]
    wanted = Options(
        crops,
        options.min_seconds,
        {"detector": options.detector, "options": settings, "rate": options.rate},
        options.save_video,
        Blur(options.blur, tuple(options.show)),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service is stopped like a command
    with Gallery(options.gallery, load_model(options.model, "--model"), **login(options)) as gallery:
        grouping = _Grouping(gallery) if options.group else None
        report = follow(gallery, sources, wanted, grouping.if_due if grouping else None)
        _tell(report, options)
        if grouping is not None:
            grouping.at_the_end()
    failed = [summary.error for summary in report.sources if summary.error is not None]
    if len(failed) == len(report.sources):
        raise failed[0]
    for error in failed:
        say(f"kronreid: {error}", file=sys.stderr)
    if report.stopped:
        raise KeyboardInterrupt


def _check(options: argparse.Namespace) -> None:
    """
    Raises:
        InputError: Options do not belong together, or a value is impossible.
    """
    if not 0 <= options.min_seconds < float("inf"):
        raise InputError(f"--min-seconds {options.min_seconds}", "a number of 0 or more expected")
    if options.save_video is None and options.blur != "nobody":
        raise InputError("--blur", "is about the videos of --save-video")
    check_shown(options)


def _for_each(values: Sequence[str] | None, sources: Sequence[str], option: str) -> list[Any]:
    """One value for each source, of one for all or one for each."""
    if values is None or len(values) == 1:
        return [values[0] if values else None] * len(sources)
    if len(values) != len(sources):
        raise InputError(
            option, f"{len(values)} values for {len(sources)} sources; give one, or one for each"
        )
    return list(values)


class _Grouping:
    """Groups tracklets from time to time."""

    def __init__(self, gallery: "Gallery") -> None:
        self._gallery, self._last = gallery, time.monotonic()

    def if_due(self) -> None:
        """Group, if it has not been done for a while."""
        if time.monotonic() - self._last >= _GROUP_SECONDS:
            self._group()

    def at_the_end(self) -> None:
        """Group, and say how many people there are."""
        from kronreid.cli.people import report_on

        report_on(self._group())

    def _group(self) -> Any:
        from kronreid.gallery.people import group

        report = group(self._gallery, automatic=True)
        self._last = time.monotonic()
        return report


def _tell(report: "Report", options: argparse.Namespace) -> None:
    for summary in report.sources:
        say(_line(summary))
    frames = sum(summary.frames for summary in report.sources)
    tracklets = sum(summary.tracklets for summary in report.sources)
    say(
        f"{tracklets:,} tracklets of {frames:,} frames in {report.seconds:.1f} s, "
        f"{report.frames_per_second:.1f} frames/s; in {options.gallery}"
    )
    if frames:
        say("computing: " + ", ".join(f"{name} {share:.0%}" for name, share in report.shares.items()))


def _line(summary: "Summary") -> str:
    """What following one source did, in one line."""
    if summary.already:
        return f"{summary.name}: was followed to its end before; remove {summary.already} to follow it again"
    counts = {
        "frames": summary.frames,
        "tracklets": summary.tracklets,
        "too short": summary.short,
        "frames dropped": summary.dropped,
        "frames damaged": summary.damaged,
        "times reconnected": summary.reconnected,
    }
    told = [f"{count:,} {name}" for name, count in counts.items() if count or name in ("frames", "tracklets")]
    return f"{summary.name} ({summary.camera}): {', '.join(told)}"
