import matplotlib
import numpy as np
import pytest
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.heat import as_image, heat, signed_heat

GREEN = Image.new("RGB", (80, 160), (120, 160, 90))


def test_heat_is_bright_where_the_map_is_high_and_grey_elsewhere() -> None:
    values = np.zeros((4, 2))
    values[1, 1] = 0.25
    drawn = heat(GREEN, values, 0.25)
    assert (drawn.shape, drawn.dtype) == ((384, 192, 3), np.uint8)
    hot, cold = drawn[144, 144].astype(int), drawn[360, 24].astype(int)
    top = np.array(matplotlib.colormaps["viridis"](1.0, bytes=True)[:3]).astype(int)
    assert np.abs(hot - top).max() < 70
    assert hot[:2].min() > cold[:2].max() + 40
    assert np.ptp(cold) < 40


def test_an_even_map_looks_even_and_an_empty_one_dark() -> None:
    even, empty = (heat(GREEN, np.full((6, 3), v), 2.0 * v).astype(int) for v in (1.0, 0.0))
    assert np.ptp(even.reshape(-1, 3), axis=0).max() <= 1
    assert np.ptp(empty.reshape(-1, 3), axis=0).max() <= 1
    assert even[0, 0, 1] > empty[0, 0, 1] + 30


def test_an_array_of_another_type_is_refused() -> None:
    with pytest.raises(InputError, match="uint8"):
        as_image(np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match=r"\(4, 4\)"):
        as_image(np.zeros((4, 4), dtype=np.uint8))


def test_signed_heat_is_blue_above_zero_orange_below_and_grey_at_zero() -> None:
    values = np.zeros((8, 2))
    values[0, 0], values[7, 1] = 0.5, -0.5
    drawn = signed_heat(GREEN, values, 0.5)
    assert (drawn.shape, drawn.dtype) == ((384, 192, 3), np.uint8)
    gain, loss, nothing = (drawn[y, x].astype(int) for y, x in ((24, 24), (360, 168), (192, 96)))
    assert gain[2] > gain[0] + 60
    assert loss[0] > loss[2] + 60
    assert np.ptp(nothing) <= 1


def test_signed_heat_grows_with_the_share_and_not_beyond_the_highest() -> None:
    colours = [
        signed_heat(GREEN, np.full((3, 2), value), 1.0)[9, 9].astype(int) for value in (0.2, 0.6, 1, 3)
    ]
    blue = [colour[2] - colour[0] for colour in colours]
    assert blue[0] < blue[1] < blue[2] == blue[3]
    assert np.ptp(signed_heat(GREEN, np.zeros((3, 2)), 0.0), axis=2).max() == 0
