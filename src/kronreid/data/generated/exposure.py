"""What a camera of the generated pedestrians does to its pictures: light, colour cast, tone and noise."""

from collections.abc import Sequence
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image

from kronreid.data.generated.scenery import Camera

_SIZE = 512
_NOISE = np.random.RandomState(7).standard_normal((_SIZE, _SIZE)).astype(np.float32)


def expose(image: Image.Image, camera: Camera, light: Sequence[float] = (1.0, 1.0, 1.0)) -> Image.Image:
    """Apply a camera's light, colour cast, saturation, black level and tone curve.

    Args:
        image: what is there, RGB.
        camera: the camera.
        light: factors for red, green and blue, on top of the camera's own.
    """
    # One matrix mixes each colour with its grey (saturation) and applies gain and black level.
    keep, grey = camera.saturation, 1.0 - camera.saturation
    matrix: list[float] = []
    for channel, (gain, factor) in enumerate(zip(camera.gain, light)):
        gain *= factor
        row = [grey * share * gain for share in (0.299, 0.587, 0.114)]
        row[channel] += keep * gain
        matrix += [*row, camera.lift]
    return image.convert("RGB", matrix=tuple(matrix)).point(_tone(camera.gamma))


@lru_cache(maxsize=256)
def _tone(gamma: float) -> list[int]:
    return [round(255 * (level / 255) ** gamma) for level in range(256)] * 3


def noise(rng: Random, width: int, height: int) -> np.ndarray:
    """Noise of a sensor, (height, width, 1) float32 with standard deviation 1, the same in each channel."""
    top, left = rng.randrange(_SIZE), rng.randrange(_SIZE)
    rows, columns = np.arange(top, top + height) % _SIZE, np.arange(left, left + width) % _SIZE
    return _NOISE[rows[:, None], columns][:, :, None]
