"""Evaluation protocols as data: queries, matches, dropped entries and repeats.

A protocol never computes a score. It turns the labels of a query set and a gallery into a `Task`: the
queries, the gallery, and for every query its few special gallery columns, which are positives or dropped for
this query alone. Every other column is a negative. `metrics.py` counts the same way for all protocols.
docs/protocols.md describes the rules and names the papers that use them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kronreid.errors import InputError
from kronreid.registry import Registry

JUNK = -1  # Market-1501's label of a false detection, which counts neither as right nor as wrong


@dataclass(frozen=True)
class Protocol:
    """What one evaluation protocol drops, counts and repeats.

    Attributes:
        name: Name on the command line.
        summary: One line for tables and help.
        drop_same_camera: Which pictures of the query's camera are dropped for a query: "identity" drops those
            of the query's identity, "all" drops all, "none" drops none and ignores cameras.
        drop_itself: Drop the query picture itself if it is in the gallery.
        distractors: Identities that are always wrong and never match, not even each other.
        pool: Every test picture of a query identity is a query, and the query and gallery pictures together
            are the gallery (open-reid).
        average_queries: Average the query pictures of one identity and camera into one query.
        draws: Number of random galleries, of one picture per identity, to average over; 0 uses the whole
            gallery.
    """

    name: str
    summary: str
    drop_same_camera: str = "identity"
    drop_itself: bool = False
    distractors: tuple[int, ...] = ()
    pool: bool = False
    average_queries: bool = False
    draws: int = 0

    @property
    def needs_cameras(self) -> bool:
        return self.drop_same_camera != "none"


_KNOWN = (
    Protocol("market1501", "Market-1501, single query", distractors=(0,)),
    Protocol(
        "market1501-multi-query",
        "Market-1501, mean of the query's pictures of one camera",
        distractors=(0,),
        average_queries=True,
    ),
    Protocol("dukemtmc", "DukeMTMC-reID"),
    Protocol("msmt17", "MSMT17"),
    Protocol("cuhk03-np", "CUHK03, new protocol (767/700 identities)"),
    Protocol(
        "cuhk03-classic",
        "CUHK03, one random gallery picture per identity from the other camera, repeated",
        drop_same_camera="all",
        draws=100,
    ),
    Protocol(
        "openreid",
        "open-reid: every test picture of the query identities is a query",
        distractors=(0,),
        pool=True,
    ),
    Protocol("cross-camera", "own pictures with cameras: matches come from another camera"),
    Protocol(
        "no-camera",
        "own pictures without cameras: only the query picture itself is dropped",
        drop_same_camera="none",
        drop_itself=True,
    ),
)
#: The protocols by name.
PROTOCOLS: Registry[Protocol] = Registry("protocol", {protocol.name: protocol for protocol in _KNOWN})


def protocol_named(protocol: str | Protocol) -> Protocol:
    """The protocol of this name; a `Protocol` is returned unchanged.

    Raises:
        InputError: There is no such protocol; the message lists the names.
    """
    if isinstance(protocol, Protocol):
        return protocol
    return PROTOCOLS.named(protocol, "protocol")


@dataclass(frozen=True)
class Task:
    """One evaluation, ready for counting: Q queries, G gallery entries, S special entries.

    Rows index the stacked list [query pictures; gallery pictures] of the caller. A protocol can thus use
    gallery pictures as queries (open-reid) or average several query pictures.

    Attributes:
        protocol: The protocol.
        query_groups: (Q + 1,) int64; rows `query_rows[query_groups[i]:query_groups[i + 1]]` make query i.
        query_rows: int64, at least one row per query.
        query_ids: (Q,) int64.
        query_cameras: (Q,) int64.
        gallery_rows: (G,) int64, in the caller's order (ascending as `prepare` gives them), without junk.
        gallery_ids: (G,) int64.
        gallery_cameras: (G,) int64.
        special_offsets: (Q + 1,) int64; the special columns of query i lie at [offsets[i], offsets[i + 1]).
        special_columns: (S,) int64 gallery columns of positives and of entries dropped for this query.
        special_positive: (S,) bool; False marks a dropped entry.
        junk: Number of gallery pictures dropped for every query.
    """

    protocol: Protocol
    query_groups: np.ndarray
    query_rows: np.ndarray
    query_ids: np.ndarray
    query_cameras: np.ndarray
    gallery_rows: np.ndarray
    gallery_ids: np.ndarray
    gallery_cameras: np.ndarray
    special_offsets: np.ndarray
    special_columns: np.ndarray
    special_positive: np.ndarray
    junk: int

    @property
    def queries(self) -> int:
        return len(self.query_ids)

    @property
    def gallery(self) -> int:
        return len(self.gallery_ids)

    def specials(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The special entries of queries [start, stop): (row relative to start, column, positive) each."""
        low, high = self.special_offsets[start], self.special_offsets[stop]
        counts = np.diff(self.special_offsets[start : stop + 1])
        rows = np.repeat(np.arange(stop - start), counts)
        return rows, self.special_columns[low:high], self.special_positive[low:high]


def prepare(
    protocol: str | Protocol,
    query_ids: Any,
    query_cameras: Any,
    gallery_ids: Any,
    gallery_cameras: Any,
    *,
    query_pictures: Sequence[Hashable] | None = None,
    gallery_pictures: Sequence[Hashable] | None = None,
) -> Task:
    """Apply a protocol to labels.

    Args:
        protocol: A name from `PROTOCOLS`, or a `Protocol`.
        query_ids: (Q,) integers; -1 marks junk.
        query_cameras: (Q,) integers, -1 for an unknown camera; None if all are unknown.
        gallery_ids: (G,) integers; -1 marks junk.
        gallery_cameras: (G,) integers, or None.
        query_pictures: (Q,) names of the pictures (paths or numbers), for a protocol that drops the query
            picture itself. Without names no gallery entry is the query itself.
        gallery_pictures: (G,) names of the pictures.

    Raises:
        InputError: Lengths differ, labels are not integers, required camera labels are missing, or no query
            or gallery picture is left.
    """
    protocol = protocol_named(protocol)
    q_ids = _labels(query_ids, "query_ids")
    g_ids = _labels(gallery_ids, "gallery_ids")
    if not len(q_ids):
        raise InputError("query_ids", "there is no query; give at least one")
    if not len(g_ids):
        raise InputError("gallery_ids", "the gallery is empty; give at least one picture")
    q_cameras = _cameras(query_cameras, "query_cameras", q_ids, protocol)
    g_cameras = _cameras(gallery_cameras, "gallery_cameras", g_ids, protocol)

    all_ids = np.concatenate([q_ids, g_ids])
    all_cameras = np.concatenate([q_cameras, g_cameras])
    pictures = _picture_numbers(query_pictures, gallery_pictures, len(q_ids), len(g_ids))

    if protocol.pool:
        people = np.setdiff1d(q_ids, [JUNK, *protocol.distractors])
        query_rows = np.flatnonzero(np.isin(all_ids, people))
        gallery_rows = np.arange(len(all_ids))
        if not len(query_rows):
            raise InputError("query_ids", "all queries are junk or distractors; give some with an identity")
    else:
        query_rows = np.arange(len(q_ids))
        gallery_rows = np.arange(len(q_ids), len(all_ids))
    kept = all_ids[gallery_rows] != JUNK
    junk = int(len(kept) - kept.sum())
    gallery_rows = gallery_rows[kept]
    if not len(gallery_rows):
        raise InputError("gallery_ids", "the gallery holds only junk (identity -1); label its pictures")

    query_groups = np.arange(len(query_rows) + 1)
    if protocol.average_queries:
        keys = np.stack([all_ids[query_rows], all_cameras[query_rows]], 1)
        _, group = np.unique(keys, axis=0, return_inverse=True)
        group = group.reshape(-1)
        query_rows = query_rows[np.argsort(group, kind="stable")]
        query_groups = np.concatenate([[0], np.cumsum(np.bincount(group))])

    first = query_rows[query_groups[:-1]]
    offsets, columns, positive = _special_columns(
        protocol,
        all_ids[first],
        all_cameras[first],
        pictures[first],
        all_ids[gallery_rows],
        all_cameras[gallery_rows],
        pictures[gallery_rows],
    )
    return Task(
        protocol=protocol,
        query_groups=query_groups,
        query_rows=query_rows,
        query_ids=all_ids[first],
        query_cameras=all_cameras[first],
        gallery_rows=gallery_rows,
        gallery_ids=all_ids[gallery_rows],
        gallery_cameras=all_cameras[gallery_rows],
        special_offsets=offsets,
        special_columns=columns,
        special_positive=positive,
        junk=junk,
    )


def _special_columns(
    protocol: Protocol,
    query_ids: np.ndarray,
    query_cameras: np.ndarray,
    query_pictures: np.ndarray,
    gallery_ids: np.ndarray,
    gallery_cameras: np.ndarray,
    gallery_pictures: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every query's special columns as (offsets, columns, positive), see `Task`."""
    rows, columns = _equal_pairs(query_ids, gallery_ids)
    is_person = ~np.isin(query_ids, [JUNK, *protocol.distractors])
    dropped = np.zeros(len(rows), bool)
    if protocol.drop_same_camera != "none":
        dropped |= query_cameras[rows] == gallery_cameras[columns]
    if protocol.drop_itself:
        dropped |= query_pictures[rows] == gallery_pictures[columns]
        # The query picture is dropped even if the gallery labels it differently.
        other_rows, other_columns = _equal_pairs(query_pictures, gallery_pictures)
        other = query_ids[other_rows] != gallery_ids[other_columns]
        rows = np.concatenate([rows, other_rows[other]])
        columns = np.concatenate([columns, other_columns[other]])
        dropped = np.concatenate([dropped, np.ones(int(other.sum()), bool)])
    positive = ~dropped & is_person[rows]
    # An entry that is neither positive nor dropped (another picture of a distractor) is a plain negative.
    special = positive | dropped
    rows, columns, positive = rows[special], columns[special], positive[special]
    order = np.lexsort((columns, rows))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(query_ids)))])
    return offsets.astype(np.int64), columns[order], positive[order]


def _equal_pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All (i, j) with left[i] == right[j], found by sorting."""
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    low = np.searchsorted(ordered, left, side="left")
    counts = np.searchsorted(ordered, left, side="right") - low
    rows = np.repeat(np.arange(len(left)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, order[np.repeat(low, counts) + within]


def _labels(values: Any, argument: str) -> np.ndarray:
    """(N,) int64 from a sequence, array or tensor of integers."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(argument, f"give one label per picture, not an array of shape {array.shape}")
    if array.size == 0:
        return np.zeros(0, np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(argument, f"labels must be integers, not {array.dtype}")
    labels = array.astype(np.int64)
    if labels.min() < JUNK:
        raise InputError(
            argument,
            f"label {labels.min()} at position {int(labels.argmin())} marks a picture without a label; "
            "evaluation needs labelled pictures (-1 marks junk)",
        )
    return labels


def _cameras(values: Any, argument: str, ids: np.ndarray, protocol: Protocol) -> np.ndarray:
    if values is None:
        if protocol.needs_cameras:
            raise InputError(
                argument, f"protocol {protocol.name} needs camera labels; give them or use no-camera"
            )
        return np.full(len(ids), -1, np.int64)
    cameras = _labels(values, argument)
    name = argument.replace("cameras", "ids")
    if len(cameras) != len(ids):
        raise InputError(argument, f"{len(cameras)} labels, but {name} has {len(ids)}")
    unknown = np.flatnonzero((cameras < 0) & (ids != JUNK))
    if protocol.needs_cameras and len(unknown):
        raise InputError(
            argument,
            f"the camera of entry {unknown[0]} is unknown ({len(unknown)} in all), but protocol "
            f"{protocol.name} needs it; label it or use no-camera",
        )
    return cameras


def _picture_numbers(
    query: Sequence[Hashable] | None, gallery: Sequence[Hashable] | None, queries: int, entries: int
) -> np.ndarray:
    """One number per row of the stacked list; rows with equal numbers are the same picture."""
    if query is None or gallery is None:
        return np.arange(queries + entries)
    for argument, names, wanted in (
        ("query_pictures", query, queries),
        ("gallery_pictures", gallery, entries),
    ):
        if len(names) != wanted:
            raise InputError(argument, f"{len(names)} names, but there are {wanted} pictures")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in [*query, *gallery]], np.int64)
