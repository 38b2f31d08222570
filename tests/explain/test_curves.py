import math

import numpy as np

from kronreid.explain.curves import curves_figure

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def count(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels.astype(int) - colour).max(axis=2) < 6).sum())


def test_each_curve_is_drawn_and_the_figure_is_the_same_every_time() -> None:
    curves = {"HOReID": ([0, 1, 2], [0.1, 0.5, 0.6]), "KPM": ([0, 1, 2], [0.1, 0.3, 0.4])}
    figure = curves_figure(curves, "pictures seen", "mAP", "Learning")
    assert figure.size == (960, 600)
    assert count(np.asarray(figure), BLUE) > 1000
    assert 400 < count(np.asarray(figure), VERMILION) < count(np.asarray(figure), BLUE)  # a dashed line
    assert figure.tobytes() == curves_figure(curves, "pictures seen", "mAP", "Learning").tobytes()
    alone = curves_figure({"HOReID": curves["HOReID"]}, "pictures seen", "mAP", "Learning")
    assert count(np.asarray(alone), VERMILION) == 0


def test_missing_values_leave_a_gap() -> None:
    whole = curves_figure({"loss": ([0, 1, 2, 3, 4], [1.0, 1.0, 1.0, 1.0, 2.0])}, "x", "y", "t")
    gap = curves_figure({"loss": ([0, 1, 2, 3, 4], [1.0, 1.0, math.nan, 1.0, 2.0])}, "x", "y", "t")
    assert count(np.asarray(gap), BLUE) < 0.8 * count(np.asarray(whole), BLUE)


def test_names_are_not_formulas() -> None:
    curves = {r"$\frac{": ([0, 1], [0, 1])}  # would not parse
    assert count(np.asarray(curves_figure(curves, "$x", "y$", r"$\bad")), BLUE) > 500
