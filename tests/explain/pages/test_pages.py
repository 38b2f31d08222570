"""What all pages share."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.pages import RankedPictures, duration, inlined, percent, printable, thumbnail
from kronreid.explain.pages.demo import DemoReport, write_demo_report
from kronreid.explain.style import PALETTE


def test_a_list_whose_numbers_do_not_agree_is_refused() -> None:
    person = Image.new("RGB", (64, 128))
    with pytest.raises(InputError, match="1 hits, 2 marks and 1 labels"):
        RankedPictures(person, [person], [True, False], ["a"], "t")


def test_numbers_in_words() -> None:
    assert [duration(s) for s in (0.04, 9.96, 59.4, 59.6, 92, 3700)] == [
        "0.0 s", "10 s", "59 s", "1 min 0 s", "1 min 32 s", "1 h 1 min",
    ]  # fmt: skip
    assert [percent(v) for v in (0.8416, 1, None, float("nan"), "x")] == ["84.2", "100.0", "–", "–", "–"]


@given(st.text(st.characters()) | st.binary().map(lambda name: name.decode("utf-8", "surrogateescape")))
def test_every_name_can_be_written(name: str) -> None:
    shown = printable(name)
    shown.encode("utf-8")
    assert shown == name or re.search(r"\\udc|\\ud[89a-f]", shown)


def test_pictures_are_made_smaller_and_never_changed() -> None:
    picture = Image.new("RGB", (3000, 300), (0, 90, 160))
    for made in (inlined(picture), thumbnail(picture)):
        assert made.startswith("data:image/webp;base64,")
    assert picture.size == (3000, 300)
    assert len(thumbnail(np.zeros((600, 300, 3), dtype=np.uint8))) < len(inlined(picture))


def test_a_page_has_the_palette_light_and_dark(tmp_path: Any, read: Callable[[str], Any]) -> None:
    person = Image.new("RGB", (64, 128))
    nobody = RankedPictures(person, [], [], [], "t")
    page = write_demo_report(tmp_path, DemoReport({}, "", [], person, [], nobody, [], [])).read_text()
    read(page)
    light, dark = page.split("@media (prefers-color-scheme: dark)")[:2]
    for name, shades in PALETTE.items():
        assert f"--{name}: {shades[0]};" in light
        assert f"--{name}: {shades[1]};" in dark
    assert set(re.findall(r"var\(--(\w+)\)", page)) <= set(PALETTE)
