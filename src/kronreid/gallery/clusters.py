"""Which tracklets show one person: agglomerative clustering with average linkage, and what cannot be.

Two groups of tracklets are as similar as their tracklets are on average, each of one with each of the other.
The two most similar groups are joined, again and again, until none reach the limit. Groups that cannot be one
person by their times are never joined. For unit vectors the mean cosine of two groups is the product of their
sums of vectors, divided by their sizes, so nothing but the sums is needed. If a mean reaches the limit, at
least one pair does, so only pairs that do have to be found and kept.
"""

import heapq
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from kronreid.errors import InputError

#: The most pairs of tracklets that reach the limit: some 500 MB.
MOST_PAIRS = 20_000_000
#: Numbers of one block of the product of all vectors.
_BLOCK = 16_000_000
#: Rounding of a mean cosine against those that it is the mean of.
_ROUNDING = 1e-5


class Presence:
    """Where and when tracklets were, and which of them cannot be one person.

    Two tracklets of one camera cannot be if they overlap in time. Two of different cameras cannot be if the
    time between them is too short to get from one camera to the other.

    Args:
        cameras: The camera of each tracklet; "" where it is unknown.
        start: (N,) when each was first seen, in seconds.
        end: (N,) when each was last seen.
        travel: The least seconds from one camera to another, by both names. A way that is not there counts
            like the way back; with neither, everything is possible.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        start: np.ndarray,
        end: np.ndarray,
        travel: Mapping[tuple[str, str], float] | None = None,
    ) -> None:
        names = {name: number for number, name in enumerate(dict.fromkeys(cameras))}
        self.camera = np.array([names[name] for name in cameras], np.int64)
        self.start, self.end = np.asarray(start, np.float64), np.asarray(end, np.float64)
        self._least = np.full((len(names), len(names)), -np.inf)
        # Time apart of at most 0 is an overlap. Nothing is below the smallest number but 0 and less.
        own = [number for name, number in names.items() if name]
        self._least[own, own] = np.nextafter(0, 1)
        for (here, there), seconds in (travel or {}).items():
            if here in names and there in names:
                ways = [(here, there)] if (there, here) in (travel or {}) else [(here, there), (there, here)]
                for a, b in ways:
                    place = names[a], names[b]
                    self._least[place] = max(seconds, self._least[place])

    def of(self, some: np.ndarray) -> "Presence":
        """That of some of the tracklets, by their numbers."""
        found = copy(self)
        found.camera, found.start, found.end = self.camera[some], self.start[some], self.end[some]
        return found

    def conflict(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether a tracklet of `a` and one of `b` cannot be one person; both are numbers of tracklets."""
        here, there = self.camera[a][:, None], self.camera[b][None]
        onwards = self.start[b][None] - self.end[a][:, None]
        back = self.start[a][:, None] - self.end[b][None]
        return bool(((onwards < self._least[here, there]) & (back < self._least[there, here])).any())


@dataclass(frozen=True)
class Clusters:
    """What `cluster` found.

    Attributes:
        label: (N,) int64: tracklets with one label are one person.
        refused: How many joins were similar enough and could not be by their times.
    """

    label: np.ndarray
    refused: int


def cluster(vectors: np.ndarray, presence: Presence, people: np.ndarray, limit: float) -> Clusters:
    """Put tracklets together that show one person.

    A person who was put together by hand may look different at different times. What the clustering would
    not put together of a person is another look. A tracklet has to be similar to one of the looks.

    Args:
        vectors: (N, D) float32, unit vectors.
        presence: Where and when the tracklets were.
        people: (N,) int64: the person that a tracklet belongs to already, 0 for none. Such tracklets stay
            with their person, and two people are never joined.
        limit: The least mean cosine of two groups that are joined.

    Raises:
        InputError: Far too many tracklets are that similar.
    """
    work = _Work(vectors, presence, people, limit)
    work.run()
    for looks in work.looks.values():
        work.label[np.isin(work.label, looks)] = looks[0]
    return Clusters(work.label, work.refused)


def pairs_above(
    vectors: np.ndarray, new: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of a new tracklet and another one with at least a cosine, each pair once.

    Args:
        vectors: (N, D) float32, unit vectors.
        new: Numbers of the new tracklets, in ascending order.
        limit: The cosine.

    Returns:
        (P,) int32, (P,) int32 and (P,) float32: the numbers of a new tracklet and of another one, and their
        cosine.

    Raises:
        InputError: There are more than `MOST_PAIRS`.
    """
    is_new = np.zeros(len(vectors), bool)
    is_new[new] = True
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    total = 0
    rows = max(1, _BLOCK // max(1, len(vectors)))
    others = np.arange(len(vectors))
    for start in range(0, len(new), rows):
        block = new[start : start + rows]
        cosines = vectors[block] @ vectors.T
        once = ~is_new[None] | (others[None] > block[:, None])
        a, b = np.nonzero((cosines >= limit) & once)
        parts.append((block[a].astype(np.int32), b.astype(np.int32), cosines[a, b]))
        total += len(a)
        if total > MOST_PAIRS:
            raise InputError(
                f"--min-similarity {limit:.4g}",
                f"more than {MOST_PAIRS:,} pairs of tracklets are that similar; choose a higher one",
            )
    if not parts:
        return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
    first, second, cosine = zip(*parts)
    return np.concatenate(first), np.concatenate(second), np.concatenate(cosine)


class _Work:
    """A clustering at work. A group is named by one of its tracklets, its root."""

    def __init__(self, vectors: np.ndarray, presence: Presence, people: np.ndarray, limit: float) -> None:
        self.presence, self.limit = presence, limit
        self.label = np.arange(len(vectors))
        self.members = {number: np.array([number]) for number in range(len(vectors))}
        self.sums = vectors.astype(np.float32)  # of each root; a copy
        self.size = np.ones(len(vectors))
        self.person = people.copy()
        self.version = np.zeros(len(vectors), np.int64)  # how often a root was joined; −1 if it is no root
        self.refused = 0
        self.looks: dict[int, list[int]] = {}  # the roots of each person
        first, second, cosines = pairs_above(vectors, np.flatnonzero(people == 0), limit - _ROUNDING)
        near = set(people[second].tolist())
        for number in np.unique(people[people > 0]).tolist():
            self._begin(number, np.flatnonzero(people == number), number in near)
        self._link(first, second)
        self._rank(first, second, cosines)
        self.later: list[tuple[float, int, int, int, int]] = []

    def _begin(self, person: int, tracklets: np.ndarray, near: bool) -> None:
        """Make a group of each look of a person, or one of a person whom nothing new is `near`."""
        looks = np.zeros(len(tracklets), np.int64)
        if near:
            anywhere = Presence([""] * len(looks), looks, looks)
            looks = cluster(self.sums[tracklets], anywhere, looks, self.limit).label
        self.looks[person] = []
        for look in np.unique(looks):
            members = tracklets[looks == look]
            root = int(members[0])
            self.looks[person].append(root)
            self.label[members] = root
            self.sums[root] = self.sums[members].sum(axis=0)
            self.size[root] = len(members)
            self.members[root] = members
            for other in members[1:].tolist():
                del self.members[other]
                self.version[other] = -1

    def _all_of(self, root: int) -> np.ndarray:
        """The tracklets of a group, or of all looks of its person."""
        looks = self.looks.get(int(self.person[root]), [root])
        return np.concatenate([self.members[look] for look in looks])

    def _link(self, first: np.ndarray, second: np.ndarray) -> None:
        """Keep for each group which others have a tracklet that is similar to one of its own."""
        a, b = self.label[first], self.label[second]
        here, there = np.concatenate([a, b]), np.concatenate([b, a])
        order = np.argsort(here, kind="stable")
        here, there = here[order], there[order]
        starts = np.searchsorted(here, np.arange(len(self.label) + 1))
        self.near = {root: there[starts[root] : starts[root + 1]] for root in self.members}

    def _rank(self, first: np.ndarray, second: np.ndarray, cosines: np.ndarray) -> None:
        """Put the pairs of groups in their order at the start, the most similar one first."""
        a, b = self.label[first], self.label[second]
        low, high = np.minimum(a, b), np.maximum(a, b)
        _, once = np.unique(low * len(self.label) + high, return_index=True)
        low, high, scores = low[once], high[once], cosines[once].astype(np.float64)
        groups = np.flatnonzero((self.size[low] > 1) | (self.size[high] > 1))
        for start in range(0, len(groups), 4096):
            some = groups[start : start + 4096]
            product = np.einsum("nd,nd->n", self.sums[low[some]], self.sums[high[some]])
            scores[some] = product / (self.size[low[some]] * self.size[high[some]])
        keep = np.flatnonzero(scores >= self.limit)
        order = keep[np.lexsort((high[keep], low[keep], -scores[keep]))]
        self.ranked = (scores[order], low[order], high[order])

    def run(self) -> None:
        """Join the two most similar groups until none reach the limit."""
        scores, low, high = self.ranked
        at = 0
        while at < len(scores) or self.later:
            if self.later and (at == len(scores) or -self.later[0][0] > scores[at]):
                _, a, b, of_a, of_b = heapq.heappop(self.later)
            else:
                a, b, of_a, of_b = int(low[at]), int(high[at]), 0, 0
                at += 1
            if self.version[a] != of_a or self.version[b] != of_b or (self.person[a] and self.person[b]):
                continue
            if self.presence.conflict(self._all_of(a), self._all_of(b)):
                self.refused += 1
                self.near[a] = self.near[a][self.label[self.near[a]] != b]
                self.near[b] = self.near[b][self.label[self.near[b]] != a]
                continue
            self._join(a, b)

    def _join(self, a: int, b: int) -> None:
        if self.person[b]:
            a, b = b, a
        members = self.members.pop(b)
        self.label[members] = a
        self.members[a] = np.concatenate([self.members[a], members])
        self.sums[a] += self.sums[b]
        self.size[a] += self.size[b]
        self.version[a] += 1
        self.version[b] = -1
        near = np.unique(self.label[np.concatenate([self.near[a], self.near.pop(b)])])
        near = self.near[a] = near[near != a]
        if self.person[a]:
            near = near[self.person[near] == 0]
        scores = self.sums[near] @ self.sums[a] / (self.size[near] * self.size[a])
        for other, score in zip(near.tolist(), scores.tolist()):
            if score >= self.limit:
                entry = (-score, a, other, int(self.version[a]), int(self.version[other]))
                heapq.heappush(self.later, entry)
