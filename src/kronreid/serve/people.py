"""The people of the served gallery, as the web interface shows and corrects them."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from kronreid.data.values import moment as read_moment
from kronreid.errors import InputError
from kronreid.gallery import Selection
from kronreid.gallery.journal import Change, Grouping, History
from kronreid.gallery.people import People, Person, journal_file
from kronreid.gallery.tracklets import TRACK, Tracklet
from kronreid.serve import people_schemas as schemas
from kronreid.serve.answers import moment, natural, sound
from kronreid.serve.files import make_private
from kronreid.serve.fresh import Fresh
from kronreid.serve.opened import OpenGallery, OutOfOrder
from kronreid.serve.schemas import PersonTag

#: Pictures of a person in a list, people who look alike, and tracklets that are compared to find these.
_SHOWN, _ALIKE, _NEAREST = 4, 6, 100


class ServedPeople:
    """The people of a gallery, between requests.

    Args:
        gallery: The gallery.
    """

    def __init__(self, gallery: OpenGallery) -> None:
        self.gallery = gallery
        self._read: tuple[Any, Grouping] = (None, Grouping())
        self._fresh: Fresh[list[Person]] = Fresh()
        self._lock = threading.Lock()

    @contextmanager
    def opened(self) -> Iterator[People]:
        """The people. What the journal cannot do is not the client's fault."""
        with self.gallery.in_use(), People(self.gallery.current) as people:
            try:
                yield people
            except InputError as error:
                if error.where == str(people.journal.file):
                    raise OutOfOrder("", f"the people cannot be read or written: {error.what}") from error
                raise

    def any(self) -> bool:
        """Whether the gallery has tracklets."""
        with self.opened() as people:
            return people.tracklets.count() > 0

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────

    def page(self, query: schemas.PeopleQuery) -> schemas.PeoplePage:
        """Some of the people."""
        since, until = read_moment(query.since or None), read_moment(query.until or None, end_of_day=True)
        with self.opened() as people:
            history = people.journal.read()
            tracklets = people.tracklets.count()
            everybody = self._everybody(people, tracklets)
        wanted = [
            person
            for person in everybody
            if any(_meets(tracklet, query.camera, since, until) for tracklet in person.tracklets)
        ]
        wanted.sort(key=_ORDERS[query.order])
        cameras = {tracklet.camera or None for person in everybody for tracklet in person.tracklets}
        return schemas.PeoplePage(
            people=[_item(person) for person in wanted[query.offset : query.offset + query.limit]],
            total=len(wanted),
            offset=query.offset,
            cameras=[sound(camera) for camera in sorted(cameras, key=natural)],
            ungrouped=tracklets - sum(len(person.tracklets) for person in everybody),
            undo=_undoable(history),
        )

    def one(self, number: int) -> schemas.PersonDetail:
        """One person with all tracklets."""
        with self.opened() as people:
            history = people.journal.read()
            person = people.one(number)
            alike = self._alike(people, person, history.at())
        tracks = [
            schemas.TrackletItem(
                **_span(tracklet),
                id=tracklet.id,
                source=sound(tracklet.source or None),
                pictures=list(tracklet.pictures),
                why=_why(person, tracklet),
            )
            for tracklet in person.tracklets
        ]
        return schemas.PersonDetail(
            **_item(person).model_dump(), tracks=tracks, alike=alike, undo=_undoable(history)
        )

    def _alike(self, people: People, person: Person, now: Grouping) -> list[schemas.Alike]:
        own = Selection(id=[tracklet.id for tracklet in person.tracklets[:_NEAREST]])
        mean = np.mean([tracklet.vector for tracklet in people.tracklets.all(own)], axis=0)
        norm = float(np.linalg.norm(mean))
        if not norm:
            return []
        best: dict[int, tuple[Tracklet, float]] = {}
        top = len(person.tracklets) + _NEAREST
        for tracklet, similarity in people.tracklets.nearest(mean / norm, top):
            other = now.person_of.get(tracklet.id)
            if other not in (None, person.number, *best):
                best[other] = (tracklet, similarity)  # type: ignore[index]
        return [
            schemas.Alike(
                number=number,
                name=sound(now.names.get(number)),
                similarity=similarity,
                picture=next(iter(tracklet.pictures), None),
            )
            for number, (tracklet, similarity) in list(best.items())[:_ALIKE]
        ]

    def tags(self, attributes: Sequence[dict[str, Any]]) -> list[PersonTag | None]:
        """Whom pictures show, by their attributes; None for pictures of no known person."""
        now = self._now()
        numbers = [_known(now, known.get(TRACK)) for known in attributes]
        return [
            None if number is None else PersonTag(number=number, name=sound(now.names.get(number)))
            for number in numbers
        ]

    def _now(self) -> Grouping:
        """The people as the journal has them; it is read again after every change."""
        stamp = self.stamp()
        if stamp is None:
            return Grouping()
        with self._lock:
            if self._read[0] != stamp:
                with self.opened() as people:
                    self._read = (stamp, people.now())
            return self._read[1]

    def _everybody(self, people: People, tracklets: int) -> list[Person]:
        """All people; they are read again after every change, and after a while, since tracklets grow."""
        return self._fresh.get((self.stamp(), tracklets), people.all)

    def stamp(self) -> Any:
        """What changes with the journal; None without one."""
        file = journal_file(self.gallery.current)
        try:
            assert file is not None
            status = file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    # ── correcting ──────────────────────────────────────────────────────────────────────────────────

    def merge(self, into: int, others: Sequence[int]) -> schemas.Done:
        """See `People.merge`."""
        return self._change(lambda people: people.merge(into, others), 0)

    def split(self, tracklets: Sequence[str], to: int | None) -> schemas.Done:
        """See `People.split`."""
        return self._change(lambda people: people.split(tracklets, to), 1)

    def name(self, number: int, name: str) -> schemas.Done:
        """See `People.name`."""
        return self._change(lambda people: people.name(number, name), 0)

    def undo(self, number: int | None) -> schemas.Done:
        """See `People.undo`."""
        return self._change(lambda people: people.undo(number), 0)

    def _change(self, act: Callable[[People], Change], about: int) -> schemas.Done:
        with self.opened() as people:
            if people.journal.gallery:  # then it lies in the server's own folder
                make_private(people.journal.file.parent)
            change = act(people)
        person = change.about[about] if len(change.about) > about else None
        return schemas.Done(change=change.number, words=change.words, person=person)


_ORDERS: dict[str, Callable[[Person], Any]] = {
    "last": lambda person: (-person.last, person.number),
    "first": lambda person: (person.first, person.number),
    "tracklets": lambda person: (-len(person.tracklets), person.number),
    "number": lambda person: person.number,
}


def _known(now: Grouping, track: Any) -> int | None:
    return now.person_of.get(track) if isinstance(track, str) else None


def _meets(tracklet: Tracklet, cameras: Sequence[str], since: float | None, until: float | None) -> bool:
    return (
        (not cameras or tracklet.camera in cameras)
        and (since is None or tracklet.end >= since)
        and (until is None or tracklet.start <= until)
    )


def _item(person: Person) -> schemas.PersonItem:
    return schemas.PersonItem(
        number=person.number,
        name=sound(person.name),
        tracklets=len(person.tracklets),
        pictures=_best(person),
        cameras=[sound(camera or None) for camera in sorted(person.cameras, key=natural)],
        first=moment(person.first),
        last=moment(person.last),
        timeline=[schemas.Span(**_span(one)) for one in person.tracklets[: schemas.MOST_SPANS]],
    )


def _best(person: Person) -> list[str]:
    """The best picture of the longest tracklet of each camera, then of the others."""
    longest = sorted(person.tracklets, key=lambda one: (one.start - one.end, one.id))
    seen: Counter[str] = Counter()
    ranked = []
    for tracklet in longest:
        if tracklet.pictures:
            ranked.append((seen[tracklet.camera], tracklet.pictures[0]))
            seen[tracklet.camera] += 1
    ranked.sort(key=lambda one: one[0])
    return [picture for _, picture in ranked[:_SHOWN]]


def _span(tracklet: Tracklet) -> dict[str, Any]:
    camera = sound(tracklet.camera or None)
    return {"camera": camera, "start": moment(tracklet.start), "end": moment(tracklet.end)}


def _why(person: Person, tracklet: Tracklet) -> schemas.Why:
    join = person.joins.get(tracklet.id)
    if join is None:
        return schemas.Why(by_hand=True, near=None, similarity=None, average=None)
    return schemas.Why(by_hand=False, near=join.near, similarity=join.similarity, average=join.average)


def _undoable(history: History) -> schemas.Undoable | None:
    last = history.last()
    if last is None:
        return None
    return schemas.Undoable.model_validate({"change": last.number, "kind": last.kind, "words": last.words})
