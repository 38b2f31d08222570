"""Looking after a gallery: counting, changing, exporting and verifying its entries."""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kronreid.data.plain import read_plain
from kronreid.errors import InputError
from kronreid.gallery.crops import crops_folder, files_of
from kronreid.gallery.entries import FIELDS, UNKNOWN_TIME, Entry, checked, format_box, known, known_label
from kronreid.gallery.filters import Scalar, Selection, Taken, format_time
from kronreid.gallery.indexing import identified
from kronreid.gallery.sources import Sources
from kronreid.gallery.store import Store
from kronreid.gallery.tracklets import TRACK, Tracklets
from kronreid.text import CsvWriter

_WITH_VECTOR = [*FIELDS, "vector"]
#: The fields that `counts` reads; any other name is an attribute.
_COUNTED = {"camera": "camera", "identity": "identity", "source": "source", "hour": "time", "day": "time"}
_KEEP = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[smhdw]?)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
#: Rows that are written or asked for at a time.
_BATCH = 1000


@dataclass
class VerifyReport:
    """What `Gallery.verify` found.

    Attributes:
        checked: Number of entries looked at.
        bad_vectors: Identifiers of entries whose vector is not a unit vector of the right length.
        unreadable: How many entries lie in a part of the gallery that cannot be read.
        twice: Identifiers that are stored more than once.
        missing: Files that are no longer where they were.
        changed: Files whose content is not what was added.
        elsewhere: Files outside the folders that the gallery was filled from; they are not opened.
        strays: Files of folders of the gallery's own that belong to no entry.
        incomplete: Identifiers of tracklets of which a picture is not in the gallery.
    """

    checked: int = 0
    bad_vectors: list[str] = field(default_factory=list)
    unreadable: int = 0
    twice: list[str] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    changed: list[Path] = field(default_factory=list)
    elsewhere: list[Path] = field(default_factory=list)
    strays: list[Path] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether everything that the gallery itself stores is whole, whatever has happened to the files."""
        return not (self.bad_vectors or self.unreadable or self.twice or self.incomplete)


def counts(store: Store, by: Sequence[str], selection: Selection) -> dict[tuple[Any, ...], int]:
    """See `Gallery.counts`."""
    if not by:
        return {(): store.count(selection)}
    fields = sorted({_COUNTED.get(name, "attributes") for name in by})
    found: dict[tuple[Any, ...], int] = {}
    for row in store.rows(fields, selection):
        key = tuple(_kind(name, row) for name in by)
        found[key] = found.get(key, 0) + 1
    return found


def _kind(name: str, row: Mapping[str, Any]) -> Any:
    """The value that `counts` counts a row under."""
    if name in ("hour", "day"):
        length = 3600 if name == "hour" else 86400
        return None if row["time"] in (None, UNKNOWN_TIME) else row["time"] // length * length
    if name in ("camera", "identity"):
        return known_label(row[name])
    if name == "source":
        return row[name] or None
    value = (row["attributes"] or {}).get(name)
    return value if value is None or isinstance(value, Scalar) else json.dumps(value)


def delete(store: Store, selection: Selection, before: Callable[[dict[str, Any]], None]) -> int:
    """See `Gallery.delete`; the bytes are left to `Store.purge`.

    Args:
        store: The pictures.
        selection: Which.
        before: Called with the identifiers of the pictures and the tracklet that each is of, before anything
            is deleted.
    """
    rows = store.rows(["id", "attributes"], _some(selection))
    tracks = {row["id"]: (row["attributes"] or {}).get(TRACK) for row in rows}
    if tracks:
        before(tracks)
        store.delete(list(tracks))
    return len(tracks)


def older_than(keep: str | float, selection: Selection) -> Selection:
    """The entries of a selection that `Gallery.expire` removes."""
    until = time.time() - seconds_of(keep)
    bounds = [condition.until for condition in selection.conditions() if isinstance(condition, Taken)]
    return replace(selection, until=min([until, *(bound for bound in bounds if bound is not None)]))


def seconds_of(keep: str | float) -> float:
    """A length of time in seconds, given as such or like ``30d``.

    Raises:
        InputError: It is none.
    """
    parts = _KEEP.fullmatch(str(keep).strip().lower())
    if parts is None:
        raise InputError(f"--keep {keep}", "a number with s, m, h, d or w expected, like 30d or 12h")
    return float(parts["number"]) * _UNITS[parts["unit"] or "s"]


def update(store: Store, sources: Sources, selection: Selection, changes: Mapping[str, Any]) -> int:
    """See `Gallery.update`."""
    changes = known(**changes)
    entries = [_changed(Entry.from_row(row), changes) for row in store.rows(FIELDS, _some(selection))]
    if "path" in changes and not sources.unnoted:
        sources.add(entry.path for entry in entries)
    for start in tqdm(range(0, len(entries), _BATCH), desc="updating", disable=None):
        store.update(entries[start : start + _BATCH])
    if entries:
        store.settle()
    return len(entries)


def _changed(entry: Entry, changes: Mapping[str, Any]) -> Entry:
    try:
        return checked(entry, changes)
    except InputError as error:
        raise InputError(entry.path, f"{error}; nothing was changed") from None


def _some(selection: Selection) -> Selection:
    """The selection, if it has a condition: nobody deletes or changes everything by mistake."""
    if not selection.conditions():
        raise InputError("", "no condition given; name a path, camera, identity, source, time or attribute")
    return selection


def export(entries: Iterable[Entry], path: str | PathLike[str]) -> int:
    """See `Gallery.export`."""
    rows = 0
    # Names that are not valid UTF-8 are written byte for byte.
    with Path(path).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = CsvWriter(file)
        writer.row(["path", "box", "camera", "time", "identity", "source", "attributes", "id"])
        for entry in tqdm(entries, unit=" pictures", desc="writing", disable=None):
            attributes = json.dumps(entry.attributes, ensure_ascii=False) if entry.attributes else ""
            values = (entry.camera, format_time(entry.time), entry.identity, entry.source)
            writer.row([entry.path, format_box(entry.box), *values, attributes, entry.id])
            rows += 1
    return rows


def verify(
    store: Store,
    tracklets: Tracklets,
    sources: Sources,
    dimension: int,
    files: bool,
    own: Sequence[Path] = (),
) -> VerifyReport:
    """See `Gallery.verify`."""
    unreadable = store.unreadable()
    report = VerifyReport(unreadable=unreadable + tracklets.unreadable())
    if report.unreadable:  # reading on would fail; `repair` comes first
        report.checked = store.count() - unreadable
        return report
    crops = {tracklet.path.parent for tracklet in tracklets.all(vectors=False)}
    default = crops_folder(store.uri)
    strays = {path for folder in {*own, *crops, *([default] if default else [])} for path in files_of(folder)}
    before = ""
    rows = store.rows(_WITH_VECTOR)
    for row in tqdm(rows, total=store.count(), unit=" pictures", desc="verifying", disable=None):
        entry = Entry.from_row(row)
        report.checked += 1
        strays.discard(entry.path)
        if entry.id == before:
            report.twice.append(entry.id)
        before = entry.id
        if not _is_whole(row["vector"], dimension):
            report.bad_vectors.append(entry.id)
        if not files:
            continue
        if not sources.allow(entry.path):
            report.elsewhere.append(entry.path)
            continue
        try:
            content = read_plain(entry.path)
        except OSError:
            report.missing.append(entry.path)
            continue
        if identified([entry], content)[0].id != entry.id:
            report.changed.append(entry.path)
    report.strays = sorted(strays)
    report.incomplete = sorted(set(missing_pictures(store, tracklets).values()))
    return report


def _is_whole(vector: np.ndarray, dimension: int) -> bool:
    """Whether it is a unit vector of the right length."""
    return vector.shape == (dimension,) and bool(np.allclose(np.linalg.norm(vector), 1, atol=1e-3))


def missing_pictures(store: Store, tracklets: Tracklets) -> dict[str, str]:
    """The pictures of tracklets that are not in the gallery, each with its tracklet."""
    needed = {id: tracklet.id for tracklet in tracklets.all(vectors=False) for id in tracklet.pictures}
    store.catch_up()
    ids = sorted(needed)
    for start in range(0, len(ids), _BATCH):
        for id in store.existing(ids[start : start + _BATCH]):
            del needed[id]
    return needed


def repair(store: Store, tracklets: Tracklets, dimension: int) -> int:
    """See `Gallery.repair`; tracklets may miss pictures afterwards."""
    lost = store.unreadable(give_up=True) + tracklets.unreadable(give_up=True)
    bad = [row["id"] for row in store.rows(["id", "vector"]) if not _is_whole(row["vector"], dimension)]
    if bad:
        store.delete(bad)
    return lost + len(bad)
