"""Measure a detector on MOT sequences: how many people it finds, and how many of its detections are people.

Counted are people of at least `--min-height` pixels of whom at least `--min-visibility` can be seen. A
detection finds the person that it overlaps most, by at least one half (intersection over union); each person
is found once. A detection that shows anybody else, even a small or hidden person or one on a vehicle, is not
wrong, and detections below the minimum height are not counted.

    python benchmarks/detection.py --data MOT17/train --detector fastestdet.onnx --json detection.json
    python benchmarks/detection.py --data MOT17/train --detector fastestdet.onnx --set tiles=none
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common import make_parser, report
from kronreid.cameras.detectors import Detections, Detector, named
from kronreid.cameras.detectors.boxes import overlaps
from kronreid.cli.options import positive
from kronreid.data.files import walk
from kronreid.data.images import open_rgb
from kronreid.data.lists.mot import frames_in
from kronreid.data.values import pairs

#: The classes of MOT17 that are people: pedestrians, people on vehicles, static people; and reflections.
PEOPLE = (1, 2, 7, 12)
#: The least intersection over union of a person and the detection that finds it.
LEAST = 0.5


@dataclass
class Counts:
    """What was found: people, found ones, detections, and right ones."""

    people: int = 0
    found: int = 0
    detections: int = 0
    right: int = 0
    frames: int = 0
    seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        """The figures, flat."""
        return {
            "frames": self.frames,
            "people": self.people,
            "recall": self.found / max(self.people, 1),
            "precision": self.right / max(self.detections, 1),
            "ms_per_frame": 1000 * self.seconds / max(self.frames, 1),
        }


def truth(sequence: Path) -> np.ndarray:
    """The rows of ``gt.txt``: frame, track, left, top, width, height, flag, class, visibility."""
    return np.loadtxt(sequence / "gt" / "gt.txt", delimiter=",", ndmin=2)


def matched(detections: Detections, boxes: np.ndarray) -> np.ndarray:
    """For each detection the box that it finds, or −1; the highest score chooses first."""
    corners = [
        np.concatenate([one[:, :2], one[:, :2] + one[:, 2:]], axis=1) for one in (detections.boxes, boxes)
    ]
    union, _ = overlaps(*corners)
    found = np.full(len(detections), -1)
    for detection in np.argsort(-detections.scores):
        if union.shape[1] and union[detection].max() >= LEAST:
            found[detection] = union[detection].argmax()
            union[:, found[detection]] = 0
    return found


def count(
    detections: Detections, rows: np.ndarray, min_height: float, min_visibility: float, counts: Counts
) -> None:
    """Add what a detector found in one frame, whose ground truth is `rows`, to the counts."""
    people = rows[np.isin(rows[:, 7], PEOPLE)]
    boxes = people[:, 2:6] - (1, 1, 0, 0)
    found = matched(detections, boxes)
    wanted = (people[:, 7] == 1) & (people[:, 5] >= min_height) & (people[:, 8] >= min_visibility)
    counts.people += int(wanted.sum())
    counts.found += int(wanted[found[found >= 0]].sum())
    large = detections.boxes[:, 3] >= min_height
    counts.detections += int(large.sum())
    counts.right += int((found[large] >= 0).sum())


def measure(
    detector: Detector, data: Path, min_height: float = 80, min_visibility: float = 0.5, every: int = 1
) -> Counts:
    """Run a detector on the frames of all sequences below a folder, or on each second one and so on."""
    counts = Counts()
    for sequence in sequences(data):
        rows = truth(sequence)
        for path in frames_in(sequence / "img1")[::every]:
            image = np.array(open_rgb(path))
            start = time.perf_counter()
            detections = detector(image)
            counts.seconds += time.perf_counter() - start
            counts.frames += 1
            count(detections, rows[rows[:, 0] == int(path.stem)], min_height, min_visibility, counts)
    return counts


def sequences(data: Path) -> Iterator[Path]:
    """The MOT sequences with ground truth at or below a folder."""
    return (place.parent for place, names in walk(data) if place.name == "gt" and "gt.txt" in names)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder of MOT sequences with ground truth"
    )
    parser.add_argument("--detector", required=True, help="as kronreid crop takes it")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", help="options of the detector")
    parser.add_argument("--min-height", type=float, default=80, help="pixels (80)")
    parser.add_argument("--min-visibility", type=float, default=0.5, help="0 to 1 (0.5)")
    parser.add_argument(
        "--every", type=positive, default=1, help="read each nth frame of a sequence only (1)"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    detector = named(options.detector, **pairs(options.set, "--set"))
    counts = measure(detector, options.data, options.min_height, options.min_visibility, options.every)
    report(counts.figures(), options.json)


if __name__ == "__main__":
    main()
