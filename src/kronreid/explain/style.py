"""The common style of figures and pages: palette, matplotlib settings, and export as PNG, SVG or bitmap.

The colours are those of Okabe and Ito, which people with any colour vision can distinguish. Most are a shade
darker, so that white marks are visible on them. Colour is never the only difference: lines also differ in
dashes and marks.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from PIL import Image

#: The colours by purpose, for light and for dark backgrounds. Figures use the light variant.
PALETTE = {
    "paper": ("#fbfaf7", "#14171a"),
    "card": ("#ffffff", "#1c2024"),
    "ink": ("#1b1f24", "#e8eaec"),
    "muted": ("#5c646d", "#9ba4ad"),
    "rule": ("#e0ddd6", "#30363c"),
    "code": ("#f1efe9", "#22272c"),
    "accent": ("#005c9e", "#6cb6f0"),  # blue
    "wrong": ("#c24f00", "#ff8a3c"),  # vermilion
    "right": ("#00805e", "#2fbf95"),  # bluish green
    "plum": ("#9b4f7f", "#d58ab5"),
    "ochre": ("#e69f00", "#f0b83c"),
    "sky": ("#56b4e9", "#a5dbff"),
    "brown": ("#8c564b", "#c8998e"),
    "violet": ("#6a3d9a", "#b697de"),
}
CARD, INK, MUTED, RULE, ACCENT, WRONG, RIGHT = (
    PALETTE[name][0] for name in ("card", "ink", "muted", "rule", "accent", "wrong", "right")
)
FOR, AGAINST = ACCENT, WRONG  # what speaks for the same person, and against
BOX = "#e21a1c"  # the red rectangle of KPM's Figure 6

WIDTH = 7.2  # inches: two columns of a paper
DPI = 300  # resolution for print
SCREEN = 140  # pixels per inch of a figure on a page
SMALL, TEXT = 6.5, 7.5  # points

_LINES = ("accent", "wrong", "right", "plum", "ochre", "sky", "ink", "brown", "violet")
_DASHES = ("-", "--", (0, (1, 1)), "-.")
_MARKS = "osD^vPX*"
_MANY = len(_LINES) * len(_MARKS)  # all combinations differ, as the two lengths have no common factor
_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # part of matplotlib, so figures have the same pixels everywhere
    "font.size": SMALL,
    "text.color": INK,
    "text.parse_math": False,  # names of files and runs may contain $ signs
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlesize": TEXT,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(
        color=[PALETTE[_LINES[i % len(_LINES)]][0] for i in range(_MANY)],
        marker=[_MARKS[i % len(_MARKS)] for i in range(_MANY)],
        linestyle=[_DASHES[i % len(_DASHES)] for i in range(_MANY)],
    ),
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.2,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.handlelength": 2.6,
    "legend.labelspacing": 0.3,
    "image.cmap": "viridis",
    "image.composite_image": False,  # keep the pictures of an SVG separate
    "svg.hashsalt": "kronreid",  # no random ids: the same figure has the same bytes
}


def style() -> AbstractContextManager[None]:
    """A context in which everything is drawn in the project's style."""
    return matplotlib.rc_context(_SETTINGS)


def save_png(figure: Figure, path: Path, dpi: int = 200) -> None:
    """Write a figure as PNG with `dpi` pixels per inch. The same figure always gives the same bytes."""
    _save(figure, path, format="png", dpi=dpi, metadata={"Software": None})


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem`.png and `stem`.svg for print. The same figure always gives the same bytes."""
    save_png(figure, stem.with_name(f"{stem.name}.png"), DPI)
    _save(figure, stem.with_name(f"{stem.name}.svg"), format="svg", dpi=DPI, metadata={"Date": None})


def bitmap(figure: Figure) -> Image.Image:
    """A figure as an RGB picture, at twice the resolution of a page, so that it is sharp on any screen."""
    buffer = io.BytesIO()
    _save(figure, buffer, format="png", dpi=2 * SCREEN)
    return Image.open(buffer).convert("RGB")


def _save(figure: Figure, target: Any, letters: str = "path", **options: Any) -> None:
    with style(), matplotlib.rc_context({"svg.fonttype": letters}), warnings.catch_warnings():
        # The figure shows a box for a letter that the font lacks. In a page the browser uses another font.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(target, **options)


def inline_svg(figure: Figure, spoken: str) -> Markup:
    """A chart as an <svg> element that uses the font and the colours of its page.

    Colours of the palette become the page's CSS variables, light or dark. The element contains no ids, so a
    page can hold several charts. Pictures are not supported.

    Args:
        figure: A figure drawn in `style`.
        spoken: Text for screen readers.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    _save(figure, buffer, letters="none", format="svg", metadata=nothing, transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())
    elements = [(element.tag.rpartition("}")[2], element) for element in root.iter()]
    marks = {f"#{path.get('id')}": path for kind, path in elements if kind == "path" and path.get("id")}
    svg = ElementTree.Element("svg", {"role": "img", "aria-label": spoken, "viewBox": root.attrib["viewBox"]})
    for kind, element in elements:
        kept = {key: value for key, value in element.attrib.items() if key in ("x", "y", "d", "transform")}
        if kind == "use":
            mark = marks[element.attrib["{http://www.w3.org/1999/xlink}href"]]
            kept = {"d": mark.attrib["d"], "transform": f"translate({kept['x']} {kept['y']})"}
        elif kind != "text" and (kind != "path" or element.get("id")):
            continue
        drawn = ElementTree.SubElement(svg, "path" if kind == "use" else kind, kept)
        drawn.set("style", re.sub("#[0-9a-f]{6}", _variable, element.get("style", "")))
        drawn.text = element.text
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


def _variable(colour: re.Match[str]) -> str:
    """``var(--name)`` for a colour of the palette; other colours stay."""
    names = (name for name, (light, _) in PALETTE.items() if light == colour[0])
    return next((f"var(--{name})" for name in names), colour[0])
