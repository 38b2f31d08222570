"""The papers' figures: what stands where, and files that do not change by themselves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kronreid.explain import figures
from kronreid.explain.figures_sheet import WIDTH, Tile, TileGroup, save_figure, tile_figure
from kronreid.explain.parts import Insight


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def pictures_of(figure: Figure) -> list[np.ndarray]:
    """The pictures of the grid, row by row."""
    shown = [(axes.get_position(), axes.get_images()[0]) for axes in figure.axes if axes.get_images()]
    tall = [(place, image) for place, image in shown if place.height > 0.05]
    ordered = sorted(tall, key=lambda each: (-round(each[0].y0, 3), each[0].x0))
    return [np.asarray(image.get_array()) for _, image in ordered]


@pytest.fixture
def insight(people: list[Image.Image]) -> Insight:
    random = np.random.default_rng(0)
    maps = random.random((4, 6, 12, 6)) ** 8
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    levels = [random.normal(size=(4, 8, 12, 6)) for _ in range(3)]
    products = [random.normal(size=(4, 8, 12, 6)) ** order for order in (1, 3, 5)]
    return Insight(np.stack([np.asarray(one) for one in people[:4]]), levels, products, maps, [])


def test_a_grid_keeps_to_the_page_and_to_the_pictures_shape(people: list[Image.Image]) -> None:
    tile = Tile(np.asarray(people[0]))
    for columns in (2, 5, 16):
        groups = [TileGroup("left", ["x"]), TileGroup("right", [str(i) for i in range(columns - 1)])]
        figure = tile_figure([[tile] * columns] * 2, groups, bar=("scale", "0", "1"))
        width, height = figure.get_size_inches()
        assert width <= WIDTH + 1e-6
        assert len(figure.axes) == 2 * columns + 1
        for axes in figure.axes[: 2 * columns]:
            place = axes.get_position()
            assert place.height * height / (place.width * width) == pytest.approx(2)
            assert 0 <= place.x0 < place.x1 <= 1
            assert 0 <= place.y0 < place.y1 <= 1


def test_bands_stand_above_their_rows(people: list[Image.Image]) -> None:
    tile = Tile(np.asarray(people[0]))
    figure = tile_figure([[tile]] * 3, [TileGroup("", ["a"])], bands=[("first", 1), ("second", 2)])
    places = {text.get_text(): text.get_position()[1] for text in figure.texts}
    tops = sorted((axes.get_position().y1 for axes in figure.axes), reverse=True)
    assert places["first"] > tops[0] > places["second"] > tops[1] > tops[2]


def test_similarities_show_the_matrices_and_their_extremes(insight: Insight) -> None:
    orders = [(f"n = {number}", maps) for number, maps in enumerate(insight.products, start=1)]
    figure = figures.similarity_figure(orders, insight.pictures)
    assert figure.get_figwidth() <= WIDTH + 1e-6
    a, b = (insight.products[0][i].reshape(8, -1) for i in (0, 1))
    expected = (a / np.linalg.norm(a.mean(axis=1))).T @ (b / np.linalg.norm(b.mean(axis=1)))
    matrices = [image for image in pictures_of(figure) if image.shape == (72, 72)]
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
    assert {"$G_3$", "n = 3", "levels"} <= set(texts(figure))


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
    insight = Insight(insight.pictures, [], [], maps, [])
    figure = figures.part_figure([("one", insight), ("two", insight)], [0, 2], [0, 4])
    shown = pictures_of(figure)
    assert len(shown) == 2 * 2 * 4
    np.testing.assert_array_equal(shown[4], insight.pictures[2])
    for row in range(4):
        assert brightest(shown[4 * row + 2]) == pytest.approx((9.5 / 12, 1.5 / 6), abs=0.05)
        assert brightest(shown[4 * row + 3]) == pytest.approx((2.5 / 12, 4.5 / 6), abs=0.05)
    assert {"one", "two", "4"} <= set(texts(figure))
    assert "one" not in texts(figures.part_figure([("one", insight)], [0], [0]))


def test_attention_says_how_many_places_it_covers(explanation: SimpleNamespace) -> None:
    for scale in explanation.scales:
        scale.attention_a = np.zeros_like(scale.attention_a)
        scale.attention_a[0, 0] = 1
    figure = figures.attention_maps_figure([explanation])
    assert len(pictures_of(figure)) == 8
    assert "1.0 of 18 places" in texts(figure)
    assert sum("of 288 places" in text for text in texts(figure)) == 2


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
    first = next(axes for axes in figure.axes if axes.patches)
    boxes = [(patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()) for patch in first.patches]
    assert boxes[0] == pytest.approx((1 / 3, 1 / 6, 1 / 3, 1 / 6))
    assert boxes[2] == pytest.approx((0, 5 / 6, 1 / 3, 1 / 6))


def test_files_are_the_same_every_time(tmp_path: Path, people: list[Image.Image]) -> None:
    written = []
    for name in ("one", "two"):
        figure = tile_figure([[Tile(np.asarray(people[0]), "text")]], [TileGroup("head", ["a"])])
        save_figure(figure, tmp_path / f"{name}.v1")
        written.append([(tmp_path / f"{name}.v1{suffix}").read_bytes() for suffix in (".png", ".svg")])
    assert written[0] == written[1]
    with Image.open(tmp_path / "one.v1.png") as image:
        assert image.size == tuple(round(300 * size) for size in figure.get_size_inches())
    assert written[0][1].startswith(b"<?xml")
