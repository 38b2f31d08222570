"""Generated streets: the drawn people walk past several cameras.

Everything about a street follows from the values of its `Street`. Its cameras differ in place, height, angle
of view, light, colour cast, sharpness and noise. Its people walk up and down the street, past one camera
after the other. They hide each other, and things that stand in the street hide them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from kronreid.data.generated.exposure import expose, noise
from kronreid.data.generated.scenery import Camera, draw_place, make_camera
from kronreid.data.generated.sprites import Sprite, Walker, thing
from kronreid.data.generated.walks import TALL, Street, View, Visit
from kronreid.extras import explained

__all__ = ["START", "Recording", "Seen", "Shot", "Street", "frames", "make"]

#: When all cameras start, in seconds since 1970 (UTC).
START = datetime(2026, 5, 4, 8, tzinfo=timezone.utc).timestamp()

_GRAINS = 8  # different patterns of noise


@dataclass(frozen=True)
class Seen:
    """A person in a frame.

    Attributes:
        identity: who it is, from 1; the same in all cameras.
        box: left, top, width and height of the whole body, cut at the edges of the picture, in pixels.
        visibility: share of the body that is in the picture and not hidden, 0 to 1.
    """

    identity: int
    box: tuple[float, float, float, float]
    visibility: float


@dataclass(frozen=True)
class Shot:
    """A frame and what is true about it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        time: seconds after the beginning.
        people: all people whose bodies are at least partly in the picture, even if something hides them.
    """

    image: np.ndarray
    time: float
    people: list[Seen]


@dataclass(frozen=True)
class Recording:
    """The files of one camera.

    Attributes:
        camera: the camera's name, like ``camera-1``.
        video: the video. It starts at `START`.
        truth: the boxes of its people, in MOT's format. The numbers of the tracks are the identities.
    """

    camera: str
    video: Path
    truth: Path


def frames(street: Street, camera: int) -> Iterator[Shot]:
    """The frames of a camera, one after the other. They take the same memory however many there are.

    Args:
        street: the street.
        camera: the camera, from 1.
    """
    stage = _Stage(street, camera)
    waiting = [visit for visit in street.visits() if visit.camera == camera][::-1]
    for number in range(street.length):
        time = number / street.rate
        while waiting and waiting[-1].start <= time:
            stage.enter(waiting.pop())
        image, people = stage.draw(time)
        yield Shot(image, time, people)


def make(folder: Path, street: Street) -> list[Recording]:
    """Record a street: for each camera a video, and the truth as a MOT sequence.

    The folder then has ``camera-1.mp4``, ``camera-1/gt/gt.txt``, ``camera-1/seqinfo.ini`` and so on. A line
    of ``gt.txt`` is frame (from 1), identity, left, top (from 1), width, height, 1, 1 and visibility.

    Args:
        folder: where to write. It is created if it is missing.
        street: the street.

    Raises:
        InputError: PyAV is not installed.
    """
    with explained("generated streets"):
        import av  # noqa: F401
    return [_record(folder, street, camera) for camera in range(1, street.cameras + 1)]


class _Stage:
    """One camera's place, and the people who are there now."""

    def __init__(self, street: Street, camera: int) -> None:
        self.street, self.number = street, camera
        self.view: View = street.view(camera)
        self.camera: Camera = make_camera(camera, street.world)
        self.rng = Random(f"{street.seed}/street/{camera}")
        self.place = self._place()
        self.things = self._things()
        self.grains = [self._grain() for _ in range(_GRAINS)]
        self.walkers: dict[Visit, Walker] = {}

    def enter(self, visit: Visit) -> None:
        """A person enters."""
        nearest = min(visit.begin[1], visit.end[1])
        tall = TALL * self.view.project(0.0, nearest)[2]
        self.walkers[visit] = Walker(
            self.street.person(visit.identity), self.camera, visit.heading, round(tall), TALL
        )

    def draw(self, time: float) -> tuple[np.ndarray, list[Seen]]:
        """The picture at a time, and who is in it."""
        for visit in [visit for visit in self.walkers if visit.stop < time]:
            del self.walkers[visit]
        canvas = self.place.copy()
        owners = Image.new("L", canvas.size)  # 1 and up: whose body a pixel shows
        parts: list[tuple[float, int, Sprite, tuple[float, float]]] = [
            (row, 0, sprite, (column, row)) for sprite, (column, row) in self.things
        ]
        visits = list(self.walkers)
        for number, visit in enumerate(visits, start=1):
            x, z = visit.at(time)
            column, row, scale = self.view.project(x, z)
            walker = self.walkers[visit]
            sprite = walker.after((time - visit.start) * visit.speed)
            sprite = sprite.scaled(scale * TALL / walker.tall, self.camera.sharpness)
            parts.append((row, number, sprite, (column, row)))
        bodies: dict[int, tuple[tuple[int, int, int, int], int]] = {}
        for _, number, sprite, (column, row) in sorted(parts, key=lambda part: part[:2]):
            corner = round(column - sprite.foot[0]), round(row - sprite.foot[1])
            mask = sprite.solid()
            canvas.paste(sprite.image, corner, sprite.image)
            owners.paste(number, corner, mask)
            if number and (solid := mask.getbbox()):
                left, top = corner
                placed = solid[0] + left, solid[1] + top, solid[2] + left, solid[3] + top
                bodies[number] = placed, mask.histogram()[255]
        shown = owners.histogram()
        people = [
            Seen(visits[number - 1].identity, box, shown[number] / area)
            for number, (placed, area) in sorted(bodies.items())
            if (box := self._cut(placed))
        ]
        image = np.asarray(canvas) + self.rng.choice(self.grains)
        return np.clip(image, 0, 255, out=image).astype(np.uint8), people

    def _cut(self, box: tuple[int, int, int, int]) -> tuple[float, float, float, float] | None:
        """Left, top, width and height of the part of a box that is in the picture; None if there is none."""
        left, top = max(box[0], 0), max(box[1], 0)
        right, bottom = min(box[2], self.view.width), min(box[3], self.view.height)
        return (left, top, right - left, bottom - top) if right > left and bottom > top else None

    def _grain(self) -> np.ndarray:
        """Noise of the sensor, (H, W, 3) int16."""
        grey = self.camera.noise * noise(self.rng, self.view.width, self.view.height)
        return np.repeat(np.rint(grey).astype(np.int16), 3, axis=2)

    def _place(self) -> Image.Image:
        """The place without people, as the camera sees it."""
        size = self.view.width, self.view.height
        # The walls stand behind the farthest people.
        row = self.view.project(0.0, 1.15 * self.view.distance(0.2))[1]
        place = expose(draw_place(self.rng, size, round(row)), self.camera)
        sharp = self.camera.sharpness
        coarse = place.resize((round(size[0] * sharp), round(size[1] * sharp)), Image.Resampling.BOX)
        return coarse.resize(size, Image.Resampling.BICUBIC)

    def _things(self) -> list[tuple[Sprite, tuple[float, float]]]:
        """What stands in front of some of the people, with column and row of its foot."""
        found = []
        for third in self.rng.sample(range(3), 2):
            z = self.view.distance(self.rng.uniform(0.3, 0.45))
            _, row, scale = self.view.project(0.0, z)
            column = self.view.width * (third + self.rng.uniform(0.1, 0.7)) / 3
            sprite = thing(self.rng, self.camera, scale * TALL)
            found.append((sprite.scaled(1.0, self.camera.sharpness), (column, row)))
        return found


def _record(folder: Path, street: Street, camera: int) -> Recording:
    """Write the files of one camera."""
    import av

    name = f"camera-{camera}"
    found = Recording(name, folder / f"{name}.mp4", folder / name / "gt" / "gt.txt")
    found.truth.parent.mkdir(parents=True, exist_ok=True)
    (folder / name / "seqinfo.ini").write_text(
        f"[Sequence]\nname={name}\nframeRate={street.rate}\nseqLength={street.length}\n"
        f"imWidth={street.width}\nimHeight={street.height}\n"
    )
    with av.open(str(found.video), "w") as container, found.truth.open("w") as truth:
        container.metadata["creation_time"] = datetime.fromtimestamp(START, timezone.utc).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )
        # Without mbtree: on processors with AVX-512, x264's is not the same in every run.
        options = {"preset": "veryfast", "crf": "20", "x264-params": "no-mbtree=1"}
        stream = container.add_stream("libx264", rate=street.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = street.width, street.height, "yuv420p"
        stream.thread_count = 1
        for number, shot in enumerate(frames(street, camera)):
            picture = av.VideoFrame.from_ndarray(shot.image, format="rgb24")
            picture.pts = number
            container.mux(stream.encode(picture))
            truth.writelines(_line(number + 1, seen) for seen in shot.people)
        container.mux(stream.encode())
    return found


def _line(frame: int, seen: Seen) -> str:
    left, top, width, height = seen.box
    return f"{frame},{seen.identity},{left + 1},{top + 1},{width},{height},1,1,{seen.visibility:.3f}\n"
