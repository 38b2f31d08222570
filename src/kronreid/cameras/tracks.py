"""Tracks: what is known of one person in front of one camera while it is followed."""

import hashlib

import numpy as np

from kronreid.cameras.looks import Look, choose, encoded

#: Looks of one track that are kept as candidates for its pictures.
_MOST_LOOKS = 10
#: A track keeps a box this often, in seconds, and at most this many boxes; then every second one goes.
_BOX_SECONDS, _MOST_BOXES = 0.2, 600


class Track:
    """A person in front of one camera, from entering to leaving.

    Its memory does not grow with its length: boxes and looks are thinned.

    Args:
        recording: What the identifier follows from, beside the first box and its time.
        time: When it was first seen, in seconds since 1970 (UTC).
        box: (4,) where: left, top, width and height in pixels.

    Attributes:
        id: 64 hexadecimal digits.
        start: When it was first seen.
        end: When it was last seen.
        first: (4,) its first box.
        last: (4,) its last box.
        looks: The looks that its pictures are chosen from, with vectors.
        learned: Number of looks in its mean vector.
    """

    def __init__(self, recording: str, time: float, box: np.ndarray) -> None:
        place = ",".join(f"{value:.1f}" for value in box)
        self.id = hashlib.sha256(f"{recording}\0{time:.6f}\0{place}".encode()).hexdigest()
        self.start = self.end = time
        self.first = self.last = box
        self.looks: list[Look] = []
        self.learned = 0
        self._times = [time]
        self._boxes = [box]
        self._every = _BOX_SECONDS
        self._sum: np.ndarray | None = None

    def __lt__(self, other: "Track") -> bool:
        return (self.start, self.id) < (other.start, other.id)

    def see(self, time: float, box: np.ndarray) -> None:
        """Add a box, which is later than all others."""
        self.end, self.last = time, box
        if time - self._times[-1] >= self._every - 1e-6:
            self._times.append(time)
            self._boxes.append(box)
            self._thin()

    def learn(self, look: Look) -> None:
        """Add a look with its vector."""
        assert look.vector is not None
        self._learn(look.quality * look.vector, 1)
        if look.image is not None:
            look.jpeg, look.image = encoded(look.image), None
        self._keep([look])

    def absorb(self, later: "Track") -> None:
        """Add what another track of the same person has after this one ends."""
        at = int(np.searchsorted(later._times, self.end, side="right"))
        self._times += later._times[at:]
        self._boxes += later._boxes[at:]
        self.end, self.last = later.end, later.last
        self._thin()
        if later._sum is not None:
            self._learn(later._sum, later.learned)
        self._keep(later.looks)

    def _thin(self) -> None:
        while len(self._times) > _MOST_BOXES:
            self._times, self._boxes = self._times[::2], self._boxes[::2]
            self._every *= 2

    def _learn(self, vectors: np.ndarray, count: int) -> None:
        self._sum = vectors if self._sum is None else self._sum + vectors
        self.learned += count

    def _keep(self, looks: list[Look]) -> None:
        self.looks += looks
        if len(self.looks) > _MOST_LOOKS:
            self.looks = choose(self.looks, _MOST_LOOKS, _MOST_LOOKS)

    @property
    def mean(self) -> np.ndarray | None:
        """(D,) the mean of its looks' vectors, weighted by quality, L2-normalised; None without looks."""
        if self._sum is None:
            return None
        return (self._sum / max(float(np.linalg.norm(self._sum)), 1e-12)).astype(np.float32)

    @property
    def boxes(self) -> np.ndarray:
        """(N, 5) float32: the seconds after `start` and the box, for some of its frames and the last one."""
        times, boxes = list(self._times), list(self._boxes)
        if times[-1] < self.end:
            times.append(self.end)
            boxes.append(self.last)
        seconds = np.array(times)[:, None] - self.start
        return np.hstack([seconds, np.stack(boxes)]).astype(np.float32)

    def velocity(self) -> np.ndarray:
        """(2,) pixels per second of its centre over about its last second."""
        at = max(int(np.searchsorted(self._times, self.end - 1.0)) - 1, 0)
        seconds = self.end - self._times[at]
        moved = centre(self.last) - centre(self._boxes[at])
        return moved / seconds if seconds > 0.1 else np.zeros(2)


def centre(box: np.ndarray) -> np.ndarray:
    """(2,) the centre of a box."""
    return box[:2] + box[2:] / 2


def reachable(track: Track, later: Track) -> bool:
    """Whether the person of a track can have walked to where another one begins.

    A person walks at most about its own height in a second, and its height in the frame changes slowly.
    """
    seconds = later.start - track.end
    if seconds <= 0:
        return False
    first = later.first
    height = max(float(track.last[3]), float(first[3]))
    straight = centre(track.last) + track.velocity() * min(seconds, 2.0)
    distance = min(float(np.linalg.norm(centre(first) - place)) for place in (centre(track.last), straight))
    ratio = height / max(min(float(track.last[3]), float(first[3])), 1e-6)
    return distance <= height * (0.5 + seconds) and ratio <= 1.5 + 0.2 * seconds
