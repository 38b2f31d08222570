from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.canvas import BOX
from kronreid.explain.matches import (
    attention_figure,
    correspondence_figure,
    looks_at,
    match_figure,
    match_heat_figure,
    prominent_places,
    warped_figure,
    warped_picture,
)

HEIGHT, WIDTH = 192, 96
DOWN, ACROSS = 24, 12  # how far the second person of the fixture stands from the first, pixels


def one_scale(beta: np.ndarray, height: int, width: int, **pictures: np.ndarray) -> SimpleNamespace:
    """Two coloured pictures with one scale of the given correspondence and even attention."""
    even = np.full((height, width), 1 / (height * width), dtype=np.float32)
    scale = SimpleNamespace(
        correspondence=beta.astype(np.float32),
        attention_a=even,
        attention_b=even,
        height=height,
        width=width,
    )
    colours = np.random.default_rng(3).integers(0, 256, (2, 12, 6, 3), dtype=np.uint8)
    smooth = [
        np.asarray(Image.fromarray(c).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) for c in colours
    ]
    explanation = SimpleNamespace(probability=0.9, scales=[scale], image_a=smooth[0], image_b=smooth[1])
    vars(explanation).update(pictures)
    return explanation


def test_a_single_location_is_found_with_full_confidence() -> None:
    beta = np.zeros((12, 12))
    beta[5, 7] = 1
    scale = one_scale(beta, 4, 3).scales[0]
    assert looks_at(scale, (1, 2)) == (2.0, 1.0, 1.0)


def test_no_preference_has_no_confidence() -> None:
    scale = one_scale(np.full((12, 12), 1 / 12), 4, 3).scales[0]
    assert looks_at(scale, (0, 0))[2] == pytest.approx(0, abs=1e-6)


def test_the_position_lies_between_neighbours_but_not_between_rivals() -> None:
    beta = np.zeros((1, 12))
    beta[0, 0], beta[0, 3], beta[0, 11] = 0.35, 0.35, 0.3  # column 0 of rows 0 and 1, and the far corner
    scale = one_scale(np.repeat(beta, 12, axis=0), 4, 3).scales[0]
    row, column, confidence = looks_at(scale, (3, 1))
    assert (row, column) == (0.5, 0.0)
    assert 0 < confidence < 1


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(0, 1, width=32)),
    st.integers(1, 12),
)
def test_places_are_different_sorted_and_as_many_as_asked(attention: np.ndarray, count: int) -> None:
    attention = attention + np.float32(1e-6)
    places = prominent_places(attention, count)
    assert len(places) == len(set(places)) == min(count, attention.size)
    assert places == sorted(places)
    assert all(0 <= r < attention.shape[0] and 0 <= c < attention.shape[1] for r, c in places)


def test_places_are_found_where_there_is_no_attention_at_all() -> None:
    assert prominent_places(np.zeros((7, 5)), 1) == [(3, 2)]  # the middle, away from the rim
    assert len(set(prominent_places(np.zeros((7, 5)), 4))) == 4


def test_places_have_attention_and_keep_apart() -> None:
    attention = np.full((16, 8), 0.01)
    attention[2:4, 3:5] = attention[12:14, 3:5] = 1.0
    first, second = prominent_places(attention, 2)
    assert attention[first] == attention[second] == 1.0
    assert second[0] - first[0] >= 8


def test_lines_end_where_places_look() -> None:
    """Every place looks at its own place, so a line through the gap is level with its place."""
    sharp = correspondence_figure(one_scale(np.eye(8), 4, 2), places=1)
    assert sharp.size == (192 + 132 + 192, 384)
    ((row, _),) = prominent_places(np.ones((4, 2)), 1)
    middle = np.asarray(sharp)[:, 192 + 66].astype(int)
    drawn = np.flatnonzero(middle.min(axis=1) < 200)
    assert abs(drawn.mean() - (row + 0.5) * 96) < 1
    assert 1 <= len(drawn) <= 6


def test_unsure_lines_are_faint() -> None:
    beta = np.full((8, 8), 0.3 / 7)
    np.fill_diagonal(beta, 0.7)
    darkest = []
    for matrix in (np.eye(8), beta, np.full((8, 8), 1 / 8)):
        gap = np.asarray(correspondence_figure(one_scale(matrix, 4, 2), places=1))[:, 200:316]
        darkest.append(int(gap.min()))
    assert darkest[0] + 40 < darkest[1] < darkest[2] - 20


def test_numbered_ends_are_drawn_on_both_pictures(explanation: SimpleNamespace) -> None:
    grey = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    explanation.image_a = explanation.image_b = grey
    figure = np.asarray(correspondence_figure(explanation, places=5)).astype(int)
    scale = explanation.scales[-1]
    for place in prominent_places(scale.attention_a, 5):
        row_b, column_b, _ = looks_at(scale, place)
        for r, c, left in ((*place, 0), (row_b, column_b, 192 + 132)):
            x, y = round(left + (c + 0.5) * 192 / scale.width), round((r + 0.5) * 384 / scale.height)
            patch = figure[max(0, y - 6) : y + 7, x - 6 : x + 7]
            assert np.ptp(patch, axis=2).max() > 20  # a coloured disc on the grey picture


def test_the_red_rectangle_and_the_heat_are_in_their_places(explanation: SimpleNamespace) -> None:
    row, column = 6, 4
    figure = np.asarray(match_heat_figure(explanation, (row, column))).astype(int)
    scale = explanation.scales[-1]
    cell = 384 / scale.height
    left, top, right, bottom = column * cell, row * cell, (column + 1) * cell, (row + 1) * cell
    middle_x, middle_y = round((left + right) / 2), round((top + bottom) / 2)
    for x, y in ((left - 2, middle_y), (right + 1, middle_y), (middle_x, top - 2), (middle_x, bottom + 1)):
        assert np.abs(figure[round(y), round(x)] - BOX).max() < 12
    inside = np.asarray(warped_figure(explanation)).astype(int)[middle_y, middle_x]
    np.testing.assert_array_equal(figure[middle_y, middle_x], inside)  # what is matched stays visible

    heat = figure[:384, 192 + 16 :]
    y, x = np.unravel_index((heat[..., 1] - heat[..., 2]).argmax(), heat.shape[:2])
    expected = (middle_y + DOWN * 384 / HEIGHT, middle_x + ACROSS * 384 / HEIGHT)
    assert abs(y - expected[0]) <= cell
    assert abs(x - expected[1]) <= cell


def test_a_rectangle_at_the_corner_stays_in_the_picture(explanation: SimpleNamespace) -> None:
    figure = np.asarray(match_heat_figure(explanation, (0, 0), scale=0)).astype(int)
    for x, y in ((1, 30), (30, 1)):
        assert np.abs(figure[y, x] - BOX).max() < 12


@pytest.mark.parametrize(("height", "width"), [(24, 12), (6, 3), (7, 5)])
def test_every_place_on_itself_gives_b_back(height: int, width: int) -> None:
    explanation = one_scale(np.eye(height * width), height, width)
    difference = np.abs(warped_picture(explanation).astype(int) - explanation.image_b)
    # Seven rows do not divide the picture: it is scaled to whole cells and back, which softens edges.
    assert difference.max() <= 1 if HEIGHT % height == 0 else difference.mean() < 3


def test_the_warp_undoes_a_shift(explanation: SimpleNamespace) -> None:
    """b is a, lower and to the right by whole cells; its matches are known."""
    rows, columns = 24, 12
    beta = np.zeros((rows * columns, rows * columns))
    for r in range(rows):
        for c in range(columns):
            goal = (min(rows - 1, r + DOWN * rows // HEIGHT), min(columns - 1, c + 1))
            beta[r * columns + c, goal[0] * columns + goal[1]] = 1
    a = explanation.image_a
    b = np.roll(a, (DOWN, WIDTH // columns), axis=(0, 1))
    warped = warped_picture(one_scale(beta, rows, columns, image_a=a, image_b=b)).astype(int)
    inner = np.s_[8 : HEIGHT - DOWN - 8, 8 : WIDTH - 16]
    assert np.abs(warped[inner] - a[inner]).max() <= 1


def test_even_attention_looks_even_and_strong_attention_bright(explanation: SimpleNamespace) -> None:
    flat = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    explanation.image_a = explanation.image_b = flat
    even = np.full((6, 3), 1 / 18)
    peak = np.full((6, 3), 0.5 / 17)
    peak[2, 1] = 0.5
    explanation.scales = [explanation.scales[0]]
    explanation.scales[0].attention_a, explanation.scales[0].attention_b = even, even
    figure = np.asarray(attention_figure(explanation))
    assert np.ptp(figure[:288, :144].reshape(-1, 3), axis=0).max() <= 1
    explanation.scales[0].attention_b = peak
    figure = np.asarray(attention_figure(explanation)).astype(int)
    b = figure[:288, 150 : 150 + 144]
    assert b[120, 72, 1] > b[20, 20, 1] + 60
    # Beside a peak of nine even shares, an even map is dim: both have the same colours.
    assert figure[120, 72, 1] < b[120, 72, 1] - 60


def test_the_sheet_is_whole_and_the_same_every_time(explanation: SimpleNamespace) -> None:
    sheet = match_figure(explanation)
    assert sheet.mode == "RGB"
    assert sheet.tobytes() == match_figure(explanation).tobytes()
    pixels = np.asarray(sheet)
    assert (pixels[:20] == 255).all()
    assert (pixels[:, -20:] == 255).all()
    # Of the sections, the one about attention goes where the model has none.
    for scale in explanation.scales:
        scale.attention_a = scale.attention_b = np.full(scale.attention_a.shape, 1 / scale.attention_a.size)
    plain = match_figure(explanation)
    assert sheet.height - plain.height > 288


def test_the_bar_shows_the_probability(explanation: SimpleNamespace) -> None:
    lengths = []
    for probability in (0.0, 0.25, 0.75, 1.0):
        explanation.probability = probability
        pixels = np.asarray(match_figure(explanation)).astype(int)
        bar = pixels[32 + 44, 32:-32]
        lengths.append(((bar[:, 2] - bar[:, 0]) > 60).mean())  # blue on grey
    np.testing.assert_allclose(lengths, [0, 0.25, 0.75, 1], atol=0.01)


@pytest.mark.parametrize(("height", "width"), [(384, 128), (64, 64), (90, 160)])
def test_pictures_of_any_shape(explanation: SimpleNamespace, height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    explanation.image_a = explanation.image_b = pixels
    explanation.scales = explanation.scales[:1]
    drawn = round(width * 384 / height)
    assert correspondence_figure(explanation).width == 2 * drawn + 132
    assert match_figure(explanation).width > 3 * drawn


def test_places_and_scales_that_are_not_there(explanation: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="place"):
        match_heat_figure(explanation, (24, 0))
    with pytest.raises(InputError, match="place"):
        match_heat_figure(explanation, (0, -1))
    with pytest.raises(InputError, match="scale: 3"):
        correspondence_figure(explanation, scale=3)
