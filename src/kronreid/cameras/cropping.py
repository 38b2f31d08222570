"""Cropping people from videos and frames: what a detector finds becomes files in the layout ``folders``."""

import logging
import re
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from kronreid.cameras.detectors import Detector
from kronreid.cameras.frames import Frame, Source
from kronreid.data.crops import QUALITY
from kronreid.data.files import written_whole
from kronreid.data.lists import Row
from kronreid.data.manifest import Manifest
from kronreid.errors import InputError
from kronreid.locks import alone

log = logging.getLogger(__name__)

#: So many crops are listed in the manifest at once, before they are written.
TOGETHER = 500


@dataclass
class FramesReport:
    """The result of cropping videos and frames.

    Attributes:
        written: Number of files written now.
        existing: Number of files that existed before.
        frames: Number of frames that were searched.
        damaged: Number of frames that could not be decoded.
        dropped: Number of frames that a live source dropped.
        failed: Sources that could not be read to their end, with the reason.
    """

    written: int = 0
    existing: int = 0
    frames: int = 0
    damaged: int = 0
    dropped: int = 0
    failed: list[str] = field(default_factory=list)


def crop_frames(
    sources: Sequence[tuple[Source, Detector]], out: Path, min_height: int = 0, progress: bool = True
) -> FramesReport:
    """Crop the people whom detectors find. It can be interrupted and run again.

    A crop's name follows from its source, the number of its frame (the time, if the source is live) and its
    box. A later run over the same file therefore writes nothing twice.

    Args:
        sources: The sources, each with its own detector. They are read one after the other.
        out: The output folder; it is created if it is missing.
        min_height: Minimum height of a person in pixels.
        progress: Show a progress bar on a terminal.

    Returns:
        The counts. A source that fails is listed there and does not stop the others.

    Raises:
        InputError: A file cannot be written, the folder holds other pictures, or another process is writing
            to it.
    """
    report = FramesReport()
    with alone(out, "another process is writing crops to this folder; wait until it is done"):
        writer = _Writer(out, report)
        for source, detector in sources:
            with closing(source), closing(_watched(source, report, progress)) as frames:
                try:
                    for frame in frames:
                        writer.add(_people(source, frame, detector, min_height))
                finally:  # also after Ctrl-C: the frames of a live source do not come again
                    writer.write()
            report.damaged += source.damaged
            report.dropped += source.dropped
    return report


def _watched(source: Source, report: FramesReport, progress: bool) -> Generator[Frame, None, None]:
    """The frames of a source with a progress bar. A failure ends them and is listed in the report."""
    hidden = None if progress else True
    with tqdm(total=source.length, unit=" frames", desc=source.camera, disable=hidden) as bar:
        try:
            for frame in source.frames():
                report.frames += 1
                yield frame
                bar.update(frame.number + 1 - bar.n)
        except InputError as error:
            report.failed.append(str(error))


def _people(
    source: Source, frame: Frame, detector: Detector, min_height: int
) -> list[tuple[Row, Image.Image]]:
    """The people in a frame: what the manifest says of each, and the picture."""
    found = []
    height, width = frame.image.shape[:2]
    for number, (left, top, across, down) in enumerate(detector(frame.image).boxes.tolist()):
        first = max(round(left), 0), max(round(top), 0)
        last = min(round(left + across), width), min(round(top + down), height)
        box = first[0], first[1], last[0] - first[0], last[1] - first[1]
        if box[2] < 1 or box[3] < max(min_height, 1):
            continue
        row = Row(
            number,
            _place(source, frame),
            box=box,
            camera=source.camera,
            time=datetime.fromtimestamp(frame.time, timezone.utc),
            source=source.name,
            attributes={"frame": frame.number},
        )
        found.append((row, Image.fromarray(frame.image[first[1] : last[1], first[0] : last[0]])))
    return found


def _place(source: Source, frame: Frame) -> Path:
    """A path that no other frame has: the file with the frame's number, or the stream with its time."""
    if source.live:
        return Path("/", re.sub(r"[^\w.-]+", "-", source.name) + f"#{frame.time:.3f}")
    return Path(f"{source.name}#{frame.number:06d}")


class _Writer:
    """Writes crops. The manifest lists them before they are written.

    Args:
        out: The output folder.
        report: Its counts grow.
    """

    def __init__(self, out: Path, report: FramesReport) -> None:
        self.out, self.report, self.manifest = out, report, Manifest(out)
        self.waiting: list[tuple[Row, Image.Image]] = []

    def add(self, crops: Sequence[tuple[Row, Image.Image]]) -> None:
        """Take crops, and write those that wait when they are many."""
        self.waiting += crops
        if len(self.waiting) >= TOGETHER:
            self.write()

    def write(self) -> None:
        """Write all crops that wait."""
        crops = dict(zip(self.manifest.name([row for row, _ in self.waiting]), self.waiting))
        self.waiting = []
        self.manifest.save()
        try:
            for name, (_, image) in crops.items():
                path = self.out / name
                if path.is_file():
                    self.report.existing += 1
                    continue
                with written_whole(path) as new:
                    image.save(new, format="JPEG", quality=QUALITY)
                self.report.written += 1
        except BaseException:
            self.manifest.save(without=[name for name in crops if not (self.out / name).is_file()])
            raise
