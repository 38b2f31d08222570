"""From which similarity on tracklets are one person."""

import numpy as np

from kronreid.gallery.grouping import RATE, UNCALIBRATED, limit_of
from kronreid.models.calibration import Calibration, ScoreCalibration


def calibrated(searches: int, gallery: int) -> Calibration:
    strangers = tuple(np.linspace(0.9, 0.1, searches).round(4).tolist())
    score = ScoreCalibration(10.0, -5.0, strangers, ())
    return Calibration("market1501", "x", "market1501", 50, gallery, 0.25, score, None)


def test_the_limit_comes_from_the_calibration() -> None:
    assert limit_of(0.3, None, 100).similarity == 0.3
    assert limit_of("auto", None, 100).similarity == UNCALIBRATED
    found = limit_of("auto", calibrated(1000, 500), 500)
    assert (found.similarity, found.rate) == (calibrated(1000, 500).threshold(RATE), RATE)
    assert limit_of("auto", calibrated(1000, 500), 1000).similarity > found.similarity
    small = limit_of("auto", calibrated(20, 50), 20_000)
    assert (small.similarity, small.rate) == (calibrated(20, 50).similarity.strangers[1], None)
