from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.matches import (
    correspondence_figure,
    looks_at,
    match_figure,
    prominent_places,
    warped_picture,
)
from kronreid.explain.style import CARD

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


def curves(figure: Figure) -> list[PathPatch]:
    """The coloured lines, without the white ones below them."""
    return [patch for patch in figure.axes[0].patches if to_hex(patch.get_edgecolor()) != CARD]


def ends(figure: Figure) -> list[tuple[float, float]]:
    """Where the numbered discs lie, as fractions (x, y) of the picture that each is on."""
    a, b = (image.get_extent() for image in figure.axes[0].get_images())
    return [
        ((x - left) / (right - left), (y - top) / (bottom - top))
        for (x,), (y,) in (line.get_data() for line in figure.axes[0].lines)
        for left, right, bottom, top in (a if x <= a[1] else b,)
    ]


def test_lines_lead_from_prominent_places_to_where_they_look(explanation: SimpleNamespace) -> None:
    for number in range(3):
        figure = correspondence_figure(explanation, scale=number, places=5)
        scale = explanation.scales[number]
        expected = []
        for r, c in prominent_places(scale.attention_a, 5):
            row_b, column_b, _ = looks_at(scale, (r, c))
            for y, x in ((r, c), (row_b, column_b)):
                expected.append(((x + 0.5) / scale.width, (y + 0.5) / scale.height))
        np.testing.assert_allclose(ends(figure), expected)
        numbers = [text.get_text() for text in figure.axes[0].texts if text.get_text().isdigit()]
        assert numbers == [str(n) for n in range(1, 6) for _ in "ab"]
        for index, curve in enumerate(curves(figure)):
            points = curve.get_path().vertices
            discs = [
                (x[0], y[0]) for x, y in (line.get_data() for line in figure.axes[0].lines[2 * index :][:2])
            ]
            np.testing.assert_allclose(points[[0, -1]], discs)


def test_unsure_lines_are_faint() -> None:
    beta = np.full((8, 8), 0.3 / 7)
    np.fill_diagonal(beta, 0.7)
    sure, likely, unsure = (
        curves(correspondence_figure(one_scale(matrix, 4, 2), places=1))[0].get_alpha()
        for matrix in (np.eye(8), beta, np.full((8, 8), 1 / 8))
    )
    assert sure == pytest.approx(1)
    assert sure > likely + 0.2 > unsure + 0.4 > 0.5


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


def drawn(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_sheet_is_whole_and_the_same_every_time(explanation: SimpleNamespace) -> None:
    figure = match_figure(explanation)
    titles = {"Probably the same person", "Correspondences", "Soft warp", "Matching confidence", "Attention"}
    assert titles <= set(words(figure))
    pixels, again = (drawn(each) for each in (figure, match_figure(explanation)))
    np.testing.assert_array_equal(pixels, again)
    assert (pixels[:15] == 255).all()
    assert (pixels[:, -15:] == 255).all()
    # The section about attention goes where the model has none.
    for scale in explanation.scales:
        scale.attention_a = scale.attention_b = np.full(scale.attention_a.shape, 1 / scale.attention_a.size)
    assert "Attention" not in words(match_figure(explanation))


@pytest.mark.parametrize(
    ("probability", "told"),
    [(0.0, "under 0.1 %"), (0.25, "25.0 %"), (0.75, "75.0 %"), (0.9996, "over 99.9 %"), (1.0, "over 99.9 %")],
)
def test_the_verdict_is_told_and_drawn(explanation: SimpleNamespace, probability: float, told: str) -> None:
    explanation.probability = probability
    figure = match_figure(explanation)
    assert f"same person: {told}" in words(figure)
    assert (f"Probably {'the same person' if probability >= 0.5 else 'two different people'}") in words(
        figure
    )
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    whole = bars[0].get_width()
    assert sum(bar.get_width() for bar in bars[1:]) == pytest.approx(probability * whole)


@pytest.mark.parametrize(("height", "width"), [(384, 128), (64, 64), (90, 160), (128, 64)])
def test_pictures_of_any_shape(explanation: SimpleNamespace, height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    explanation.image_a = explanation.image_b = pixels
    explanation.scales = explanation.scales[:1]
    for figure in (correspondence_figure(explanation), match_figure(explanation)):
        sheet_width, sheet_height = figure.get_size_inches()
        for image in figure.axes[0].get_images():
            left, right, bottom, top = image.get_extent()
            assert 0 <= left < right <= sheet_width + 1e-9
            assert 0 <= top < bottom <= sheet_height + 1e-9
            if image.get_array().shape[:2] == (height, width):
                assert (bottom - top) / (right - left) == pytest.approx(height / width)


def test_scales_that_are_not_there(explanation: SimpleNamespace) -> None:
    for scale in (3, -4):
        with pytest.raises(InputError, match=f"scale: {scale}"):
            correspondence_figure(explanation, scale=scale)
