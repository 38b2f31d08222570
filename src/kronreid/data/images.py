"""Opening pictures, defensively: files, PIL images and arrays in; upright RGB out."""

import io
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

#: The formats that are read, by Pillow's names, and the file endings that a folder is searched for.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}

#: File endings that a folder of pictures is searched for.
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

#: Larger pictures are refused before they are decoded: no crop of a person has 64 million pixels.
MAX_PIXELS = 64_000_000

#: What turns a picture upright, by its orientation.
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
                "image array", f"uint8 (H, W, 3) in RGB order expected, got {image.dtype} {image.shape}"
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
        file: Its path or its content.
        name: What messages call it.
        formats: The formats that are accepted, of `FORMATS`.
        most_pixels: Larger pictures are refused by what their header says, before anything is decoded.

    Raises:
        InputError: It is missing, no picture of these formats, damaged or too large. Damaged metadata do not
            matter: at worst the picture is upright as it is stored.
    """
    return _opened(file, _upright_rgb, name, formats, most_pixels)


def format_and_pixels(
    file: Path | bytes,
    name: str | PathLike[str],
    formats: Iterable[str] = FORMATS,
    most_pixels: int = MAX_PIXELS,
) -> tuple[str, int]:
    """A picture's format by Pillow's name, and its number of pixels, from its header; see `read_rgb`."""

    def told(image: Image.Image) -> tuple[str, int]:
        return image.format or "", image.width * image.height

    return _opened(file, told, name, formats, most_pixels)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture in a file. Only a PNG file is decoded for it.

    Raises:
        InputError: As `read_rgb`.
    """

    def size(image: Image.Image) -> tuple[int, int]:
        if isinstance(image, PngImageFile):
            image.load()  # the metadata may lie behind the pixels
        # Pillow gives the size of a TIFF as its orientation turns it.
        turned = orientation(image) >= 5 and not isinstance(image, TiffImageFile)
        return image.size[::-1] if turned else image.size

    return _opened(path, size, path)


def _opened(
    file: Path | bytes | Image.Image,
    use: Callable[[Image.Image], T],
    name: str | PathLike[str],
    formats: Iterable[str] = FORMATS,
    most_pixels: int = MAX_PIXELS,
) -> T:
    """What `use` makes of a picture in Pillow's hands. If anything fails, its metadata are left out."""

    def attempt(file: Path | bytes | Image.Image) -> T:
        if isinstance(file, Image.Image):
            _check_size(file, name, most_pixels)
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
    """The bytes of a picture file that was tried already; empty if they cannot be read again."""
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
            f"{image.width} × {image.height} pixels are more than the {most_pixels:,} allowed; "
            "scale it down or crop it",
        )


@contextmanager
def _pillow(
    name: str | PathLike[str], formats: Iterable[str] = FORMATS, most_pixels: int = MAX_PIXELS
) -> Iterator[None]:
    """Whatever Pillow raises within, as one line about the picture `name`; Pillow's warnings are dropped.

    Its decoders raise exceptions of any class on damaged files, so all classes are caught. Only calls of
    Pillow belong here: an error of our own must keep its traceback.
    """
    try:
        with _silence:
            yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(name, "no such file") from None
    except IsADirectoryError:
        raise InputError(name, "is a folder, a picture is expected") from None
    except UnidentifiedImageError:
        kinds = ", ".join(formats)
        raise InputError(
            name, f"not a picture that can be read (empty, or another kind of file; {kinds} are read)"
        ) from None
    except Image.DecompressionBombError:
        raise InputError(
            name, f"has more pixels than the {most_pixels:,} allowed; scale it down or crop it"
        ) from None
    except MemoryError:
        raise InputError(name, "does not fit into the memory; scale it down or crop it") from None
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise InputError(name, f"cannot be read ({error.strerror})") from None
        reason = one_line(error) or type(error).__name__
        raise InputError(name, f"the picture is damaged ({reason}); replace or remove it") from error


class _Silence:
    """Drops Pillow's warnings of damaged tags and large sizes while any thread is inside.

    `warnings.catch_warnings` changes the filters of the whole process. If each thread had one of its own, the
    last to leave would put back what another one had changed.
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
    """A new image without metadata: upright, in RGB, on white. 16-bit greys keep their 8 high bits."""
    if isinstance(image, TiffImageFile):
        image = _upright_tiff(image)
    else:
        image.load()  # first: the metadata may lie behind the pixels
        turn = _TURNS.get(orientation(image))
        image = image if turn is None else image.transpose(turn)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")
    image.info.clear()  # or who opens it again would turn it again
    return image


def _upright_tiff(image: TiffImageFile) -> Image.Image:
    """Pillow itself turns a TIFF while it loads it. For that it reads all its metadata, so it gets none."""
    if image.tile and image.fp is not None and image.tell() == 0:  # not loaded yet
        image.fp.seek(0)
        rest = bare(image.fp.read())
        image = image if rest is None else TiffImageFile(io.BytesIO(rest))
    image.load()
    return image


def crop(image: Image.Image, box: Box, name: str | PathLike[str]) -> Image.Image:
    """The part of an upright picture that lies in `box`: a box that sticks out is cut off at the border.

    Raises:
        InputError: The box lies outside; the message begins with `name`.
    """
    left, top, width, height = box
    inside = (max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise InputError(name, f"the box {box} lies outside the picture {image.size}")
    return image.crop(inside)


def as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One picture or several, as a list."""
    if isinstance(images, str | PathLike | Image.Image | Picture) or (
        isinstance(images, np.ndarray) and images.ndim == 3
    ):
        return [images]
    return list(images)
