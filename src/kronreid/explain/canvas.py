"""Drawing for the figures: one face of letters, one palette, smooth lines, heat maps laid over pictures.

Colours are Okabe and Ito's, which people with any colour vision tell apart, and nothing is told by colour
alone. The letters are DejaVu Sans out of matplotlib's own files, so a figure has the same pixels everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kronreid.errors import InputError

Colour = tuple[int, int, int]
Picture = Image.Image | np.ndarray

PAPER: Colour = (255, 255, 255)
INK: Colour = (27, 31, 36)
MUTED: Colour = (98, 106, 115)
RULE: Colour = (208, 213, 219)
RIGHT: Colour = (0, 128, 94)  # bluish green, a shade darker than Okabe and Ito's for white marks on it
WRONG: Colour = (213, 94, 0)  # vermilion
QUERY: Colour = (0, 92, 158)  # blue
BOX: Colour = (226, 26, 28)  # the red rectangle of KPM's Figure 6

TEXT_SIZE = 13  # of the paragraphs below a figure's title
_OVERSAMPLE = 3


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at `size` pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def as_image(picture: Picture) -> Image.Image:
    """A PIL RGB image from a PIL image or a uint8 array (H, W, 3); InputError for any other array."""
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(
            f"picture: expected uint8 (H, W, 3), got {picture.dtype} {picture.shape}; "
            "give a PIL image or an RGB array"
        )
    return Image.fromarray(picture)


def at_height(picture: Picture, height: int) -> Image.Image:
    """The picture at `height` pixels, its shape kept."""
    image = as_image(picture)
    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), Image.Resampling.LANCZOS)


class Canvas:
    """A sheet that is drawn three times too large and reduced once, so that lines are smooth.

    All lengths are in pixels of the finished figure. Colours may be (r, g, b) or (r, g, b, alpha), which is
    blended with what is below it. A pasted picture keeps its exact pixels.
    """

    def __init__(self, width: int, height: int, background: Colour = PAPER) -> None:
        self._image = Image.new("RGB", (width * _OVERSAMPLE, height * _OVERSAMPLE), background)
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def paste(self, image: Image.Image, left: int, top: int) -> None:
        large = image.resize(
            (image.width * _OVERSAMPLE, image.height * _OVERSAMPLE), Image.Resampling.NEAREST
        )
        self._image.paste(large, (left * _OVERSAMPLE, top * _OVERSAMPLE))

    def line(self, points: Sequence[tuple[float, float]], colour: tuple[int, ...], width: float) -> None:
        # Through a mask: drawn directly, a translucent line would be darker wherever its pieces overlap.
        mask = Image.new("L", self._image.size)
        ImageDraw.Draw(mask).line(
            [(x * _OVERSAMPLE, y * _OVERSAMPLE) for x, y in points],
            fill=colour[3] if len(colour) == 4 else 255,
            width=max(1, round(width * _OVERSAMPLE)),
            joint="curve",
        )
        self._image.paste(colour[:3], mask=mask)

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        *,
        fill: tuple[int, ...] | None = None,
        outline: tuple[int, ...] | None = None,
        width: float = 1,
        radius: float = 0,
    ) -> None:
        """A rectangle whose outline lies inside [left, right) × [top, bottom)."""
        # Pillow's far corner is drawn as well, hence the −1.
        corners = (
            left * _OVERSAMPLE,
            top * _OVERSAMPLE,
            right * _OVERSAMPLE - 1,
            bottom * _OVERSAMPLE - 1,
        )
        self._draw.rounded_rectangle(
            corners,
            radius=radius * _OVERSAMPLE,
            fill=fill,
            outline=outline,
            width=max(1, round(width * _OVERSAMPLE)) if outline else 0,
        )

    def disc(self, x: float, y: float, radius: float, fill: tuple[int, ...]) -> None:
        self._draw.ellipse(
            [
                (x - radius) * _OVERSAMPLE,
                (y - radius) * _OVERSAMPLE,
                (x + radius) * _OVERSAMPLE,
                (y + radius) * _OVERSAMPLE,
            ],
            fill=fill,
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int,
        colour: tuple[int, ...] = INK,
        *,
        bold: bool = False,
        anchor: str = "la",
    ) -> None:
        """`anchor` is Pillow's: l, m, r for left, middle, right, then a, m, s for top, middle, baseline."""
        self._draw.text(
            (x * _OVERSAMPLE, y * _OVERSAMPLE),
            text,
            fill=colour,
            font=font(size * _OVERSAMPLE, bold),
            anchor=anchor,
        )

    def image(self) -> Image.Image:
        """The finished sheet, RGB."""
        return self._image.reduce(_OVERSAMPLE)


def text_width(text: str, size: int, bold: bool = False) -> float:
    """Width in pixels of one line as `Canvas.text` draws it."""
    return font(size * _OVERSAMPLE, bold).getlength(text) / _OVERSAMPLE


def shortened(text: str, width: float, size: int) -> str:
    """`text` as one line of at most `width` pixels, its middle left out where it is too long."""
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        candidate = text[: (kept + 1) // 2].rstrip() + "…" + text[len(text) - kept // 2 :].lstrip()
        if text_width(candidate, size) <= width:
            return candidate
    return "…"


def wrapped(text: str, width: float, size: int) -> list[str]:
    """`text` broken at spaces into lines of at most `width` pixels; a longer word is shortened."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, size) <= width:
            lines[-1] = joined
        else:
            lines.append(shortened(word, width, size))
    return lines


def colours_of(values: np.ndarray) -> np.ndarray:
    """Viridis: values in [0, 1] of any shape to uint8 (..., 3)."""
    return np.asarray(matplotlib.colormaps["viridis"](np.clip(values, 0, 1), bytes=True))[..., :3]


def upsampled(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W) to float32 (height, width) by cubic interpolation (as HOReID's Figure 6), never below 0."""
    grid = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.maximum(np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)), 0)


def heat_overlay(image: Image.Image, values: np.ndarray, highest: float) -> Image.Image:
    """A map (H, W) ≥ 0 over a picture: bright where it is near `highest`, dark and grey where it is near 0.

    The picture is dimmed to grey below the map, so that every colour in the result is the map's.
    """
    level = upsampled(values, image.width, image.height) / highest if highest > 0 else np.zeros(1)
    level = np.broadcast_to(np.clip(level, 0, 1), (image.height, image.width))[..., None]
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None]
    opacity = 0.15 + 0.6 * np.sqrt(level)
    blended = (1 - opacity) * 0.75 * grey + opacity * colours_of(level[..., 0])
    return Image.fromarray(np.clip(blended + 0.5, 0, 255).astype(np.uint8))


def colour_bar(width: int, low: str, high: str) -> Image.Image:
    """Viridis from left to right with a word at either end, (width, 16)."""
    canvas = Canvas(width, 16)
    left = round(text_width(low, 11)) + 6
    right = width - round(text_width(high, 11)) - 6
    ramp = colours_of(np.linspace(0, 1, max(2, right - left)))
    canvas.paste(Image.fromarray(np.repeat(ramp[None], 8, axis=0)), left, 4)
    canvas.text(0, 8, low, 11, MUTED, anchor="lm")
    canvas.text(width, 8, high, 11, MUTED, anchor="rm")
    return canvas.image()


def row(images: Sequence[Image.Image], gap: int) -> Image.Image:
    """Images beside each other, tops aligned, on paper."""
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    sheet = Image.new("RGB", (width, max(image.height for image in images)), PAPER)
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + gap
    return sheet


def column(images: Sequence[Image.Image], gap: int) -> Image.Image:
    """Images below each other, left sides aligned, on paper."""
    height = sum(image.height for image in images) + gap * (len(images) - 1)
    sheet = Image.new("RGB", (max(image.width for image in images), height), PAPER)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height + gap
    return sheet


def caption(width: int, title: str, text: str, lines_at_least: int = 1) -> Image.Image:
    """A bold title and a paragraph in grey below it, as wide as the figure they belong to."""
    lines = wrapped(text, width, TEXT_SIZE)
    canvas = Canvas(width, 24 + 19 * max(lines_at_least, len(lines)))
    canvas.text(0, 2, shortened(title, width, 16), 16, bold=True)
    for index, line in enumerate(lines):
        canvas.text(0, 25 + 19 * index, line, TEXT_SIZE, MUTED)
    return canvas.image()


def label(width: int, text: str) -> Image.Image:
    """One small line in the middle of `width` pixels."""
    canvas = Canvas(width, 18)
    canvas.text(width / 2, 9, shortened(text, width, 12), 12, MUTED, anchor="mm")
    return canvas.image()
