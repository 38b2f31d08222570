"""Heat maps over pictures, with cubic upsampling and alpha blending as in HOReID's Figure 6."""

from __future__ import annotations

import matplotlib
import numpy as np
from PIL import Image

from kronreid.errors import InputError

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
    image = as_image(picture).convert("L")
    size = (max(1, round(image.width * _HEIGHT / image.height)), _HEIGHT)
    grey = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)[..., None]
    grid = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    level = np.asarray(grid.resize(size, Image.Resampling.BICUBIC)) / (highest if highest > 0 else 1)
    level = np.clip(level, 0, 1)[..., None]
    opacity = 0.15 + 0.6 * np.sqrt(level)
    colours = matplotlib.colormaps["viridis"](level[..., 0], bytes=True)[..., :3]
    blended = (1 - opacity) * 0.75 * grey + opacity * colours
    return np.clip(blended + 0.5, 0, 255).astype(np.uint8)
