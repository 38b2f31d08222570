"""Where the people of a generated street walk: views of cameras, ways through them and times.

Lengths are in metres and times in seconds after the beginning. The ground is flat. A point on it is (x, z):
x to the right of the camera's line of sight, z along it.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from random import Random

from kronreid.data.generated.person import Person, make_person

#: Height of a person of average stature.
TALL = 1.75
#: The most people who are in one camera's picture at the same time.
AT_ONCE = 10

_WALKERS = 2_000_003  # identity seeds of the people start after this: they are in no generated data set
_NEAREST, _FARTHEST = 0.52, 0.2  # heights of an average person, as shares of the picture's height
_SHORTEST = 5.0  # a way through a picture is at least so long


@dataclass(frozen=True)
class View:
    """How a camera sees its street.

    Attributes:
        width, height: of the picture, pixels.
        horizon: row of the picture.
        rise: height of the camera over the ground.
        focal: focal length, pixels.
    """

    width: int
    height: int
    horizon: float
    rise: float
    focal: float

    def project(self, x: float, z: float) -> tuple[float, float, float]:
        """Column and row of a point of the ground, and pixels per metre there."""
        scale = self.focal / z
        return self.width / 2 + x * scale, self.horizon + self.rise * scale, scale

    def distance(self, share: float) -> float:
        """The distance at which an average person has this share of the picture's height."""
        return self.focal * TALL / (share * self.height)

    def edge(self, side: int, z: float) -> tuple[float, float]:
        """The point just outside the picture, on its left (-1) or right (1), at a distance."""
        return side * (self.width / 2 * z / self.focal + 0.55), z


def make_view(camera: int, seed: int, width: int, height: int) -> View:
    """The view of a camera. Cameras hang at different heights and have different angles of view."""
    rng = Random(f"{seed}/view/{camera}")
    return View(
        width=width,
        height=height,
        horizon=height * rng.uniform(0.08, 0.18),
        rise=rng.uniform(2.2, 2.7),
        focal=width * rng.uniform(0.8, 1.15),
    )


@dataclass(frozen=True)
class Visit:
    """One person's way through one camera's picture, straight and at constant speed.

    Attributes:
        identity: the person, from 1.
        camera: the camera, from 1.
        start: when the person enters.
        begin, end: points of the ground.
        speed: metres per second.
    """

    identity: int
    camera: int
    start: float
    begin: tuple[float, float]
    end: tuple[float, float]
    speed: float

    @property
    def length(self) -> float:
        """Length of the way."""
        return math.dist(self.begin, self.end)

    @property
    def stop(self) -> float:
        """When the person leaves."""
        return self.start + self.length / self.speed

    @property
    def heading(self) -> float:
        """As in `Pose.heading`."""
        (x0, z0), (x1, z1) = self.begin, self.end
        return math.atan2(x1 - x0, z0 - z1)

    def at(self, time: float) -> tuple[float, float]:
        """The point at a time."""
        share = (time - self.start) * self.speed / self.length
        (x0, z0), (x1, z1) = self.begin, self.end
        return x0 + (x1 - x0) * share, z0 + (z1 - z0) * share


@dataclass(frozen=True)
class Street:
    """A street with people and cameras. The same values always give the same street.

    Attributes:
        cameras: number of cameras. They follow each other along the street.
        people: number of people. They walk up and down the street as long as the video lasts.
        seconds: length of each camera's video.
        seed: seed of its people, places, views and ways.
        world: seed of the cameras' light and of the outfits, of which the people's clothes are variations.
            With the seed of a generated data set, the street has its first cameras, and other people.
        rate: frames per second.
        width, height: of the pictures, pixels.
    """

    cameras: int = 3
    people: int = 12
    seconds: float = 40.0
    seed: int = 0
    world: int = 0
    rate: int = 10
    width: int = 640
    height: int = 360

    @property
    def length(self) -> int:
        """Number of frames of each camera."""
        return round(self.seconds * self.rate)

    def person(self, identity: int) -> Person:
        """Who walks there."""
        return make_person(_WALKERS + 1000 * self.seed + identity, self.world)

    def view(self, camera: int) -> View:
        """How a camera sees the street."""
        return make_view(camera, self.seed, self.width, self.height)

    def visits(self) -> list[Visit]:
        """All ways through pictures, by their start."""
        views = {camera: self.view(camera) for camera in range(1, self.cameras + 1)}
        taken: dict[int, list[Visit]] = defaultdict(list)
        for identity in range(1, self.people + 1):
            rng = Random(f"{self.seed}/walk/{identity}")
            speed = rng.uniform(1.1, 1.6)
            time = rng.uniform(1.0, max(1.0, self.seconds / 2))
            route = self._first_route(rng)
            while time < self.seconds:
                for camera in route:
                    visit = _way(rng, views[camera], identity, camera, time, speed)
                    visit = _wait(visit, taken[camera])
                    taken[camera].append(visit)
                    time = visit.stop + rng.uniform(2.0, 8.0)
                forward = route[-1] != self.cameras
                route = range(1, self.cameras + 1)[:: 1 if forward else -1]
                time += rng.uniform(10.0, 40.0)
        found = [visit for visits in taken.values() for visit in visits if visit.start < self.seconds]
        return sorted(found, key=lambda visit: (visit.start, visit.identity))

    def _first_route(self, rng: Random) -> range:
        """The cameras that a person passes first: from somewhere in the street to one of its ends."""
        if self.cameras == 1:
            return range(1, 2)
        first = rng.randint(1, self.cameras - 1)
        forward = range(first, self.cameras + 1)
        return forward if rng.random() < 0.5 else range(self.cameras + 1 - first, 0, -1)


def _way(rng: Random, view: View, identity: int, camera: int, start: float, speed: float) -> Visit:
    """A way from one edge of the picture to the same or the other one, near or far."""
    near, far = view.distance(_NEAREST), view.distance(_FARTHEST)
    while True:
        first = rng.choice((-1, 1))
        second = first if rng.random() < 0.2 else -first
        begin = view.edge(first, rng.uniform(near, far))
        end = view.edge(second, rng.uniform(near, far))
        visit = Visit(identity, camera, start, begin, end, speed)
        if visit.length >= _SHORTEST:
            return visit


def _wait(visit: Visit, others: list[Visit]) -> Visit:
    """The visit, delayed until it finds no full picture on its way."""
    while sum(other.start < visit.stop and visit.start < other.stop for other in others) >= AT_ONCE:
        visit = replace(visit, start=visit.start + 1.0)
    return visit
