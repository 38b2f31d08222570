"""Boxes that were drawn in a picture as it is stored, where EXIF says that the picture has to be turned."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from kronreid.data.records import Box


@dataclass(frozen=True)
class Stored:
    """How a picture is stored.

    Attributes:
        size: Width and height of the stored pixels.
        orientation: EXIF's number for how they are turned or mirrored; 1 where they are upright.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def lies(self) -> bool:
        """Whether width and height change places when the picture is turned upright."""
        return self.orientation in (5, 6, 7, 8)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return self.size[::-1] if self.lies else self.size

    def turn(self, box: Box) -> Box:
        """A box of a picture that `lies`, from stored pixels to upright ones."""
        left, top, width, height = box
        right, bottom = self.size[0] - left - width, self.size[1] - top - height
        x = top if self.orientation in (5, 8) else bottom
        y = left if self.orientation in (5, 6) else right
        return x, y, height, width


def stored(path: Path) -> Stored | None:
    """How a picture is stored, from its header; None where it cannot be told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags and large sizes
            with Image.open(path) as image:
                size, orientation = image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
                turned = image.format == "TIFF"  # Pillow gives the upright size of these
    except Exception:  # decoders raise anything; whoever opens the picture says what is wrong with it
        return None
    found = Stored(size, orientation if orientation in range(1, 9) else 1)
    return Stored(found.upright_size, found.orientation) if turned else found
