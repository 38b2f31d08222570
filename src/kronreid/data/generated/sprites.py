"""Cut-outs of people and things, which the frames of generated streets are put together from."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from kronreid.data.generated.exposure import expose
from kronreid.data.generated.figure import draw_person
from kronreid.data.generated.person import Person
from kronreid.data.generated.scenery import THINGS, Camera
from kronreid.data.generated.stage import Pose

_OVERSAMPLING = 2
_PHASES = 12  # pictures of one stride


@dataclass(frozen=True)
class Sprite:
    """A cut-out.

    Attributes:
        image: RGBA.
        foot: pixel of the image that stands on the ground.
    """

    image: Image.Image
    foot: tuple[float, float]

    def scaled(self, factor: float, sharpness: float) -> "Sprite":
        """The cut-out in another size, as a camera shows it that resolves only a share of the details."""
        size = [max(1, round(side * factor)) for side in self.image.size]
        coarse = [max(1, round(side * sharpness)) for side in size]
        image = self.image.resize((coarse[0], coarse[1]), Image.Resampling.BILINEAR)
        if coarse != size:
            image = image.resize((size[0], size[1]), Image.Resampling.BILINEAR)
        share_x, share_y = size[0] / self.image.width, size[1] / self.image.height
        return Sprite(image, (self.foot[0] * share_x, self.foot[1] * share_y))

    def solid(self) -> Image.Image:
        """A mask (mode "1") of where the cut-out hides what is behind it; a shadow hides nothing."""
        return self.image.getchannel("A").convert("1", dither=Image.Dither.NONE)


class Walker:
    """The cut-outs of a person who walks in one direction.

    Args:
        person: who walks.
        camera: the camera that sees it.
        heading: as in `Pose.heading`.
        tall: height in pixels of an average person in the cut-outs.
        unit: length of the body's unit in metres.
    """

    def __init__(self, person: Person, camera: Camera, heading: float, tall: int, unit: float) -> None:
        self.tall = tall
        self._person, self._camera, self._heading = person, camera, heading
        self._stride = 0.34 + 0.12 * (person.hips - 0.92) / 0.2
        # The foot on the ground does not slide: two steps, each as long as the legs are apart.
        self._cycle = 4 * 0.46 * unit * person.stature * math.sin(self._stride)
        self.at_phase = lru_cache(maxsize=_PHASES)(self._draw)

    def after(self, distance: float) -> Sprite:
        """The cut-out after a distance in metres."""
        return self.at_phase(int(distance / self._cycle * _PHASES) % _PHASES)

    def _draw(self, phase: int) -> Sprite:
        camera, person = self._camera, self._person
        pose = Pose(
            self._heading, 2 * math.pi * phase / _PHASES, self._stride, 0.0, camera.pitch, camera.light
        )
        high = self.tall * _OVERSAMPLING
        foot = 0.55 * high, 1.2 * high
        lean = -0.06 * camera.light * high

        def paint(pencil: ImageDraw.ImageDraw) -> None:
            x, y = foot
            shadow = x - 0.17 * high + lean, y - 0.03 * high, x + 0.17 * high + lean, y + 0.03 * high
            pencil.ellipse(shadow, fill=(0, 0, 0, 80))
            draw_person(pencil, person, pose, foot, high * (0.97 * person.stature + 0.01))

        return cut_out(paint, round(1.1 * high), round(1.35 * high), foot, camera)


def thing(rng: Random, camera: Camera, tall: float) -> Sprite:
    """Something that stands in the street, beside which an average person is `tall` pixels high."""
    high = tall * _OVERSAMPLING
    draw, state = rng.choice(THINGS), rng.getrandbits(32)
    foot = 0.25 * high, 3.0 * high

    def paint(pencil: ImageDraw.ImageDraw) -> None:
        draw(pencil, Random(state), *foot, high / 120)

    return cut_out(paint, round(2.1 * high), round(3.1 * high), foot, camera)


def cut_out(
    paint: Callable[[ImageDraw.ImageDraw], None],
    width: int,
    height: int,
    foot: tuple[float, float],
    camera: Camera,
) -> Sprite:
    """Cut out what is painted, as a camera sees it.

    It is painted on black and on white. What differs between the two shows through.

    Args:
        paint: paints with a pencil of mode "RGBA" on an RGB image, the same on each call.
        width, height: of the image that it paints on, which the cut-out has over `_OVERSAMPLING`.
        foot: pixel of that image that stands on the ground.
        camera: the camera.
    """
    on_black, on_white = Image.new("RGB", (width, height)), Image.new("RGB", (width, height), (255,) * 3)
    for canvas in (on_black, on_white):
        paint(ImageDraw.Draw(canvas, "RGBA"))
    alpha = ImageChops.invert(ImageChops.difference(on_black, on_white).getchannel("G"))
    box = alpha.getbbox() or (0, 0, 1, 1)
    colour, alpha = (picture.crop(box).reduce(_OVERSAMPLING) for picture in (on_black, alpha))
    share = np.maximum(np.asarray(alpha, np.float32), 1.0)[:, :, None] / 255.0
    unmixed = np.minimum(np.asarray(colour, np.float32) / share, 255.0).astype(np.uint8)
    image = expose(Image.fromarray(unmixed), camera)
    image.putalpha(alpha)
    return Sprite(image, ((foot[0] - box[0]) / _OVERSAMPLING, (foot[1] - box[1]) / _OVERSAMPLING))
