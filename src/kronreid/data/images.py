"""Opening pictures defensively: files, PIL images and arrays become upright RGB images."""

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from kronreid.data.metadata import bare, orientation
from kronreid.data.records import Box, Picture
from kronreid.errors import InputError, one_line

ImageLike: TypeAlias = str | PathLike[str] | Image.Image | np.ndarray | Picture

T = TypeVar("T")

#: The formats that are always read, by Pillow's names, with the file suffixes that a folder is searched for.
#: Their decoders are common and hardened by long use.
COMMON_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}

#: Formats that are read only if the environment variable `MORE` names them, like ``AVIF,PPM``.
OTHER_FORMATS = {
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}

#: The environment variable that switches on `OTHER_FORMATS`.
MORE = "KRONREID_FORMATS"

_WANTED = os.environ.get(MORE, "").upper().replace(" ", "").split(",")
#: The formats that are read.
FORMATS = COMMON_FORMATS | {kind: ends for kind, ends in OTHER_FORMATS.items() if kind in _WANTED}

#: All file suffixes that a folder is searched for.
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

#: Pictures with more pixels are refused before decoding. No crop of a person has 64 million pixels.
MAX_PIXELS = 64_000_000
#: A person who must not be recognised is made of so many tiles, across and down.
TILES = (3, 8)

#: A progressive JPEG with more scans is refused: each costs as much time as the whole picture, and may be
#: empty. Cameras and editors write about ten.
MAX_SCANS = 100

#: The rows of a picture that are put on a white background at a time.
_STRIP = 256

#: TIFF's tags for the width and the height of a tile.
_TILE = (322, 323)

#: The transposition that turns a picture upright, by EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_rgb(image: ImageLike) -> Image.Image:
    """Open one picture as upright RGB.

    Args:
        image: A path, a PIL image of any mode, a uint8 array (H, W, 3) in RGB order, or a data set's
            `Picture`, which is cropped to its box.

    Raises:
        InputError: The file is missing, not a picture, truncated or larger than `MAX_PIXELS`; a box lies
            outside its picture; an array has another shape or type. The message names the file.
    """
    if isinstance(image, Picture):
        opened = open_rgb(image.path)
        return opened if image.box is None else crop(opened, image.box, image.path)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(
                "image array", f"expected uint8 (H, W, 3) in RGB order, got {image.dtype} {image.shape}"
            )
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        name = getattr(image, "filename", "") or "picture"
        return _opened(image, _upright_rgb, name)  # Pillow opens a file, but does not decode it yet
    return read_rgb(Path(image), image)


def read_rgb(
    file: Path | bytes,
    name: str | PathLike[str],
    formats: Iterable[str] = FORMATS,
    most_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decode a picture file as upright RGB.

    Args:
        file: The path or the content of the file.
        name: Name of the picture in messages.
        formats: The accepted formats from `FORMATS`.
        most_pixels: Pictures with more pixels, by their header, are refused before decoding.

    Raises:
        InputError: The file is missing, is not a picture of these formats, is damaged or too large. Damaged
            metadata are no error; at worst the picture stays as it is stored.
    """
    return _opened(file, _upright_rgb, name, formats, most_pixels)


def format_and_pixels(
    file: Path | bytes,
    name: str | PathLike[str],
    formats: Iterable[str] = FORMATS,
    most_pixels: int = MAX_PIXELS,
) -> tuple[str, int]:
    """The format of a picture (Pillow's name) and its number of pixels, from its header; see `read_rgb`."""

    def told(image: Image.Image) -> tuple[str, int]:
        return image.format or "", image.width * image.height

    return _opened(file, told, name, formats, most_pixels)


def upright_size(
    file: Path | bytes,
    name: str | PathLike[str],
    formats: Iterable[str] = FORMATS,
    most_pixels: int = MAX_PIXELS,
) -> tuple[int, int]:
    """Width and height in pixels of the upright picture in a file. Only PNG files are decoded for this.

    Raises:
        InputError: As in `read_rgb`.
    """

    def size(image: Image.Image) -> tuple[int, int]:
        if isinstance(image, PngImageFile):
            image.load()  # the metadata may follow the pixels
        # Pillow already applies a TIFF's orientation to its size.
        turned = orientation(image) >= 5 and not isinstance(image, TiffImageFile)
        return image.size[::-1] if turned else image.size

    return _opened(file, size, name, formats, most_pixels)


def _opened(
    file: Path | bytes | Image.Image,
    use: Callable[[Image.Image], T],
    name: str | PathLike[str],
    formats: Iterable[str] = FORMATS,
    most_pixels: int = MAX_PIXELS,
) -> T:
    """Open a picture with Pillow and apply `use`. If that fails, try again without the metadata."""

    def attempt(file: Path | bytes | Image.Image) -> T:
        if isinstance(file, Image.Image):
            _check_size(file, name, most_pixels)
            _check_work(file, name, most_pixels)
            return use(file)
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        with Image.open(source, formats=list(formats)) as image:
            return attempt(image)

    with _pillow(name, formats, most_pixels):
        try:
            return attempt(file)
        except (InputError, MemoryError):
            raise
        except Exception:
            rest = bare(_content(file))
            if rest is None:
                raise
        return attempt(rest)


def _content(file: Path | bytes | Image.Image) -> bytes:
    """The bytes of a picture file that failed to open; empty if they cannot be read again."""
    if isinstance(file, bytes):
        return file
    if isinstance(file, Path):
        return file.read_bytes() if file.is_file() else b""
    source = getattr(file, "fp", None)
    if source is None or source.closed:
        return b""
    source.seek(0)
    return source.read()


def _check_size(image: Image.Image, name: str | PathLike[str], most_pixels: int) -> None:
    if image.width * image.height > most_pixels:
        raise InputError(
            name,
            f"has {image.width} × {image.height} pixels, more than the {most_pixels:,} allowed; "
            "scale it down or crop it",
        )


def _check_work(image: Image.Image, name: str | PathLike[str], most_pixels: int) -> None:
    """Refuse a picture whose decoding takes far more memory or time than its size tells.

    Raises:
        InputError: It has larger tiles than the allowed pixels, or too many scans.
    """
    if isinstance(image, TiffImageFile):
        sides = [image.tag_v2.get(tag) for tag in _TILE]
        width, height = (side if isinstance(side, int) else 0 for side in sides)
        if width * height > most_pixels:
            raise InputError(
                name,
                f"has tiles of {width} × {height} pixels, more than the {most_pixels:,} allowed; "
                "save it again",
            )
    source = getattr(image, "fp", None)
    if image.info.get("progressive") and source is not None:  # an opened JPEG that is not decoded yet
        place = source.tell()
        source.seek(0)
        scans = source.read().count(b"\xff\xda")
        source.seek(place)
        if scans > MAX_SCANS:
            raise InputError(name, f"has {scans:,} scans, more than the {MAX_SCANS} allowed; save it again")


@contextmanager
def _pillow(
    name: str | PathLike[str], formats: Iterable[str] = FORMATS, most_pixels: int = MAX_PIXELS
) -> Iterator[None]:
    """Turn any error of Pillow into one line about the picture `name`, and drop Pillow's warnings.

    Pillow's decoders raise exceptions of any class on damaged files, so all classes are caught. Only calls of
    Pillow belong inside: an error of our own must keep its traceback.
    """
    try:
        with _silence:
            yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(name, "no such file") from None
    except IsADirectoryError:
        raise InputError(name, "is a folder, not a picture") from None
    except UnidentifiedImageError:
        kinds = ", ".join(formats)
        raise InputError(
            name, f"is not a picture that can be read (empty, or another kind of file; supported: {kinds})"
        ) from None
    except Image.DecompressionBombError:
        raise InputError(
            name, f"has more pixels than the {most_pixels:,} allowed; scale it down or crop it"
        ) from None
    except MemoryError:
        raise InputError(name, "does not fit into memory; scale it down or crop it") from None
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise InputError(name, f"cannot be read ({error.strerror})") from None
        reason = one_line(error) or type(error).__name__
        raise InputError(name, f"the picture is damaged ({reason}); replace or remove it") from error


class _Silence:
    """Drops Pillow's warnings about damaged tags and large sizes while any thread is inside.

    `warnings.catch_warnings` changes the filters of the whole process. If every thread used its own, the last
    one to leave could restore the filters that another one had set.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_silence = _Silence()


def _upright_rgb(image: Image.Image) -> Image.Image:
    """A new upright RGB image without metadata, on a white background. 16-bit grey keeps its high 8 bits."""
    if isinstance(image, TiffImageFile):
        image = _upright_tiff(image)
    else:
        image.load()  # first, because the metadata may follow the pixels
        turn = _TURNS.get(orientation(image))
        image = image if turn is None else image.transpose(turn)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        image = _on_white(image)
    image = image.convert("RGB")
    image.info.clear()  # otherwise opening it again would turn it again
    return image


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent picture on a white background, in strips, since each copy of a large one is large."""
    opaque = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height))).convert("RGBA")
        opaque.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip), (0, top))
    return opaque


def _upright_tiff(image: TiffImageFile) -> Image.Image:
    """The upright image of a TIFF.

    Pillow turns a TIFF while loading it and reads all its metadata for that, so the other metadata are
    removed first.
    """
    if image.tile and image.fp is not None and image.tell() == 0:  # not loaded yet
        image.fp.seek(0)
        rest = bare(image.fp.read())
        image = image if rest is None else TiffImageFile(io.BytesIO(rest))
    image.load()
    return image


def crop(image: Image.Image, box: Box, name: str | PathLike[str]) -> Image.Image:
    """Crop an upright picture to a box. A box that extends beyond the picture is clipped to it.

    Args:
        image: The picture.
        box: Left, top, width and height in pixels.
        name: Name of the picture in messages.

    Raises:
        InputError: The box lies completely outside the picture.
    """
    left, top, width, height = box
    inside = (max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise InputError(name, f"the box {box} lies outside the picture {image.size}")
    return image.crop(inside)


def as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """A list of one or several pictures."""
    if isinstance(images, str | PathLike | Image.Image | Picture) or (
        isinstance(images, np.ndarray) and images.ndim == 3
    ):
        return [images]
    return list(images)


def unrecognisable(image: Image.Image) -> Image.Image:
    """A picture of a person as `TILES` tiles of one colour each, of the same size."""
    tiles = image.resize(TILES, Image.Resampling.BOX)
    return tiles.resize(image.size, Image.Resampling.NEAREST)
