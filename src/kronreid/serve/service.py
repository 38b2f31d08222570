"""What the server does, without the web. Everything here may take time and runs in threads."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kronreid import __version__
from kronreid.errors import InputError
from kronreid.gallery import Entry, Gallery, SearchResult, Selection
from kronreid.gallery.entries import format_box, known, path_to_text
from kronreid.gallery.filters import EVERYTHING
from kronreid.gallery.tracklets import TRACK
from kronreid.gallery.upkeep import older_than
from kronreid.models.calibration import similarity_limit
from kronreid.models.inference import Matcher
from kronreid.models.place_matcher import PlaceMatcher
from kronreid.models.protocols import Embeds
from kronreid.serve import schemas
from kronreid.serve.added import Added
from kronreid.serve.answers import item, moment, natural, sound, without_folders
from kronreid.serve.batching import ModelThread
from kronreid.serve.cameras import ServedCameras
from kronreid.serve.files import failure, make_private, refuse_links
from kronreid.serve.marks import Mark, Marks, now
from kronreid.serve.moments import Moments
from kronreid.serve.opened import NotFound, OpenGallery, OutOfOrder
from kronreid.serve.pairs import explain, has_parts, match
from kronreid.serve.people import ServedPeople
from kronreid.serve.pictures import Pictures
from kronreid.serve.queries import Queries, Sent
from kronreid.serve.settings import Settings
from kronreid.serve.uploads import jpeg

log = logging.getLogger(__name__)

#: How often the server looks for pictures that are older than it keeps them.
EXPIRING_SECONDS = 3600.0


class Service:
    """The gallery, the models, and what is kept between requests.

    Args:
        uri: The gallery.
        embedder: The model that made its vectors.
        matcher: Scores pairs; None for the embedder's places, if it has any.
        settings: How the server behaves.
        on_batch: Called with the number of pictures of every pass of the embedder.

    Raises:
        InputError: The gallery cannot be opened, or its vectors are another model's.
    """

    def __init__(
        self,
        uri: str,
        embedder: Embeds,
        matcher: Matcher | None,
        settings: Settings,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.settings = settings
        self.matcher: Any = matcher or getattr(embedder, "matcher", None)
        self.calibration = getattr(embedder, "calibration", None)
        self.has_parts = has_parts(embedder)
        self.models = ModelThread(embedder, on_batch)
        try:
            if settings.state.exists() or settings.state.is_symlink():
                refuse_links(make_private(settings.state))
            if settings.cache is not None and not settings.cache.exists():
                make_private(settings.cache)
            self.marks = Marks(settings.state)
            self.gallery = OpenGallery(uri, self.models, matcher, settings)
        except BaseException:
            self.models.close()
            raise
        self._closing = threading.Event()
        self._expiring = threading.Thread(target=self._expire_regularly, daemon=True)
        self.added = Added(settings.state / "added", self._used)
        try:
            with self.gallery.changing():
                self.added.finish()
        except BaseException:
            self.close()
            raise
        self.people = ServedPeople(self.gallery)
        self.cameras = ServedCameras(self.people)
        self.moments = Moments(self.gallery)
        self.pictures = Pictures(self.gallery.current.sources)
        self.queries = Queries(self.gallery, self.pictures, settings.upload_pixels, settings.state)
        if settings.keep is not None:
            self._expiring.start()

    def close(self) -> None:
        """Finish the work at hand and release everything."""
        self._closing.set()
        if self._expiring.is_alive():
            self._expiring.join()
        self.models.close()
        self.gallery.close()

    @property
    def has_places(self) -> bool:
        """Whether the embedder's own places compare pairs."""
        return isinstance(self.matcher, PlaceMatcher)

    # ── the gallery ─────────────────────────────────────────────────────────────────────────────────

    def ready(self) -> int:
        """The number of pictures.

        Raises:
            OutOfOrder: The gallery does not answer.
        """
        with self.gallery.in_use():
            return self.gallery.current.count

    def info(self, signed_in: bool, everything: bool) -> schemas.Info:
        """See `schemas.Info`."""
        settings, gallery = self.settings, self.gallery.current
        has_people = self.people.any()
        return schemas.Info(
            version=__version__,
            gallery=schemas.GallerySummary(
                uri=gallery.uri,
                count=self.ready(),
                dimension=gallery.dimension,
                model=Path(gallery.model).name,
                fingerprint=gallery.fingerprint,
            ),
            has_matcher=self.matcher is not None,
            matcher=None if self.matcher is None else "places" if self.has_places else "model",
            has_parts=self.has_parts,
            has_reports=settings.reports is not None,
            has_people=has_people,
            has_cameras=has_people or self.cameras.recorded(),
            allow_add=settings.allow_add,
            token_required="everything" if everything else "changes",
            signed_in=signed_in,
            limits=schemas.Limits(
                bytes=settings.upload_bytes,
                pixels=settings.upload_pixels,
                pictures=settings.upload_pictures,
            ),
        )

    def picture(self, id: str, small: bool) -> bytes:
        """A picture of the gallery as JPEG."""
        return self.pictures.jpeg(self.gallery.entry(id), small)

    def browse(self, selection: Selection, offset: int, limit: int) -> schemas.GalleryPage:
        """Some pictures of the gallery."""
        with self.gallery.in_use():
            total = self.gallery.current.counts(selection=selection).get((), 0)
            entries = list(self.gallery.current.entries(selection, offset, limit))
        items = [schemas.Item(**item(entry, self.pictures.size(entry))) for entry in entries]
        return schemas.GalleryPage(items=items, total=total, offset=offset)

    def stats(self, selection: Selection) -> schemas.GalleryStats:
        """Counts by camera and by hour."""
        with self.gallery.in_use():
            counts = self.gallery.current.counts("camera", "hour", selection=selection)
        cameras: dict[str | None, int] = {}
        hours: dict[float | None, int] = {}
        for (camera, hour), count in counts.items():
            cameras[camera] = cameras.get(camera, 0) + count
            hour = None if moment(hour) is None else hour
            hours[hour] = hours.get(hour, 0) + count
        return schemas.GalleryStats(
            count=sum(cameras.values()),
            cameras=[
                schemas.CountItem(value=sound(camera), count=cameras[camera])
                for camera in sorted(cameras, key=natural)
            ],
            hours=[
                schemas.CountItem(value=moment(hour), count=hours[hour])
                for hour in sorted(hours, key=lambda hour: (hour is None, hour or 0))
            ],
        )

    # ── comparing ───────────────────────────────────────────────────────────────────────────────────

    def search(
        self,
        sent: Sequence[Sent],
        items: Sequence[str],
        selection: Selection,
        *,
        top: int,
        offset: int,
        limit: int,
        rerank_top: int,
        matcher_weight: float | None,
        group_by: str,
    ) -> schemas.SearchAnswer:
        """Find a person; see `requests.SearchForm`."""
        started = time.perf_counter()
        images, queries = [], []
        for image, query in self.queries.all(sent, items):
            images.append(image)
            queries.append(query)
        if not images:
            raise InputError("pictures", "nothing to search for; upload a picture, or name an item")
        read = time.perf_counter() - started
        with self.gallery.in_use():
            result = SearchResult([], {})
            if self.gallery.current.count:
                result = self.gallery.current.search(
                    images,
                    top,
                    rerank_top,
                    matcher_weight=matcher_weight,
                    group_by=group_by or None,
                    selection=selection,
                )
            counting = self._limit(result, selection)
        stop = offset + limit
        groups = result.groups[offset:stop]
        hits = [hit for group in groups for hit in group.hits] if group_by else result.hits[offset:stop]
        described = time.perf_counter()
        hits = sorted(hits, key=lambda hit: hit.rank)
        people = self.people.tags([hit.attributes for hit in hits])
        answer = [
            schemas.HitItem(
                **item(hit, self.pictures.size(hit)),
                rank=hit.rank,
                similarity=hit.similarity,
                probability=hit.probability,
                same=self.marks.same([query.id for query in queries], hit.id),
                track=hit.attributes[TRACK] if person else None,
                person=person,
            )
            for hit, person in zip(hits, people)
        ]
        ended = time.perf_counter()
        stages = {stage: time for stage, time in result.seconds.items() if stage != "total"}
        seconds = {"read": read, **stages, "describe": ended - described, "total": ended - started}
        return schemas.SearchAnswer(
            hits=answer,
            groups=[
                schemas.HitGroup(key=sound(group.key), ranks=[hit.rank for hit in group.hits])
                for group in groups
            ],
            total=len(result.groups if group_by else result.hits),
            offset=offset,
            seconds=seconds,
            unreadable=[without_folders(text) for text in result.unreadable],
            limit=counting,
            query=queries,
        )

    def _limit(self, result: SearchResult, selection: Selection) -> schemas.Limit | None:
        """From which similarity on hits count, if the calibration can tell for so many pictures."""
        if self.calibration is None or not result.hits:
            return None
        size = self.gallery.current.counts(selection=selection).get((), 0)
        try:
            limit = similarity_limit("auto", self.calibration, size)
        except InputError:
            return None
        passed = sum(hit.similarity >= limit.similarity for hit in result.hits)
        return schemas.Limit(**asdict(limit), sentence=limit.words, passed=passed)

    def match(self, a: Sent | str, b: Sent | str) -> schemas.MatchAnswer:
        """How similar two pictures are."""
        return match(self.models, self.matcher, self.queries.image(a), self.queries.image(b))

    def explain(self, a: Sent | str, b: Sent | str) -> schemas.ExplainAnswer:
        """Why two pictures match."""
        if self.matcher is None and not self.has_parts:
            raise InputError(
                "",
                "there is no model that explains; give the gallery's model places with kronreid fit-places, "
                "or start the server with --matcher",
            )
        return explain(
            self.models, self.matcher, self.has_parts, self.queries.image(a), self.queries.image(b)
        )

    # ── changing ────────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        sent: Sequence[Sent],
        *,
        camera: str = "",
        time: str = "",
        identity: str = "",
        source: str = "",
        attributes: dict[str, str] | None = None,
    ) -> schemas.AddAnswer:
        """Add pictures; see `requests.AddForm`."""
        values = known(
            camera=camera, time=time, identity=identity, source=source, attributes=attributes or {}
        )
        uploads, refused = [], []
        for one in sent:
            try:
                uploads.append(self.queries.read(one))
            except InputError as error:
                refused.append(schemas.Refused(name=one.name, message=error.what))
        # Nobody may delete a file here before the gallery knows of it.
        with self.gallery.writing, self.added.storing(uploads) as paths:
            entries = [
                Entry(path, box=upload.entry.box, id=upload.entry.id, **values)
                for path, upload in zip(paths, uploads)
            ]
            with self.gallery.changing() as gallery:
                report = gallery.add(entries, progress=False)
        # A file that could be read a moment ago and cannot now was tampered with, or the disk is failing.
        for picture in report.unreadable:
            refused.append(schemas.Refused(name=picture.path.name, message=picture.reason))
        lost = {picture.path for picture in report.unreadable}
        return schemas.AddAnswer(
            added=report.added,
            skipped_existing=report.skipped_existing,
            ids=[entry.id for entry in entries if entry.path not in lost],
            unreadable=refused,
        )

    def delete(self, id: str) -> None:
        """Remove a picture and its marks; its file too if `add` stored it and nothing else needs it."""
        with self.gallery.changing() as gallery:
            self._forget(gallery, [self.gallery.entry(id)])

    def expire(self) -> int:
        """Remove the pictures that are older than the server keeps them; returns how many."""
        if self.settings.keep is None:
            return 0
        with self.gallery.changing() as gallery:
            old = list(gallery.entries(older_than(self.settings.keep, EVERYTHING)))
            if old:
                self._forget(gallery, old)
        return len(old)

    def _forget(self, gallery: Gallery, entries: Sequence[Entry]) -> None:
        with ExitStack() as files:
            for path, rows in Counter(entry.path for entry in entries).items():
                files.enter_context(self.added.removing(path, rows))
            gallery.delete(Selection(id=[entry.id for entry in entries]))
        for entry in entries:
            self.pictures.forget(entry.id)
            self.moments.forget(entry.id)
            self.marks.forget(entry.id)

    def _expire_regularly(self) -> None:
        while True:
            try:
                self.expire()
            except InputError as error:  # what is in the way now may be gone the next time
                log.error("old pictures are not deleted: %s", error)
            if self._closing.wait(EXPIRING_SECONDS):
                return

    def _used(self, path: Path) -> int:
        """How many of the gallery's pictures come from a file."""
        with self.gallery.in_use():
            return self.gallery.current.counts(selection=Selection(path=path)).get((), 0)

    def mark(self, query: str, item: str, same: bool | None) -> None:
        """Keep a mark; see `schemas.Feedback`."""
        found = self.gallery.entry(item)
        remembered = self.queries.recent.get(query)
        box = ""
        path = Path()
        if remembered is None:
            try:
                asked = self.gallery.entry(query)
            except NotFound:
                raise NotFound(
                    "query", "this picture is not in the gallery and no longer remembered; search again"
                ) from None
            path, box = asked.path, format_box(asked.box)
        try:
            if remembered is not None:
                path = self.marks.keep_picture(query, jpeg(remembered, quality=95))
            texts = (query, path_to_text(path), box, item, path_to_text(found.path), format_box(found.box))
            self.marks.add(Mark(*texts, same=same, time=now()))
        except (OSError, InputError) as error:
            raise OutOfOrder("", f"the mark cannot be stored ({failure(error)})") from error
