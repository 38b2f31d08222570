"""Tracking: the boxes of one camera's frames become tracks of people.

Two things decide whom a box shows. **Motion** links the boxes of successive frames, by OC-SORT (Cao et al.,
CVPR 2023) of the library ``trackers``. What it links is a *strand*. **Appearance**, the vectors of our
embedder, decides which person a strand belongs to wherever motion may be wrong:

- a strand begins: it may be a person who was lost behind something a moment ago (`REJOIN_SECONDS`),
- a strand goes on after a gap,
- two boxes overlap, or one swallows the other: behind it, people may have changed places.

From such a moment on, a strand is *uncertain* and keeps what it sees to itself. When its person can be seen
clearly again and has been looked at, all uncertain strands are assigned to tracks at once, so that the sum of
the cosines between the strands' vectors and the tracks' mean vectors is largest. A strand may also begin a
new track, which counts as much as the cosine between a same and a different person: that is measured while
tracking, on strands that are certain.

Embedding is the expensive part, so a strand is looked at rarely: soon after it begins or becomes clear again,
then every `LOOK_SECONDS`, and when it ends. Of each such time the best picture is taken
(`kronreid.cameras.looks.quality_of`). Pictures of people of whom others hide more than half are left out.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import supervision
from scipy.optimize import linear_sum_assignment
from trackers import BIoU, OCSORTTracker

from kronreid.cameras.detectors import Detections
from kronreid.cameras.frames import Frame
from kronreid.cameras.looks import Look, areas_shared, inside, overlaps, quality_of, take_look, visible_shares
from kronreid.cameras.tracks import Track, reachable

#: A strand is looked at this often, and for the first time after so many seconds.
LOOK_SECONDS, FIRST_LOOK_SECONDS = 0.5, 0.2
#: Motion looks for a person this long after the last box.
LOST_SECONDS = 1.0
#: Appearance finds a lost person again up to this many seconds after the last box.
REJOIN_SECONDS = 8.0
#: After a gap of so many seconds, motion may have found another person.
GAP_SECONDS = 0.5
#: Boxes of which more is shared may be confused: of their union, and of a lost one's area.
CONFUSED, SWALLOWED = 0.3, 0.6
#: An uncertain strand waits at most so many seconds for the others, or for a clear view.
PATIENCE_SECONDS = 2.0
#: People of whom others hide more are not looked at.
VISIBLE = 0.5
#: Motion links boxes that share this part of their union, when each has grown by this share to all sides. So
#: it can also follow people of whom few frames a second are looked at.
_LEAST_OVERLAP, _BUFFER = 0.2, 0.3
#: The nominal frame rate of OC-SORT, whose own time is in frames. Real times are given to it.
_NOMINAL_RATE = 30.0
#: Until so many cosines have been seen, these are the usual ones of the same and of different people.
_FEW, _SAME, _DIFFERENT = 8, 0.85, 0.6
#: So many looks say whom a strand belongs to.
_ENOUGH_LOOKS = 2
#: The score of what cannot be.
_NEVER = -1e6


@dataclass(eq=False)
class Strand:
    """Boxes that motion has linked.

    Attributes:
        track: The person it belongs to; None while that is not known.
        recent: What was seen since it became uncertain; None while it is certain.
        since: When it became uncertain.
        clear: Since when nothing has confused it; None while something does.
        rivals: Tracks of those who confused it.
        last: When it was last seen.
        box: (4,) where.
        looked: When it was last looked at.
        best: The best look since then, which is embedded next.
        ended: Whether motion has given it up.
    """

    track: Track | None
    recent: Track | None
    since: float
    clear: float | None
    last: float
    box: np.ndarray
    looked: float
    rivals: set[Track] = field(default_factory=set)
    best: Look | None = None
    ended: bool = False

    @property
    def now(self) -> Track:
        """Where what is seen now belongs."""
        found = self.recent or self.track
        assert found is not None
        return found

    @property
    def tracks(self) -> set[Track]:
        """Its track, if that is known."""
        return {self.track} if self.track else set()

    @property
    def name(self) -> str:
        """The identifier of its track, as far as that is known."""
        found = self.track or self.recent
        return found.id if found else ""


class Cosines:
    """How similar two pictures of one person are here, and those of different people."""

    def __init__(self) -> None:
        self.same: deque[float] = deque(maxlen=200)
        self.different: deque[float] = deque(maxlen=200)

    def _usual(self) -> tuple[float, float]:
        same = float(np.median(self.same)) if len(self.same) >= _FEW else _SAME
        different = float(np.quantile(self.different, 0.9)) if len(self.different) >= _FEW else _DIFFERENT
        return same, min(different, same)

    @property
    def limit(self) -> float:
        """From this cosine on, two pictures show the same person."""
        return sum(self._usual()) / 2

    @property
    def margin(self) -> float:
        """By so much must another track be more similar than the one that motion says."""
        same, different = self._usual()
        return max((same - different) / 4, 0.01)


class Tracker:
    """Follows the people in front of one camera.

    Frames are given in order to `update`. Now and then the looks that it has returned are embedded, their
    vectors are set, and `learn` is called. What it finds depends on nothing but the frames, their boxes, the
    vectors, and after which frames `learn` is called.

    Args:
        recording: A name of the recording, which the tracks' identifiers follow from.
    """

    def __init__(self, recording: str) -> None:
        self._recording = recording
        self._motion = OCSORTTracker(
            lost_track_buffer=round(LOST_SECONDS * _NOMINAL_RATE),
            frame_rate=_NOMINAL_RATE,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=_LEAST_OVERLAP,
            iou=BIoU(buffer_ratio=_BUFFER),
        )
        self._strands: dict[int, Strand] = {}
        self._gone: list[Strand] = []
        self._lost: set[Track] = set()
        self._ended: list[Track] = []
        self._asked: list[tuple[Strand, Track, Look]] = []
        self._cosines = Cosines()
        self._clock = 0.0
        self._time = -np.inf
        self._finished = False

    # ── frames ──────────────────────────────────────────────────────────────────────────────────────

    def update(self, frame: Frame, detections: Detections) -> tuple[list[Look], list[Strand | None]]:
        """Follow people into the next frame.

        Args:
            frame: The frame. A time before that of an earlier frame counts as that one's.
            detections: The people found in it.

        Returns:
            Looks whose vectors are to be set before `learn` is called; and the strand of each detection, None
            for one that motion has not linked with any other yet.
        """
        self._time = time = max(frame.time, self._time)
        boxes = np.asarray(detections.boxes, np.float64).reshape(-1, 4)
        strands = self._linked(boxes, time)
        seen = [(row, strand) for row, strand in enumerate(strands) if strand is not None]
        self._confusions(boxes[[row for row, _ in seen]], [strand for _, strand in seen], time)
        visible = visible_shares(boxes, frame.image)
        before = len(self._asked)
        for row, strand in seen:
            strand.now.see(time, boxes[row])
            strand.last, strand.box = time, boxes[row]
            self._consider(strand, frame, boxes[row], float(visible[row]))
            self._ask(strand, time)
        alive = {track.tracker_id for track in self._motion.tracks}
        for number in [number for number in self._strands if number not in alive]:
            self._end(number)
        return [look for *_, look in self._asked[before:]], strands

    def finish(self) -> list[Look]:
        """End all tracks. After `learn`, `ended` gives them.

        Returns:
            As `update`.
        """
        before = len(self._asked)
        self._finished = True
        for number in list(self._strands):
            self._end(number)
        return [look for *_, look in self._asked[before:]]

    def _linked(self, boxes: np.ndarray, time: float) -> list[Strand | None]:
        """The strand of each box, by motion."""
        # Frames of equal times are a moment apart, so that motion sees an order.
        self._clock = max(time, self._clock + 1e-3)
        corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        given = supervision.Detections(xyxy=corners, data={"row": np.arange(len(boxes))})
        found = self._motion.update(given, timestamp=self._clock)
        strands: list[Strand | None] = [None] * len(boxes)
        if found.tracker_id is None or len(found) == 0:
            return strands
        for row, number in zip(found.data["row"], found.tracker_id):
            if number < 0:
                continue
            strand = self._strands.get(number)
            if strand is None or (strand.track is None and strand.recent is None):
                strand = self._begin(number, time, boxes[row])
            elif time - strand.last > GAP_SECONDS or (strand.rivals and not strand.recent):  # was swallowed
                self._doubt(strand, time, boxes[row], clear=True)
            strands[row] = strand
        return strands

    def _begin(self, number: int, time: float, box: np.ndarray) -> Strand:
        recent = Track(self._recording, time, box)
        self._strands[number] = strand = Strand(None, recent, time, time, time, box, time)
        return strand

    def _doubt(self, strand: Strand, time: float, box: np.ndarray, clear: bool) -> None:
        """From now on, it is uncertain whom the strand belongs to."""
        if strand.recent is None:
            strand.recent, strand.since = Track(self._recording, time, box), time
            strand.looked, strand.best = time, None
        if not clear:
            strand.clear, strand.best = None, None
        elif strand.clear is None or strand.since == time:
            strand.clear = strand.looked = time

    def _confusions(self, boxes: np.ndarray, strands: list[Strand], time: float) -> None:
        """Doubt the strands whose boxes overlap much, and those that have swallowed another one's box."""
        confused: dict[int, set[Track]] = {}
        for row, other in zip(*np.nonzero(overlaps(boxes) > CONFUSED)):
            confused.setdefault(int(row), set()).update(strands[other].tracks)
        missing = [strand for strand in self._strands.values() if strand not in strands]
        if missing and strands:
            lost = np.stack([strand.box for strand in missing])
            shares = areas_shared(lost, boxes) / np.maximum(lost[:, 2] * lost[:, 3], 1e-9)[:, None]
            for other, row in zip(*np.nonzero(shares > SWALLOWED)):
                confused.setdefault(int(row), set()).update(missing[other].tracks)
                missing[other].rivals |= strands[row].tracks
        for row, strand in enumerate(strands):
            if row in confused:
                self._doubt(strand, time, boxes[row], clear=False)
                strand.rivals |= confused[row]
            elif strand.clear is None:
                strand.clear = strand.looked = time

    # ── looks ───────────────────────────────────────────────────────────────────────────────────────

    def _consider(self, strand: Strand, frame: Frame, box: np.ndarray, visible: float) -> None:
        """Keep this picture of a strand if it is the best since the last look."""
        within = inside(box, frame.image)
        patient = self._time - strand.since < PATIENCE_SECONDS or strand.now.learned
        if within is None or (patient and (visible < VISIBLE or strand.clear is None)):
            return
        quality = quality_of(frame.image, within, max(visible, 0.05))
        if strand.best is None or quality > strand.best.quality:
            strand.best = take_look(frame.image, within, self._time, quality)

    def _ask(self, strand: Strand, time: float) -> None:
        """Have the best picture embedded, if it is time."""
        is_first = not strand.now.learned and all(to is not strand.now for _, to, _ in self._asked)
        due = strand.looked + (FIRST_LOOK_SECONDS if is_first else LOOK_SECONDS)
        if strand.best is not None and time >= due - 1e-6:
            self._asked.append((strand, strand.now, strand.best))
            strand.looked, strand.best = time, None

    def _end(self, number: int) -> None:
        """Motion has given a strand up."""
        strand = self._strands.pop(number)
        strand.ended = True
        if strand.track is None and strand.recent is None:  # another strand goes on with its track
            return
        if strand.best is not None:
            self._asked.append((strand, strand.now, strand.best))
            strand.best = None
        self._gone.append(strand)

    # ── whom strands belong to ──────────────────────────────────────────────────────────────────────

    def learn(self) -> None:
        """Take in the looks, whose vectors have been set, and decide whom uncertain strands belong to."""
        for strand, to, look in self._asked:
            if to is strand.track:
                self._measure(strand, look)
            to.learn(look)
        self._asked.clear()
        self._lost |= {strand.track for strand in self._gone if strand.track and not strand.recent}
        uncertain = [strand for strand in [*self._gone, *self._strands.values()] if strand.recent]
        ready = [strand for strand in uncertain if self._is_ready(strand, uncertain)]
        self._assign(ready)
        self._lost |= {strand.track for strand in ready if strand.track and strand.ended}
        self._gone.clear()
        for track in sorted(self._lost):
            if self._finished or self._time - track.end > REJOIN_SECONDS:
                self._lost.discard(track)
                self._ended.append(track)

    def ended(self) -> list[Track]:
        """The tracks that have ended since this was last called."""
        found, self._ended = self._ended, []
        return found

    @property
    def open(self) -> list[Track]:
        """The tracks that have not ended, as far as they are certain."""
        held = {strand.track for strand in self._strands.values() if strand.track}
        return sorted(held | self._lost)

    @property
    def quiet(self) -> bool:
        """Whether nobody is followed."""
        return not (self._strands or self._lost or self._asked)

    def _measure(self, strand: Strand, look: Look) -> None:
        """Compare a look of a certain strand with its own track and with those seen at the same time."""
        assert strand.track is not None
        mean = strand.track.mean
        if mean is not None:
            self._cosines.same.append(float(look.vector @ mean))
        for other in self._strands.values():
            if (
                other is not strand
                and other.recent is None
                and other.track
                and abs(other.last - look.time) < 1
            ):
                mean = other.track.mean
                if mean is not None:
                    self._cosines.different.append(float(look.vector @ mean))

    def _is_ready(self, strand: Strand, uncertain: list[Strand]) -> bool:
        """Whether enough has been seen of an uncertain strand, and of those that it was confused with."""
        if strand.ended:
            return True
        assert strand.recent is not None
        impatient = self._time - (strand.since if strand.clear is None else strand.clear) > PATIENCE_SECONDS
        if strand.clear is None or not strand.recent.learned:
            return impatient and strand.recent.learned > 0 and strand.track is None
        rivals = [other for other in uncertain if other.track in strand.rivals and not other.ended]
        return impatient or all(_has_been_looked_at(one) for one in [strand, *rivals])

    def _assign(self, strands: list[Strand]) -> None:
        """Assign uncertain strands to tracks, or let them begin new ones."""
        if not strands:
            return
        others = [strand for strand in self._strands.values() if strand not in strands]
        held = {strand.track for strand in others if strand.last == self._time}
        own = {strand.track for strand in strands if strand.track}
        tracks = sorted((own | self._lost | {strand.track for strand in others if strand.track}) - held)
        scores = np.full((len(strands), len(tracks) + len(strands)), _NEVER)
        for row, strand in enumerate(strands):
            scores[row, : len(tracks)] = [self._score(strand, track) for track in tracks]
            new = self._cosines.limit - (self._cosines.margin if strand.track else 0.0)
            scores[row, len(tracks) + row] = new
        _, columns = linear_sum_assignment(scores, maximize=True)
        given = [tracks[column] if column < len(tracks) else None for column in columns]
        for strand in others:
            if strand.track in given:
                strand.track = None
        for strand, track in zip(strands, given):
            self._give(strand, track)
        self._lost |= own - {strand.track for strand in strands}

    def _score(self, strand: Strand, track: Track) -> float:
        """How well an uncertain strand fits a track: a cosine, with the margin if motion says so as well."""
        assert strand.recent is not None
        vector, mean = strand.recent.mean, track.mean
        is_own = track is strand.track
        if vector is None or mean is None:
            return self._cosines.limit + self._cosines.margin if is_own else _NEVER
        if not (is_own or track in strand.rivals or reachable(track, strand.recent)):
            return _NEVER
        return float(vector @ mean) + (self._cosines.margin if is_own else 0)

    def _give(self, strand: Strand, track: Track | None) -> None:
        """Add what was seen of an uncertain strand to a track, or begin a new one with it."""
        assert strand.recent is not None
        if track is None:
            track = strand.recent
        else:
            track.absorb(strand.recent)
            self._lost.discard(track)
        strand.track, strand.recent = track, None
        strand.rivals = set()


def _has_been_looked_at(strand: Strand) -> bool:
    """Whether so many looks have been taken that it can be said whom a strand belongs to."""
    clear = strand.clear is not None
    return clear and strand.recent is not None and strand.recent.learned >= _ENOUGH_LOOKS
