"""One look for figures and pages: the palette, matplotlib's settings, and a figure as PNG, SVG or picture.

Colours are Okabe and Ito's, which people with any colour vision tell apart, most of them a shade darker so
that white marks show on them. Nothing is told by colour alone: lines differ in dashes and marks, too.
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

#: What each colour is for, on light and on dark ground. Figures are drawn in the light one.
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
DPI = 300  # of print
SCREEN = 140  # pixels per inch at which a page shows a figure
SMALL, TEXT = 6.5, 7.5  # points

_LINES = ("accent", "wrong", "right", "plum", "ochre", "sky", "ink", "brown", "violet")
_DASHES = ("-", "--", (0, (1, 1)), "-.")
_MARKS = "osD^vPX*"
_MANY = len(_LINES) * len(_MARKS)  # as the numbers of colours and marks have no common factor, all differ
_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same pixels everywhere
    "font.size": SMALL,
    "text.color": INK,
    "text.parse_math": False,  # names of people's files and runs are no formulas
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
    "image.composite_image": False,  # an SVG keeps its pictures apart
    "svg.hashsalt": "kronreid",  # no random names: the same figure has the same bytes
}


def style() -> AbstractContextManager[None]:
    """Everything drawn inside is in the project's style."""
    return matplotlib.rc_context(_SETTINGS)


def save_png(figure: Figure, path: Path, dpi: int = 200) -> None:
    """Write a figure, for screens or at `dpi`; the same figure has the same bytes."""
    _save(figure, path, format="png", dpi=dpi, metadata={"Software": None})


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem`.png and `stem`.svg for print; the same figure has the same bytes."""
    save_png(figure, stem.with_name(f"{stem.name}.png"), DPI)
    _save(figure, stem.with_name(f"{stem.name}.svg"), format="svg", dpi=DPI, metadata={"Date": None})


def bitmap(figure: Figure) -> Image.Image:
    """A figure as an RGB picture of twice the pixels that a page shows, sharp on fine screens."""
    buffer = io.BytesIO()
    _save(figure, buffer, format="png", dpi=2 * SCREEN)
    return Image.open(buffer).convert("RGB")


def _save(figure: Figure, target: Any, letters: str = "path", **options: Any) -> None:
    with style(), matplotlib.rc_context({"svg.fonttype": letters}), warnings.catch_warnings():
        # A box stands for a letter that the font lacks; in a page the browser has another font for it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(target, **options)


def inline_svg(figure: Figure, spoken: str) -> Markup:
    """A chart as an <svg> element that takes the letters and colours of the page it stands in.

    Colours of the palette become the page's variables, light or dark. Nothing has a name or refers to one, so
    that a page may hold several charts. Pictures are not supported.

    Args:
        figure: Drawn in `style`.
        spoken: What a screen reader says.
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
    """``var(--name)`` of a colour of the palette, any other as it is."""
    names = (name for name, (light, _) in PALETTE.items() if light == colour[0])
    return next((f"var(--{name})" for name in names), colour[0])
