"""The papers' figures: what stands where."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kronreid.explain import figures
from kronreid.explain.parts import Insight
from kronreid.explain.sheet import sheet
from kronreid.explain.style import WIDTH


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def pictures_of(figure: Figure) -> list[np.ndarray]:
    """The pictures of the grid, row by row, without the colour scale."""
    shown = [(image.get_extent(), np.asarray(image.get_array())) for image in figure.axes[0].get_images()]
    tall = [(round(top, 3), left, array) for (left, _, bottom, top), array in shown if bottom - top > 0.1]
    return [array for *_, array in sorted(tall, key=lambda each: each[:2])]


@pytest.fixture
def insight(people: list[Image.Image]) -> Insight:
    random = np.random.default_rng(0)
    maps = random.random((4, 6, 12, 6)) ** 8
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    levels = [random.normal(size=(4, 8, 12, 6)) for _ in range(3)]
    products = [random.normal(size=(4, 8, 12, 6)) ** order for order in (1, 3, 5)]
    return Insight(np.stack([np.asarray(one) for one in people[:4]]), levels, products, maps, [])


def test_similarities_show_the_matrices_and_their_extremes(insight: Insight) -> None:
    orders = [(f"n = {number}", maps) for number, maps in enumerate(insight.products, start=1)]
    figure = figures.similarity_figure(orders, insight.pictures)
    assert figure.get_figwidth() <= WIDTH + 1e-6
    a, b = (insight.products[0][i].reshape(8, -1) for i in (0, 1))
    expected = (a / np.linalg.norm(a.mean(axis=1))).T @ (b / np.linalg.norm(b.mean(axis=1)))
    images = [np.asarray(image.get_array()) for axes in figure.axes[1:] for image in axes.get_images()]
    matrices = [image for image in images if image.shape == (72, 72)]
    assert len(matrices) == 6
    np.testing.assert_allclose(matrices[0], expected)
    wanted = f"max {expected.max():.1f}   min {expected.min():.1f}   mean {expected.mean():.2f}"
    assert wanted.replace("-", "−") in texts(figure)


def test_colours_stand_in_pairs_with_a_column_for_every_map(insight: Insight) -> None:
    figure = figures.colour_figure(insight)
    shown = pictures_of(figure)
    assert len(shown) == 2 * 14
    np.testing.assert_array_equal(shown[0], insight.pictures[0])
    np.testing.assert_array_equal(shown[7], insight.pictures[1])
    np.testing.assert_array_equal(shown[14], insight.pictures[2])
    blocks = shown[1]
    cell = (blocks.shape[0] // 12, blocks.shape[1] // 6)
    assert len(np.unique(blocks[: cell[0], : cell[1]].reshape(-1, 3), axis=0)) == 1
    assert {"G₃", "n = 3", "levels"} <= set(texts(figure))


def brightest(shown: np.ndarray) -> tuple[float, float]:
    """The middle of what is most yellow in a picture, as fractions (y, x)."""
    yellow = shown[..., 0].astype(float) + shown[..., 1] - shown[..., 2]
    y, x = (where.mean() + 0.5 for where in np.nonzero(yellow >= 0.95 * yellow.max()))
    return y / shown.shape[0], x / shown.shape[1]


def test_parts_are_bright_where_they_are_sampled(insight: Insight) -> None:
    maps = np.zeros_like(insight.part_maps)
    maps[:, :, 9, 1] = 1
    maps[:, 4] = 0
    maps[:, 4, 2, 4] = 1
    sampled = insight.pictures[::2], maps[::2]
    figure = figures.part_figure([("one", *sampled), ("two", *sampled)], [0, 4])
    shown = pictures_of(figure)
    assert len(shown) == 2 * 2 * 4
    np.testing.assert_array_equal(shown[4], insight.pictures[2])
    for row in range(4):
        assert brightest(shown[4 * row + 2]) == pytest.approx((9.5 / 12, 1.5 / 6), abs=0.05)
        assert brightest(shown[4 * row + 3]) == pytest.approx((2.5 / 12, 4.5 / 6), abs=0.05)
    assert {"one", "two", "4"} <= set(texts(figure))
    assert "one" not in texts(figures.part_figure([("one", *sampled)], [0]))


def test_attention_says_how_strong_it_is_and_how_many_places_it_covers(explanation: SimpleNamespace) -> None:
    for scale in explanation.scales:
        scale.attention_a = np.zeros_like(scale.attention_a)
        scale.attention_a[0, 0] = 1
    figure = figures.attention_figure([explanation])
    assert len(pictures_of(figure)) == 8
    assert {"up to 18.0 × uniform", "1.0 of 18 places"} <= set(texts(figure))
    assert sum("of 288 places" in text for text in texts(figure)) == 2


def test_even_attention_looks_even_and_strong_attention_bright(explanation: SimpleNamespace) -> None:
    explanation.image_a = explanation.image_b = np.full((192, 96, 3), 128, dtype=np.uint8)
    explanation.scales = explanation.scales[:1]
    even, peak = np.full((6, 3), 1 / 18), np.full((6, 3), 0.5 / 17)
    peak[2, 1] = 0.5
    explanation.scales[0].attention_a, explanation.scales[0].attention_b = even, peak
    _, a, _, b = (shown.astype(int) for shown in pictures_of(figures.attention_figure([explanation])))
    assert np.ptp(a.reshape(-1, 3), axis=0).max() <= 1
    assert b[160, 96, 1] > b[20, 20, 1] + 60
    assert a[160, 96, 1] < b[160, 96, 1] - 60  # a place of nine even shares is brighter than one of one


def test_matching_is_bright_where_the_place_looks_and_boxed_where_it_is(
    explanation: SimpleNamespace,
) -> None:
    for scale in explanation.scales:
        scale.correspondence = np.zeros_like(scale.correspondence)
        scale.correspondence[:, scale.width + 1] = 1  # second row, second column
    figure = figures.matching_figure([explanation], [(0.5, 0.25), (0.2, 0.9)])
    shown = pictures_of(figure)
    assert len(shown) == 2 + 2 * 3
    assert brightest(shown[2]) == pytest.approx((1.5 / 6, 1.5 / 3), abs=0.05)
    assert brightest(shown[4]) == pytest.approx((1.5 / 24, 1.5 / 12), abs=0.05)
    assert texts(figure).count("highest 100 %") == 6
    left, right, bottom, top = min(image.get_extent() for image in figure.axes[0].get_images())
    boxes = [
        (
            (patch.get_x() - left) / (right - left),
            (patch.get_y() - top) / (bottom - top),
            patch.get_width() / (right - left),
            patch.get_height() / (bottom - top),
        )
        for patch in figure.axes[0].patches
    ]
    assert boxes[0] == pytest.approx((1 / 3, 1 / 6, 1 / 3, 1 / 6))
    assert boxes[2] == pytest.approx((0, 5 / 6, 1 / 3, 1 / 6))


def test_of_one_scale_the_places_are_the_columns(explanation: SimpleNamespace) -> None:
    points = [(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)]
    figure = sheet(figures.matching_block([explanation], points, slice(-1, None)))
    assert len(pictures_of(figure)) == 2 + 3
    assert {"where each looks in b", "1", "2", "3"} <= set(texts(figure))
    assert "scale-3" not in texts(figure)
