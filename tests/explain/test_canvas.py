import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.canvas import (
    Canvas,
    as_image,
    colours_of,
    heat_overlay,
    shortened,
    text_width,
    wrapped,
)


def test_a_pasted_picture_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    canvas = Canvas(50, 40)
    canvas.paste(Image.fromarray(pixels), 7, 5)
    sheet = np.asarray(canvas.image())
    assert sheet.shape == (40, 50, 3)
    np.testing.assert_array_equal(sheet[5:25, 7:37], pixels)
    sheet = sheet.copy()
    sheet[5:25, 7:37] = 255
    assert (sheet == 255).all()


def test_a_translucent_line_is_even_where_its_pieces_meet() -> None:
    canvas = Canvas(60, 20)
    canvas.line([(x, 10) for x in range(5, 56, 2)], (0, 0, 0, 128), 6)
    along = np.asarray(canvas.image())[10, 8:52, 0]
    assert np.ptp(along) <= 1
    assert 120 <= along[0] <= 135


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.floats(20, 200))
def test_text_is_made_to_fit(text: str, width: float) -> None:
    assert text_width(shortened(text, width, 11), 11) <= width
    lines = wrapped(text, width, 11)
    assert all(text_width(line, 11) <= width for line in lines)
    if text_width(max(text.split(), key=len, default=""), 11) * 2 < width:
        assert " ".join(lines).split() == text.split() or any("…" in line for line in lines)


def test_shortening_keeps_both_ends() -> None:
    short = shortened("0003_c1s1_000451_03.jpg", 80, 11)
    assert short.startswith("000")
    assert short.endswith("jpg")
    assert "…" in short


def test_heat_is_bright_where_the_map_is_high_and_grey_elsewhere() -> None:
    values = np.zeros((4, 2))
    values[1, 1] = 0.25
    heat = np.asarray(heat_overlay(Image.new("RGB", (80, 160), (120, 160, 90)), values, 0.25)).astype(int)
    hot, cold = heat[60, 60], heat[150, 10]
    top = colours_of(np.array(1.0)).astype(int)
    assert np.abs(hot - top).max() < 70
    assert hot[:2].min() > cold[:2].max() + 40
    assert np.ptp(cold) < 40


def test_an_array_of_another_type_is_refused() -> None:
    with pytest.raises(InputError, match="uint8"):
        as_image(np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match=r"\(4, 4\)"):
        as_image(np.zeros((4, 4), dtype=np.uint8))
