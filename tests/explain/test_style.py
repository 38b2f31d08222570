"""One look: what a page gets of a figure, and files that do not change by themselves."""

import html.parser
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from kronreid.explain.charts import panels
from kronreid.explain.style import PALETTE, SCREEN, bitmap, inline_svg, save_figure, save_png, style


def drawn(text: str = "x") -> Figure:
    with style():
        figure, (axes,) = panels(3, 2)
        axes.plot([0, 1, 2], [0, 3, 1], label=text, markevery=[-1])
        axes.plot([0, 1], [2, 2], label="other")
        axes.set_xlabel(text)
        figure.legend(loc="outside upper left")
    return figure


class Elements(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_chart_takes_the_colours_of_its_page_and_needs_nothing_else() -> None:
    svg = inline_svg(drawn(), "two lines")
    elements = Elements(svg)
    assert {tag for tag, _ in elements.found} == {"svg", "path", "text"}
    assert dict(elements.found[0][1]) == {"role": "img", "aria-label": "two lines", "viewbox": "0 0 216 144"}
    for _, attributes in elements.found:
        assert not {"id", "href", "xlink:href", "clip-path", "class"} & set(attributes)
    assert "//" not in svg
    assert "url(" not in svg
    assert not re.search("#[0-9a-f]{6}", svg)
    assert set(re.findall(r"var\(--(\w+)\)", svg)) == {"accent", "wrong", "ink", "muted"}
    # The marks: at one line's end, at the other's two points, and in the legend.
    assert [svg.count(f'style="fill: var(--{name})') for name in ("accent", "wrong")] == [2, 3]


@pytest.mark.parametrize(
    "text", ["<b>", "a & b", "&lt;", "$x^2$", r"\frac{", "]]>", "\"'", 'id="a"', "名前 😀"]
)
def test_texts_are_shown_as_they_are(text: str, recwarn: pytest.WarningsRecorder) -> None:
    """No text becomes markup or a formula, and a letter that the font lacks is no news."""
    elements = Elements(inline_svg(drawn(text), text))
    assert elements.texts.count(text) == 2
    assert elements.found[0][1]["aria-label"] == text
    assert {tag for tag, _ in elements.found} == {"svg", "path", "text"}
    bitmap(drawn(text))
    assert not recwarn.list


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: save_png(drawn(), folder / "a.png"),
        lambda folder: save_figure(drawn(), folder / "a.v1"),
    ],
)
def test_files_are_the_same_every_time(tmp_path: Path, made: Callable[[Path], None]) -> None:
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made(tmp_path / name)
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) in ({"a.png"}, {"a.v1.png", "a.v1.svg"})


def test_sizes(tmp_path: Path) -> None:
    save_figure(drawn(), tmp_path / "print")
    save_png(drawn(), tmp_path / "screen.png")
    with Image.open(tmp_path / "print.png") as printed, Image.open(tmp_path / "screen.png") as screen:
        assert printed.size == (900, 600)
        assert screen.size == (600, 400)
    assert (tmp_path / "print.svg").read_bytes().startswith(b"<?xml")
    picture = bitmap(drawn())
    assert (picture.mode, picture.size) == ("RGB", (6 * SCREEN, 4 * SCREEN))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("shade", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "card", "code"])
def test_what_is_read_stands_out(shade: int, ground: str) -> None:
    """Texts by 4.5 and marks by 3, as WCAG 2 asks."""
    for names, least in (("ink muted accent", 4.5), ("right wrong plum", 3)):
        for name in names.split():
            low, high = sorted(luminance(PALETTE[each][shade]) for each in (name, ground))
            assert (high + 0.05) / (low + 0.05) >= least, name


def test_no_two_lines_of_many_look_alike() -> None:
    with style():
        _, (axes,) = panels(3, 2)
        lines = [axes.plot([0, 1], [0, number])[0] for number in range(60)]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 60
