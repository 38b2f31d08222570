"""Sheets: blocks and tiles stand where they should, whatever their number and shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from kronreid.explain.sheet import MARGIN, Block, Tile, TileGroup, below, beside, sheet, tile_block, titled
from kronreid.explain.style import ACCENT, RIGHT, WIDTH, WRONG

size = st.floats(0.1, 3)
Places = list[tuple[float, float, float, float]]


def tile(height: int = 20, width: int = 10) -> Tile:
    return Tile(np.zeros((height, width, 3), dtype=np.uint8))


def spy(width: float, height: float, places: Places) -> Block:
    """A block that tells where it was drawn: left, top, right, bottom."""
    return Block(width, height, lambda _, x, y: places.append((x, y, x + width, y + height)))


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.tuples(size, size), min_size=1, max_size=4), min_size=1, max_size=4),
    st.floats(0, 0.5),
)
def test_blocks_lie_on_the_sheet_and_not_on_each_other(
    rows: list[list[tuple[float, float]]], gap: float
) -> None:
    places: Places = []
    block = below([beside([spy(*each, places) for each in row], gap) for row in rows], gap)
    figure = sheet(block, margin=0.1)
    width, height = figure.get_size_inches()
    for number, (left, top, right, bottom) in enumerate(places):
        assert 0.1 - 1e-9 <= left < right <= width - 0.1 + 1e-9
        assert 0.1 - 1e-9 <= top < bottom <= height - 0.1 + 1e-9
        for _, _, x1, y1 in places[:number]:
            assert left >= x1 + gap - 1e-9 or top >= y1 + gap - 1e-9


@settings(max_examples=30)
@given(st.lists(st.tuples(size, st.text("abc ", max_size=80)), min_size=1, max_size=3))
def test_texts_above_blocks_are_as_wide_as_they(sections: list[tuple[float, str]]) -> None:
    places: Places = []
    figure = sheet(titled([(spy(width + 1, 1, places), "Title", text) for width, text in sections]))
    assert len({top for _, top, _, _ in places}) == 1
    renderer = FigureCanvasAgg(figure).get_renderer()
    (axes,) = figure.axes
    for text in axes.texts:
        box = text.get_window_extent(renderer).transformed(axes.transData.inverted())
        _, top, right, _ = next(place for place in reversed(places) if place[0] <= box.x0 + 0.05)
        assert max(box.y0, box.y1) <= top + 0.02
        if text.get_fontsize() < 7:  # a word may be longer than its block
            assert box.x1 <= right + 0.1 or " " not in text.get_text()


@pytest.mark.parametrize("columns", [2, 5, 16])
@pytest.mark.parametrize("shape", [(20, 10), (10, 10), (9, 16)])
def test_a_grid_keeps_to_the_page_and_to_the_pictures_shape(columns: int, shape: tuple[int, int]) -> None:
    groups = [TileGroup("left", ["x"]), TileGroup("right", [str(i) for i in range(columns - 1)])]
    figure = sheet(tile_block([[tile(*shape)] * columns] * 2, groups, bar=("scale", "0", "1")))
    width, height = figure.get_size_inches()
    assert width <= WIDTH + 1e-6
    *tiles, bar = figure.axes[0].get_images()
    assert len(tiles) == 2 * columns
    for image in tiles:
        left, right, bottom, top = image.get_extent()
        assert (bottom - top) / (right - left) == pytest.approx(shape[0] / shape[1])
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    assert bar.get_extent()[2] <= height


def test_bands_stand_above_their_rows() -> None:
    bands = [("first", 1), ("second", 2)]
    axes = sheet(tile_block([[tile()]] * 3, [TileGroup("", ["a"])], bands)).axes[0]
    places = {text.get_text(): text.get_position()[1] for text in axes.texts}
    tops = sorted(image.get_extent()[3] for image in axes.get_images())
    assert places["first"] < tops[0] < places["second"] < tops[1] < tops[2]


def test_texts_of_several_lines_stand_between_the_rows() -> None:
    two = Tile(tile().image, "one\ntwo")
    axes = sheet(tile_block([[two], [two]], [TileGroup("", ["a"])])).axes[0]
    first, second = (image.get_extent() for image in axes.get_images())
    lines = [text.get_position()[1] for text in axes.texts if text.get_text() in ("one", "two")][:2]
    assert first[2] < lines[0] < lines[1] < second[3] - MARGIN


def marks(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text() in ("✓", "✗")]


def test_hits_are_told_by_frame_and_sign_not_by_colour_alone() -> None:
    row = [Tile(tile().image, part=part) for part in ("query", "right", "wrong", "")]
    axes = sheet(tile_block([row], [TileGroup("", list("qrw-"))])).axes[0]
    assert [to_hex(patch.get_edgecolor()) for patch in axes.patches] == [ACCENT, RIGHT, WRONG]
    assert [patch.get_linestyle() == "-" for patch in axes.patches] == [True, True, False]
    assert marks(axes) == ["✓", "✗"]
    assert [line.get_marker() for line in axes.lines] == ["o", "s"]


def test_several_boxes_are_numbered_on_the_side_that_has_room() -> None:
    boxes = [(0.1, 0.1, 0.3, 0.2), (0.7, 0.5, 0.95, 0.6)]
    axes = sheet(tile_block([[Tile(tile().image, boxes=boxes)]], [TileGroup("", ["a"])])).axes[0]
    left, right, _, _ = axes.get_images()[0].get_extent()
    numbers = {text.get_text(): (text.get_position()[0] - left) / (right - left) for text in axes.texts}
    assert numbers["1"] > 0.3
    assert 0 < numbers["2"] < 0.7
    alone = sheet(tile_block([[Tile(tile().image, boxes=boxes[:1])]], [TileGroup("", ["a"])])).axes[0]
    assert "1" not in [text.get_text() for text in alone.texts]
