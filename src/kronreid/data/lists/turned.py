"""Rotating boxes that were drawn in a stored picture which its EXIF orientation turns."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from kronreid.data.records import Box


@dataclass(frozen=True)
class Stored:
    """How a picture is stored.

    Attributes:
        size: Stored width and height in pixels.
        orientation: The EXIF orientation, 1 to 8; 1 is upright.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def lies(self) -> bool:
        """Whether turning the picture upright swaps width and height."""
        return self.orientation in (5, 6, 7, 8)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright picture in pixels."""
        return self.size[::-1] if self.lies else self.size

    def turn(self, box: Box) -> Box:
        """Convert a box from stored to upright pixels, for a picture that `lies`."""
        left, top, width, height = box
        right, bottom = self.size[0] - left - width, self.size[1] - top - height
        x = top if self.orientation in (5, 8) else bottom
        y = left if self.orientation in (5, 6) else right
        return x, y, height, width


def stored(path: Path) -> Stored | None:
    """How a picture is stored, from its header; None if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged tags and large sizes
            with Image.open(path) as image:
                size, orientation = image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
                turned = image.format == "TIFF"  # for these Pillow gives the upright size
    except Exception:  # decoders may raise anything; opening the picture later reports the problem
        return None
    found = Stored(size, orientation if orientation in range(1, 9) else 1)
    return Stored(found.upright_size, found.orientation) if turned else found
