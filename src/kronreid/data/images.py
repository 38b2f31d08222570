"""Opening pictures, defensively: files, PIL images and arrays in; upright RGB out."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kronreid.data.records import Box, Picture
from kronreid.errors import InputError

ImageLike: TypeAlias = str | PathLike[str] | Image.Image | np.ndarray | Picture

#: Larger pictures are refused before they are decoded: no crop of a person has 64 million pixels.
MAX_PIXELS = 64_000_000


def open_rgb(image: ImageLike) -> Image.Image:
    """Open one picture as upright RGB.

    Args:
        image: A path, a PIL image of any mode, a uint8 array (H, W, 3) in RGB order, or a data set's
            `Picture`, of which its box is cut out.

    Raises:
        InputError: The file is missing, no picture, truncated or larger than `MAX_PIXELS`; a box lies outside
            its picture; the array has another shape or type. The message names the file.
    """
    if isinstance(image, Picture):
        opened = open_rgb(image.path)
        return opened if image.box is None else crop(opened, image.box, image.path)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(
                f"image array: uint8 (H, W, 3) in RGB order expected, got {image.dtype} {image.shape}"
            )
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        name = getattr(image, "filename", "") or "picture"
        with _errors_of(name):  # opened, but perhaps not decoded yet
            return _decode(image, name)
    with _errors_of(image), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(Path(image)) as file:
            return _decode(file, image)


def _decode(image: Image.Image, name: str | PathLike[str]) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"{name}: {image.width} × {image.height} pixels are more than the {MAX_PIXELS:,} allowed; crop it"
        )
    return upright_rgb(image)


def crop(image: Image.Image, box: Box, name: str | PathLike[str]) -> Image.Image:
    """The part of an upright picture that lies in `box`: a box that sticks out is cut off at the border.

    Raises:
        InputError: The box lies outside; the message begins with `name`.
    """
    left, top, width, height = box
    inside = (max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise InputError(f"{name}: the box {box} lies outside the picture {image.size}")
    return image.crop(inside)


@contextmanager
def _errors_of(name: str | PathLike[str]) -> Iterator[None]:
    """Pillow's many ways to fail as one line about the picture `name`."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder, a picture is expected") from None
    except UnidentifiedImageError:
        raise InputError(f"{name}: not a picture that can be read (empty, or another kind of file)") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: the picture is damaged ({error}); replace or remove it") from None


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn a PIL image upright by its EXIF orientation and into RGB; 16-bit greys keep their 8 high bits."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One picture or several, as a list."""
    if isinstance(images, str | PathLike | Image.Image | Picture) or (
        isinstance(images, np.ndarray) and images.ndim == 3
    ):
        return [images]
    return list(images)
