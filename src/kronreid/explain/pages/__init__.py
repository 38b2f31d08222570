"""Self-contained HTML pages in the palette of the figures, light and dark.

All text is escaped, pictures are inlined, and a content security policy forbids a page to load anything.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.heat import Picture, as_image
from kronreid.explain.style import PALETTE

#: Key, name and meaning of the metrics of an evaluation.
MEASURES = (
    ("rank1", "rank-1", "the first hit is right"),
    ("rank5", "rank-5", "one of the first five hits is right"),
    ("rank10", "rank-10", "one of the first ten hits is right"),
    ("mAP", "mAP", "mean average precision"),
    ("mAP_trapezoid", "mAP, trapezoid", "Market-1501’s own rule, never higher"),
    ("mINP", "mINP", "how early the last right hit comes"),
)


@dataclass(frozen=True)
class RankedPictures:
    """A query and its hits, best first.

    Attributes:
        query: The query picture.
        hits: The pictures that were found.
        correct: For each hit, whether it shows the query's person; None if this is not known.
        labels: For each hit, the text below it (a score, a camera).
        title: Title of the list.
        caption: One sentence that explains the list.
        names: For each hit, the tooltip (a file's name); empty for no tooltips.

    Raises:
        InputError: The numbers of hits, marks and labels differ.
    """

    query: Picture
    hits: Sequence[Picture]
    correct: Sequence[bool | None]
    labels: Sequence[str]
    title: str
    caption: str = ""
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not len(self.hits) == len(self.correct) == len(self.labels):
            raise InputError(
                f"ranked list {self.title!r}",
                f"{len(self.hits)} hits, {len(self.correct)} marks and {len(self.labels)} labels; "
                "give one of each",
            )


def render(template: str, **values: Any) -> str:
    """Render a template of this folder to an HTML page.

    Args:
        template: The template's file name.
        values: The template's values. Text is escaped; pictures go through the filters below.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, inlined=inlined, percent=percent, thumbnail=thumbnail)
    environment.globals["palette"] = PALETTE
    return environment.get_template(template).render(values)


def printable(value: Any) -> Any:
    """Any value as valid Unicode text. Bytes of a file name that are not UTF-8 become escapes."""
    return value if isinstance(value, Markup) else str(value).encode("utf-8", "backslashreplace").decode()


def percent(fraction: object) -> str:
    """A fraction in per cent with one decimal; an en dash if it is missing or not finite."""
    if not isinstance(fraction, (int, float)) or not math.isfinite(fraction):
        return "–"
    return f"{100 * fraction:.1f}"


def duration(seconds: float) -> str:
    """Format seconds as 0.4 s, 12 s, 3 min 20 s or 1 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def thumbnail(picture: Picture) -> str:
    """A small picture as a ``data:`` URL, at twice the shown resolution, to be sharp on any screen."""
    image = as_image(picture)
    image.thumbnail((680, 340))
    return inlined(image)


def inlined(picture: Picture) -> str:
    """A picture as a ``data:`` URL, at most 2000 pixels wide."""
    image = as_image(picture)
    if image.width > 2000:
        image = image.resize((2000, round(image.height * 2000 / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
