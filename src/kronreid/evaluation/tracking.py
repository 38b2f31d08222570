"""Metrics of tracking: identities and switches within a camera, and people joined over cameras.

- `identity_metrics`: IDF1, IDP and IDR (Ristani et al. 2016).
- `clear_metrics`: identity switches and MOTA (Bernardin and Stiefelhagen 2008).
- `b_cubed`: how well tracklets are grouped by person (Bagga and Baldwin 1998).

A box and a true box match if their intersection over union is at least 0.5.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from kronreid.data.lists.mot import read_boxes
from kronreid.errors import InputError

#: The least intersection over union of two boxes that match.
LEAST_OVERLAP = 0.5


@dataclass(frozen=True)
class Tracks:
    """Boxes of tracks in the frames of a video. A track has at most one box in a frame.

    Attributes:
        frames: (N,) int64: numbers of frames.
        tracks: (N,) int64: numbers of tracks.
        boxes: (N, 4) float64: left, top, width and height in pixels.
    """

    frames: np.ndarray
    tracks: np.ndarray
    boxes: np.ndarray

    def __post_init__(self) -> None:
        for name, kind in (("frames", np.int64), ("tracks", np.int64), ("boxes", np.float64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        object.__setattr__(self, "boxes", self.boxes.reshape(-1, 4))
        keys = np.stack([self.frames, self.tracks])
        if np.unique(keys, axis=1).shape[1] < len(self.frames):
            raise InputError("tracks", "a track has two boxes in one frame; give each of its boxes once")

    def __len__(self) -> int:
        return len(self.frames)


def read_truth(path: Path, least_visible: float = 0.0) -> Tracks:
    """The true tracks of a MOT file, ``gt.txt``. Boxes with flag 0 do not count.

    Args:
        path: The file.
        least_visible: Leave out boxes of which less is visible, as far as the file states it, 0 to 1.

    Raises:
        InputError: The file cannot be read, or has no box that counts.
    """
    found = [
        box
        for box in read_boxes(path)[0]
        if box.flag != 0 and (box.visibility is None or box.visibility >= least_visible)
    ]
    if not found:
        raise InputError(path, "has no box that counts; name the gt.txt of a MOT sequence")
    try:
        return Tracks(
            np.array([box.frame for box in found]),
            np.array([box.track for box in found]),
            np.array([box.box for box in found]),
        )
    except InputError as error:
        raise error.within(path) from None


def side_by_side(videos: Sequence[Tracks], shared: bool) -> Tracks:
    """The tracks of several videos as those of one.

    Frames of different videos get different numbers, which depend only on the video's place in the list and
    the frame's own number. So what was found fits the truth.

    Args:
        videos: The tracks of each.
        shared: Whether the same number means the same person in all videos. Otherwise each video's tracks
            get numbers of their own.
    """
    count = len(videos)
    return Tracks(
        np.concatenate([video.frames * count + place for place, video in enumerate(videos)]),
        np.concatenate(
            [video.tracks if shared else video.tracks * count + place for place, video in enumerate(videos)]
        ),
        np.concatenate([video.boxes for video in videos]),
    )


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (A, B) of boxes (A, 4) and (B, 4): left, top, width and height."""
    ends_a, ends_b = a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:]
    sides = np.minimum(ends_a, ends_b) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=2)
    union = np.prod(a[:, 2:], axis=1)[:, None] + np.prod(b[:, 2:], axis=1)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@dataclass(frozen=True)
class IdentityMetrics:
    """How many boxes have the right identity.

    Attributes:
        right: Boxes that match a true box of their track's true track (IDTP).
        found: All boxes.
        true: All true boxes.
    """

    right: int
    found: int
    true: int

    @property
    def idp(self) -> float:
        """Precision: the share of the boxes."""
        return self.right / self.found if self.found else 0.0

    @property
    def idr(self) -> float:
        """Recall: the share of the true boxes."""
        return self.right / self.true if self.true else 0.0

    @property
    def idf1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.right / (self.found + self.true) if self.found + self.true else 0.0


def identity_metrics(truth: Tracks, found: Tracks) -> IdentityMetrics:
    """IDF1, IDP and IDR.

    Each track is assigned to at most one true track, and each true track to at most one track, so that as
    many boxes as possible match.
    """
    true_tracks, true_index = np.unique(truth.tracks, return_inverse=True)
    found_tracks, found_index = np.unique(found.tracks, return_inverse=True)
    together = np.zeros((len(true_tracks), len(found_tracks)), np.int64)
    for true_rows, found_rows in _frames(truth, found):
        rows, columns = np.nonzero(overlaps(truth.boxes[true_rows], found.boxes[found_rows]) >= LEAST_OVERLAP)
        np.add.at(together, (true_index[true_rows[rows]], found_index[found_rows[columns]]), 1)
    chosen = linear_sum_assignment(together, maximize=True)
    return IdentityMetrics(int(together[chosen].sum()), len(found), len(truth))


@dataclass(frozen=True)
class ClearMetrics:
    """What a tracker got wrong, frame by frame.

    Attributes:
        matched: True boxes with a match.
        missed: True boxes without a match.
        false: Boxes without a match.
        switches: How often a true track was matched by another track than before.
        frames_together: For each pair of a true track and a track that matched, the number of frames.
    """

    matched: int
    missed: int
    false: int
    switches: int
    frames_together: dict[tuple[int, int], int]

    @property
    def mota(self) -> float:
        """1 minus all errors over the number of true boxes; it can be negative."""
        true = self.matched + self.missed
        return 1 - (self.missed + self.false + self.switches) / true if true else 0.0

    def people(self) -> dict[int, int]:
        """The true person of each track that ever matched: the one that it matched in most frames."""
        best: dict[int, tuple[int, int]] = {}
        for (true, track), count in self.frames_together.items():
            best[track] = max(best.get(track, (0, 0)), (count, -true))
        return {track: -person for track, (_, person) in best.items()}


def clear_metrics(truth: Tracks, found: Tracks) -> ClearMetrics:
    """Identity switches, MOTA and the pairs that match.

    In each frame a true track keeps the track that matched it last, if the two still match. The others are
    assigned so that there are as many matches as possible and, among those, the largest overlaps.
    """
    last: dict[int, int] = {}
    together: Counter[tuple[int, int]] = Counter()
    switches = 0
    for true_rows, found_rows in _frames(truth, found):
        true_names, found_names = truth.tracks[true_rows].tolist(), found.tracks[found_rows].tolist()
        overlap = overlaps(truth.boxes[true_rows], found.boxes[found_rows])
        # One match more is worth more than all overlaps together.
        value = (overlap >= LEAST_OVERLAP) * (1 + overlap / (1 + 2 * overlap.size))
        for row, name in enumerate(true_names):
            if (before := last.get(name)) in found_names:
                column = found_names.index(before)
                if value[row, column] > 0:
                    value[row, :], value[:, column] = 0.0, 0.0
                    value[row, column] = 1.0
        for row, column in zip(*linear_sum_assignment(value, maximize=True)):
            if value[row, column] > 0:
                pair = true_names[row], found_names[column]
                switches += last.get(pair[0], pair[1]) != pair[1]
                last[pair[0]] = pair[1]
                together[pair] += 1
    matched = together.total()
    return ClearMetrics(matched, len(truth) - matched, len(found) - matched, switches, dict(together))


@dataclass(frozen=True)
class BCubed:
    """B-cubed precision and recall.

    Attributes:
        precision: The mean, over all items, of the share of an item's group that is of its person.
        recall: The mean, over all items, of the share of its person's items that are in its group.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def b_cubed(people: Sequence[Hashable], groups: Sequence[Hashable]) -> BCubed:
    """B-cubed precision and recall of a grouping.

    Args:
        people: The true person of each item. None is nobody: such an item is a person of its own.
        groups: The group of each item. None is no group: such an item is a group of its own.

    Raises:
        InputError: There is no item, or the two are not equally long.
    """
    if not people or len(people) != len(groups):
        raise InputError(
            "groups", f"{len(groups)} groups for {len(people)} people; give one for each, and at least one"
        )
    true = [("alone", number) if person is None else person for number, person in enumerate(people)]
    found = [("alone", number) if group is None else group for number, group in enumerate(groups)]
    both, of_person, of_group = Counter(zip(true, found)), Counter(true), Counter(found)
    items = len(true)
    return BCubed(
        precision=sum(count**2 / of_group[group] for (_, group), count in both.items()) / items,
        recall=sum(count**2 / of_person[person] for (person, _), count in both.items()) / items,
    )


def _frames(truth: Tracks, found: Tracks) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each frame that both have, in order, the rows of its true boxes and of its found boxes."""
    true_rows, found_rows = _by_frame(truth), _by_frame(found)
    for frame in sorted(true_rows.keys() & found_rows.keys()):
        yield true_rows[frame], found_rows[frame]


def _by_frame(tracks: Tracks) -> dict[int, np.ndarray]:
    order = np.argsort(tracks.frames, kind="stable")
    frames, starts = np.unique(tracks.frames[order], return_index=True)
    return dict(zip(frames.tolist(), np.split(order, starts[1:])))
