"""Filling a gallery: files become entries with vectors. The next batch is decoded while one is embedded."""

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from kronreid.data.decoding import decode
from kronreid.data.files import find_pictures, matching, some
from kronreid.data.names import MARKET1501, describe, label, parse
from kronreid.data.plain import read_plain
from kronreid.data.readers.market1501 import QUERY, TRAIN
from kronreid.data.values import NOBODY, picture_path
from kronreid.errors import InputError
from kronreid.gallery.entries import Entry, checked, known
from kronreid.gallery.lists import LIST_SUFFIXES, read_list
from kronreid.gallery.sources import EVERYWHERE, Sources
from kronreid.gallery.store import Store
from kronreid.turns import threads

if TYPE_CHECKING:
    from kronreid.models.protocols import Embeds

log = logging.getLogger(__name__)


class Changed(InputError):
    """A picture's file is gone, or no longer what was added to the gallery."""


@dataclass(frozen=True)
class Unreadable:
    """A picture or a record of a list that could not be added, and the reason in one line."""

    path: Path
    reason: str

    @classmethod
    def of(cls, path: Path, error: InputError) -> "Unreadable":
        """The file with what is wrong with it."""
        return cls(path, error.within(path).what)


@dataclass
class AddReport:
    """What adding pictures did.

    Attributes:
        added: Number of pictures that are new in the gallery.
        skipped_existing: Number of pictures whose content was there already.
        unreadable: Pictures that could not be read or stored, and unusable records of lists, each with the
            reason.
        seconds: How long it took.
    """

    added: int = 0
    skipped_existing: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Pictures looked at per second."""
        return (self.added + self.skipped_existing + len(self.unreadable)) / max(self.seconds, 1e-9)


def described(
    images: str | PathLike[str] | Iterable[str | PathLike[str] | Entry],
    categories: Sequence[str] = (),
    **values: Any,
) -> tuple[list[Entry], list[Unreadable]]:
    """Pictures as they will be stored.

    Args:
        images: As `Gallery.add` takes them.
        categories: As `Gallery.add` takes them.
        values: What is known about all of them, as `Gallery.add` takes it: None leaves a value as it is, ""
            makes it unknown.

    Returns:
        Their entries, and the pictures that cannot be stored, each with the reason.

    Raises:
        InputError: One of `values` cannot be stored, or what `entries_of` raises.
    """
    changes = known(**{name: value for name, value in values.items() if value is not None})
    entries, unreadable = entries_of(images, categories)
    found: list[Entry] = []
    for entry in entries:
        try:
            found.append(checked(entry, changes))
        except InputError as error:
            unreadable.append(Unreadable.of(entry.path, error))
    return found, unreadable


def entries_of(
    inputs: str | PathLike[str] | Iterable[str | PathLike[str] | Entry], categories: Sequence[str] = ()
) -> tuple[list[Entry], list[Unreadable]]:
    """Files, folders with everything below them, patterns such as ``day1/*.jpg``, and lists: see `read_list`.

    Files that come from no list are described by their names.

    Args:
        inputs: One or several of these; entries stay as they are.
        categories: Categories of COCO and classes of MOT to take instead of people.

    Returns:
        The entries, and the records of lists that are not usable.

    Raises:
        InputError: A folder holds no picture, no file fits a pattern, there are only lists and none can be
            read, or categories are given for something that has none.
    """
    if isinstance(inputs, str | PathLike):
        inputs = [inputs]
    entries: list[Entry] = []
    unreadable: list[Unreadable] = []
    problems: list[InputError] = []
    for given in _matched(inputs):
        if isinstance(given, Entry):
            entries.append(given)
            continue
        root = given.absolute()
        if root.suffix.lower() in LIST_SUFFIXES and not root.is_dir():
            try:
                listed, skipped = read_list(root, categories)
            except InputError as error:
                problems.append(error)
                unreadable.append(Unreadable.of(root, error))
            else:
                entries += listed
                unreadable += [Unreadable(root, str(record)) for record in skipped]
        elif categories:
            raise InputError("--category", f"{given} has no categories; lists of COCO and MOT have some")
        elif root.is_dir():
            entries += _entries_below(root)
        else:
            entries.append(metadata_from_name(root))
    if problems and not entries:
        raise problems[0]
    return entries, unreadable


def _matched(inputs: Iterable[str | PathLike[str] | Entry]) -> Iterator[Path | Entry]:
    """Existing paths as they are, and the files that fit a pattern."""
    for given in inputs:
        path = given if isinstance(given, Entry) else picture_path(given)
        if isinstance(path, Entry) or path.exists() or not any(sign in str(path) for sign in "*?["):
            yield path
            continue
        found = matching(path.absolute())
        if not found:
            raise InputError(given, "no file fits this pattern")
        yield from found


def _entries_below(root: Path) -> list[Entry]:
    paths = find_pictures(root)
    zero = any(path.parent.name in (TRAIN, QUERY) and parse(path.name).identity == "0" for path in paths)
    entries = [metadata_from_name(path, root, zero) for path in paths]
    nobody = [entry.path for entry in entries if not entry.identity and describe(entry.path, root).identity]
    if nobody:
        log.info(
            "%s: %s pictures get no identity, since they show nobody (−1) or are Market-1501's distractors "
            "(0000): %s",
            *(root, f"{len(nobody):,}", some(nobody, below=root)),
        )
    return entries


def metadata_from_name(path: Path, root: Path | None = None, zero_is_person: bool = False) -> Entry:
    """What a picture's name and folder say about it: see `kronreid.data.names.describe`.

    Identity −1 means nobody. A name in Market-1501's form with identity 0000 is a distractor, which has no
    identity either, unless 0 is known to be a person. Bytes of a folder's name that are not valid UTF-8
    become text such as ``\\xe9``.

    Args:
        path: The picture.
        root: The folder that it was found in; None for a picture that was given by itself.
        zero_is_person: Whether 0 is a person like any other, since training or query pictures show it.
    """
    said = describe(path, root)
    by_name_alone = said.kind is MARKET1501 and label(path.parent.name) != "0"
    distractor = said.identity == "0" and by_name_alone and not zero_is_person
    identity = None
    if said.identity is not None and said.identity != NOBODY and not distractor:
        identity = os.fsencode(said.identity).decode(errors="backslashreplace")
    return Entry(path, camera=None if said.camera is None else str(said.camera), identity=identity)


def add_entries(
    store: Store,
    embedder: "Embeds",
    entries: Sequence[Entry],
    batch_size: int = 64,
    workers: int = 4,
    progress: bool = True,
) -> AddReport:
    """Embed and store what is not there yet.

    A batch is written before the next is embedded, and a written batch is safe. A process that is killed
    loses at most the batch at hand, and running the same again goes on there.

    Args:
        store: Where to write.
        embedder: Makes the vectors.
        entries: What to add; their `id` is computed here.
        batch_size: Pictures per batch.
        workers: Threads that read and decode.
        progress: Show a progress bar on a terminal.

    Returns:
        The counts. A picture that cannot be read is skipped and listed.
    """
    report = AddReport()
    started = time.perf_counter()
    batches = [entries[start : start + batch_size] for start in range(0, len(entries), batch_size)]
    known: set[str] = set()  # added by this run; the database may not show the newest yet
    store.catch_up()
    bar = tqdm(total=len(entries), unit=" pictures", desc="adding", disable=None if progress else True)
    with bar, threads(workers) as readers, ThreadPoolExecutor(1) as ahead:

        def prepare(batch: Sequence[Entry]) -> Prepared:
            return prepare_batch(store, batch, known, readers)

        waiting = ahead.submit(prepare, batches[0]) if batches else None
        for number in range(len(batches)):
            assert waiting is not None
            prepared = waiting.result()
            known.update(entry.id for entry in prepared.entries)
            waiting = ahead.submit(prepare, batches[number + 1]) if number + 1 < len(batches) else None
            if prepared.entries:
                _write(store, embedder, prepared, batch_size)
            report.added += len(prepared.entries)
            report.skipped_existing += prepared.existing
            report.unreadable += prepared.unreadable
            bar.update(len(batches[number]))
    if report.added:
        store.settle(report.added)
    report.seconds = time.perf_counter() - started
    return report


def _write(store: Store, embedder: "Embeds", prepared: "Prepared", batch_size: int) -> None:
    """Embed a batch and store it, with places if the model has some and the database keeps them."""
    matcher = getattr(embedder, "matcher", None) if store.keeps_places else None
    if matcher is None:
        store.upsert(prepared.entries, unit(embedder.embed(prepared.images, batch_size=batch_size)))
    else:
        described = matcher.encode(prepared.images, batch_size)
        places = matcher.places.pack(described)
        store.upsert(prepared.entries, unit(described.vectors.cpu().numpy()), places)


@dataclass
class Prepared:
    """A batch that has been read: new entries with their pictures (upright RGB), and what is left out."""

    entries: list[Entry] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    existing: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)


def prepare_batch(
    store: Store, batch: Sequence[Entry], known: set[str], readers: ThreadPoolExecutor
) -> Prepared:
    """Read and hash the files of a batch, ask the database which contents it has, and decode the others.

    A file with several consecutive entries (boxes of one frame) is read and decoded once.
    """
    prepared = Prepared()
    frames = [list(group) for _, group in groupby(batch, key=lambda entry: entry.path)]
    fresh: list[tuple[bytes, list[Entry]]] = []
    for group, content in zip(frames, readers.map(_read, [group[0].path for group in frames])):
        if isinstance(content, InputError):
            prepared.unreadable += [Unreadable.of(entry.path, content) for entry in group]
        else:
            fresh.append((content, identified(group, content)))
    ids = {entry.id for _, group in fresh for entry in group}
    seen = store.existing(sorted(ids)) | (known & ids)
    wanted = []
    for content, group in fresh:
        new = []
        for entry in group:
            if entry.id in seen:
                prepared.existing += 1
            else:
                seen.add(entry.id)
                new.append(entry)
        if new:
            wanted.append((content, new))
    for (_, group), crops in zip(wanted, readers.map(_decode, wanted)):
        for entry, crop in zip(group, crops):
            if isinstance(crop, InputError):
                prepared.unreadable.append(Unreadable.of(entry.path, crop))
            else:
                prepared.entries.append(entry)
                prepared.images.append(crop)
    return prepared


def identified(group: Sequence[Entry], content: bytes) -> list[Entry]:
    """Entries of one file with their identifiers: the SHA-256 of the content and of the box, if any."""
    whole = hashlib.sha256(content)
    entries = []
    for entry in group:
        digest = whole.copy()
        if entry.box is not None:
            digest.update(b"\0box %d,%d,%d,%d" % entry.box)
        entries.append(replace(entry, id=digest.hexdigest()))
    return entries


def _read(path: Path) -> bytes | InputError:
    """The content of a file, or why there is none."""
    try:
        return read_plain(path)
    except FileNotFoundError:
        return InputError(path, "no such file")
    except OSError as error:
        return InputError(path, f"cannot be read ({error.strerror or error})")


def _decode(job: tuple[bytes, list[Entry]]) -> list[Image.Image | InputError]:
    """The picture of each entry of one file, or why there is none."""
    content, group = job
    try:
        return decode(content, group[0].path, [entry.box for entry in group]).crops
    except InputError as error:
        return [error] * len(group)


def picture_of(entry: Entry, sources: Sources = EVERYWHERE, follow: bool = True) -> Image.Image:
    """A stored picture as it was embedded: upright RGB, cut to its box, with at most `ENOUGH_PIXELS`.

    Args:
        entry: The picture. If it has an identifier, the file's content must be the one that was added, since
            the vector and the places belong to that.
        sources: Where pictures may lie.
        follow: Whether the path itself may be a link.

    Raises:
        Changed: The file is gone or damaged, has another content, or lies elsewhere.
    """
    content = stored_content(entry, sources, follow)
    try:
        (picture,) = decode(content, entry.path, [entry.box]).crops
    except InputError as error:
        raise Changed(error.where, error.what) from None
    if isinstance(picture, InputError):
        raise Changed(picture.where, picture.what)
    return picture


def stored_content(entry: Entry, sources: Sources = EVERYWHERE, follow: bool = True) -> bytes:
    """The content of a stored picture's file; see `picture_of`.

    Raises:
        Changed: The file is gone, has another content, or lies elsewhere.
    """
    if not sources.allow(entry.path):
        raise Changed(entry.path, "lies outside the folders that the gallery was filled from")
    try:
        content = read_plain(entry.path, follow=follow)
    except OSError:
        raise Changed(entry.path, "the picture's file is gone or cannot be read") from None
    if entry.id and identified([entry], content)[0].id != entry.id:
        raise Changed(entry.path, "the picture's file has changed since it was added to the gallery")
    return content


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to length one, float32. So inner products are cosines, whatever the embedder gives."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
