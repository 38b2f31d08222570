import numpy as np
import pytest
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.canvas import PAPER, QUERY, RIGHT, RULE, WRONG
from kronreid.explain.lists import part_maps_figure, ranked_list_figure

STEP_X, STEP_Y, LEAD, FRAME = 118, 248, 26, 5
BLACK = Image.new("RGB", (64, 128))


def close(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= 8)


def card(sheet: np.ndarray, index: int) -> np.ndarray:
    """The framed picture of hit `index`, without rank and label."""
    left, top = STEP_X + LEAD + index % 10 * STEP_X, index // 10 * STEP_Y + 20
    return sheet[top : top + 192 + 2 * FRAME, left : left + 96 + 2 * FRAME]


def test_right_wrong_and_unknown_hits_are_told_by_frame_and_mark() -> None:
    figure = ranked_list_figure(BLACK, [BLACK] * 3, [True, False, None], ["a", "b", "c"])
    assert figure.size == (4 * STEP_X + LEAD, STEP_Y)
    right, wrong, unknown = (card(np.asarray(figure), index) for index in range(3))

    # Frames: whole green, broken vermilion, grey; read along the right side, below the marks.
    sides = [np.array([tuple(p) for p in c[40:-8, -3]]) for c in (right, wrong, unknown)]
    assert all(close(pixel, RIGHT) for pixel in sides[0])
    painted = np.array([close(pixel, WRONG) for pixel in sides[1]])
    gaps = np.array([close(pixel, PAPER) for pixel in sides[1]])
    assert painted.mean() > 0.5
    assert gaps.mean() > 0.2
    assert all(close(pixel, RULE) for pixel in sides[2])

    # Marks: a disc with a white tick, a square with a white cross, nothing. The mark's middle is (13, 9).
    x, y = 13, 9
    assert close(right[y + 3, x - 2], PAPER)  # the corner of the tick
    assert close(right[y - 5, x - 3], RIGHT)  # above it
    assert close(wrong[y, x], PAPER)  # where the bars of the cross meet
    assert close(wrong[y - 7, x], WRONG)
    # The disc leaves its bounding square's corner free, the square fills it.
    assert close(wrong[y + 9, x + 9], WRONG)
    assert close(right[y + 10, x + 10], (0, 0, 0))
    assert not unknown[FRAME:-FRAME, FRAME:-FRAME].any()  # the black picture is untouched


def test_the_query_has_its_own_frame_and_pictures_are_whole(people: list[Image.Image]) -> None:
    query = people[1]  # 96 × 192: drawn pixel by pixel
    pixels = np.asarray(ranked_list_figure(query, [], [], []))
    assert pixels.shape == (STEP_Y, STEP_X + LEAD, 3)
    assert close(pixels[100, 2], QUERY)
    np.testing.assert_array_equal(
        pixels[20 + FRAME : 20 + FRAME + 192, FRAME : FRAME + 96], np.asarray(query)
    )


def test_a_picture_of_another_shape_is_fitted_not_stretched() -> None:
    wide = Image.new("RGB", (200, 100), (255, 0, 0))
    shown = card(np.asarray(ranked_list_figure(BLACK, [wide], [None], [""])), 0)[FRAME:-FRAME, FRAME:-FRAME]
    red = (shown == (255, 0, 0)).all(axis=2)
    assert red.sum() == 96 * 48
    assert red[96].all()


def test_more_than_ten_hits_go_to_the_next_row(people: list[Image.Image]) -> None:
    figure = ranked_list_figure(people[0], people, [None] * 12, ["x"] * 12)
    assert figure.size == (11 * STEP_X + LEAD, 2 * STEP_Y)
    eleventh = card(np.asarray(figure), 10)[FRAME:-FRAME, FRAME:-FRAME]
    np.testing.assert_array_equal(eleventh, np.asarray(people[10]))


def test_labels_do_not_run_into_each_other() -> None:
    name = "a_very_long_file_name_of_a_picture_0003_c4s2_000451_03.jpg"
    pixels = np.asarray(ranked_list_figure(BLACK, [BLACK] * 2, [None] * 2, [name] * 2))
    between = STEP_X + LEAD + 96 + 2 * FRAME
    assert (pixels[:, between + 1 : between + 11] == 255).all()
    assert (pixels[-25:-5, STEP_X + LEAD : between] < 128).any()


def test_numbers_that_do_not_agree_are_refused() -> None:
    with pytest.raises(InputError, match="2 hits, 1 marks and 2 labels"):
        ranked_list_figure(BLACK, [BLACK] * 2, [True], ["a", "b"])


def test_part_maps_are_bright_where_they_sample() -> None:
    maps = np.zeros((9, 6, 3))
    for part in range(9):
        maps[part, part % 6, part % 3] = 0.1 * (part + 1)
    figure = part_maps_figure(Image.new("RGB", (64, 128), (128, 128, 128)), maps)
    cell_width, cell_height = 112 + 8, 224 + 4 + 18 + 10
    assert figure.size == (7 * cell_width - 8, 2 * cell_height - 10)
    pixels = np.asarray(figure).astype(int)
    for part in range(9):
        left, top = (part + 1) % 7 * cell_width, (part + 1) // 7 * cell_height
        shown = pixels[top : top + 224, left : left + 112]
        y, x = np.unravel_index((shown[..., 1] - shown[..., 2]).argmax(), shown.shape[:2])
        assert (y * 6 // 224, x * 3 // 112) == (part % 6, part % 3)


def test_part_maps_need_maps() -> None:
    with pytest.raises(InputError, match="maps"):
        part_maps_figure(BLACK, np.zeros((6, 3)))
    with pytest.raises(InputError, match="maps"):
        part_maps_figure(BLACK, np.zeros((0, 6, 3)))
