"""The moments that pictures of tracklets were taken: the frames of the recording around them.

A recording is opened only if it is the one that was followed, lies where the gallery's sources allow it, and
can be decoded within limits, in a process of its own.
"""

import threading
import time
from contextlib import closing

import numpy as np
from cachetools import LRUCache

from kronreid.errors import InputError
from kronreid.gallery import Entry, Selection
from kronreid.gallery.entries import text_to_path
from kronreid.gallery.indexing import Changed
from kronreid.gallery.recordings import Recordings, RecordingState
from kronreid.gallery.tracklets import TRACK, Tracklet, Tracklets
from kronreid.serve import camera_schemas as schemas
from kronreid.serve.answers import moment, sound
from kronreid.serve.batching import deadline
from kronreid.serve.opened import NotFound, OpenGallery

#: Bytes of frames that are kept in memory.
CACHE_BYTES = 64_000_000
#: The most seconds that the frames of one moment may take, and those that are left for the answer.
_SECONDS, _ANSWER_SECONDS = 20.0, 1.0
#: Boxes that are further apart, in seconds, tell nothing of the time between them.
_GAP = 1.0


class Moments:
    """The moments of a gallery's pictures.

    Args:
        gallery: The gallery.
    """

    def __init__(self, gallery: OpenGallery) -> None:
        self._gallery = gallery
        self._kept: LRUCache[str, _Found] = LRUCache(CACHE_BYTES, getsizeof=lambda found: found.bytes)
        self._lock = threading.Lock()

    def one(self, id: str) -> schemas.Moment:
        """The moment of a picture."""
        entry = self._gallery.entry(id)
        tracklet = self._tracklet(entry)
        try:
            found, missing = self._found(entry, tracklet), None
        except Changed as error:
            found, missing = None, error.what
        return schemas.Moment(
            item=id,
            camera=sound(entry.camera),
            time=moment(entry.time),
            source=sound(entry.source),
            start=moment(tracklet.start) if tracklet else None,
            end=moment(tracklet.end) if tracklet else None,
            frames=[] if found is None else found.frames(id),
            at=None if found is None else found.at,
            width=None if found is None else found.width,
            height=None if found is None else found.height,
            missing=missing,
        )

    def frame(self, id: str, number: int) -> bytes:
        """One of the frames, as JPEG.

        Raises:
            NotFound: There is no such picture or frame.
            Changed: The recording is not at hand.
        """
        entry = self._gallery.entry(id)
        found = self._found(entry, self._tracklet(entry))
        if number >= len(found.jpegs):
            raise NotFound(f"frame {number}", f"there are {len(found.jpegs)} frames of this moment")
        return found.jpegs[number]

    def has(self, id: str) -> bool:
        """Whether the frames of a picture's moment are in memory."""
        with self._lock:
            return id in self._kept

    def forget(self, id: str) -> None:
        """Drop what is kept of a deleted picture."""
        with self._lock:
            self._kept.pop(id, None)

    def _tracklet(self, entry: Entry) -> Tracklet | None:
        track = entry.attributes.get(TRACK)
        if not isinstance(track, str):
            return None
        with self._gallery.in_use(), closing(Tracklets(**self._gallery.current.place)) as tracklets:
            return next(iter(tracklets.all(Selection(id=[track]), vectors=False)), None)

    def _found(self, entry: Entry, tracklet: Tracklet | None) -> "_Found":
        """
        Raises:
            Changed: The recording is not at hand; the message says why.
        """
        with self._lock:
            if entry.id in self._kept:
                return self._kept[entry.id]
        if tracklet is None or entry.time is None:
            raise Changed("", "this picture was not taken from a video by kronreid track")
        name = tracklet.path.parent.name
        recording = Recordings(self._gallery.current).one(name)
        if recording is None:
            raise Changed("", "it is not known where its video lies")
        found = self._decoded(name, recording, entry.time, tracklet)
        with self._lock:
            if found.bytes <= CACHE_BYTES:
                self._kept[entry.id] = found
        return found

    def _decoded(self, name: str, recording: RecordingState, at: float, tracklet: Tracklet) -> "_Found":
        if not recording.path:
            raise Changed("", "it was seen by a live camera, and no video of that is kept")
        path = text_to_path(recording.path)
        if not self._gallery.current.sources.allow(path):
            raise Changed("", "its video lies outside the folders that this server may open")
        size = None if recording.running else recording.size
        seconds = min(deadline.get() - time.monotonic() - _ANSWER_SECONDS, _SECONDS)
        try:
            from kronreid.cameras.moments import Place, stills
        except ModuleNotFoundError:
            raise Changed("", "this server cannot read videos; install kronreid[video]") from None
        place = Place(
            str(path), recording.source, recording.camera, recording.start, recording.rate, name, size
        )
        try:
            decoded = stills(place, at, seconds)
        except InputError as error:
            raise Changed("", f"its video {error.what}") from None
        times = [still.time for still in decoded.stills]
        shape = decoded.width, decoded.height
        boxes = [_box(tracklet, time, *shape) for time in times]
        return _Found(at, times, boxes, [still.jpeg for still in decoded.stills], *shape)


class _Found:
    """The frames of a moment."""

    def __init__(
        self,
        moment: float,
        times: list[float],
        boxes: list[list[float] | None],
        jpegs: list[bytes],
        width: int,
        height: int,
    ) -> None:
        self.moment, self.times, self.boxes, self.jpegs = moment, times, boxes, jpegs
        self.width, self.height = width, height
        self.bytes = sum(map(len, jpegs))
        self.at = int(np.abs(np.array(times) - moment).argmin())

    def frames(self, id: str) -> list[schemas.MomentFrame]:
        """The frames in an answer about a picture."""
        return [
            schemas.MomentFrame(
                time=moment(time),
                offset=round(time - self.moment, 3),
                picture=f"/api/moments/{id}/frames/{number}",
                box=box,
            )
            for number, (time, box) in enumerate(zip(self.times, self.boxes))
        ]


def _box(tracklet: Tracklet, time: float, width: int, height: int) -> list[float] | None:
    """Where a tracklet's person is at a time, as shares of the frame; None if that is not known."""
    boxes = tracklet.boxes.astype(np.float64)
    if not len(boxes):
        return None
    at = time - tracklet.start
    after = int(np.searchsorted(boxes[:, 0], at - 1e-2))
    before = int(np.searchsorted(boxes[:, 0], at + 1e-2, side="right")) - 1
    if after == len(boxes) or before < 0 or boxes[after, 0] - boxes[before, 0] > _GAP:
        return None
    left, top, wide, high = (float(np.interp(at, boxes[:, 0], boxes[:, side])) for side in range(1, 5))
    right, bottom = min(left + wide, width), min(top + high, height)
    left, top = max(left, 0.0), max(top, 0.0)
    if right <= left or bottom <= top:
        return None
    return [
        round(left / width, 5),
        round(top / height, 5),
        round((right - left) / width, 5),
        round((bottom - top) / height, 5),
    ]
