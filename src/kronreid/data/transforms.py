"""Transforms from pictures to the network's input, as in both papers.

Pictures stay uint8 until the batch is complete; then `normalise` converts it to floats.
"""

import math
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

import kronreid.torchvision_guard  # noqa: F401

from torchvision.transforms import v2  # isort: skip

from kronreid.errors import InputError
from kronreid.options import Share


@dataclass(frozen=True)
class InputOptions:
    """Size and normalisation of the network's input.

    Attributes:
        height: Input height in pixels, at least 32.
        width: Input width in pixels, at least 16.
        mean: Mean of each RGB channel, for values from 0 to 1.
        std: Standard deviation of each RGB channel, positive.
        mirror: A trained embedder averages each picture with its mirror image (`embedded`, test-time
            flipping). It is more accurate and takes twice the time. Training does not change.

    Raises:
        InputError: A value is out of range.
    """

    height: int = 256
    width: int = 128
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    mirror: bool = False

    def __post_init__(self) -> None:
        if self.height < 32 or self.width < 16:
            raise InputError(
                "input", f"{self.height} × {self.width} is too small; give at least 32 × 16 pixels"
            )
        if min(self.std) <= 0:
            raise InputError("input.std", f"{self.std} must be positive")


PositiveShare: TypeAlias = Annotated[float, Field(ge=0.001, le=1)]
Aspect: TypeAlias = Annotated[float, Field(ge=0.001, allow_inf_nan=False)]


@dataclass(frozen=True)
class AugmentOptions:
    """Augmentation in training.

    Attributes:
        crop_area: Smallest and largest area of the random crop, as a share of the picture (HOReID, Sec. VI-B:
            0.64 to 1). The crop is resized to the input size. (1, 1) does not crop (KPM).
        crop_aspect: Smallest and largest height:width of the crop (HOReID: 2 to 3).
        flip: Probability of a horizontal flip.
        shift: Largest shift, as a share of height and width. The border is filled with the edge's pixels.
        erase: Probability of random erasing (Zhong et al. 2020) of a rectangle with 2 to 40 % of the area.
        colour: Largest change of brightness, contrast and saturation, as a share: 0.2 multiplies each by 0.8
            to 1.2.

    Raises:
        InputError: A range has its larger value first.
    """

    crop_area: tuple[PositiveShare, PositiveShare] = (1.0, 1.0)
    crop_aspect: tuple[Aspect, Aspect] = (2.0, 3.0)
    flip: Share = 0.5
    shift: Share = 0.0
    erase: Share = 0.5
    colour: Share = 0.0

    def __post_init__(self) -> None:
        for name in ("crop_area", "crop_aspect"):
            smallest, largest = getattr(self, name)
            if smallest > largest:
                raise InputError(f"{name} ({smallest:g}, {largest:g})", "give the smaller value first")


def to_tensor(image: Image.Image) -> Tensor:
    """Convert a PIL RGB image to a uint8 tensor (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def resize(image: Tensor, options: InputOptions) -> Tensor:
    """Resize a uint8 picture (3, H, W) to the network's input size, bilinearly with antialiasing."""
    return v2.functional.resize(image, [options.height, options.width], antialias=True)


def normalise(batch: Tensor, options: InputOptions) -> Tensor:
    """Normalise uint8 (N, 3, H, W) to float32 by mean and standard deviation per channel.

    The result lies in memory as (N, H, W, 3), which is "channels last". Whole rows are normalised at a time:
    a broadcast over three channels would be about three times as slow.
    """
    number, _, height, width = batch.shape
    mean, std = (torch.tensor(one, device=batch.device).repeat(width) for one in (options.mean, options.std))
    rows = batch.permute(0, 2, 3, 1).reshape(number, height, 3 * width)
    return rows.div(255).sub_(mean).div_(std).view(number, height, width, 3).permute(0, 3, 1, 2)


class TrainTransform:
    """Shift, recolour, crop, resize, flip and erase one picture at random.

    HOReID resizes to the network's input size, crops and resizes again. Here the crop is drawn in the same
    coordinates, but taken from the original picture, so that it is resampled only once.

    Args:
        input_options: The size of the network's input.
        augment: The augmentation.
    """

    def __init__(self, input_options: InputOptions, augment: AugmentOptions) -> None:
        self.input = input_options
        self.augment = augment
        change = augment.colour
        self.recolour = v2.ColorJitter(brightness=change, contrast=change, saturation=change)
        grey = [round(255 * value) for value in input_options.mean]
        self.erase = v2.RandomErasing(p=augment.erase, scale=(0.02, 0.4), ratio=(0.3, 3.3), value=grey)

    def __call__(self, image: Tensor) -> Tensor:
        """Transform uint8 (3, h, w) to uint8 (3, height, width), using torch's global random generator."""
        height, width = image.shape[-2:]
        if self.augment.shift > 0:
            image = self._shift(image)
        if self.augment.colour > 0:  # before it is resized: most data sets have smaller pictures
            image = self.recolour(image)
        top, left, h, w = self._crop_box()
        top, left = round(top * height), round(left * width)
        h, w = max(1, min(round(h * height), height - top)), max(1, min(round(w * width), width - left))
        image = v2.functional.resized_crop(
            image, top, left, h, w, [self.input.height, self.input.width], antialias=True
        )
        if torch.rand(()) < self.augment.flip:
            image = image.flip(-1)
        return self.erase(image)

    def _crop_box(self) -> tuple[float, float, float, float]:
        """Top, left, height and width of the crop, as shares of the picture."""
        low, high = self.augment.crop_area
        if low >= 1:
            return 0.0, 0.0, 1.0, 1.0
        shape = self.input.height / self.input.width
        log_aspect = [math.log(value) for value in self.augment.crop_aspect]
        for _ in range(10):
            area = float(torch.empty(()).uniform_(low, high))
            aspect = math.exp(float(torch.empty(()).uniform_(*log_aspect))) / shape
            h, w = math.sqrt(area * aspect), math.sqrt(area / aspect)
            if h <= 1 and w <= 1:
                top, left = (float(value) for value in torch.rand(2))
                return top * (1 - h), left * (1 - w), h, w
        return 0.0, 0.0, 1.0, 1.0

    def _shift(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        dy = int(torch.empty(()).uniform_(-self.augment.shift, self.augment.shift) * height)
        dx = int(torch.empty(()).uniform_(-self.augment.shift, self.augment.shift) * width)
        rows = (torch.arange(height) + dy).clamp(0, height - 1)
        columns = (torch.arange(width) + dx).clamp(0, width - 1)
        return image[:, rows][:, :, columns]
