"""The journal of a gallery's people: which tracklets show one person, who decided that, and why.

A file of JSON lines. Its first line is its head. Each other line is one change: which person some tracklets
now belong to, and which name some people now have. All changes in their order give the people. Undoing adds
a change that restores what was before, so the file only grows, until a tracklet is deleted. Then everything
about that tracklet is removed from the file.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from kronreid.data.files import writing
from kronreid.data.plain import MOST_BYTES, read_plain
from kronreid.errors import InputError
from kronreid.locks import in_turn

log = logging.getLogger(__name__)

Kind: TypeAlias = Literal["group", "merge", "split", "name", "undo"]


@dataclass(frozen=True)
class Join:
    """Why grouping put a tracklet with a person.

    Attributes:
        near: The tracklet of that person that it resembles most; None for the first tracklet of a person,
            and where that tracklet has been deleted.
        similarity: The cosine of the two; None for the first tracklet of a person.
        average: Its mean cosine with all tracklets of the person, at that time; None like `similarity`.
    """

    near: str | None = None
    similarity: float | None = None
    average: float | None = None


@dataclass(frozen=True)
class Change:
    """One change, a line of the journal.

    Attributes:
        number: Counts the changes, from 1.
        time: When it was made, in seconds since 1970.
        kind: What was done.
        moves: By tracklet, the person that it belongs to now; None for nobody.
        names: By person, the new name; None for no name any more.
        joins: Why grouping, or undoing it, put these tracklets where it put them. Tracklets that are moved
            without a reason were moved by hand.
        about: The people that were named in the request, the one that stays first.
        limit: With a group: the similarity that tracklets of one person needed on average.
        automatic: With a group: it was part of a longer run, such as tracking, and `undo` passes it over.
        of: With an undo: the number of the change that it takes back.
    """

    number: int
    time: float
    kind: Kind
    moves: dict[str, int | None] = field(default_factory=dict)
    names: dict[int, str | None] = field(default_factory=dict)
    joins: dict[str, Join] = field(default_factory=dict)
    about: tuple[int, ...] = ()
    limit: float | None = None
    automatic: bool = False
    of: int | None = None

    @property
    def words(self) -> str:
        """What was done, in words."""
        first, *others = [f"person {number}" for number in self.about] or [""]
        count = f"{len(self.moves):,} tracklet{'' if len(self.moves) == 1 else 's'}"
        return {
            "group": f"grouping {count}",
            "merge": f"merging {', '.join(others)} into {first}",
            "split": f"moving {count} of {first} to {''.join(others)}",
            "name": f"naming {first}",
            "undo": f"taking back change {self.of}",
        }[self.kind]

    def to_line(self) -> str:
        """The change as a line of the journal, without what is empty."""
        return json.dumps(
            {name: value for name, value in asdict(self).items() if value not in ({}, (), None)}
        )

    @classmethod
    def from_line(cls, line: str) -> "Change":
        """The reverse of `to_line`.

        Raises:
            ValueError: The line is damaged.
        """
        try:
            found = dict(json.loads(line))
            found["names"] = {int(person): name for person, name in found.get("names", {}).items()}
            found["joins"] = {id: Join(**join) for id, join in found.get("joins", {}).items()}
            found["about"] = tuple(found.get("about", ()))
            change = cls(**found)
            people = [*change.moves.values(), *change.names, *change.about, change.number]
            sound = change.kind in get_args(Kind) and all(one is None or one > 0 for one in people)
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if not sound:
            raise ValueError("no such change")
        return change


@dataclass
class Grouping:
    """Which tracklets show one person, after some changes.

    Attributes:
        person_of: The number of each tracklet's person.
        names: The names of those people that have one.
        joins: Why grouping put a tracklet where it is; none for those that were moved by hand.
        next_person: The number of the next new person. No number is used twice.
    """

    person_of: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    joins: dict[str, Join] = field(default_factory=dict)
    next_person: int = 1

    def apply(self, change: Change) -> None:
        """Make a change."""
        for tracklet, person in change.moves.items():
            self.joins.pop(tracklet, None)
            if person is None:
                self.person_of.pop(tracklet, None)
                continue
            self.person_of[tracklet] = person
            self.next_person = max(self.next_person, person + 1)
            if tracklet in change.joins:
                self.joins[tracklet] = change.joins[tracklet]
        for person, name in change.names.items():
            if name is None:
                self.names.pop(person, None)
            else:
                self.names[person] = name

    def members(self) -> dict[int, list[str]]:
        """The tracklets of each person."""
        found: dict[int, list[str]] = {}
        for tracklet, person in self.person_of.items():
            found.setdefault(person, []).append(tracklet)
        return found


@dataclass
class History:
    """What a journal holds.

    Attributes:
        changes: In their order.
        first_person: The number that the first new person would have without any change: above those of all
            people whose tracklets have been deleted.
        next_change: The number of the next change.
    """

    changes: list[Change] = field(default_factory=list)
    first_person: int = 1
    next_change: int = 1

    def at(self, number: int | None = None) -> Grouping:
        """The people before the change with this number; without a number, after all changes."""
        now = Grouping(next_person=self.first_person)
        for change in self.changes:
            if number is not None and change.number >= number:
                break
            now.apply(change)
        return now

    def of(self, number: int | None) -> Change | None:
        """The change with this number, if it is there."""
        return next((change for change in self.changes if change.number == number), None)

    def last(self) -> Change | None:
        """The change that `undo` takes back: the last one that somebody asked for and that still counts."""
        undone = {change.of for change in self.changes}
        asked = (
            change for change in reversed(self.changes) if change.kind != "undo" and not change.automatic
        )
        return next((change for change in asked if change.number not in undone), None)

    def change(self, kind: Kind, **what: Any) -> Change:
        """A new change, with the next number."""
        return Change(self.next_change, round(time.time(), 3), kind, **what)

    def add(self, change: Change) -> None:
        """Put a change at the end."""
        self.changes.append(change)
        self.next_change = max(self.next_change, change.number + 1)

    def undoing(self, last: Change) -> Change:
        """The change that takes back `last`.

        Tracklets go back to where they were. After a merge, a tracklet that grouping has added since because
        it resembles one of those goes with it. Any other tracklet that was added since stays.
        """
        before, now = self.at(last.number), self.at()
        moves: dict[str, int | None] = {
            tracklet: before.person_of.get(tracklet)
            for tracklet, person in last.moves.items()
            if now.person_of.get(tracklet) == person
        }
        if last.kind == "merge":
            _follow(moves, last, now)
        joins = {tracklet: before.joins[tracklet] for tracklet in moves if tracklet in before.joins}
        joins |= {id: now.joins[id] for id in moves.keys() - last.moves.keys()}
        names = {person: before.names.get(person) for person in last.names}
        return self.change("undo", moves=moves, names=names, joins=joins, about=last.about, of=last.number)

    def without(self, gone: Collection[str]) -> "History":
        """The same without everything about these tracklets, and without the names of people that have none
        left, unless somebody else has such a name now."""
        kept = [_without(change, gone) for change in self.changes]
        touched = {change.moves[id] for change in self.changes for id in gone if id in change.moves}
        found = History(kept, self.at().next_person, self.next_change)
        now = found.at()
        empty = touched - set(now.person_of.values())
        had = {change.names[who] for change in kept for who in empty if who in change.names}
        unwanted = had - {name for who, name in now.names.items() if who not in empty}
        found.changes = [
            replace(
                change,
                names={
                    who: None if name in unwanted else name
                    for who, name in change.names.items()
                    if who not in empty
                },
            )
            for change in kept
        ]
        found.changes = [change for change in found.changes if change.moves or change.names]
        return found


def _follow(moves: dict[str, int | None], last: Change, now: Grouping) -> None:
    """Add to `moves` what was joined since to the tracklets that move back."""
    merged = set(last.moves.values())
    later = [id for id, person in now.person_of.items() if person in merged and id not in last.moves]
    more = True
    while more:
        more = False
        for tracklet in later:
            near = now.joins.get(tracklet, Join()).near
            if tracklet not in moves and near in moves:
                moves[tracklet] = moves[near]
                more = True


def _without(change: Change, gone: Collection[str]) -> Change:
    def left(found: Mapping[str, Any]) -> dict[str, Any]:
        return {id: value for id, value in found.items() if id not in gone}

    joins = {
        id: replace(join, near=None) if join.near in gone else join for id, join in left(change.joins).items()
    }
    return replace(change, moves=left(change.moves), joins=joins)


class Journal:
    """A journal's file. Several processes may use it at once.

    Args:
        file: The file; it is made with the first change. Only its owner may read it.
        gallery: The address of the gallery that it belongs to, if it does not lie in the gallery's folder.
    """

    def __init__(self, file: Path, gallery: str = "") -> None:
        self.file, self.gallery = file, gallery

    def read(self) -> History:
        """What the journal holds. A last line that was not written to its end does not count.

        Raises:
            InputError: It cannot be read, or belongs to another gallery.
        """
        try:
            text = read_plain(self.file, MOST_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return History()
        except OSError as error:
            raise InputError(self.file, f"cannot be read ({error.strerror or error})") from None
        head, *lines = text.split("\n")[:-1] or [""]
        history = self._begun(head)
        for number, line in enumerate(lines, start=2):
            try:
                history.add(Change.from_line(line))
            except ValueError:
                log.warning("%s: line %d is damaged and ignored", self.file, number)
        return history

    def _begun(self, head: str) -> History:
        try:
            found = json.loads(head or "{}")
            history = History([], int(found.get("first_person", 1)), int(found.get("next_change", 1)))
            gallery = str(found.get("gallery", ""))
        except (ValueError, TypeError, AttributeError):
            raise InputError(self.file, "is not a journal of people; move it away") from None
        if gallery != self.gallery and head:
            raise InputError(
                self.file, f"belongs to the gallery {gallery or 'of its folder'}; choose another --state"
            )
        return history

    def change(self, make: Callable[[History], Change | None]) -> History:
        """Add a change, if there is one to add. Once this returns, it is on the disk.

        Args:
            make: Makes the change from what the journal holds. Nobody else changes it meanwhile.

        Returns:
            What the journal holds now.

        Raises:
            InputError: The file cannot be read or written; or `make` raises it.
        """
        with self._turn():
            history = self.read()
            change = make(history)
            if change is not None:
                if not self.file.exists():
                    self._write(history)
                self._append(change.to_line())
                history.add(change)
        return history

    def forget(self, gone: Callable[[set[str]], Collection[str]]) -> None:
        """Remove everything about some tracklets from the file.

        Args:
            gone: Chooses them among all tracklets that the journal knows.

        Raises:
            InputError: The file cannot be read or written.
        """
        if not self.file.exists():
            return
        with self._turn():
            history = self.read()
            known = {id for change in history.changes for id in change.moves}
            forgotten = set(gone(known)) & known
            if forgotten:
                self._write(history.without(forgotten))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with in_turn(self.file):
                yield

    def _write(self, history: History) -> None:
        """Write the file anew, whole or not at all."""
        head = {"first_person": history.first_person, "next_change": history.next_change}
        lines = [json.dumps(head | ({"gallery": self.gallery} if self.gallery else {}))]
        lines += [change.to_line() for change in history.changes]
        new = self.file.with_name(f".{self.file.name}.new")
        new.unlink(missing_ok=True)
        _put(new, os.O_CREAT | os.O_EXCL, lines)
        new.replace(self.file)

    def _append(self, line: str) -> None:
        """Write a line, in place of a last line that has no end."""
        with self.file.open("rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
        size = self.file.stat().st_size
        try:
            _put(self.file, os.O_APPEND, [line])
        except OSError:
            with suppress(OSError):
                os.truncate(self.file, size)
            raise


def _put(file: Path, flags: int, lines: Iterable[str]) -> None:
    """Write lines into a file, and wait until they are on the disk."""
    handle = os.open(file, os.O_WRONLY | flags, 0o600)
    with os.fdopen(handle, "wb") as open_file:
        open_file.write("".join(f"{line}\n" for line in lines).encode())
        open_file.flush()
        os.fsync(open_file.fileno())
