"""The cameras of the served gallery: what each has seen, and whether it is followed now."""

import time
from dataclasses import dataclass, field

from kronreid.gallery.entries import text_to_path
from kronreid.gallery.people import People
from kronreid.gallery.recordings import Recordings, RecordingState
from kronreid.serve import camera_schemas as schemas
from kronreid.serve.answers import moment, natural, sound
from kronreid.serve.fresh import Fresh
from kronreid.serve.people import ServedPeople


@dataclass
class _Seen:
    """What a camera has seen."""

    first: float = float("inf")
    last: float = float("-inf")
    tracklets: int = 0
    people: set[int] = field(default_factory=set)


class ServedCameras:
    """The cameras of a gallery, between requests.

    Args:
        people: The people of the gallery.
    """

    def __init__(self, people: ServedPeople) -> None:
        self._people = people
        self._fresh: Fresh[dict[str, _Seen]] = Fresh()

    def recorded(self) -> bool:
        """Whether anything is known of a recording that was followed."""
        return bool(self._recordings())

    def all(self) -> schemas.Cameras:
        """Every camera."""
        recordings: dict[str, list[RecordingState]] = {}
        for recording in self._recordings().values():
            recordings.setdefault(recording.camera, []).append(recording)
        seen = self._seen()
        names = sorted({*seen, *recordings}, key=lambda name: natural(name or None))
        return schemas.Cameras(
            cameras=[_item(name, seen.get(name, _Seen()), recordings.get(name, [])) for name in names],
            time=moment(time.time()),
        )

    def _recordings(self) -> dict[str, RecordingState]:
        return Recordings(self._people.gallery.current).all()

    def _seen(self) -> dict[str, _Seen]:
        """What each camera has seen; it is read again after every change, and after a while."""
        with self._people.opened() as people:
            stamp = self._people.stamp(), people.tracklets.count()
            return self._fresh.get(stamp, lambda: _seen(people))


def _seen(people: People) -> dict[str, _Seen]:
    """What each camera has seen."""
    found: dict[str, _Seen] = {}
    person_of = people.now().person_of
    for tracklet in people.tracklets.all(vectors=False):
        one = found.setdefault(tracklet.camera, _Seen())
        one.first, one.last = min(one.first, tracklet.start), max(one.last, tracklet.end)
        one.tracklets += 1
        if tracklet.id in person_of:
            one.people.add(person_of[tracklet.id])
    return found


def _item(name: str, seen: _Seen, recordings: list[RecordingState]) -> schemas.CameraItem:
    ordered = sorted(recordings, key=lambda one: (not one.running, -one.updated))
    return schemas.CameraItem(
        camera=sound(name or None),
        running=any(one.running for one in recordings),
        first=moment(seen.first) if seen.tracklets else None,
        last=moment(seen.last) if seen.tracklets else None,
        tracklets=seen.tracklets,
        people=len(seen.people),
        recordings=[_recording(one) for one in ordered[: schemas.RECORDINGS]],
        more=max(len(ordered) - schemas.RECORDINGS, 0),
    )


def _recording(state: RecordingState) -> schemas.RecordingItem:
    return schemas.RecordingItem(
        source=sound(text_to_path(state.path).name if state.path else state.source),
        live=state.live,
        running=state.running,
        finished=state.over,
        began=moment(state.began),
        updated=moment(state.updated),
        frames=state.frames,
        frames_per_second=state.frames_per_second,
        dropped=state.dropped,
        damaged=state.damaged,
        error=sound(state.error or None),
    )
