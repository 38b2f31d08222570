"""Filling a gallery from many machines: Ray distributes the pictures, and its actors embed and write them.

Every machine must find the pictures and the model under the same path. An actor is an ordinary process that
calls `Gallery.add` with its share, so the same holds here: what is written is safe, pictures are identified
by their content, and running the same again adds what is missing and nothing twice.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import pyarrow
import ray
import ray.data
from tqdm import tqdm

from kronreid import plugins
from kronreid.errors import InputError
from kronreid.gallery.entries import Entry, path_to_text, text_to_path
from kronreid.gallery.gallery import Gallery
from kronreid.gallery.indexing import AddReport, Unreadable, described
from kronreid.gallery.store import SETTLED_FROM

#: Batches of a share, which an actor takes at a time. Within a share, decoding overlaps with embedding.
BATCHES_PER_SHARE = 8


def add_spread(
    gallery: Gallery,
    model: str | PathLike[str],
    images: str | PathLike[str] | Iterable[str | PathLike[str]],
    address: str,
    batch_size: int = 64,
    categories: Sequence[str] = (),
    **values: Any,
) -> AddReport:
    """Add pictures to a gallery on a server, from every machine of a Ray cluster.

    There is one actor for each GPU of the cluster, or for each CPU if it has no GPU.

    Args:
        gallery: A gallery on a server, opened with its embedder.
        model: The embedder's path, which every machine has.
        images: As `Gallery.add` takes them.
        address: ``auto`` for the cluster that this machine is part of, ``local`` for a cluster on this
            machine alone, ``host:port``, or ``ray://host:port`` for a cluster that this machine is not part
            of.
        batch_size: Pictures per pass.
        categories: As `Gallery.add` takes them.
        values: What is known about all pictures, as `Gallery.add` takes it.

    Returns:
        As `Gallery.add` does. A picture that two actors read at the same time under two names counts twice.

    Raises:
        InputError: There is no cluster at the address, or what `Gallery.add` raises.
    """
    started = time.perf_counter()
    entries, unreadable = described(images, categories, **values)
    share = min(BATCHES_PER_SHARE * batch_size, SETTLED_FROM - 1)
    report = AddReport(unreadable=unreadable)
    with _cluster(address), tqdm(total=len(entries), unit=" pictures", desc="adding", disable=None) as bar:
        tables = [table_of(entries[start : start + share]) for start in range(0, len(entries), share)]
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        actors = max(1, min(gpus or int(resources.get("CPU", 1)), len(tables)))
        done = (
            ray.data.from_arrow(tables)
            .map_batches(
                Worker,
                fn_constructor_args=(gallery.place, str(model), batch_size, tuple(plugins.loaded)),
                batch_size=None,  # a table is a share
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=actors),
                num_gpus=1 if gpus else None,
                num_cpus=None if gpus else 1,
            )
            .iter_rows()
        )
        for row in done if tables else ():
            if row["what"]:
                raise InputError(row["where"], row["what"])
            report.added += row["added"]
            report.skipped_existing += row["skipped_existing"]
            report.unreadable += [
                Unreadable(text_to_path(path), reason) for path, reason in json.loads(row["unreadable"])
            ]
            bar.update(row["pictures"])
    gallery.settle(report.added)
    report.seconds = time.perf_counter() - started
    return report


class Worker:
    """An actor: it has a model and a connection to the server, and adds one share after another."""

    def __init__(
        self, place: dict[str, str], model: str, batch_size: int, modules: Sequence[str] = ()
    ) -> None:
        from kronreid.models.loading import load

        self.batch_size = batch_size
        self.problem: InputError | None = None
        try:
            plugins.load_plugins(modules)
            self.gallery = Gallery(
                place["uri"], load(model), token=place["token"], collection=place["collection"]
            )
        except InputError as error:
            self.problem = error

    def __call__(self, share: pyarrow.Table) -> pyarrow.Table:
        report = AddReport()
        entries = entries_of_table(share)
        if not self.problem:
            try:
                report = self.gallery.add(entries, batch_size=self.batch_size, progress=False)
            except InputError as error:
                self.problem = error
        unreadable = [(path_to_text(picture.path), picture.reason) for picture in report.unreadable]
        row = {
            "pictures": len(entries),
            "added": report.added,
            "skipped_existing": report.skipped_existing,
            "unreadable": json.dumps(unreadable),
            "where": self.problem.where if self.problem else "",
            "what": self.problem.what if self.problem else "",
        }
        return pyarrow.Table.from_pylist([row])


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """A connection to the cluster, which is closed at the end unless it was open before."""
    if ray.is_initialized():
        yield
        return
    _must_answer(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address, include_dashboard=False if address == "local" else None, logging_level=logging.ERROR
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise InputError(f"--ray {address}", f"no Ray cluster can be reached there ({reason})") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _must_answer(address: str) -> None:
    """Try the address first: Ray itself waits minutes for a cluster that does not exist."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise InputError(
            f"--ray {address}", f"no Ray cluster can be reached there ({error.strerror or error})"
        ) from error


def table_of(entries: Sequence[Entry]) -> pyarrow.Table:
    """Entries as a table, one row each. Attributes are JSON, since they differ from row to row."""
    rows = [entry.to_row() for entry in entries]
    return pyarrow.Table.from_pylist([row | {"attributes": json.dumps(row["attributes"])} for row in rows])


def entries_of_table(table: pyarrow.Table) -> list[Entry]:
    """The reverse of `table_of`."""
    rows = table.to_pylist()
    return [Entry.from_row(row | {"attributes": json.loads(row["attributes"])}) for row in rows]
