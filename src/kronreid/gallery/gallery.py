"""A gallery: a persistent collection of pictures of people that can be searched."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronreid.data.images import ImageLike, as_list, open_rgb
from kronreid.errors import InputError
from kronreid.gallery import upkeep
from kronreid.gallery.entries import FIELDS, Entry, text_to_path
from kronreid.gallery.filters import EVERYTHING, Scalar, Selection, Time
from kronreid.gallery.indexing import AddReport, add_entries, described
from kronreid.gallery.people import leave_out
from kronreid.gallery.recordings import Recordings
from kronreid.gallery.rescoring import PlaceMemory
from kronreid.gallery.search import SearchResult, search
from kronreid.gallery.sources import Sources
from kronreid.gallery.store import MOST, Store, open_store
from kronreid.gallery.tracklets import Tracklets
from kronreid.gallery.upkeep import VerifyReport

if TYPE_CHECKING:
    from kronreid.gallery.cache import MapCache
    from kronreid.models.protocols import Embeds, Matches

_PROPERTY = "kronreid."
#: Asking for each of so many folders whether it holds a picture is faster than reading all paths.
_FEW = 8


@dataclass(frozen=True)
class GalleryInfo:
    """What a gallery is.

    Attributes:
        uri: Its address.
        count: Number of pictures.
        dimension: Length of the vectors.
        fingerprint: The model that made them; vectors of another model are refused.
        model: Where that model was loaded from, if known.
        bytes_on_disk: Size of the gallery's files; None for a server.
    """

    uri: str
    count: int
    dimension: int
    fingerprint: str
    model: str
    bytes_on_disk: int | None


class Gallery:
    """A persistent collection of pictures of people that can be searched.

    Args:
        uri: A folder, an address of an object store like ``s3://bucket/people``, or ``http(s)://host:port``
            of a Milvus server or cluster.
        embedder: Makes the vectors. Without one, an existing gallery can be listed, changed and verified, and
            no gallery is created. `attach` sets it later.
        matcher: Re-scores the best candidates of a search, instead of the embedder's places.
        token: Credentials for a server, as ``user:password`` or an API key; without, those of MILVUS_TOKEN in
            the environment.
        collection: Name of the collection, where one server holds several galleries: at most 200 ASCII
            letters, digits and underscores, no digit first.
        cache: Keeps the matcher's maps of candidates for later searches.
        state: Folder for the journal of people (`kronreid.gallery.people`) of a gallery on a server or in an
            object store. A gallery in a folder keeps it there.
        sources: Open pictures below these folders only; without, below the folders that the gallery was
            filled from, as far as it remembers them (see `kronreid.gallery.sources`).

    Raises:
        InputError: The address is no gallery, cannot be opened or does not answer; the vectors were made by
            another model; or the matcher's maps cannot be kept.

    Example:
        >>> with kronreid.Gallery("people", embedder, matcher) as gallery:
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
        state: Path | None = None,
        sources: Sequence[Path] = (),
    ) -> None:
        self.uri = str(uri)
        # Absolute: what opens it later may do so elsewhere, in another process or after a change of folder.
        address = self.uri if "://" in self.uri else str(Path(self.uri).absolute())
        self.place = {"uri": address, "token": token, "collection": collection}
        self.embedder: Embeds | None = None
        self.matcher = matcher
        self.cache = cache
        self.state = state
        if cache is not None and matcher is not None:
            cache.check(matcher)
        if embedder is None and "://" not in self.uri and not Path(self.uri).exists():
            raise InputError(self.uri, "no such gallery; add pictures to it first")
        if embedder is not None and not embedder.fingerprint:
            raise InputError(
                "embedder", "has no fingerprint, which the gallery must remember; save the model and load it"
            )
        self._store: Store = open_store(self.uri, collection, token)
        self._memory = PlaceMemory(self._store)
        self.sources = Sources.of(self.uri, sources)
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
        """Set the gallery's embedder.

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
        """Release the connection. Everything that was added is stored already."""
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

        Every batch is safe once it is written. After any interruption, also a kill, the same call goes on
        where it stopped.

        Args:
            images: Files, folders, patterns, lists (CSV, Parquet, MOT, COCO: see `read_list`), or entries.
            camera: The camera of all of them, in place of what their names or lists say. "" says that it is
                unknown, here and below.
            time: When they were taken: seconds since 1970, ISO 8601 or a datetime (UTC unless it has a zone).
            identity: Whom they show.
            source: Where they come from.
            attributes: Further attributes of all of them, by name.
            categories: Categories of COCO and classes of MOT to take from lists instead of people.
            batch_size: Pictures per batch.
            workers: Threads that read and decode ahead.
            progress: Show a progress bar on a terminal.

        Returns:
            How many were added and skipped, and which could not be read.

        Raises:
            InputError: A folder is missing, a value cannot be stored (see `kronreid.data.values`), the
                gallery has no embedder, the disk is full, or the server does not answer.
        """
        embedder = self._embedder()
        values = {"camera": camera, "time": time, "identity": identity, "source": source}
        given = [images] if isinstance(images, str | PathLike) else list(images)
        entries, unreadable = described(given, categories, **values, attributes=attributes)
        pictures = [entry.path for entry in entries]
        folders = [one for one in given if isinstance(one, str | PathLike)]
        self._remember(pictures, folders)
        report = add_entries(self._store, embedder, entries, batch_size, workers, progress)
        self._remember(pictures, folders)  # a deletion may have forgotten folders that held nothing yet
        report.unreadable[:0] = unreadable
        return report

    def note_recording(self, recording: Path) -> None:
        """Note a video or a folder of frames whose people are followed, so that it may be opened later.

        Raises:
            InputError: That cannot be written.
        """
        self._remember([], recordings=[recording])

    def _remember(
        self,
        pictures: Sequence[Path],
        given: Sequence[str | PathLike[str]] = (),
        recordings: Sequence[Path] = (),
    ) -> None:
        """Note the folders of pictures that are added, and recordings."""
        if self.sources.unnoted and (pictures or recordings) and self.count:
            self.sources.add(self._paths())  # of a gallery that was made before they were noted
        self.sources.add(pictures, given, recordings)

    def _paths(self) -> Iterator[Path]:
        return (text_to_path(row["path"]) for row in self._store.rows(["path"]))

    def settle(self, added: int) -> None:
        """Make searching fast again after other processes have added `added` pictures."""
        self._store.settle(added)

    def build_index(self) -> bool:
        """Build the index that makes searching millions of pictures fast; returns whether there is one."""
        return self._store.build_index()

    def warm(self) -> None:
        """Get ready to be searched many times by this process, so that no search has to wait for that."""
        self._store.warm()

    # ── searching ───────────────────────────────────────────────────────────────────────────────────

    def search(
        self,
        query: ImageLike | Sequence[ImageLike],
        top: int = 20,
        rerank_top: int = 100,
        *,
        matcher_weight: float | None = None,
        selection: Selection | None = None,
        group_by: str | None = None,
        **conditions: Any,
    ) -> SearchResult:
        """Find a person.

        Args:
            query: One picture, or several of the same person, whose mean is searched for.
            top: Number of hits (of groups, with `group_by`).
            rerank_top: How many of the most similar entries the matcher re-scores, or without a matcher the
                embedder's places, if it has some; 0 for none.
            matcher_weight: The weight of that score in their new order, 0 to 1; the rest is the similarity's.
                None takes 1 for the embedder's places, which count the similarity themselves, and 0.5 for a
                matcher.
            selection: Search only these; all without one.
            group_by: ``identity``, ``camera``, ``source`` or the name of an attribute such as ``track``.
            conditions: A short form: ``camera=3`` is ``selection=Selection(camera=3)``.

        Returns:
            Hits with the scores of both stages, and the seconds of each stage.

        Raises:
            InputError: A query cannot be read, a condition has an impossible value, or the gallery is empty
                or has no embedder.
        """
        embedder = self._embedder()
        pictures = [open_rgb(image) for image in as_list(query)]
        if not pictures:
            raise InputError("query", "no picture given")
        result = search(
            self._store,
            embedder,
            self.matcher,
            pictures,
            top,
            rerank_top,
            matcher_weight,
            replace(selection or EVERYTHING, **conditions),
            group_by,
            self.cache,
            self._memory,
            self.sources,
        )
        if not result.hits and not self.count:
            raise InputError(self.uri, "the gallery is empty; add pictures to it first")
        return result

    # ── keeping ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def count(self) -> int:
        """Number of pictures."""
        return self._store.count()

    @property
    def folder(self) -> Path | None:
        """Where it keeps what is no table: its own folder, or else its `state` folder, if it has one."""
        return self.state if "://" in self.uri else Path(self.place["uri"])

    def info(self) -> GalleryInfo:
        """What the gallery is, and its size."""
        size = self._store.bytes_on_disk()
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
            offset: How many to skip; needs a `limit`. The order stays while nothing is added or changed.
            limit: At most so many; None for all.

        Raises:
            InputError: The limit or offset is impossible.
        """
        wanted = selection or EVERYTHING
        if limit is None and offset == 0:
            yield from map(Entry.from_row, self._store.rows(FIELDS, wanted))
            return
        if limit is None or not 1 <= limit <= MOST // 2 or offset < 0:
            raise InputError(
                f"limit {limit}, offset {offset}",
                f"a limit from 1 to {MOST // 2:,} and an offset of 0 or more expected",
            )
        yield from self._store.page(offset, limit, wanted)

    def counts(self, *by: str, selection: Selection | None = None) -> dict[tuple[Any, ...], int]:
        """How many pictures there are of each kind.

        Counting by something reads every picture's description, about 20 seconds for a million of them.

        Args:
            by: ``camera``, ``identity``, ``source``, ``hour``, ``day`` or names of attributes. Several of
                them count their combinations.
            selection: Count only these.

        Returns:
            Counts by the values of `by`, in that order; None where unknown. An hour or a day is its start in
            seconds since 1970 (UTC).

        Example:
            >>> gallery.counts("camera", "hour")
            {("1", 1714557600.0): 20, ("2", None): 3}
            >>> gallery.counts(selection=Selection(camera=1))
            {(): 20}
        """
        return upkeep.counts(self._store, by, selection or EVERYTHING)

    def delete(self, selection: Selection, purge: bool = True) -> int:
        """Remove the pictures that meet the selection from the gallery. Their files stay, except the crops of
        tracklets, which are the gallery's own.

        Nothing of them remains in the gallery's folder: the parts of it that held them are written anew,
        which takes seconds for some 100,000 pictures. A server removes the bytes in its own time. A tracklet
        whose last picture is removed goes with it, and so does what the journal of people holds of it.

        Args:
            selection: Which.
            purge: Leave it to a later `purge` to remove the bytes, by saying False.

        Returns:
            How many.

        Raises:
            InputError: The selection has no condition.
        """
        return self._deleted(selection, purge)

    def expire(self, keep: str | float, selection: Selection | None = None, purge: bool = True) -> int:
        """Remove the pictures that were taken longer ago than `keep`; see `delete`.

        A picture without a time never expires.

        Args:
            keep: Seconds, or a number with a unit: ``30d``, ``12h``, ``90m``, ``4w``.
            selection: Only among these.
            purge: See `delete`.

        Returns:
            How many.

        Raises:
            InputError: `keep` is no such time.
        """
        return self._deleted(upkeep.older_than(keep, selection or EVERYTHING), purge)

    def _deleted(self, selection: Selection, purge: bool) -> int:
        count = upkeep.delete(self._store, selection, lambda tracks: leave_out(self, tracks))
        if purge:  # also when nothing is left to delete: an earlier call may have been interrupted
            self.purge()
        return count

    def purge(self) -> bool:
        """Remove what deleted and changed pictures have left on the disk; False where the database does it in
        its own time."""
        with closing(Tracklets(**self.place)) as tracklets:
            recordings = Recordings(self).forget(tracklets.recordings())
            videos = [text_to_path(one.path) for one in recordings if one.path]
            if not self._all_in_use(set(self.sources.noted) - set(videos)):
                self.sources.forget(chain(self._paths(), videos))
            return self._store.purge() and tracklets.purge()

    def _all_in_use(self, folders: Collection[Path]) -> bool:
        """Whether each of these folders holds a picture, if that is quickly known."""
        return len(folders) <= _FEW and all(self._store.count(Selection(path=folder)) for folder in folders)

    def update(self, selection: Selection, **changes: Any) -> int:
        """Change what is known about the pictures that meet the selection.

        Args:
            selection: Which.
            changes: New values of ``path``, ``camera``, ``time``, ``identity`` or ``source``; None or ""
                makes a value unknown. ``attributes`` are added to the existing ones; "" removes one.

        Returns:
            How many.

        Raises:
            InputError: The selection has no condition, a field is unknown, or a value cannot be stored. Then
                nothing has been changed.
        """
        return upkeep.update(self._store, self.sources, selection, changes)

    def export(self, path: str | PathLike[str], selection: Selection | None = None) -> int:
        """Write the descriptions as a CSV list, which `add` reads back; returns how many."""
        return upkeep.export(self.entries(selection), path)

    def verify(self, files: bool = True, own: Sequence[Path] = ()) -> VerifyReport:
        """Check every entry: its vector, and that its file is there with the content that was added.

        Args:
            files: Read the files as well; without, only what the gallery itself stores is checked.
            own: Folders in which every file must belong to an entry, like the server's added pictures. Those
                with the crops of tracklets are known.
        """
        with closing(Tracklets(**self.place)) as tracklets:
            return upkeep.verify(self._store, tracklets, self.sources, self.dimension, files, own)

    def repair(self) -> int:
        """Give up what of a damaged gallery cannot be read, and keep the rest.

        Returns:
            How many entries were given up. Adding the same pictures again brings them back. Tracklets keep
            the pictures that are left, and go with the last one.
        """
        with closing(Tracklets(**self.place)) as tracklets:
            given_up = upkeep.repair(self._store, tracklets, self.dimension)
            missing = upkeep.missing_pictures(self._store, tracklets)
        leave_out(self, missing)
        return given_up

    def _embedder(self) -> "Embeds":
        if self.embedder is None:
            raise InputError(
                self.uri, "opened without a model; adding and searching need the model that made it"
            )
        return self.embedder
