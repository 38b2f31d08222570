"""Grouping: whom new tracklets of a gallery show, and from which similarity on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from kronreid.gallery.centring import centred
from kronreid.gallery.clusters import Presence, cluster
from kronreid.gallery.journal import Change, History, Join
from kronreid.gallery.tracklets import Tracklet

if TYPE_CHECKING:
    from kronreid.models.calibration import Calibration, SimilarityLimit

#: The share of tracklets that may meet a stranger above the limit, where the model has a calibration. Fewer
#: are joined with one, since it takes the mean of the cosines to all tracklets of a person.
RATE = 5e-2
#: The limit where the model has none: a guess, which is right for few models.
UNCALIBRATED = 0.7


@dataclass(frozen=True)
class GroupReport:
    """What `group` did.

    Attributes:
        tracklets: How many tracklets the gallery has.
        grouped: How many of them had no person before.
        new_people: How many people are new.
        people: How many people there are now.
        refused: How many joins were similar enough and could not be by their times.
        limit: The mean similarity that tracklets of one person needed.
        strangers: Cameras of the travel times that no tracklet is from.
    """

    tracklets: int
    grouped: int
    new_people: int
    people: int
    refused: int
    limit: "SimilarityLimit"
    strangers: tuple[str, ...] = ()


def limit_of(
    wanted: float | Literal["auto"], calibration: "Calibration | None", tracklets: int
) -> "SimilarityLimit":
    """The mean similarity that tracklets of one person need; see `kronreid.gallery.people.group`.

    Where a calibration is too small for so many tracklets, it is the highest threshold that it has.

    Raises:
        InputError: `wanted` is no similarity.
    """
    from kronreid.models.calibration import HIGHEST_RATE, SimilarityLimit, similarity_limit

    if wanted != "auto":
        return similarity_limit(wanted, calibration, tracklets)
    if calibration is None or calibration.similarity is None:
        return SimilarityLimit(UNCALIBRATED, None)
    rate = max(RATE, calibration.rarest(tracklets))
    if rate > HIGHEST_RATE:
        strangers = calibration.similarity.strangers
        return SimilarityLimit(strangers[min(1, len(strangers) - 1)], None)
    return SimilarityLimit(calibration.threshold(rate, tracklets), rate)


class Grouped:
    """A grouping at work. It is prepared before it is this process's turn to write the journal.

    Args:
        seen: All tracklets, in the order of their times.
        presence: Where and when they were.
        limit: The least mean similarity.
        automatic: See `kronreid.gallery.people.group`.

    Attributes:
        moves: The people that new tracklets belong to now.
        joins: Why.
        before: The people that were there before.
        refused: See `Clusters.refused`.
        vectors: (N, D) float32: the tracklets' vectors as they are compared, see `kronreid.gallery.centring`.
    """

    def __init__(self, seen: Sequence[Tracklet], presence: Presence, limit: float, automatic: bool) -> None:
        self.seen, self.presence, self.limit, self.automatic = seen, presence, limit, automatic
        self._own = np.stack([one.vector for one in seen]) if seen else np.empty((0, 1), np.float32)
        self._cameras = [one.camera for one in seen]
        self.vectors = self._own
        self.moves: dict[str, int] = {}
        self.joins: dict[str, Join] = {}
        self.before: set[int] = set()
        self.refused = 0
        self._of = -1

    def prepare(self, history: History) -> None:
        """Find out who belongs to whom, unless that is known for this state of the journal."""
        if history.next_change == self._of:
            return
        now = history.at()
        ids = [tracklet.id for tracklet in self.seen]
        people = np.array([now.person_of.get(id, 0) for id in ids], np.int64)
        self.vectors = centred(self._own, self._cameras, self.presence, people, self.limit)
        found = cluster(self.vectors, self.presence, people, self.limit)
        self.before, self.refused, self._of = set(now.person_of.values()), found.refused, history.next_change
        self.moves.clear()
        self.joins.clear()
        next_person = now.next_person
        for root in dict.fromkeys(found.label.tolist()):  # in the order of their first tracklets
            members = np.flatnonzero(found.label == root)
            new = members[people[members] == 0]
            person = int(people[members].max())
            if not person:
                person, next_person = next_person, next_person + 1
            self.moves |= {ids[one]: person for one in new.tolist()}
            self.joins |= self._joins(ids, members, new)

    def _joins(self, ids: list[str], members: np.ndarray, new: np.ndarray) -> dict[str, Join]:
        """Why new tracklets belong to a person."""
        if not len(new):
            return {}
        old = np.setdiff1d(members, new)
        first = members[:1] if not len(old) else old[:0]
        cosines = self.vectors[new] @ self.vectors[members].T
        own = new[:, None] == members[None]
        average = np.where(own, 0, cosines).sum(axis=1) / max(1, len(members) - 1)
        # A tracklet that was there before tells more than one that has come with this one.
        allowed = np.isin(members, old)[None] if len(old) else ~own
        best = np.where(allowed, cosines, -np.inf).argmax(axis=1)
        found: dict[str, Join] = {}
        for row, one in enumerate(new.tolist()):
            if one in first:
                found[ids[one]] = Join()
                continue
            similarity = round(float(cosines[row, best[row]]), 4)
            found[ids[one]] = Join(ids[members[best[row]]], similarity, round(float(average[row]), 4))
        return found

    def change(self, history: History) -> Change | None:
        """The change of the journal; None if there is nothing to change."""
        self.prepare(history)
        if not self.moves:
            return None
        moves: dict[str, int | None] = dict(self.moves)
        limit = round(self.limit, 4)
        return history.change("group", moves=moves, joins=self.joins, limit=limit, automatic=self.automatic)
