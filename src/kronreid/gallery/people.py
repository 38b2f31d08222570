"""The people of a gallery: tracklets of one person joined across cameras, by grouping and by hand.

Grouping puts each new tracklet with the people that are there, or makes new people of several. It never moves
a tracklet that belongs to somebody, and never joins two people: numbers stay, and what was merged or split by
hand stays so. The journal (`kronreid.gallery.journal`) keeps all decisions.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kronreid.data.values import LONGEST_NAME
from kronreid.errors import InputError
from kronreid.gallery.clusters import Presence
from kronreid.gallery.crops import remove_crop
from kronreid.gallery.filters import Selection, must_be_unicode
from kronreid.gallery.grouping import Grouped, GroupReport, limit_of
from kronreid.gallery.journal import Change, Grouping, History, Join, Journal
from kronreid.gallery.tracklets import Tracklet, Tracklets
from kronreid.gallery.travel import read_travel

if TYPE_CHECKING:
    from kronreid.gallery.gallery import Gallery
    from kronreid.models.calibration import Calibration

#: Tracklets that are looked at together before their pictures are deleted.
_AT_ONCE = 1_000


class NoSuch(InputError):
    """There is no such person or tracklet."""


class Overtaken(InputError):
    """Something else has been done since."""


@dataclass(frozen=True)
class Person:
    """A person of a gallery.

    Attributes:
        number: Stays the same, and is not used for anybody else.
        name: As somebody has named the person; None without a name.
        tracklets: In the order of their times, without vectors.
        joins: Why grouping put the tracklets here, by tracklet; none for those that were moved by hand.
    """

    number: int
    name: str | None
    tracklets: tuple[Tracklet, ...]
    joins: dict[str, Join]

    @property
    def cameras(self) -> list[str]:
        """The cameras that saw the person, in the order of their names."""
        return sorted({tracklet.camera for tracklet in self.tracklets})

    @property
    def first(self) -> float:
        """When the person was first seen, in seconds since 1970."""
        return min(tracklet.start for tracklet in self.tracklets)

    @property
    def last(self) -> float:
        """When the person was last seen."""
        return max(tracklet.end for tracklet in self.tracklets)


def group(
    gallery: "Gallery | str",
    *,
    min_similarity: float | Literal["auto"] = "auto",
    travel: Path | None = None,
    automatic: bool = False,
) -> GroupReport:
    """Find out which tracklets of a gallery show one person, across cameras.

    Tracklets that belong to somebody stay there. Every other one joins one of these people, or becomes a new
    person, alone or with others.

    Args:
        gallery: A gallery, or its address.
        min_similarity: The mean cosine that tracklets of one person need. ``auto`` takes the threshold of
            the embedder's calibration at which one tracklet in twenty meets a stranger (see
            `kronreid.gallery.grouping`), or 0.7 if the gallery has no embedder with a calibration.
        travel: A file with the least seconds between cameras; see `read_travel`.
        automatic: This is a part of a longer run, such as tracking. `People.undo` passes it over.

    Raises:
        InputError: The gallery or a file cannot be read or written, or `min_similarity` is none.

    Example:
        >>> report = group(gallery)
        >>> report.people, report.grouped
    """
    with ExitStack() as stack:
        if isinstance(gallery, str):
            from kronreid.gallery.gallery import Gallery

            gallery = stack.enter_context(Gallery(gallery))
        people = stack.enter_context(People(gallery))
        calibration = getattr(gallery.embedder, "calibration", None)
        ways = {} if travel is None else read_travel(travel)
        return people.group(min_similarity, calibration, ways, automatic)


def people_of(gallery: "Gallery") -> dict[str, int]:
    """The number of each tracklet's person; tracklets that nobody has grouped are left out."""
    with People(gallery) as people:
        now = people.now()
        there = people.tracklets.existing(now.person_of)
    return {tracklet: person for tracklet, person in now.person_of.items() if tracklet in there}


class People:
    """The people of a gallery, to look at and to correct.

    Args:
        gallery: The gallery. One that is no folder needs a `state` folder, where its journal is kept.

    Raises:
        InputError: The gallery cannot be opened, or has no place for the journal.

    Example:
        >>> with People(gallery) as people:
        ...     people.merge(3, [7])
        ...     people.name(3, "the courier")
        ...     people.undo()
    """

    def __init__(self, gallery: "Gallery") -> None:
        file = journal_file(gallery)
        if file is None:
            raise InputError(gallery.uri, "is no folder; name a folder for its people with --state")
        self.journal = Journal(file, _address(gallery))
        self.tracklets = Tracklets(**gallery.place)

    def __enter__(self) -> "People":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the connection."""
        self.tracklets.close()

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────

    def now(self) -> Grouping:
        """Which tracklets belong to whom."""
        return self.journal.read().at()

    def all(self, numbers: Collection[int] | None = None) -> list[Person]:
        """The people who have tracklets, in the order of their numbers; with `numbers`, only those."""
        now = self.now()
        wanted = {id: who for id, who in now.person_of.items() if numbers is None or who in numbers}
        if not wanted:
            return []
        selection = Selection() if numbers is None else Selection(id=list(wanted))
        found: dict[int, list[Tracklet]] = {}
        for tracklet in self.tracklets.all(selection, vectors=False):
            if tracklet.id in wanted:
                found.setdefault(wanted[tracklet.id], []).append(tracklet)
        return [_person(number, found[number], now) for number in sorted(found)]

    def one(self, number: int) -> Person:
        """The person with this number.

        Raises:
            NoSuch: There is none.
        """
        for person in self.all([number]):
            return person
        raise NoSuch(f"person {number}", "there is no such person")

    # ── grouping ────────────────────────────────────────────────────────────────────────────────────

    def group(
        self,
        min_similarity: float | Literal["auto"] = "auto",
        calibration: "Calibration | None" = None,
        travel: dict[tuple[str, str], float] | None = None,
        automatic: bool = False,
    ) -> GroupReport:
        """See `kronreid.gallery.people.group`."""
        self.forget()
        seen = self._all_or_new(self.now())
        count = self.tracklets.count()
        limit = limit_of(min_similarity, calibration, max(1, count))
        presence = Presence(
            [tracklet.camera or tracklet.source for tracklet in seen],
            np.array([tracklet.start for tracklet in seen], np.float64),
            np.array([tracklet.end for tracklet in seen], np.float64),
            travel,
        )
        work = Grouped(seen, presence, limit.similarity, automatic)
        work.prepare(self.journal.read())
        history = self.journal.change(work.change)
        cameras = {tracklet.camera for tracklet in self.tracklets.all(vectors=False)} if travel else set()
        return GroupReport(
            tracklets=count,
            grouped=len(work.moves),
            new_people=len(set(work.moves.values()) - work.before),
            people=len(set(history.at().person_of.values())),
            refused=work.refused,
            limit=limit,
            strangers=tuple(sorted({name for way in travel or {} for name in way} - cameras)),
        )

    def _all_or_new(self, now: Grouping) -> list[Tracklet]:
        """All tracklets with their vectors, in the order of their times; none if all have a person."""
        if self.tracklets.ids() <= now.person_of.keys():
            return []
        return sorted(self.tracklets.all(), key=lambda tracklet: (tracklet.start, tracklet.id))

    # ── correcting ──────────────────────────────────────────────────────────────────────────────────

    def merge(self, into: int, others: Sequence[int]) -> Change:
        """Say that several people are one. The first number stays, and its name, if it has one.

        Raises:
            NoSuch: One of them does not exist.
            InputError: A number is given twice, or only one.
        """
        if not others or len({into, *others}) <= len(others):
            raise InputError("merge", "at least two different people are needed")

        def make(history: History) -> Change:
            now = history.at()
            members = now.members()
            for number in (into, *others):
                _must_exist(number, members)
            names: dict[int, str | None] = {number: None for number in others if number in now.names}
            if names and into not in now.names:
                names[into] = now.names[next(iter(names))]
            moves = {id: into for number in others for id in members[number]}
            return history.change("merge", moves=moves, names=names, about=(into, *others))

        return self._changed(make)

    def split(self, tracklets: Sequence[str], to: int | None = None) -> Change:
        """Say that some tracklets of a person show somebody else.

        Args:
            tracklets: Their identifiers, all of one person.
            to: The person that they show; a new one without.

        Raises:
            NoSuch: There is no such tracklet or person.
            InputError: The tracklets are of several people, are all that a person has, or are there already.
        """
        if not tracklets:
            raise InputError("split", "at least one tracklet is needed")

        def make(history: History) -> Change:
            now = history.at()
            members = now.members()
            for id in tracklets:
                if id not in now.person_of:
                    raise NoSuch(f"tracklet {id[:12]}", "belongs to nobody; there may be no such tracklet")
            people = {now.person_of[id] for id in tracklets}
            if len(people) > 1:
                raise InputError("split", "the tracklets belong to several people; split those of one")
            (old,) = people
            rest = set(members[old]) - set(tracklets)
            if to is not None:
                _must_exist(to, members)
            if to == old or (to is None and not rest):
                raise InputError("split", f"person {old} would stay as it is")
            new = now.next_person if to is None else to
            names: dict[int, str | None] = {}
            if not rest and old in now.names:
                names = {old: None} | ({} if new in now.names else {new: now.names[old]})
            moves = dict.fromkeys(tracklets, new)
            return history.change("split", moves=moves, names=names, about=(old, new))

        return self._changed(make)

    def name(self, number: int, name: str) -> Change:
        """Give a person a name; "" removes it.

        Raises:
            NoSuch: There is no such person.
            InputError: The name is too long, or no text.
        """
        text = " ".join(name.split())
        must_be_unicode(text)
        if len(text) > LONGEST_NAME:
            raise InputError("name", f"{len(text)} characters are more than the {LONGEST_NAME} allowed")

        def make(history: History) -> Change:
            _must_exist(number, history.at().members())
            return history.change("name", names={number: text or None}, about=(number,))

        return self._changed(make)

    def undo(self, number: int | None = None) -> Change:
        """Take back the last merge, split, name or group. Doing so again takes back the one before.

        Args:
            number: The number of the change that is meant, if another one must not be taken back.

        Returns:
            The change that was taken back.

        Raises:
            Overtaken: Another change is the last one.
            InputError: There is nothing to take back.
        """

        def make(history: History) -> Change:
            last = history.last()
            if last is None:
                raise InputError("undo", "there is nothing to take back")
            if number is not None and last.number != number:
                raise Overtaken("undo", "something else has been done since; look again")
            return history.undoing(last)

        history = self.journal.change(make)
        taken = history.of(history.changes[-1].of)
        assert taken is not None
        return taken

    def _changed(self, make: Callable[[History], Change]) -> Change:
        return self.journal.change(make).changes[-1]

    # ── forgetting ──────────────────────────────────────────────────────────────────────────────────

    def forget(self) -> None:
        """Remove from the journal what it holds of tracklets that are no longer in the gallery."""
        self.journal.forget(lambda known: known - self.tracklets.existing(known))


def leave_out(gallery: "Gallery", tracks: Mapping[str, Any]) -> None:
    """Get a gallery's tracklets ready for some of its pictures to be deleted.

    Tracklets that have no other picture are deleted, also from the journal of people. The pictures' files are
    removed first: they are the gallery's own. If this is interrupted, deleting the same pictures again
    finishes it.

    Args:
        gallery: The gallery.
        tracks: By picture, the identifier of its tracklet, or anything else if it is of none.
    """
    named = sorted({track for track in tracks.values() if isinstance(track, str)})
    if not named:
        return
    with closing(Tracklets(**gallery.place)) as tracklets:
        for start in range(0, len(named), _AT_ONCE):
            found = list(tracklets.all(Selection(id=named[start : start + _AT_ONCE])))
            pictures = {id: tracklet.id for tracklet in found for id in tracklet.pictures}
            if own := sorted(pictures.keys() & tracks.keys()):
                for entry in gallery.entries(Selection(id=own)):
                    remove_crop(entry.path, pictures[entry.id])
            others = sorted(pictures.keys() - tracks.keys())
            paths: dict[str, Path] = {}
            if others:
                paths = {entry.id: entry.path for entry in gallery.entries(Selection(id=others))}
            gone, changed = [], []
            for tracklet in found:
                left = tuple(id for id in tracklet.pictures if id in paths)
                if left:
                    changed.append(replace(tracklet, pictures=left, path=paths[left[0]]))
                else:
                    gone.append(tracklet.id)
            file = journal_file(gallery)
            if file is not None:
                Journal(file, _address(gallery)).forget(set(gone).intersection)
            tracklets.delete(gone)
            tracklets.upsert(changed)


def journal_file(gallery: "Gallery") -> Path | None:
    """Where a gallery's journal is, if it has a folder."""
    folder = gallery.folder
    return None if folder is None else folder / f"{gallery.place['collection']}.groups.jsonl"


def _address(gallery: "Gallery") -> str:
    """The address of a gallery whose journal lies elsewhere."""
    return gallery.uri if "://" in gallery.uri else ""


def _person(number: int, tracklets: Iterable[Tracklet], now: Grouping) -> Person:
    ordered = tuple(sorted(tracklets, key=lambda tracklet: (tracklet.start, tracklet.id)))
    joins = {one.id: now.joins[one.id] for one in ordered if one.id in now.joins}
    return Person(number, now.names.get(number), ordered, joins)


def _must_exist(number: int, people: dict[int, Any]) -> None:
    if number not in people:
        raise NoSuch(f"person {number}", "there is no such person")
