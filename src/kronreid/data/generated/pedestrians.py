"""Draws pictures of generated pedestrians, and writes data sets of them.

A picture depends on four numbers only: the person (`identity_seed`), the camera, the shot, and the seed of
the world. The pictures are hard for the same reasons as real ones: the same person is seen from the front,
the side and the back, in different light, behind things, and in boxes that are shifted, loose or cut.
"""

import logging
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from kronreid.data.generated.exposure import expose, noise
from kronreid.data.generated.figure import draw_person
from kronreid.data.generated.person import Person, make_person
from kronreid.data.generated.scenery import Camera, make_camera, occlude, panorama
from kronreid.data.generated.stage import Pose
from kronreid.errors import InputError

log = logging.getLogger(__name__)

_OVERSAMPLING = 2
_STRANGER = 1_000_003  # identity seeds of passers-by and distractors start here


def draw(
    identity_seed: int, camera: int, shot: int, *, seed: int = 0, height: int = 128, width: int = 64
) -> Image.Image:
    """Draw one picture of one person.

    Args:
        identity_seed: the person; the same number is the same person in every camera and shot.
        camera: the camera, any number; it sets viewpoint, light, colour cast, place, sharpness and noise.
        shot: the picture taken by that camera; pose, box, background and occluder differ between shots.
        seed: seed of the whole world; another seed gives other people and other cameras.
        height: height of the picture, pixels.
        width: width of the picture, pixels.

    Returns:
        An RGB image of `width` × `height` pixels, the same on every call.

    Example:
        >>> draw(7, camera=1, shot=0).size
        (64, 128)
    """
    rng = Random(f"{seed}/shot/{identity_seed}/{camera}/{shot}")
    return _take(rng, make_person(identity_seed, seed), camera, _usual_box(rng), seed, height, width)


def _usual_box(rng: Random) -> tuple[float, float, float]:
    """A detector's box around a person: height of the body and x, y of its middle, as shares of the box."""
    fate = rng.random()
    if fate < 0.45:  # a good box
        return rng.uniform(0.84, 0.97), 0.5 + rng.uniform(-0.07, 0.07), 0.5 + rng.uniform(-0.03, 0.03)
    if fate < 0.7:  # loose, the person somewhere in it
        body = rng.uniform(0.58, 0.8)
        free = (1 - body) / 2
        return body, 0.5 + rng.uniform(-0.16, 0.16), 0.5 + rng.uniform(-free, free)
    if fate < 0.88:  # cut at the feet, seldom at the head
        body = rng.uniform(1.05, 1.4)
        over = (body - 1) / 2
        low = over if rng.random() < 0.75 else -over
        return body, 0.5 + rng.uniform(-0.08, 0.08), 0.5 + low + rng.uniform(-0.03, 0.06)
    return (
        rng.uniform(0.75, 0.95),
        0.5 + rng.choice((-1, 1)) * rng.uniform(0.14, 0.26),
        0.5 + rng.uniform(-0.1, 0.1),
    )


def _poor_box(rng: Random) -> tuple[float, float, float]:
    """A box that missed the person: it shows a part of the body, or the person at its edge."""
    if rng.random() < 0.6:
        return rng.uniform(1.9, 3.0), rng.uniform(0.2, 0.8), rng.uniform(-0.2, 1.2)
    return rng.uniform(0.4, 0.7), rng.choice((0.0, 1.0)) + rng.uniform(-0.1, 0.1), rng.uniform(0.3, 0.7)


def _pose(rng: Random, camera: Camera) -> Pose:
    heading = camera.heading + rng.gauss(0.0, 0.3)
    if rng.random() < 0.2:  # some walk the other way
        heading += rng.choice((math.pi, math.pi / 2, -math.pi / 2))
    return Pose(
        heading=heading,
        phase=rng.uniform(0.0, 2 * math.pi),
        stride=0.04 if rng.random() < 0.15 else rng.uniform(0.25, 0.55),
        lift=1.0 if rng.random() < 0.12 else 0.0,
        pitch=camera.pitch,
        light=camera.light,
    )


def _take(
    rng: Random,
    person: Person | None,
    camera: int,
    box: tuple[float, float, float],
    seed: int,
    height: int,
    width: int,
) -> Image.Image:
    """The picture that a camera takes of a person (or of nobody) in a box, see `_usual_box`."""
    view = make_camera(camera, seed)
    high, wide = height * _OVERSAMPLING, width * _OVERSAMPLING
    place = panorama(camera, seed)
    zoom = rng.uniform(0.75, 1.0)
    window = place.height * zoom, place.height * zoom * width / height
    x, y = rng.uniform(0, place.width - window[1]), rng.uniform(0.5, 1.0) * (place.height - window[0])
    canvas = place.resize((wide, high), Image.Resampling.BILINEAR, box=(x, y, x + window[1], y + window[0]))
    pencil = ImageDraw.Draw(canvas, "RGBA")

    body, middle_x, middle_y = box
    tall = body * high
    foot = middle_x * wide, middle_y * high + 0.49 * tall
    pose = _pose(rng, view)
    if rng.random() < 0.2:  # somebody farther away
        aside = rng.choice((-1, 1)) * rng.uniform(0.3, 0.5) * wide
        _put(
            pencil,
            _stranger(rng, seed),
            _pose(rng, view),
            (foot[0] + aside, foot[1] - 0.1 * tall),
            0.8 * tall,
        )
    if person is not None:
        _put(pencil, person, pose, foot, tall)
        fate = rng.random()
        if fate < 0.28:
            occlude(pencil, rng, wide, high)
        elif fate < 0.38:  # somebody nearer
            spot = foot[0] + rng.choice((-1, 1)) * rng.uniform(0.42, 0.6) * wide, foot[1] + 0.12 * tall
            _put(pencil, _stranger(rng, seed), _pose(rng, view), spot, 1.08 * tall)
    return _expose(canvas, view, rng, height, width)


def _stranger(rng: Random, seed: int) -> Person:
    return make_person(_STRANGER + rng.randrange(10_000), seed)


def _put(
    pencil: ImageDraw.ImageDraw, person: Person, pose: Pose, foot: tuple[float, float], tall: float
) -> None:
    """Draw a person and the shadow on the ground."""
    x, y = foot
    lean = -0.06 * pose.light * tall
    pencil.ellipse(
        (x - 0.17 * tall + lean, y - 0.03 * tall, x + 0.17 * tall + lean, y + 0.03 * tall), fill=(0, 0, 0, 80)
    )
    draw_person(pencil, person, pose, foot, tall)


def _expose(canvas: Image.Image, view: Camera, rng: Random, height: int, width: int) -> Image.Image:
    """Apply the camera's light, colour cast, sharpness and noise, which differ a little between its shots."""
    sharp = view.sharpness * rng.uniform(0.8, 1.0)
    small = max(1, round(width * sharp)), max(1, round(height * sharp))
    image = canvas.resize(small, Image.Resampling.BOX)
    if small != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    light = rng.uniform(0.87, 1.15)
    image = expose(image, view, [light * rng.uniform(0.97, 1.03) for _ in view.gain])
    pixels = np.asarray(image, dtype=np.float32) + view.noise * noise(rng, width, height)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def contact_sheet(
    identities: Sequence[int],
    cameras: Sequence[int] = (1, 2, 3, 4, 5, 6),
    shots: int = 2,
    *,
    seed: int = 0,
    height: int = 128,
    width: int = 64,
) -> Image.Image:
    """A table of pictures: a row per identity, a column per camera and shot.

    Args:
        identities: identity seeds, see `draw`.
        cameras: numbers of the cameras.
        shots: pictures per identity and camera.
        seed, height, width: see `draw`.

    Returns:
        An RGB image; cells are 2 pixels apart.
    """
    columns = [(camera, shot) for camera in cameras for shot in range(shots)]
    sheet = Image.new("RGB", (len(columns) * (width + 2), len(identities) * (height + 2)), (255, 255, 255))
    for row, identity in enumerate(identities):
        for column, (camera, shot) in enumerate(columns):
            picture = draw(identity, camera, shot, seed=seed, height=height, width=width)
            sheet.paste(picture, (column * (width + 2), row * (height + 2)))
    return sheet


def write_market1501(
    root: Path,
    *,
    train_identities: int = 150,
    test_identities: int = 60,
    cameras: int = 6,
    pictures_per_camera: int = 4,
    distractors: int = 300,
    junk: int = 60,
    seed: int = 0,
    progress: bool = True,
) -> None:
    """Write a data set of generated pedestrians in the layout of Market-1501.

    The same arguments always give the same bytes. Every camera sees every identity. Each camera's first
    picture of a test identity is a query; its others are in the gallery. The gallery also holds distractors
    (identity 0: people who are in no query, and empty boxes) and junk (identity -1: boxes that show only a
    part of a test identity). Training and test share no identity.

    Args:
        root: folder to create. It may exist if it is empty. It appears once all its pictures are written.
        train_identities: number of identities in `bounding_box_train`.
        test_identities: number of identities in `query` and `bounding_box_test`.
        cameras: number of cameras, 1 to 9, because file names have one digit for the camera.
        pictures_per_camera: pictures of each identity by each camera.
        distractors: pictures of identity 0 in `bounding_box_test`.
        junk: pictures of identity -1 in `bounding_box_test`.
        seed: seed of the whole world.
        progress: show a progress bar on a terminal.

    Raises:
        InputError: `root` is a file or is not empty, or a number is out of range.
    """
    for name, value, low in (
        ("train_identities", train_identities, 0),
        ("test_identities", test_identities, 0),
        ("cameras", cameras, 1),
        ("pictures_per_camera", pictures_per_camera, 1),
        ("distractors", distractors, 0),
        ("junk", junk, 0),
    ):
        if value < low:
            raise InputError(name, f"{value} is too small, give at least {low}")
    if cameras > 9:
        raise InputError(
            "cameras", f"{cameras} is too many, the names of Market-1501 have one digit: give 1 to 9"
        )
    if junk and not test_identities:
        raise InputError("junk", "shows test identities, so it needs test_identities of at least 1")
    root = Path(root).resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(root, "exists and is not an empty folder, name another one or remove it")
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = root.parent / f".{root.name}.{os.getpid()}.part"
    entries = list(
        _entries(train_identities, test_identities, cameras, pictures_per_camera, distractors, junk)
    )
    try:
        for folder in ("bounding_box_train", "query", "bounding_box_test"):
            (partial / folder).mkdir(parents=True)
        for entry in tqdm(entries, "pedestrians", unit="picture", disable=None if progress else True):
            path, image, quality = _develop(entry, seed)
            image.save(partial / path, quality=quality)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log.info("wrote %d pictures of generated pedestrians to %s", len(entries), root)


# (folder, identity in the name, frame in the name, identity seed, camera, shot)
_Entry = tuple[str, int, int, int, int, int]


def _entries(
    train: int, test: int, cameras: int, pictures: int, distractors: int, junk: int
) -> Iterator[_Entry]:
    """Every picture of a data set, in the order in which they are written."""
    for identity in range(1, train + test + 1):
        for camera in range(1, cameras + 1):
            for shot in range(pictures):
                folder = "bounding_box_train" if identity <= train else "bounding_box_test"
                if identity > train and shot == 0:
                    folder = "query"
                yield folder, identity, 25 * shot, identity, camera, shot
    for i in range(distractors):
        yield "bounding_box_test", 0, i, _STRANGER + i, 1 + i % cameras, 0
    for i in range(junk):  # shots that no other picture has
        yield "bounding_box_test", -1, i, train + 1 + i % test, 1 + i % cameras, pictures + i


def _develop(entry: _Entry, seed: int) -> tuple[str, Image.Image, int]:
    """The picture of an entry: its path, the image, and the JPEG quality of its file."""
    folder, identity, frame, identity_seed, camera, shot = entry
    if identity > 0:
        image = draw(identity_seed, camera, shot, seed=seed)
    else:
        rng = Random(f"{seed}/miss/{identity_seed}/{camera}/{shot}")
        nobody = identity == 0 and rng.random() < 0.4
        box = _usual_box(rng) if identity == 0 else _poor_box(rng)
        person = None if nobody else make_person(identity_seed, seed)
        image = _take(rng, person, camera, box, seed, 128, 64)
    number = f"{identity:04d}" if identity >= 0 else str(identity)
    name = f"{number}_c{camera}s1_{frame:06d}_00.jpg"
    return f"{folder}/{name}", image, make_camera(camera, seed).quality
