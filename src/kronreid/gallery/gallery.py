"""A gallery: pictures of people that stay, and can be searched."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from kronreid.data.images import ImageLike, as_list, open_rgb
from kronreid.errors import InputError
from kronreid.gallery.entries import UNKNOWN_TIME, Entry, checked, format_box, known, known_label
from kronreid.gallery.filters import Scalar, Selection, Time, format_time
from kronreid.gallery.indexing import AddReport, add_entries, described, identified
from kronreid.gallery.search import SearchResult, search
from kronreid.gallery.store import MOST, Store

if TYPE_CHECKING:
    from kronreid.gallery.cache import MapCache
    from kronreid.models.protocols import Embeds, Matches

_PROPERTY = "kronreid."
#: Fewer new rows a server compares one by one.
SETTLED_FROM = 5_000
#: The columns that `Gallery.counts` reads; anything else is an attribute.
_COLUMNS = {"camera": "camera", "identity": "identity", "source": "source", "hour": "time", "day": "time"}


@dataclass(frozen=True)
class GalleryInfo:
    """What a gallery is.

    Attributes:
        uri: Where it is.
        count: Number of pictures.
        dimension: Length of the vectors.
        fingerprint: The model that made them; vectors of another one are refused.
        model: Where that model was loaded from, if it said so.
        bytes_on_disk: Size of the file; None for a server.
    """

    uri: str
    count: int
    dimension: int
    fingerprint: str
    model: str
    bytes_on_disk: int | None


@dataclass
class VerifyReport:
    """What `Gallery.verify` found.

    Attributes:
        checked: Entries looked at.
        bad_vectors: Identifiers of entries whose vector is no unit vector of the right length.
        missing: Files that are no longer where they were.
        changed: Files whose content is not what was added.
    """

    checked: int = 0
    bad_vectors: list[str] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    changed: list[Path] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether everything that the gallery stores is whole; files may have gone since."""
        return not self.bad_vectors


class Gallery:
    """A persistent, searchable collection of pictures of people.

    Args:
        uri: A file name ending in ``.db`` (Milvus Lite, inside this process), or ``http(s)://host:port`` of a
            Milvus server or cluster.
        embedder: Makes the vectors. Without one, a gallery that exists can be listed, changed and verified;
            one that does not exist is not created. `attach` gives it one later.
        matcher: Looks again at the best candidates of a search.
        token: Credentials for a server, as ``user:password`` or an API key; without, those of MILVUS_TOKEN in
            the environment.
        collection: Name of the collection, where one server holds several galleries: at most 255 ASCII
            letters, digits and underscores, no digit first.
        cache: Where the matcher's maps of candidates are kept for later searches.

    Raises:
        InputError: The address is no gallery, is open in another process or does not answer; or its vectors
            were made by another model; or the matcher's maps cannot be kept.

    Example:
        >>> with kronreid.Gallery("people.db", embedder, matcher) as gallery:
        ...     report = gallery.add("crops/")
        ...     result = gallery.search("who.jpg", top=20)
        >>> result.hits[0].path, result.hits[0].similarity, result.hits[0].probability
    """

    def __init__(
        self,
        uri: str | PathLike[str],
        embedder: "Embeds | None" = None,
        matcher: "Matches | None" = None,
        *,
        token: str = "",
        collection: str = "people",
        cache: "MapCache | None" = None,
    ) -> None:
        self.uri = str(uri)
        self.place = {"uri": self.uri, "token": token, "collection": collection}
        self.embedder: Embeds | None = None
        self.matcher = matcher
        self.cache = cache
        if cache is not None and matcher is not None:
            cache.check(matcher)
        remote = self.uri.startswith(("http://", "https://"))
        if embedder is None and not remote and not Path(self.uri).exists():
            raise InputError(self.uri, "no such gallery; add pictures to it first")
        if embedder is not None and not embedder.fingerprint:
            raise InputError("embedder", "has no fingerprint to remember it by; save the model and load it")
        self._store = Store(self.uri, collection, token)
        try:
            if not self._store.exists:
                if embedder is None:
                    raise InputError(self.uri, f"holds no gallery {collection!r}; add pictures to it first")
                self._create(embedder)
            self._read_properties()
            if embedder is not None:
                self.attach(embedder)
        except BaseException:
            self._store.close()
            raise

    def _create(self, embedder: "Embeds") -> None:
        properties = {
            "fingerprint": embedder.fingerprint,
            "dimension": embedder.dimension,
            "model": getattr(embedder, "path", None) or "",
        }
        self._store.create(embedder.dimension, {_PROPERTY + name: str(v) for name, v in properties.items()})

    def _read_properties(self) -> None:
        properties = self._store.properties()
        try:
            self.fingerprint = properties[_PROPERTY + "fingerprint"]
            self.dimension = int(properties[_PROPERTY + "dimension"])
        except (KeyError, ValueError):
            raise InputError(
                self.uri, f"collection {self._store.collection!r} is not a kronreid gallery"
            ) from None
        self.model = properties.get(_PROPERTY + "model", "")

    def attach(self, embedder: "Embeds") -> None:
        """Give the gallery its embedder.

        Raises:
            InputError: It is not the model that made the gallery's vectors.
        """
        if (embedder.fingerprint, embedder.dimension) != (self.fingerprint, self.dimension):
            made_by = f" ({self.model})" if self.model else ""
            given = f"{embedder.fingerprint[:12]}, {embedder.dimension} dimensions"
            raise InputError(
                self.uri,
                f"its vectors were made by model {self.fingerprint[:12]}{made_by}, {self.dimension} "
                f"dimensions, not by {given}; use that model or another gallery",
            )
        self.embedder = embedder

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file or the connection. Everything added is stored whether or not this is called."""
        self._store.close()

    # ── filling ─────────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        images: str | PathLike[str] | Iterable[str | PathLike[str] | Entry],
        *,
        camera: Scalar | None = None,
        time: Time | None = None,
        identity: Scalar | None = None,
        source: Scalar | None = None,
        attributes: Mapping[str, Any] | None = None,
        categories: Sequence[str] = (),
        batch_size: int = 64,
        workers: int = 4,
        progress: bool = True,
    ) -> AddReport:
        """Add pictures that are not there yet; the same content is never stored twice.

        Every batch is safe once it is written: after an interruption, however rude, running the same again
        goes on where it stopped.

        Args:
            images: Files, folders, patterns, lists (CSV, Parquet, MOT, COCO: see `read_list`), or entries.
            camera: Camera of all of them, instead of what their names or lists tell; "" says that it is not
                known, here and for the others below.
            time: When they were taken: seconds since 1970, ISO 8601 or a datetime (UTC unless it has a zone).
            identity: Who they show.
            source: Where they come from.
            attributes: More about all of them, by name.
            categories: Categories of COCO and classes of MOT to take from lists instead of people.
            batch_size: Pictures per batch.
            workers: Threads that read and decode ahead.
            progress: Show a bar on a terminal.

        Returns:
            What was added, skipped and unreadable.

        Raises:
            InputError: A folder is missing, a value cannot be stored (see `kronreid.data.values`), the
                gallery has no embedder, the disk is full or the server gone.
        """
        embedder = self._embedder()
        values = {"camera": camera, "time": time, "identity": identity, "source": source}
        entries, unreadable = described(images, categories, **values, attributes=attributes)
        report = add_entries(self._store, embedder, entries, batch_size, workers, progress)
        report.unreadable[:0] = unreadable
        self.settle(report.added)
        return report

    def settle(self, added: int) -> None:
        """Have a server index `added` new pictures now, if they are many; a file needs nothing."""
        if added >= SETTLED_FROM:
            self._store.seal()

    # ── searching ───────────────────────────────────────────────────────────────────────────────────

    def search(
        self,
        query: ImageLike | Sequence[ImageLike],
        top: int = 20,
        rerank_top: int = 100,
        *,
        matcher_weight: float = 0.5,
        camera: Scalar | Sequence[Scalar | None] | None = None,
        identity: Scalar | Sequence[Scalar | None] | None = None,
        source: Scalar | Sequence[Scalar | None] | None = None,
        since: Time | None = None,
        until: Time | None = None,
        where: Mapping[str, Any] | None = None,
        group_by: str | None = None,
    ) -> SearchResult:
        """Find a person.

        Args:
            query: One picture, or several of the same person: their mean is searched with.
            top: Number of hits (of groups, with `group_by`).
            rerank_top: How many of the most similar the matcher looks at, if there is one.
            matcher_weight: Its say in their new order, 0 to 1; the rest is the similarity's.
            camera: Only this camera, or these; "" means that it is not known. See `Selection`.
            identity: Only this person, or these.
            source: Only this source, or these.
            since: Only pictures taken then or later.
            until: Only pictures taken then or earlier; a date means its end.
            where: Only pictures with these values, by the names of their attributes.
            group_by: ``identity``, ``camera``, ``source`` or the name of an attribute such as ``track``.

        Returns:
            Hits with the scores of both stages, and the seconds of each stage.

        Raises:
            InputError: A query cannot be read, a filter has an impossible value, the gallery is empty or has
                no embedder.
        """
        embedder = self._embedder()
        pictures = [open_rgb(image) for image in as_list(query)]
        if not pictures:
            raise InputError("query", "no picture given")
        selection = Selection(
            camera=camera, identity=identity, source=source, since=since, until=until, where=where or {}
        )
        result = search(
            self._store,
            embedder,
            self.matcher,
            pictures,
            top,
            rerank_top,
            matcher_weight,
            selection,
            group_by,
            self.cache,
        )
        if not result.hits and not self.count:
            raise InputError(self.uri, "the gallery is empty; add pictures to it first")
        return result

    # ── keeping ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def count(self) -> int:
        """Number of pictures."""
        return self._store.count()

    def info(self) -> GalleryInfo:
        """What the gallery is and how large."""
        size = None
        if self._store.embedded:
            size = sum(file.stat().st_size for file in Path(self.uri).rglob("*") if file.is_file())
        return GalleryInfo(self.uri, self.count, self.dimension, self.fingerprint, self.model, size)

    def entry(self, id: str) -> Entry | None:
        """The picture with this identifier; None if it is not there."""
        return next(iter(self._store.get([id])), None)

    def entries(
        self, selection: Selection | None = None, offset: int = 0, limit: int | None = None
    ) -> Iterator[Entry]:
        """Every picture that meets the selection; all without one.

        Args:
            selection: Which.
            offset: With `limit`: how many to pass over. The order stays while nothing is added or changed.
            limit: At most so many; None for all.

        Raises:
            InputError: A limit or offset that is impossible.
        """
        expression = (selection or Selection()).expression()
        if limit is None and offset == 0:
            yield from self._store.entries(expression)
            return
        if limit is None or not 1 <= limit <= MOST // 2 or offset < 0:
            raise InputError(
                f"limit {limit}, offset {offset}", f"1 to {MOST // 2:,} pictures from 0 on expected"
            )
        yield from self._store.page(offset, limit, expression)

    def counts(self, *by: str, selection: Selection | None = None) -> dict[tuple[Any, ...], int]:
        """How many pictures there are of each kind.

        Every picture that is counted by something is read for it, about 20 seconds for a million of them.

        Args:
            by: ``camera``, ``identity``, ``source``, ``hour``, ``day`` or names of attributes; several count
                their combinations.
            selection: Only these.

        Returns:
            Counts by the values of `by`, in that order; None where unknown. An hour or a day is its start in
            seconds since 1970 (UTC).

        Example:
            >>> gallery.counts("camera", "hour")
            {("1", 1714557600.0): 20, ("2", None): 3}
            >>> gallery.counts(selection=Selection(camera=1))
            {(): 20}
        """
        expression = (selection or Selection()).expression()
        if not by:
            return {(): self._store.count(expression)}
        columns = sorted({_COLUMNS.get(name, "attributes") for name in by})
        counts: dict[tuple[Any, ...], int] = {}
        for row in self._store.values(columns, expression):
            key = tuple(_kind(name, row) for name in by)
            counts[key] = counts.get(key, 0) + 1
        return counts

    def delete(self, selection: Selection) -> int:
        """Remove the pictures that meet the selection from the gallery; their files stay.

        Returns:
            How many.

        Raises:
            InputError: The selection has no condition.
        """
        expression = _some(selection)
        ids = [entry.id for entry in self._store.entries(expression)]
        if ids:
            self._store.delete(ids)
            self._store.flush()
        return len(ids)

    def update(self, selection: Selection, **changes: Any) -> int:
        """Change what is known about the pictures that meet the selection.

        Args:
            selection: Which.
            changes: New values of ``path``, ``camera``, ``time``, ``identity`` or ``source``; None or ""
                means that it is not known. ``attributes`` are added to those there, or taken away by "".

        Returns:
            How many.

        Raises:
            InputError: The selection has no condition, a field is unknown, or a value cannot be stored. Then
                nothing has been changed.
        """
        changes = known(**changes)
        found = list(self._store.entries_with_vectors(_some(selection)))
        entries = [_changed(entry, changes) for entry, _ in found]
        for start in tqdm(range(0, len(found), 1000), desc="updating", disable=None):
            vectors = np.stack([vector for _, vector in found[start : start + 1000]])
            self._store.upsert(entries[start : start + 1000], vectors)
        if found:
            self._store.flush()
        return len(found)

    def export(self, path: str | PathLike[str], selection: Selection | None = None) -> int:
        """Write the descriptions as a CSV list, which `add` reads back; returns how many."""
        names = ["path", "box", "camera", "time", "identity", "source", "attributes", "id"]
        rows = 0
        # Names that are no UTF-8 are written as the bytes they are.
        with Path(path).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for entry in tqdm(self.entries(selection), unit=" pictures", desc="writing", disable=None):
                attributes = json.dumps(entry.attributes, ensure_ascii=False) if entry.attributes else ""
                values = (entry.camera, format_time(entry.time), entry.identity, entry.source)
                writer.writerow([entry.path, format_box(entry.box), *values, attributes, entry.id])
                rows += 1
        return rows

    def verify(self, files: bool = True) -> VerifyReport:
        """Look at every entry: its vector, and whether its file is there with the content that was added.

        Args:
            files: Read the files too; without, only what the gallery itself holds is checked.
        """
        report = VerifyReport()
        everything = self._store.entries_with_vectors()
        for entry, vector in tqdm(
            everything, total=self.count, unit=" pictures", desc="verifying", disable=None
        ):
            report.checked += 1
            if vector.shape != (self.dimension,) or not np.allclose(np.linalg.norm(vector), 1, atol=1e-3):
                report.bad_vectors.append(entry.id)
            if not files:
                continue
            try:
                content = entry.path.read_bytes()
            except OSError:
                report.missing.append(entry.path)
                continue
            if identified([entry], content)[0].id != entry.id:
                report.changed.append(entry.path)
        return report

    def _embedder(self) -> "Embeds":
        if self.embedder is None:
            raise InputError(self.uri, "opened without a model; give the one that made it to add or search")
        return self.embedder


def _changed(entry: Entry, changes: Mapping[str, Any]) -> Entry:
    try:
        return checked(entry, changes)
    except InputError as error:
        raise InputError(entry.path, f"{error}; nothing was changed") from None


def _kind(name: str, row: Mapping[str, Any]) -> Any:
    """What `Gallery.counts` counts a row as."""
    if name in ("hour", "day"):
        length = 3600 if name == "hour" else 86400
        return None if row["time"] in (None, UNKNOWN_TIME) else row["time"] // length * length
    if name in ("camera", "identity"):
        return known_label(row[name])
    if name == "source":
        return row[name] or None
    value = (row["attributes"] or {}).get(name)
    return value if value is None or isinstance(value, Scalar) else json.dumps(value)


def _some(selection: Selection) -> str:
    expression = selection.expression()
    if not expression:
        raise InputError("", "no condition given; name a path, camera, identity, source, time or attribute")
    return expression
