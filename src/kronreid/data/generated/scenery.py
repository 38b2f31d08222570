"""Cameras of the generated pedestrians: the places they look at, their light, and what hides people."""

import math
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from kronreid.data.generated.colours import Colour

_SCENE = (1536, 256)  # pixels of a camera's panorama: its height is that of one picture
_GOLDEN = 0.618034


@dataclass(frozen=True)
class Camera:
    """What one camera does to all its pictures.

    Attributes:
        heading: direction in which most people walk past it, in radians, as in `Pose.heading`.
        pitch: how steeply it looks down, as the tangent.
        gain: factors for red, green and blue: the product of brightness and colour cast.
        gamma: exponent of its tone curve.
        lift: black level that haze or flare adds, 0 to 20 grey levels.
        saturation: 0 is grey, 1 is full colour.
        sharpness: share of a picture's width and height that the camera resolves, 0.55 to 1.
        noise: standard deviation of the sensor's noise, in grey levels.
        quality: quality of its JPEG files.
        light: side from which the light falls, as in `Pose.light`.
    """

    heading: float
    pitch: float
    gain: tuple[float, float, float]
    gamma: float
    lift: float
    saturation: float
    sharpness: float
    noise: float
    quality: int
    light: int


@lru_cache(maxsize=256)
def make_camera(camera: int, seed: int) -> Camera:
    """The camera with this number. Neighbouring numbers differ much in viewpoint, light and colour cast."""
    rng = Random(f"{seed}/camera/{camera}")
    start = Random(f"{seed}/cameras").random()
    hue = 2 * math.pi * ((start + camera * _GOLDEN) % 1.0)
    light = 0.72 * 1.5 ** ((start * 7 + camera * 0.381966 * 2) % 1.0)
    cast = rng.uniform(0.03, 0.07)
    red, green, blue = (light * math.exp(cast * math.cos(hue - turn)) for turn in (0.0, 2.1, 4.2))
    heading = (0.35, math.pi - 0.3, math.pi / 2 + 0.15, -0.45, math.pi + 0.5, -math.pi / 2)[camera % 6]
    return Camera(
        heading=heading + rng.uniform(-0.2, 0.2),
        pitch=rng.uniform(0.08, 0.3),
        gain=(red, green, blue),
        gamma=rng.uniform(0.8, 1.3),
        lift=rng.uniform(0.0, 20.0),
        saturation=rng.uniform(0.7, 1.0),
        sharpness=rng.uniform(0.55, 1.0),
        noise=rng.uniform(1.5, 4.5),
        quality=rng.randint(55, 90),
        light=rng.choice((-1, 1)),
    )


def _tint(rng: Random, low: int, high: int, spread: int = 16) -> Colour:
    level = rng.randint(low, high)
    return (
        level + rng.randint(-spread, spread),
        level + rng.randint(-spread, spread),
        level + rng.randint(-spread, spread),
    )


def _vivid(rng: Random) -> Colour:
    return rng.randint(30, 220), rng.randint(30, 220), rng.randint(30, 220)


@lru_cache(maxsize=64)
def panorama(camera: int, seed: int) -> Image.Image:
    """The place that a camera looks at: RGB, six times as wide as high; pictures show parts of it."""
    rng = Random(f"{seed}/place/{camera}")
    return draw_place(rng, _SCENE, int(_SCENE[1] * rng.uniform(0.25, 0.5)))


def draw_place(rng: Random, size: tuple[int, int], horizon: int) -> Image.Image:
    """Draw a place without people.

    Args:
        rng: random numbers of the place.
        size: width and height, pixels.
        horizon: row in which the ground meets the walls.
    """
    width, height = size
    image = Image.new("RGB", size, _tint(rng, 110, 180))
    draw = ImageDraw.Draw(image, "RGBA")
    _draw_backdrop(draw, rng, width, horizon)
    _draw_ground(draw, rng, width, height, horizon)
    for _ in range(rng.randint(14, 22) * width // _SCENE[0]):
        x = rng.uniform(-40, width)
        draw_thing = rng.choice(THINGS)
        draw_thing(draw, rng, x, horizon + rng.uniform(0.0, 0.5) * (height - horizon), rng.uniform(0.6, 1.1))
    return image.filter(ImageFilter.GaussianBlur(1.4))


def _draw_backdrop(draw: ImageDraw.ImageDraw, rng: Random, width: int, horizon: int) -> None:
    """Draw a row of walls, windows, hedges and dark entrances above the horizon."""
    x = 0.0
    while x < width:
        wide = rng.uniform(70, 240)
        kind = rng.choice(("wall", "windows", "hedge", "entrance", "shutter"))
        base = _tint(rng, 60, 200, 22)
        if kind == "hedge":
            draw.rectangle((x, 0, x + wide, horizon + 4), fill=(62, 92, 50))
            for _ in range(70):
                cx, cy, r = x + rng.uniform(0, wide), rng.uniform(-5, horizon), rng.uniform(4, 13)
                green = rng.randint(60, 135)
                draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(green - 25, green, green // 2))
        elif kind == "entrance":
            draw.rectangle((x, 0, x + wide, horizon), fill=_tint(rng, 22, 55, 8))
            for i in range(int(wide / 34)):
                draw.line((x + i * 34, 0, x + i * 34, horizon), fill=(120, 120, 125), width=3)
        else:
            draw.rectangle((x, 0, x + wide, horizon), fill=base)
            if kind == "windows":
                for cx in range(int(x) + 10, int(x + wide) - 24, 44):
                    draw.rectangle(
                        (cx, 6, cx + 27, horizon - 24), fill=_tint(rng, 40, 100), outline=(210, 210, 205)
                    )
            elif kind == "shutter":
                for slat in range(3, horizon, 7):
                    draw.line((x, slat, x + wide, slat), fill=(0, 0, 0, 70), width=2)
            elif rng.random() < 0.6:
                px = x + rng.uniform(5, wide * 0.5)
                draw.rectangle((px, 14, px + rng.uniform(24, 60), horizon - 18), fill=_vivid(rng))
        x += wide


def _draw_ground(draw: ImageDraw.ImageDraw, rng: Random, width: int, height: int, horizon: int) -> None:
    """Draw the pavement: tiles with joints in perspective, a band of road or of grass, or plain."""
    base = _tint(rng, 95, 185, 12)
    draw.rectangle((0, horizon, width, height), fill=base)
    kind = rng.choice(("tiles", "road", "grass", "plain"))
    rows = [horizon + (height - horizon) * (i / 9) ** 1.6 for i in range(10)]
    if kind == "tiles":
        dark = (0, 0, 0, 60)
        for y in rows:
            draw.line((0, y, width, y), fill=dark, width=2)
        for joint in range(-width, 2 * width, 46):
            middle = width / 2
            draw.line((middle + (joint - middle) * 0.6, horizon, joint, height), fill=dark, width=2)
    elif kind == "road":
        draw.rectangle((0, rows[3], width, rows[6]), fill=_tint(rng, 60, 95, 6))
        for dash in range(0, width, 120):
            draw.line((dash, rows[5], dash + 60, rows[5]), fill=(225, 225, 215), width=5)
    elif kind == "grass":
        draw.rectangle((0, horizon, width, rows[4]), fill=(88, 116, 62))
        for _ in range(400):
            x, y = rng.uniform(0, width), rng.uniform(horizon, rows[4])
            draw.line((x, y, x + 2, y - 6), fill=(110, 140, 76), width=2)
    draw.line((0, horizon, width, horizon), fill=(0, 0, 0, 90), width=4)
    for _ in range(26):
        x, y = rng.uniform(0, width), rng.uniform(horizon, height)
        tone = rng.choice(((0, 0, 0, 40), (255, 255, 255, 34)))
        draw.ellipse((x - 26, y - 5, x + 26, y + 5), fill=tone)


def _draw_bicycle(draw: ImageDraw.ImageDraw, rng: Random, x: float, y: float, size: float) -> None:
    r = 24 * size
    frame, dark = _vivid(rng), (40, 40, 44)
    for cx in (x, x + 2.4 * r):
        draw.ellipse((cx - r, y - 2 * r, cx + r, y), outline=dark, width=max(2, int(3 * size)))
    hub, far, seat, bar = (
        (x, y - r),
        (x + 2.4 * r, y - r),
        (x + 0.8 * r, y - 2.5 * r),
        (x + 2.1 * r, y - 2.6 * r),
    )
    pedal = (x + 1.1 * r, y - r)
    draw.line((hub, seat, pedal, bar, seat), fill=frame, width=max(2, int(4 * size)))
    draw.line((hub, pedal), fill=frame, width=3)
    draw.line((far, (bar[0] - 0.1 * r, bar[1] - 0.4 * r)), fill=frame, width=3)


def _draw_planter(draw: ImageDraw.ImageDraw, rng: Random, x: float, y: float, size: float) -> None:
    wide, high = 70 * size, 34 * size
    for _ in range(24):
        cx, cy, r = x + rng.uniform(0, wide), y - high - rng.uniform(0, 30) * size, rng.uniform(5, 12) * size
        green = rng.randint(70, 150)
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(green - 30, green, green // 2))
    draw.rectangle((x, y - high, x + wide, y), fill=_tint(rng, 80, 170))


def _draw_car(draw: ImageDraw.ImageDraw, rng: Random, x: float, y: float, size: float) -> None:
    long, high = 190 * size, 62 * size
    paint = rng.choice((_tint(rng, 190, 225, 6), _tint(rng, 40, 70, 6), _vivid(rng)))
    draw.polygon(
        ((x + 0.2 * long, y - high), (x + 0.32 * long, y - 1.75 * high), (x + 0.7 * long, y - 1.75 * high),
         (x + 0.86 * long, y - high)), fill=(58, 68, 80),
    )  # fmt: skip
    draw.rounded_rectangle((x, y - 1.1 * high, x + long, y - 0.22 * high), radius=0.25 * high, fill=paint)
    draw.rectangle((x, y - 0.55 * high, x + long, y - 0.45 * high), fill=(0, 0, 0, 60))
    for cx in (x + 0.2 * long, x + 0.78 * long):
        r = 0.3 * high
        draw.ellipse((cx - r, y - 2 * r, cx + r, y), fill=(26, 26, 28), outline=(150, 150, 152), width=4)


def _draw_post(draw: ImageDraw.ImageDraw, rng: Random, x: float, y: float, size: float) -> None:
    wide = 9 * size
    draw.rectangle((x, -10, x + wide, y), fill=_tint(rng, 60, 170, 10))
    draw.rectangle((x + wide * 0.6, -10, x + wide, y), fill=(0, 0, 0, 80))


def _draw_sign(draw: ImageDraw.ImageDraw, rng: Random, x: float, y: float, size: float) -> None:
    wide, high = 46 * size, 62 * size
    draw.line((x + wide / 2, y, x + wide / 2, y - 2 * high), fill=(90, 90, 92), width=4)
    draw.rectangle((x, y - 2 * high, x + wide, y - high), fill=_vivid(rng), outline=(230, 230, 228), width=3)


#: What stands in a street. Each is drawn by its pencil, random numbers, left edge, ground row and size.
THINGS = (_draw_bicycle, _draw_bicycle, _draw_planter, _draw_car, _draw_post, _draw_sign)


def occlude(draw: ImageDraw.ImageDraw, rng: Random, width: int, height: int) -> None:
    """Draw one thing in front of the person. It hides at most a third of the body, most often the legs.

    Args:
        draw: draws on the canvas, mode "RGBA".
        rng: random numbers of the shot.
        width: width of the canvas, pixels.
        height: height of the canvas, pixels.
    """
    kind = rng.choice(("pole", "bench", "car", "hedge", "rail", "bicycle"))
    size = height / 256
    if kind == "pole":
        x, wide = (
            width * rng.choice((rng.uniform(0.1, 0.35), rng.uniform(0.6, 0.85))),
            rng.uniform(9, 17) * size,
        )
        paint = rng.choice((_tint(rng, 50, 90, 6), _tint(rng, 120, 190, 10)))
        draw.rectangle((x, 0, x + wide, height), fill=paint)
        draw.rectangle((x + wide * 0.65, 0, x + wide, height), fill=(0, 0, 0, 70))
        draw.rectangle((x, 0, x + wide * 0.2, height), fill=(255, 255, 255, 50))
    elif kind == "bench":
        top = height * rng.uniform(0.66, 0.76)
        wood = (rng.randint(110, 160), rng.randint(76, 100), rng.randint(44, 64))
        for i in range(3):
            y = top + i * 13 * size
            draw.rectangle((-4, y, width + 4, y + 9 * size), fill=wood)
        draw.rectangle((-4, top + 42 * size, width + 4, top + 50 * size), fill=(70, 56, 40))
        for share in (0.12, 0.82):
            draw.rectangle((width * share, top, width * share + 7 * size, height), fill=(44, 44, 48))
    elif kind == "car":
        left = rng.random() < 0.5
        x = -190 * size * rng.uniform(0.5, 0.75) if left else width * rng.uniform(0.45, 0.7)
        _draw_car(draw, rng, x, height * rng.uniform(1.0, 1.06), 1.15 * size)
    elif kind == "hedge":
        top = height * rng.uniform(0.72, 0.84)
        draw.rectangle((0, top + 8 * size, width, height), fill=(52, 80, 44))
        for _ in range(60):
            x, y, r = rng.uniform(0, width), rng.uniform(top, height), rng.uniform(4, 11) * size
            green = rng.randint(66, 140)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(green - 28, green, green // 2))
    elif kind == "rail":
        paint = rng.choice(((200, 200, 202), (56, 60, 64), (190, 160, 60)))
        top = height * rng.uniform(0.55, 0.68)
        for y in (top, top + 34 * size):
            draw.rectangle((0, y, width, y + 6 * size), fill=paint)
        for i in range(4):
            x = width * (i + rng.random() * 0.3) / 3.5
            draw.rectangle((x, top, x + 5 * size, height), fill=paint)
    else:
        _draw_bicycle(draw, rng, width * rng.uniform(-0.3, 0.4), height * rng.uniform(0.97, 1.05), 1.5 * size)
