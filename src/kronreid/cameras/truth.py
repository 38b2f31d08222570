"""What is known of generated streets: sources and boxes for the cameras, and metrics of what was followed."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from kronreid.cameras.detectors import Detections
from kronreid.cameras.frames import Frame, Source
from kronreid.data.generated.streets import START, Street, frames
from kronreid.evaluation.tracking import (
    Tracks,
    b_cubed,
    clear_metrics,
    identity_metrics,
    read_truth,
    side_by_side,
)
from kronreid.gallery.tracklets import Tracklet

#: Of a person in a frame, so much must be visible to count.
LEAST_VISIBLE = 0.25
#: Between two boxes of a tracklet that are at most so many seconds apart, boxes are interpolated.
_GAP = 0.5


class StreetSource:
    """A camera of a generated street as a source of frames, without a file; see `Source`.

    Args:
        street: The street.
        number: The camera, from 1.
    """

    live, dropped, damaged, reconnected = False, 0, 0, 0

    def __init__(self, street: Street, number: int) -> None:
        self._street, self._number, self._closed = street, number, False
        self.camera = f"camera-{number}"
        self.name = f"street {street.seed}, {self.camera}"
        self.length: int | None = street.length

    def frames(self, start: float | None = None) -> Iterator[Frame]:
        """See `Source`."""
        for number, shot in enumerate(frames(self._street, self._number)):
            if self._closed:
                return
            if start is None or START + shot.time >= start:
                yield Frame(shot.image, START + shot.time, number)

    def close(self) -> None:
        """See `Source`."""
        self._closed = True


class Known:
    """A source and a detector for it that finds the people whose boxes are known.

    Args:
        source: The source, which is not live. Each frame must be detected before the next one is taken.
        truth: The boxes by frame, from 0: (N, 4) left, top, width and height.
    """

    live, dropped, damaged, reconnected = False, 0, 0, 0

    def __init__(self, source: Source, truth: Mapping[int, np.ndarray]) -> None:
        self._source, self._truth, self._now = source, truth, 0
        self.name, self.camera, self.length = source.name, source.camera, source.length

    def frames(self, start: float | None = None) -> Iterator[Frame]:
        """See `Source`."""
        for frame in self._source.frames(start):
            self._now, self.damaged = frame.number, self._source.damaged
            yield frame

    def close(self) -> None:
        """See `Source`."""
        self._source.close()

    def __call__(self, image: np.ndarray) -> Detections:
        """See `Detector`."""
        boxes = self._truth.get(self._now, np.zeros((0, 4))).astype(np.float32)
        return Detections(boxes, np.ones(len(boxes), np.float32))


def known_boxes(truth: Path) -> dict[int, np.ndarray]:
    """The boxes of a MOT file, by frame from 0, of the people who are visible enough.

    Raises:
        InputError: See `read_truth`.
    """
    tracks = read_truth(truth, LEAST_VISIBLE)
    rows = sorted(zip(tracks.frames.tolist(), tracks.boxes.tolist()))
    return {
        frame - 1: np.array([box for _, box in several])
        for frame, several in groupby(rows, key=lambda row: row[0])
    }


def tracks_of(tracklets: Sequence[Tracklet], start: float, rate: float) -> Tracks:
    """The boxes of tracklets of one camera, for each frame; the track's number is the place in the list.

    Args:
        tracklets: The tracklets. Their boxes are of some of the frames; those between are interpolated.
        start: When the first frame was taken, in seconds since 1970.
        rate: Frames per second.
    """
    numbers, tracks, boxes = [], [], []
    for track, tracklet in enumerate(tracklets):
        at = (tracklet.start - start + tracklet.boxes[:, 0].astype(np.float64)) * rate
        # Frames that lie between two boxes, or on one, but not in a gap.
        frame = np.arange(np.ceil(at[0] - 0.01), np.floor(at[-1] + 0.01) + 1)
        after = np.clip(np.searchsorted(at, frame - 0.01), 0, len(at) - 1)
        before = np.maximum(np.searchsorted(at, frame + 0.01, side="right") - 1, 0)
        frame = frame[at[after] - at[before] <= _GAP * rate + 0.01]
        numbers.append(frame.astype(np.int64) + 1)
        tracks.append(np.full(len(frame), track))
        boxes.append(
            np.stack([np.interp(frame, at, tracklet.boxes[:, side]) for side in range(1, 5)], axis=1)
        )
    if not numbers:
        return Tracks(np.zeros(0), np.zeros(0), np.zeros((0, 4)))
    return Tracks(np.concatenate(numbers), np.concatenate(tracks), np.concatenate(boxes))


def measure(
    tracklets: Sequence[Tracklet],
    people: Mapping[str, int],
    truths: Mapping[str, Path],
    start: float,
    rate: float,
) -> dict[str, float]:
    """Compare the tracklets and people of a gallery with the truth.

    Args:
        tracklets: The gallery's tracklets.
        people: The number of each tracklet's person.
        truths: The MOT file of each camera. All number the same people alike.
        start: When all cameras started, in seconds since 1970.
        rate: Frames per second of all cameras.

    Returns:
        ``idf1``, ``idp``, ``idr``, ``mota`` and ``id_switches`` within the cameras; ``cross_camera_f1``,
        ``cross_camera_precision`` and ``cross_camera_recall``: B-cubed over all tracklets;
        ``cross_camera_idf1``: IDF1 where people have one number in all cameras; and the numbers of
        ``tracklets``, ``people`` and ``true_people``.

    Raises:
        InputError: A truth cannot be read, or there is no tracklet.
    """
    true, found, joined = [], [], []
    persons: list[int | None] = []
    groups: list[int | None] = []
    switches = matched = missed = false = 0
    for camera, file in truths.items():
        own = [tracklet for tracklet in tracklets if tracklet.camera == camera]
        truth, tracks = read_truth(file, LEAST_VISIBLE), tracks_of(own, start, rate)
        errors = clear_metrics(truth, tracks)
        switches, matched = switches + errors.switches, matched + errors.matched
        missed, false = missed + errors.missed, false + errors.false
        of_track = errors.people()
        persons += [of_track.get(track) for track in range(len(own))]
        numbers = [people.get(tracklet.id) for tracklet in own]
        groups += numbers
        true.append(truth)
        found.append(tracks)
        joined.append(_renamed(tracks, numbers))
    within = identity_metrics(side_by_side(true, shared=False), side_by_side(found, shared=False))
    across = identity_metrics(side_by_side(true, shared=True), side_by_side(joined, shared=True))
    grouping = b_cubed(persons, groups)
    return {
        "idf1": within.idf1,
        "idp": within.idp,
        "idr": within.idr,
        "mota": 1 - (missed + false + switches) / (matched + missed),
        "id_switches": switches,
        "cross_camera_f1": grouping.f1,
        "cross_camera_precision": grouping.precision,
        "cross_camera_recall": grouping.recall,
        "cross_camera_idf1": across.idf1,
        "tracklets": len(groups),
        "people": len(set(groups) - {None}),
        "true_people": len({person for truth in true for person in truth.tracks.tolist()}),
    }


def _renamed(tracks: Tracks, numbers: Sequence[int | None]) -> Tracks:
    """Tracks with their people's numbers. Two of one person in one frame cannot both be right: one stays."""
    named = np.array([-1 if number is None else number for number in numbers], np.int64)
    people = named[tracks.tracks]
    _, first = np.unique(np.stack([tracks.frames, people]), axis=1, return_index=True)
    first = first[people[first] >= 0]
    return Tracks(tracks.frames[first], people[first], tracks.boxes[first])
