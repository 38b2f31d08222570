import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes

from kronreid.evaluation import evaluate
from kronreid.explain.charts import EVALUATION, SCORES, Chart, chart_svg, draw_curves, panels
from kronreid.explain.style import style

finite = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


def axes_of(chart: Chart) -> Axes:
    with style():
        _, (axes,) = panels(3, 2)
        draw_curves(axes, chart)
    return axes


@settings(max_examples=30)
@given(st.lists(st.tuples(finite, finite), max_size=20))
def test_the_axes_enclose_the_values_and_nothing(points: list[tuple[float, float]]) -> None:
    axes = axes_of(Chart("t", "x", "y", {"a": ([x for x, _ in points], [y for _, y in points])}))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < right
    assert bottom <= 0 <= top
    assert bottom < top
    for x, y in points:
        assert left - 1e-6 * (right - left) <= x <= right + 1e-6 * (right - left)
        assert bottom - 1e-6 * (top - bottom) <= y <= top + 1e-6 * (top - bottom)


def test_values_that_are_not_finite_are_left_out() -> None:
    curve = ([0, 1, 2, 3], [1.0, math.nan, math.inf, 4.0])
    axes = axes_of(Chart("loss", "x", "y", {"loss": curve, "nothing": ([], [])}))
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[0, 1], [3, 4]])
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["loss  4", "nothing"]


def test_a_chart_is_spoken_and_escaped() -> None:
    bad = "<script>"
    svg = chart_svg(draw_curves, Chart(bad, bad, bad, {bad: ([0], [1])}), bad)
    assert bad not in svg
    assert svg.count("&lt;script&gt;") == 4  # the name, both axes, what is spoken


@pytest.mark.parametrize("kind", SCORES)
def test_an_evaluation_has_charts_of_every_kind_of_score(kind: str) -> None:
    from dataclasses import replace

    vectors = np.eye(12, dtype=np.float32)
    result = evaluate(vectors, range(12), [0] * 12, vectors, range(12), [1] * 12, protocol="msmt17")
    for name, draw in EVALUATION.items():
        svg = chart_svg(draw, replace(result, score_kind=kind), name)
        assert (SCORES[kind][0] in svg) == (name == "Pairs")
