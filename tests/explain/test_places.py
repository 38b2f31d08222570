"""The sheet of an embedder's verdict: what is drawn adds up to the logit."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle

from kronreid.explain.places import places_figure, strongest, sum_of
from kronreid.explain.style import AGAINST, CARD, FOR, INK, WIDTH
from kronreid.models.place_matcher import PairExplanation, PlaceShares

GREY = np.full((192, 96, 3), 128, np.uint8)


def make_level(height: int, width: int, scale: float = 0.1, seed: int = 0) -> PlaceShares:
    """Shares of both signs, and any place as each one's best match."""
    random = np.random.default_rng(seed)
    places = height * width
    return PlaceShares(
        *(random.normal(0, scale, (2, height, width)).astype(np.float32)),
        *random.integers(0, places, (2, height, width)),
        *random.uniform(-1, 1, (2, height, width)).astype(np.float32),
    )


def make_explanation(
    levels: list[PlaceShares], vectors: float = 1.5, a: np.ndarray = GREY, b: np.ndarray = GREY
) -> PairExplanation:
    shares = [float(side.astype(np.float64).sum()) for one in levels for side in (one.shares_a, one.shares_b)]
    logit = vectors + sum(shares)
    return PairExplanation(logit, 0.5 + 0.5 * math.tanh(logit / 2), 0.4, vectors, levels, a, b)


def bars(figure: Figure) -> list[Rectangle]:
    """The bars of the sum from the top down, without the bands behind them."""
    found = [patch for patch in figure.axes[1].patches if isinstance(patch, Rectangle)]
    bars = [bar for bar in found if to_hex(bar.get_facecolor()) in (FOR, AGAINST, INK)]
    return sorted(bars, key=lambda bar: bar.get_y() + bar.get_height() / 2)


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def lines(figure: Figure) -> list[PathPatch]:
    """The coloured lines, without the white ones below them."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    return [patch for patch in found if to_hex(patch.get_edgecolor()) != CARD]


sizes = st.lists(st.tuples(st.integers(1, 24), st.integers(1, 8)), min_size=1, max_size=3)
scales = st.sampled_from([0.0, 1e-6, 0.1, 30.0])


@settings(max_examples=60)
@given(sizes, scales, st.floats(-30, 30), st.integers(0, 9))
def test_the_parts_add_up_to_the_logit(
    shapes: list[tuple[int, int]], scale: float, vectors: float, seed: int
) -> None:
    why = make_explanation([make_level(*shape, scale, seed) for shape in shapes], vectors)
    terms = sum_of(why)
    assert len(terms) == 1 + 2 * len(shapes)
    assert len({term.name for term in terms}) == len(terms)
    assert all(term.loss <= 0 <= term.gain for term in terms)
    assert sum(term.gain + term.loss for term in terms) == pytest.approx(why.logit)
    gain, loss = why.places
    assert why.vectors + gain + loss == pytest.approx(why.logit)


@pytest.mark.parametrize("vectors", [1.5, -3.25])
@pytest.mark.parametrize("shapes", [[(12, 6)], [(24, 8), (12, 6)]])
def test_the_bars_lead_from_zero_to_the_logit(shapes: list[tuple[int, int]], vectors: float) -> None:
    why = make_explanation([make_level(*shape) for shape in shapes], vectors)
    figure = places_figure(why)
    *parts, total = bars(figure)
    end = 0.0
    for bar in parts:
        assert bar.get_x() == pytest.approx(end)
        end += bar.get_width()
        if bar.get_width():
            assert to_hex(bar.get_facecolor()) == (FOR if bar.get_width() > 0 else AGAINST)
    assert end == pytest.approx(why.logit)
    assert (total.get_x(), total.get_width()) == (0, pytest.approx(why.logit))
    left, right = figure.axes[1].get_xlim()
    assert left < min(0, end) < max(0, end) < right
    # The numbers beside the bars say the same.
    numbers = [word.replace("−", "-") for word in words(figure.axes[0])]
    printed = [float(number) for number in numbers if re.fullmatch(r"[+-]\d+\.\d\d", number)]
    sums = [value for term in sum_of(why) for value in (term.gain, term.loss) if value]
    assert printed[: len(sums) + 1] == pytest.approx([*sums, why.logit], abs=0.005)


@pytest.mark.parametrize("shape", [(192, 96), (120, 120), (90, 160), (400, 60)])
@pytest.mark.parametrize("shapes", [[(12, 6)], [(24, 8), (6, 3)]])
def test_the_sheet_holds_every_level_and_keeps_to_its_width(
    shape: tuple[int, int], shapes: list[tuple[int, int]]
) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    figure = places_figure(make_explanation([make_level(*one) for one in shapes], a=picture, b=picture))
    width, height = figure.get_size_inches()
    assert width <= WIDTH + 0.5
    tiles = figure.axes[0].get_images()
    assert len(tiles) == 5 * len(shapes)  # both overlays, their scale, and both pictures
    for number, tile in enumerate(tiles):
        left, right, bottom, top = tile.get_extent()
        assert 0 < left < right < width
        assert 0 < top < bottom < height
        if number % 5 != 2:
            assert (bottom - top) / (right - left) == pytest.approx(shape[0] / shape[1])
    told = words(figure.axes[0])
    if len(shapes) == 1:
        assert "What each place adds" in told
    else:
        assert [f"Level {n}: what each place adds" in told for n in (1, 2, 3)] == [True, True, False]


def test_the_sheet_is_whole_and_the_same_every_time() -> None:
    why = make_explanation([make_level(12, 6), make_level(24, 12, 0.003, seed=1)])
    drawn = []
    for figure in (places_figure(why), places_figure(why)):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn.append(np.asarray(canvas.buffer_rgba()))
        renderer = canvas.get_renderer()
        width, height = figure.bbox.size
        for text in (text for axes in figure.axes for text in axes.texts):
            box = text.get_window_extent(renderer)
            assert 0 <= box.x0 <= box.x1 <= width, text.get_text()
            assert 0 <= box.y0 <= box.y1 <= height, text.get_text()
    np.testing.assert_array_equal(*drawn)
    assert (drawn[0][:15] == 255).all()
    assert (drawn[0][:, :15] == 255).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (12, 6), (24, 8)])
def test_the_strongest_places_are_of_one_sign_apart_and_lead_to_their_matches(
    shape: tuple[int, int], sign: int
) -> None:
    level = make_level(*shape, seed=3)
    links = strongest(level, 5, sign)
    assert len(links) == 5 or math.prod(shape) < 72
    shares, found = (level.shares_a, level.shares_b), (level.found_a, level.found_b)
    similarities = level.similarity_a, level.similarity_b
    if links:
        assert abs(links[0].share) == pytest.approx(max(float((sign * side).max()) for side in shares))
    assert [sign * one.share for one in links] == sorted((sign * one.share for one in links), reverse=True)
    before: list[tuple[int, int, int]] = []
    for one in links:
        side, *place = one.start
        row, column = place
        assert one.share == shares[side][row, column]
        assert one.share * sign > 0
        assert one.similarity == similarities[side][row, column]
        assert one.end[0] == 1 - side
        assert one.end[1] * shape[1] + one.end[2] == found[side][row, column]
        for other, *earlier in before:
            assert other != side or math.dist(earlier, place) > (1 if math.prod(shape) >= 72 else 0)
        before += [one.start, one.end]


def test_lines_for_and_against_differ_in_colour_and_dashes() -> None:
    figure = places_figure(make_explanation([make_level(12, 6)]))
    looks = [(to_hex(line.get_edgecolor()), line.get_linestyle() == "-") for line in lines(figure)]
    assert looks == [(FOR, True)] * 5 + [(AGAINST, False)] * 3
    badges = [word for word in words(figure.axes[0]) if re.fullmatch(r"\d", word)]
    assert sorted(badges) == sorted(["0", *(str(n) for n in range(1, 9) for _ in range(2))])


def test_lines_between_identical_pictures_are_level() -> None:
    places = np.arange(72).reshape(12, 6)
    shares = np.random.default_rng(0).uniform(0.1, 1, (12, 6)).astype(np.float32)
    ones = np.ones((12, 6), np.float32)
    figure = places_figure(make_explanation([PlaceShares(shares, shares, places, places, ones, ones)]))
    assert len(lines(figure)) == 5
    for line in lines(figure):
        assert np.ptp(line.get_path().vertices[:, 1]) == pytest.approx(0)
    assert words(figure.axes[0]).count("(1.00)") == 5


def test_shares_that_are_all_zero_leave_the_pictures_as_they_are() -> None:
    zero, places = np.zeros((12, 6), np.float32), np.arange(72).reshape(12, 6)
    picture = np.random.default_rng(0).integers(0, 256, GREY.shape, dtype=np.uint8)
    why = make_explanation([PlaceShares(zero, zero, places, places, zero, zero)], 0.0, picture, picture)
    figure = places_figure(why)
    assert "All are zero." in words(figure.axes[0])
    assert not lines(figure)
    assert all(bar.get_width() == 0 for bar in bars(figure))
    overlay = figure.axes[0].get_images()[0].get_array()
    assert np.ptp(overlay.astype(int), axis=2).max() == 0  # grey


def test_both_pictures_have_one_scale() -> None:
    even = np.full((12, 6), 0.1, np.float32)
    higher = even.copy()
    higher[11, 5] = 1
    places = np.arange(72).reshape(12, 6)
    level = PlaceShares(even, higher, places, places, even, even)
    figure = places_figure(make_explanation([level]))
    a, b = (tile.get_array() for tile in figure.axes[0].get_images()[:2])
    np.testing.assert_array_equal(a[:200, :96], b[:200, :96])
    assert {"−1.00", "+1.00"} <= set(words(figure.axes[0]))
