"""Heat maps over pictures, with cubic upsampling and alpha blending as in HOReID's Figure 6."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from kronreid.errors import InputError
from kronreid.explain.style import AGAINST, FOR

Picture = Image.Image | np.ndarray

_HEIGHT = 384  # height in pixels of a picture with a map


def as_image(picture: Picture) -> Image.Image:
    """Convert a PIL image or a uint8 array (H, W, 3) in RGB to a PIL RGB image.

    Raises:
        InputError: The array has another dtype or shape.
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(
            "picture",
            f"expected uint8 (H, W, 3), got {picture.dtype} {picture.shape}; give a PIL image or "
            "an RGB array",
        )
    return Image.fromarray(picture)


def heat(picture: Picture, values: np.ndarray, highest: float) -> np.ndarray:
    """Lay a map over a picture: bright where values are near `highest`, dark grey where they are near 0.

    The picture is dimmed and turned grey, so every colour in the result belongs to the map (viridis).

    Args:
        picture: A PIL image or a uint8 array (H, W, 3) in RGB, of any size.
        values: (h, w), not negative.
        highest: The value of the brightest colour; 0 if the whole map is 0.

    Returns:
        uint8 (384, W, 3), with the picture's aspect ratio.
    """
    grey = _grey(picture)
    level = np.clip(_stretched(values, grey, highest), 0, 1)
    opacity = 0.15 + 0.6 * np.sqrt(level)
    colours = matplotlib.colormaps["viridis"](level[..., 0], bytes=True)[..., :3]
    blended = (1 - opacity) * 0.75 * grey + opacity * colours
    return np.clip(blended + 0.5, 0, 255).astype(np.uint8)


def signed_heat(picture: Picture, values: np.ndarray, highest: float) -> np.ndarray:
    """A map over a picture: blue where it is above zero, orange where it is below, the picture's grey at 0.

    Args:
        picture: Any size.
        values: (h, w), of either sign.
        highest: The magnitude of the strongest colours; 0 where the whole map is 0.

    Returns:
        uint8 (384, W, 3), W by the picture's shape.
    """
    grey = _grey(picture)
    level = np.clip(_stretched(values, grey, highest), -1, 1)
    opacity = 0.8 * np.abs(level)
    colours = 255 * np.where(level > 0, to_rgb(FOR), to_rgb(AGAINST))
    # Pale, so that the colours are as strong on dark clothes as on light ones.
    blended = (1 - opacity) * (90 + 0.65 * grey) + opacity * colours
    return np.clip(blended + 0.5, 0, 255).astype(np.uint8)


def _grey(picture: Picture) -> np.ndarray:
    """The picture in grey, float32 (384, W, 1)."""
    image = as_image(picture).convert("L")
    size = (max(1, round(image.width * _HEIGHT / image.height)), _HEIGHT)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)[..., None]


def _stretched(values: np.ndarray, over: np.ndarray, highest: float) -> np.ndarray:
    """A map in the size of a picture (H, W, 1), smoothly, as multiples of `highest`."""
    grid = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    large = grid.resize((over.shape[1], over.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(large)[..., None] / (highest if highest > 0 else 1)
