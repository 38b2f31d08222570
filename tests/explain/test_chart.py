import itertools
import math
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.explain.chart import Chart, _ticks, chart_svg

finite = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@settings(max_examples=100, deadline=None)
@given(st.lists(finite, max_size=20))
def test_ticks_are_few_even_and_enclose_the_values(values: list[float]) -> None:
    ticks = _ticks(values)
    assert 3 <= len(ticks) <= 8
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    slack = 1e-6 * steps[0]
    assert min(steps) > 0
    assert max(steps) - min(steps) < slack
    if values:
        assert ticks[0] <= min(values) + slack
        assert max(values) <= ticks[-1] + slack


def test_points_are_where_their_values_put_them() -> None:
    svg = chart_svg(Chart("mAP", "pictures", "%", {"HOReID": ([0, 50, 100], [0, 25, 100])}))
    (points,) = re.findall(r'points="([^"]*)"/>', svg)
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, point.split(","))) for point in points.split())
    assert (x0, x2) == (46.0, 406.0)
    assert (y0, y2) == (218.0, 12.0)
    assert x1 == (x0 + x2) / 2
    assert y1 == y0 + (y2 - y0) / 4


def test_values_that_are_not_finite_are_left_out() -> None:
    curve = ([0, 1, 2, 3], [1.0, math.nan, math.inf, 4.0])
    svg = chart_svg(Chart("loss", "x", "y", {"loss": curve, "nothing": ([], [])}))
    (points,) = re.findall(r'points="([^"]*)"/>', svg)
    assert len(points.split()) == 2
    assert "nan" not in svg
    assert "inf" not in svg
    assert "<b>4</b>" in svg  # the last value in the legend


def test_names_are_escaped() -> None:
    svg = chart_svg(Chart("<t>", "<x>", "<y>", {"<script>": ([0], [1])}))
    assert not re.search(r"<(t|x|y|script)>", svg)
    assert "&lt;script&gt;" in svg
