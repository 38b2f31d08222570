"""Tracklets: what one camera saw of one person, from entering to leaving.

A gallery that holds tracklets has a second collection for them. Their pictures are ordinary entries of the
gallery, found by any search; each has the attribute ``track``, the identifier of its tracklet.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kronreid.gallery.entries import FIELDS, Entry, text_to_path
from kronreid.gallery.filters import EVERYTHING, Selection
from kronreid.gallery.store import MOST, Store, open_store

#: The attribute of a gallery's picture that names its tracklet.
TRACK = "track"
#: What the name of a gallery's collection of tracklets ends with.
SUFFIX = "_tracklets"


@dataclass(frozen=True)
class Tracklet:
    """What one camera saw of one person, from entering to leaving.

    Attributes:
        id: Hexadecimal. It follows from the source and the first frame, so that a source that is read again
            gives the same tracklets.
        camera: The camera's name.
        source: The name of the source.
        start: When it was first seen, in seconds since 1970 (UTC).
        end: When it was last seen.
        vector: (D,) float32: the mean of the vectors of its frames, L2-normalised.
        pictures: Identifiers of its pictures in the gallery, the best first.
        path: The file of its best picture.
        boxes: (N, 5) float32: for some of its frames, in order, the seconds after `start` and the box: left,
            top, width and height in pixels.
    """

    id: str
    camera: str
    source: str
    start: float
    end: float
    vector: np.ndarray
    pictures: tuple[str, ...]
    path: Path
    boxes: np.ndarray

    def to_entry(self) -> Entry:
        """The tracklet as an entry of its collection; the vector is stored beside it."""
        attributes: dict[str, Any] = {
            "end": self.end,
            "pictures": list(self.pictures),
            "boxes": [[round(float(value), 3) for value in row] for row in self.boxes],
        }
        return Entry(
            self.path,
            camera=self.camera,
            time=self.start,
            source=self.source,
            attributes=attributes,
            id=self.id,
        )

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Tracklet":
        """The reverse of `to_entry`, of a row that may have the vector as well."""
        entry = Entry.from_row(row)
        found = entry.attributes
        start = entry.time or 0.0
        return cls(
            id=entry.id,
            camera=entry.camera or "",
            source=entry.source or "",
            start=start,
            end=float(found.get("end", start)),
            vector=np.asarray(row.get("vector", ()), np.float32),
            pictures=tuple(found.get("pictures", ())),
            path=entry.path,
            boxes=np.asarray(found.get("boxes", ()), np.float32).reshape(-1, 5),
        )


class Tracklets:
    """The tracklets of a gallery.

    Args:
        uri: The gallery's address.
        collection: The gallery's collection.
        token: Credentials for a server.

    Raises:
        InputError: See `open_store`.
    """

    def __init__(self, uri: str, collection: str = "people", token: str = "") -> None:
        self._store: Store = open_store(uri, collection + SUFFIX, token)

    def close(self) -> None:
        """Release the connection."""
        self._store.close()

    def upsert(self, tracklets: Sequence[Tracklet]) -> None:
        """Write tracklets, in place of those with the same identifiers. Write their pictures first: a
        tracklet that is stored is whole."""
        if not tracklets:
            return
        if not self._store.exists:
            self._store.create(len(tracklets[0].vector), {})
        vectors = np.stack([tracklet.vector for tracklet in tracklets]).astype(np.float32)
        self._store.upsert([tracklet.to_entry() for tracklet in tracklets], vectors)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove tracklets; their pictures stay."""
        if self._store.exists:
            self._store.delete(ids)

    def purge(self) -> bool:
        """See `Store.purge`."""
        return not self._store.exists or self._store.purge()

    def unreadable(self, give_up: bool = False) -> int:
        """See `Store.unreadable`."""
        return self._store.unreadable(give_up) if self._store.exists else 0

    def all(self, selection: Selection = EVERYTHING, vectors: bool = True) -> Iterator[Tracklet]:
        """The tracklets that meet a selection; its times are those at which tracklets start.

        Args:
            selection: Which.
            vectors: Read the vectors as well; without, they are empty.
        """
        if self._store.exists:
            fields = [*FIELDS, "vector"] if vectors else FIELDS
            yield from map(Tracklet.from_row, self._store.rows(fields, selection))

    def nearest(self, vector: np.ndarray, top: int) -> list[tuple[Tracklet, float]]:
        """The `top` tracklets nearest to a unit vector (D,), with their cosines, best first.

        Their own vectors are left empty.
        """
        if not self._store.exists:
            return []
        found = self._store.search(vector.astype(np.float32), min(top, MOST))
        return [(Tracklet.from_row(entry.to_row()), similarity) for entry, similarity in found]

    def ids(self) -> set[str]:
        """The identifiers of all tracklets."""
        return {row["id"] for row in self._store.rows(["id"])} if self._store.exists else set()

    def recordings(self) -> set[str]:
        """The names of the folders that the pictures of tracklets lie in, one for each recording."""
        rows = self._store.rows(["path"]) if self._store.exists else ()
        return {text_to_path(row["path"]).parent.name for row in rows}

    def existing(self, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that are stored."""
        if not self._store.exists:
            return set()
        self._store.catch_up()
        return self._store.existing(list(ids))

    def count(self) -> int:
        """Number of tracklets."""
        return self._store.count() if self._store.exists else 0
