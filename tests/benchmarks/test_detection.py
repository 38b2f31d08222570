"""benchmarks/detection.py: its counts, and what FastestDet reaches on real frames."""

from pathlib import Path

import numpy as np
import pytest

from detection import Counts, count, measure
from kronreid.cameras.detectors import Detections, named

#: frame, track, left, top, width, height, flag, class, visibility; MOT counts pixels from 1.
ROWS = np.array(
    [
        [1, 1, 11, 21, 40, 100, 1, 1, 1.0],
        [1, 2, 101, 21, 40, 100, 1, 1, 0.6],
        [1, 3, 201, 21, 40, 100, 1, 1, 0.2],  # hidden
        [1, 4, 301, 21, 20, 50, 1, 1, 1.0],  # small
        [1, 5, 401, 21, 40, 100, 0, 7, 1.0],  # static
        [1, 6, 501, 21, 40, 100, 0, 3, 1.0],  # a car
    ]
)


def found(*boxes: tuple[int, int, int, int]) -> Detections:
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.linspace(0.9, 0.8, len(boxes)))


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        (found(), (2, 0, 0, 0)),
        (found((10, 20, 40, 100), (100, 20, 40, 100)), (2, 2, 2, 2)),
        (found((10, 20, 40, 100), (12, 22, 40, 100)), (2, 1, 2, 1)),  # one person twice
        (found((40, 20, 40, 100)), (2, 0, 1, 0)),
        (found((200, 20, 40, 100), (400, 20, 40, 100), (500, 20, 40, 100)), (2, 0, 3, 2)),
        (found((300, 20, 20, 50)), (2, 0, 0, 0)),
    ],
)
def test_counts(detections: Detections, expected: tuple[int, int, int, int]) -> None:
    counts = Counts()
    count(detections, ROWS, 80, 0.5, counts)
    assert (counts.people, counts.found, counts.detections, counts.right) == expected


def test_fastestdet_finds_people_of_80_pixels_in_tiles(shared: Path) -> None:
    weights, data = shared / "weights" / "fastestdet.onnx", shared / "data" / "mot17_mini" / "train"
    if not weights.is_file() or not data.is_dir():
        pytest.skip(f"{weights} or {data} is missing")
    figures = measure(named(str(weights)), data, every=6).figures()
    assert figures["recall"] >= 0.75
    assert figures["precision"] >= 0.55
