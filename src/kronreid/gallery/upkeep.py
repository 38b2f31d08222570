"""Looking after a gallery: counting, changing, exporting and verifying its entries."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kronreid.data.plain import read_plain
from kronreid.errors import InputError
from kronreid.gallery.entries import FIELDS, UNKNOWN_TIME, Entry, checked, format_box, known, known_label
from kronreid.gallery.filters import Scalar, Selection, format_time
from kronreid.gallery.indexing import identified
from kronreid.gallery.store import Store
from kronreid.text import CsvWriter

_WITH_VECTOR = [*FIELDS, "vector"]
#: The fields that `counts` reads; any other name is an attribute.
_COUNTED = {"camera": "camera", "identity": "identity", "source": "source", "hour": "time", "day": "time"}
#: Rows that `update` writes at a time.
_BATCH = 1000


@dataclass
class VerifyReport:
    """What `Gallery.verify` found.

    Attributes:
        checked: Number of entries looked at.
        bad_vectors: Identifiers of entries whose vector is not a unit vector of the right length.
        missing: Files that are no longer where they were.
        changed: Files whose content is not what was added.
        strays: Files of folders of the gallery's own that belong to no entry.
    """

    checked: int = 0
    bad_vectors: list[str] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    changed: list[Path] = field(default_factory=list)
    strays: list[Path] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether everything that the gallery itself stores is whole, whatever has happened to the files."""
        return not self.bad_vectors


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


def delete(store: Store, selection: Selection) -> int:
    """See `Gallery.delete`."""
    ids = [row["id"] for row in store.rows(["id"], _some(selection))]
    if ids:
        store.delete(ids)
        store.settle()
    return len(ids)


def update(store: Store, selection: Selection, changes: Mapping[str, Any]) -> int:
    """See `Gallery.update`."""
    changes = known(**changes)
    rows = list(store.rows(_WITH_VECTOR, _some(selection)))
    entries = [_changed(Entry.from_row(row), changes) for row in rows]
    for start in tqdm(range(0, len(rows), _BATCH), desc="updating", disable=None):
        vectors = np.stack([row["vector"] for row in rows[start : start + _BATCH]])
        store.upsert(entries[start : start + _BATCH], vectors)
    if rows:
        store.settle()
    return len(rows)


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


def verify(store: Store, dimension: int, files: bool, own: Sequence[Path] = ()) -> VerifyReport:
    """See `Gallery.verify`."""
    report = VerifyReport()
    strays = {path for folder in own if folder.is_dir() for path in folder.absolute().iterdir()}
    rows = store.rows(_WITH_VECTOR)
    for row in tqdm(rows, total=store.count(), unit=" pictures", desc="verifying", disable=None):
        entry, vector = Entry.from_row(row), row["vector"]
        report.checked += 1
        strays.discard(entry.path)
        if vector.shape != (dimension,) or not np.allclose(np.linalg.norm(vector), 1, atol=1e-3):
            report.bad_vectors.append(entry.id)
        if not files:
            continue
        try:
            content = read_plain(entry.path)
        except OSError:
            report.missing.append(entry.path)
            continue
        if identified([entry], content)[0].id != entry.id:
            report.changed.append(entry.path)
    report.strays = sorted(strays)
    return report
