"""What the server does, without the web: everything here may take its time and runs in threads."""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kronreid import __version__
from kronreid.errors import InputError
from kronreid.gallery import Entry, Gallery, SearchResult, Selection
from kronreid.gallery.cache import MapCache
from kronreid.gallery.entries import format_box, known, path_to_text
from kronreid.gallery.filters import format_time
from kronreid.gallery.store import StoreError
from kronreid.models.inference import Matcher
from kronreid.models.protocols import Embeds
from kronreid.serve import schemas
from kronreid.serve.batching import ModelThread, SharedEmbedder, SharedMatcher
from kronreid.serve.marks import Mark, Marks, now
from kronreid.serve.pairs import explain, match
from kronreid.serve.pictures import Pictures
from kronreid.serve.settings import Settings, make_private
from kronreid.serve.uploads import Recent, Upload, data_address, jpeg, read_upload, thumbnail

log = logging.getLogger(__name__)


class NotFound(InputError):
    """There is no such picture."""


class OutOfOrder(InputError):
    """The server cannot do it now, and the request is not to blame."""


@dataclass(frozen=True)
class Sent:
    """A picture as it came: its name, its bytes, and the box of the person."""

    name: str
    content: bytes
    box: str = ""


class Service:
    """The gallery, the models and what is kept between requests.

    Args:
        uri: The gallery.
        embedder: The model that made its vectors.
        matcher: Looks at pairs; None without.
        settings: How the server behaves.
        on_batch: Told the number of pictures of every pass of the embedder.

    Raises:
        InputError: The gallery cannot be opened, or is another model's.
    """

    def __init__(
        self,
        uri: str,
        embedder: Embeds,
        matcher: Matcher | None,
        settings: Settings,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.uri = uri
        self.settings = settings
        self.embedder = embedder
        self.matcher = matcher
        self.has_parts = has_parts(embedder)
        self.models = ModelThread(embedder, on_batch)
        self.marks = Marks(settings.state)
        self.pictures = Pictures()
        self.recent = Recent()
        self._writing = threading.RLock()
        try:
            self._open()
        except BaseException:
            self.models.close()
            raise

    def _open(self) -> None:
        """Two faces of one gallery: with the matcher, and without it for who is in a hurry."""
        shared = SharedEmbedder(self.models)
        self.gallery = Gallery(self.uri, shared)
        self.reranked = self.gallery
        if self.matcher is not None:
            cache = MapCache(self.settings.cache) if self.settings.cache is not None else None
            self.reranked = Gallery(self.uri, shared, SharedMatcher(self.models, self.matcher), cache=cache)

    def close(self) -> None:
        """Finish and let go of everything."""
        self.models.close()
        for gallery in {id(g): g for g in (self.gallery, self.reranked)}.values():
            gallery.close()

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """Tells the gallery's own trouble, whose messages begin with its address, from bad requests."""
        try:
            yield
        except InputError as error:
            if error.where == self.uri:
                log.error("%s", error)
                raise OutOfOrder(error.where, error.what) from error
            raise
        except StoreError as error:  # for one, a failed write has closed the gallery under a search
            log.error("%s", error)
            raise OutOfOrder(self.uri, "the gallery does not answer; try again in a moment") from error

    # ── what there is ───────────────────────────────────────────────────────────────────────────────

    def ready(self) -> int:
        """The number of pictures; proves that the gallery answers.

        Raises:
            OutOfOrder: It does not.
        """
        with self._trouble():
            return self.gallery.count

    def info(self, signed_in: bool) -> schemas.Info:
        """See `schemas.Info`."""
        settings, gallery = self.settings, self.gallery
        return schemas.Info(
            version=__version__,
            gallery=schemas.GallerySummary(
                uri=self.uri,
                count=self.ready(),
                dimension=gallery.dimension,
                model=Path(gallery.model).name,
                fingerprint=gallery.fingerprint,
            ),
            has_matcher=self.matcher is not None,
            has_parts=self.has_parts,
            has_reports=settings.reports is not None,
            allow_add=settings.allow_add,
            token_required="everything" if settings.guarded else "changes",
            signed_in=signed_in,
            limits=schemas.Limits(
                bytes=settings.upload_bytes,
                pixels=settings.upload_pixels,
                pictures=settings.upload_pictures,
            ),
        )

    def entry(self, id: str) -> Entry:
        """A picture of the gallery.

        Raises:
            NotFound: It is not there.
        """
        with self._trouble():
            entry = self.gallery.entry(id)
        if entry is None:
            raise NotFound(f"picture {id[:12]}…", "is not in the gallery; it may have been deleted")
        return entry

    def picture(self, id: str, small: bool) -> bytes:
        """A picture of the gallery as JPEG."""
        return self.pictures.jpeg(self.entry(id), small)

    def browse(self, selection: Selection, offset: int, limit: int) -> schemas.GalleryPage:
        """Some pictures of the gallery."""
        with self._trouble():
            total = self.gallery.counts(selection=selection).get((), 0)
            entries = list(self.gallery.entries(selection, offset, limit))
        items = [schemas.Item(**self._item(entry)) for entry in entries]
        return schemas.GalleryPage(items=items, total=total, offset=offset)

    def stats(self, selection: Selection) -> schemas.GalleryStats:
        """Counts by camera and by hour."""
        with self._trouble():
            counts = self.gallery.counts("camera", "hour", selection=selection)
        cameras: dict[str | None, int] = {}
        hours: dict[float | None, int] = {}
        for (camera, hour), count in counts.items():
            cameras[camera] = cameras.get(camera, 0) + count
            hour = None if moment(hour) is None else hour
            hours[hour] = hours.get(hour, 0) + count
        return schemas.GalleryStats(
            count=sum(cameras.values()),
            cameras=[
                schemas.CountItem(value=camera, count=cameras[camera])
                for camera in sorted(cameras, key=natural)
            ],
            hours=[
                schemas.CountItem(value=moment(hour), count=hours[hour])
                for hour in sorted(hours, key=lambda hour: (hour is None, hour or 0))
            ],
        )

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────

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
        matcher_weight: float,
        group_by: str,
    ) -> schemas.SearchAnswer:
        """Find a person; see `schemas.SearchForm`."""
        started = time.perf_counter()
        images, queries = [], []
        for image, query in self._queries(sent, items):
            images.append(image)
            queries.append(query)
        if not images:
            raise InputError("pictures", "there is none to search for; upload one, or name an item")
        read = time.perf_counter() - started
        gallery = self.reranked if rerank_top else self.gallery
        with self._trouble():
            result = SearchResult([], {})
            if gallery.count:
                result = gallery.search(
                    images,
                    top,
                    max(rerank_top, 1),
                    matcher_weight=matcher_weight,
                    group_by=group_by or None,
                    selection=selection,
                )
        stop = offset + limit
        groups = result.groups[offset:stop]
        hits = [hit for group in groups for hit in group.hits] if group_by else result.hits[offset:stop]
        described = time.perf_counter()
        answer = [
            schemas.HitItem(
                **self._item(hit),
                rank=hit.rank,
                similarity=hit.similarity,
                probability=hit.probability,
                same=self.marks.same([query.id for query in queries], hit.id),
            )
            for hit in sorted(hits, key=lambda hit: hit.rank)
        ]
        ended = time.perf_counter()
        stages = {stage: time for stage, time in result.seconds.items() if stage != "total"}
        seconds = {"read": read, **stages, "describe": ended - described, "total": ended - started}
        return schemas.SearchAnswer(
            hits=answer,
            groups=[
                schemas.HitGroup(key=group.key, ranks=[hit.rank for hit in group.hits]) for group in groups
            ],
            total=len(result.groups if group_by else result.hits),
            offset=offset,
            seconds=seconds,
            unreadable=[without_folders(text) for text in result.unreadable],
            query=queries,
        )

    def match(self, a: "Sent | str", b: "Sent | str") -> schemas.MatchAnswer:
        """How alike two pictures are."""
        return match(self.models, self.matcher, *self._two(a, b))

    def explain(self, a: "Sent | str", b: "Sent | str") -> schemas.ExplainAnswer:
        """Why two pictures match."""
        if self.matcher is None and not self.has_parts:
            raise InputError("", "there is no model that could explain; start the server with --matcher")
        return explain(self.models, self.matcher, self.has_parts, *self._two(a, b))

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
        """Add pictures; see `schemas.AddForm`."""
        values = known(
            camera=camera, time=time, identity=identity, source=source, attributes=attributes or {}
        )
        folder = make_private(self.settings.state / "added")
        uploads, refused = [], []
        for one in sent:
            try:
                uploads.append(self._read(one))
            except InputError as error:
                refused.append(schemas.Refused(name=one.name, message=error.what))
        with self._writing:  # or what is stored here could be deleted before the gallery knows of it
            entries = [
                Entry(keep(folder, upload), box=upload.entry.box, id=upload.entry.id, **values)
                for upload in uploads
            ]
            with self._changing():
                report = self.gallery.add(entries, progress=False)
                if report.added < len(entries):
                    for path in {entry.path for entry in entries}:
                        self._drop(path)
        # What was sound a moment ago and is unreadable now has been tampered with, or the disk is failing.
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
        """Remove a picture from the gallery; its file too if it came through `add` and has no other use."""
        entry = self.entry(id)
        with self._changing():
            self.gallery.delete(Selection(id=id))
            self.pictures.forget(id)
            if entry.path.parent == self.settings.state / "added":
                self._drop(entry.path)

    def _drop(self, path: Path) -> None:
        """Remove a file of the server's own that no picture of the gallery comes from."""
        if not self.gallery.counts(selection=Selection(path=path)).get((), 0):
            path.unlink(missing_ok=True)

    def mark(self, query: str, item: str, same: bool | None) -> None:
        """Keep a mark; see `schemas.Feedback`."""
        found = self.entry(item)
        remembered = self._remembered(query)
        box = ""
        path = Path()
        if remembered is None:
            try:
                asked = self.entry(query)
            except NotFound:
                raise NotFound(
                    "query", "this picture is neither in the gallery nor still remembered; search again"
                ) from None
            path, box = asked.path, format_box(asked.box)
        try:
            if remembered is not None:
                path = self.marks.keep_picture(query, jpeg(remembered, quality=95))
            texts = (query, path_to_text(path), box, item, path_to_text(found.path), format_box(found.box))
            self.marks.add(Mark(*texts, same=same, time=now()))
        except OSError as error:
            raise OutOfOrder("", f"the mark cannot be stored ({error.strerror or error})") from error

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time. After a failed one the gallery is opened anew: it closes itself then."""
        with self._writing:
            try:
                with self._trouble():
                    yield
            except OutOfOrder:
                self._reopen()
                raise

    def _reopen(self) -> None:
        old = (self.gallery, self.reranked)
        try:
            self._open()
        except InputError as error:
            log.error("%s", error)
            return
        for gallery in old:
            gallery.close()

    # ── pictures ────────────────────────────────────────────────────────────────────────────────────

    def _read(self, sent: Sent) -> Upload:
        return read_upload(sent.name, sent.content, sent.box, self.settings.upload_pixels)

    def _image(self, picture: "Sent | str") -> Image.Image:
        """An upload, or a picture of the gallery or remembered, by its identifier."""
        if isinstance(picture, Sent):
            upload = self._read(picture)
            self.recent.put(upload)
            return upload.image
        remembered = self._remembered(picture)
        return self.pictures.image(self.entry(picture)) if remembered is None else remembered

    def _remembered(self, id: str) -> Image.Image | None:
        """An upload of a little while ago, exactly as it was searched with."""
        kept = self.recent.get(id)
        return None if kept is None else read_upload(id[:12], *kept, self.settings.upload_pixels).image

    def _two(self, a: "Sent | str", b: "Sent | str") -> tuple[Image.Image, Image.Image]:
        return self._image(a), self._image(b)

    def _queries(
        self, sent: Sequence[Sent], items: Sequence[str]
    ) -> Iterator[tuple[Image.Image, schemas.QueryPicture]]:
        """The pictures of a search, and how the answer shows them."""
        for one in sent:
            upload = self._read(one)
            self.recent.put(upload)
            yield upload.image, shown(upload.entry.id, upload.image)
        for id in items:
            image = self._image(id)
            yield image, shown(id, image)

    def _item(self, entry: Entry) -> dict[str, Any]:
        size = self.pictures.size(entry)
        return {
            "id": entry.id,
            "picture": f"/api/pictures/{entry.id}",
            "name": printable(entry.path.name),
            "camera": entry.camera,
            "time": moment(entry.time),
            "identity": entry.identity,
            "source": entry.source,
            "attributes": entry.attributes,
            "width": size and size[0],
            "height": size and size[1],
        }


def shown(id: str, image: Image.Image) -> schemas.QueryPicture:
    """A query in the answer: small, so that an answer stays small."""
    address = data_address(jpeg(thumbnail(image)), "image/jpeg")
    return schemas.QueryPicture(id=id, picture=address, width=image.width, height=image.height)


def keep(folder: Path, upload: Upload) -> Path:
    """Store an upload's bytes under the hash of its content, once; returns where."""
    path = folder / (hashlib.sha256(upload.content).hexdigest() + upload.suffix)
    if not path.exists():
        new = folder / f".{path.name}.{threading.get_ident()}"
        try:
            new.touch(mode=0o600)
            with new.open("wb") as file:
                file.write(upload.content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise OutOfOrder("", f"the picture cannot be stored ({error.strerror})") from error
    return path


def has_parts(embedder: Any) -> bool:
    """Whether the embedder has HOReID's part maps; asks it once, which also warms it up."""
    if not hasattr(embedder, "part_maps"):
        return False
    try:
        embedder.part_maps(np.zeros((64, 32, 3), np.uint8))
    except InputError:
        return False
    return True


def moment(seconds: float | None) -> str | None:
    """ISO 8601 in UTC; None for a time that is unknown, or that no calendar has (milliseconds, often)."""
    try:
        return format_time(seconds) or None
    except (ValueError, OverflowError, OSError):
        return None


def natural(text: str | None) -> tuple[bool, int, str]:
    """A key that sorts camera 2 before camera 10, and unknown ones last."""
    return text is None, int(text) if text and text.isdecimal() else 10**9, text or ""


def printable(text: str) -> str:
    """Bytes of a file's name that are no UTF-8 are shown by number."""
    return text.encode("utf-8", "backslashreplace").decode()


def without_folders(message: str) -> str:
    """A message about a file, with the file's name in place of its path."""
    path, colon, rest = message.partition(": ")
    return printable(f"{Path(path).name}{colon}{rest}")
