"""Measure how fast a gallery inserts and finds pictures, against a plain matrix product.

For each size, vectors of people (a mean for each person plus noise for each picture) are inserted through the
gallery's own store. The gallery is closed and opened again, and new pictures of the same people are searched:
``query_ms`` by a store that is opened for each query, as a command does, ``served_query_ms`` by one that is
kept open, as the server does. The same queries against the same vectors in a numpy array give the exact
result and the shortest possible time.

    python benchmarks/gallery.py --json gallery.json
    python benchmarks/gallery.py --sizes 2000000 --dimension 512 --index
    python benchmarks/gallery.py --single 100000 --dimension 512
    python benchmarks/gallery.py --uri http://host:19530 --indexes IVF_SQ8
    python benchmarks/gallery.py --sizes 20000 --embedder runs/horeid --matcher runs/kpm --pictures crops/
"""

import argparse
import gc
import importlib
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from kronreid.gallery import Entry, Gallery, Selection
from kronreid.gallery.lance import MOST_KEPT
from kronreid.gallery.store import Store, open_store
from kronreid.memory import keep_memory

#: Their search parameters: larger values find more and take longer.
INDEXES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "HNSW": ({"M": 16, "efConstruction": 200}, {"ef": 200}),
    "IVF_FLAT": ({"nlist": 256}, {"nprobe": 16}),
    "IVF_SQ8": ({"nlist": 256}, {"nprobe": 16}),
}
PICTURES_PER_PERSON = 10
TOP = 100
#: Queries that compare a gallery's vectors one by one on the disk.
FEW = 4
BATCH = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[20_000, 200_000], help="vectors in the gallery"
    )
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument(
        "--indexes", nargs="*", default=[], choices=INDEXES, help="approximate indexes of a server to try"
    )
    parser.add_argument("--index", action="store_true", help="measure the index of a folder as well")
    parser.add_argument(
        "--places", type=int, default=0, metavar="BYTES", help="store so many bytes of places a picture"
    )
    parser.add_argument(
        "--index-up-to", type=int, default=20_000, metavar="N", help="largest size that they are tried at"
    )
    parser.add_argument(
        "--single", type=int, default=0, metavar="N", help="only measure N additions of one picture each"
    )
    parser.add_argument("--uri", help="a Milvus server to measure instead of a folder (MILVUS_TOKEN logs in)")
    parser.add_argument("--embedder", help="with --pictures: measure a whole search, with this model")
    parser.add_argument("--matcher", help="and this one for the second stage")
    parser.add_argument("--pictures", help="folder of pictures for --embedder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for size in [] if options.single else options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            uri = options.uri or str(Path(folder) / "people.gallery")
            indexes = options.indexes if size <= options.index_up_to else []
            found = measure(
                uri, size, options.dimension, options.queries, indexes, options.places, options.index
            )
        label = f"{size // 1000}k" if size % 1000 == 0 else str(size)
        for name, value in found.items():
            figures[f"{name}_{label}"] = value
            print(f"{name}_{label:<8} {value:,.3f}", flush=True)
        figures["insert_per_second"] = found["insert_per_second"]
    if options.single:
        with tempfile.TemporaryDirectory() as folder:
            uri = options.uri or str(Path(folder) / "people.gallery")
            figures |= one_by_one(uri, options.single, options.dimension, Path(folder) / "pictures")
    if options.embedder and options.pictures:
        for name, value in whole_search(options.embedder, options.matcher, options.pictures).items():
            figures[name] = value
            print(f"{name:<24} {value:,.3f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


class People:
    """Unit vectors of people, like those that a trained network gives for people it has not been trained on.

    A person has a mean, and each picture differs from it. Few directions matter: from one to the next, the
    variance of the means falls by `BETWEEN`, that of the differences by `WITHIN`. These and the shares were
    measured on 512 numbers of a pooled MobileNetV2, where two pictures of one person had a cosine of 0.68 and
    two of different people one of 0.01 ± 0.20. With independent noise instead, all strangers would be equally
    far, and no index could rank them.
    """

    BETWEEN, WITHIN, LATENT = 0.886, 0.954, 128
    SHARES = 0.69, 0.295, 0.015  # of the means, of the differences, and of noise in all dimensions

    def __init__(self, count: int, dimension: int) -> None:
        self.count, self.dimension = count, dimension
        self.latent = min(self.LATENT, dimension)
        random = np.random.default_rng(0).standard_normal((dimension, self.latent))
        self.directions = np.linalg.qr(random)[0].T.astype(np.float32)

    def _scales(self, fall: float, share: float) -> np.ndarray:
        variances = fall ** np.arange(self.latent)
        return np.sqrt(share * variances / variances.sum())

    def vectors(self, start: int, stop: int, seed: int = 1) -> np.ndarray:
        """Vectors (N, D) float32 of pictures `start` to `stop`; another seed gives others of these people."""
        rng = np.random.default_rng((seed, start))
        people, of = np.unique(np.arange(start, stop) // PICTURES_PER_PERSON, return_inverse=True)
        means = [np.random.default_rng((2, one)).standard_normal(self.latent) for one in people.tolist()]
        latent = (np.stack(means) * self._scales(self.BETWEEN, self.SHARES[0]))[of]
        latent += rng.standard_normal(latent.shape) * self._scales(self.WITHIN, self.SHARES[1])
        vectors = latent.astype(np.float32) @ self.directions
        noise = np.float32(np.sqrt(self.SHARES[2] / self.dimension))
        vectors += noise * rng.standard_normal(vectors.shape, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def batches(self) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, self.count, BATCH):
            yield start, self.vectors(start, min(start + BATCH, self.count))

    def queries(self, count: int) -> np.ndarray:
        places = np.linspace(0, self.count - 1, count).astype(int)
        return np.concatenate([self.vectors(place, place + 1, seed=3) for place in places])


def measure(
    uri: str, size: int, dimension: int, queries: int, indexes: list[str], places: int, index: bool
) -> dict[str, float]:
    """Measure one size: milliseconds, seconds and megabytes by name."""
    people = People(size, dimension)
    asked = people.queries(queries)
    figures: dict[str, float] = {}

    times, exact = by_numpy(people, asked)
    figures["numpy_ms"] = statistics.median(times)
    gc.collect()

    store = open_store(uri, "benchmark")
    store.create(dimension, {})
    seconds = 0.0
    rng = np.random.default_rng(0)
    for start, vectors in tqdm(people.batches(), total=-(-size // BATCH), desc=f"{size:,}", disable=None):
        entries = [entry(number) for number in range(start, start + len(vectors))]
        packed = [rng.bytes(places) for _ in entries] if places else None
        started = time.perf_counter()
        store.upsert(entries, vectors, packed)
        seconds += time.perf_counter() - started
    figures["insert_per_second"] = size / seconds
    started = time.perf_counter()
    store.settle(size)
    figures["settle_s"] = time.perf_counter() - started
    store.close()
    gc.collect()

    # Each in a process of its own, whose memory holds nothing but the gallery.
    few = FEW if 4 * size * dimension > MOST_KEPT else queries
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        figures |= process.submit(once_figures, uri, asked[:few], exact[:few]).result()
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        figures |= process.submit(
            searched, uri, size, asked, exact, figures["numpy_ms"], indexes, places, index, few
        ).result()
    return figures


def searched(
    uri: str,
    size: int,
    asked: np.ndarray,
    exact: list[list[int]],
    numpy_ms: float,
    indexes: list[str],
    places: int,
    index: bool,
    few: int,
) -> dict[str, float]:
    """The figures of searching a gallery that is filled, of a `few` queries where no index helps."""
    figures: dict[str, float] = {}
    if not uri.startswith("http"):
        importlib.import_module("lancedb")  # takes two seconds, once in a process
    started = time.perf_counter()
    store = open_store(uri, "benchmark")
    assert store.count() == size
    figures["open_s"] = time.perf_counter() - started
    try:
        started = time.perf_counter()
        store.warm()
        figures["warm_s"] = time.perf_counter() - started
        figures |= query_figures(store, asked[:few], exact[:few], "served_")
        figures["rss_mb"] = resident_mb()
        figures["served_over_numpy"] = figures["served_query_ms"] / numpy_ms
        times, _ = timed(lambda query: store.search(query, TOP, Selection(camera=3)), asked[:few])
        figures["served_filtered_query_ms"] = statistics.median(times)
        if places:
            found = [[entry.id for entry, _ in store.search(query, TOP)] for query in asked]
            times = []
            for query, ids in zip(asked, found):
                store.search(query, TOP)  # what a search found last is read for it
                times += timed(lambda _, ids=ids: list(store.described(ids)), query[None])[0]  # type: ignore[misc]
            figures["places_100_ms"] = statistics.median(times)
        if (disk := store.bytes_on_disk()) is not None:
            figures["disk_mb"] = disk / 1e6
        if index:
            started = time.perf_counter()
            store.build_index()
            figures["index_build_s"] = time.perf_counter() - started
            figures["rss_build_mb"] = peak_mb()
            if (disk := store.bytes_on_disk()) is not None:
                figures["index_disk_mb"] = disk / 1e6 - figures["disk_mb"]
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                figures |= process.submit(index_figures, uri, asked, exact).result()
        for kind in indexes:
            name = kind.lower() + "_"
            figures[f"{name}build_s"] = build(store, kind)
            figures |= query_figures(store, asked, exact, name, INDEXES[kind][1])
    finally:
        if uri.startswith("http"):
            client_of(store).drop_collection("benchmark")
        store.close()
    return figures


def index_figures(uri: str, asked: np.ndarray, exact: list) -> dict[str, float]:
    """The figures of searching by the index: by a store that is kept open, and by one opened for each query.

    A gallery whose vectors fit into memory uses its index for single queries only.
    """
    store = open_store(uri, "benchmark")
    figures = query_figures(store, asked, exact, "index_served_")
    figures["index_served_rss_mb"] = resident_mb()
    times, _ = timed(lambda query: store.search(query, TOP, Selection(camera=3)), asked)
    figures["index_served_filtered_query_ms"] = statistics.median(times)
    store.close()
    return figures | {f"index_{name}": value for name, value in once_figures(uri, asked, exact).items()}


def client_of(store: Store) -> Any:
    """pymilvus's client of a store on a server."""
    return store.client  # type: ignore[attr-defined]


def once_figures(uri: str, asked: np.ndarray, exact: list) -> dict[str, float]:
    """The times of queries by a store that is opened for each, as a command does, and what they found."""
    keep_memory()
    times, found = [], []
    for query in asked:
        store = open_store(uri, "benchmark")
        assert store.exists
        store.properties()
        took, answers = timed(lambda query, store=store: numbers_of(store, query), query[None])  # type: ignore[misc]
        times += took
        found += answers
        store.close()
    return summary(times, found, exact, "") | {"rss_scan_mb": resident_mb()}


def numbers_of(store: Store, query: np.ndarray) -> list[int]:
    """The numbers of the pictures that a query finds."""
    return [number_of(entry.id) for entry, _ in store.search(query, TOP)]


def summary(times: list[float], found: list, exact: list, prefix: str) -> dict[str, float]:
    return {
        f"{prefix}first_query_ms": times[0],
        f"{prefix}query_ms": statistics.median(times[1:]),
        f"{prefix}query_worst_ms": max(times[1:]),
        f"{prefix}recall": float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(found, exact)])),
    }


def by_numpy(people: People, asked: np.ndarray) -> tuple[list[float], list[list[int]]]:
    """The milliseconds of each query against one array, and the exact results."""
    everything = np.empty((people.count, people.dimension), np.float32)
    for start, vectors in people.batches():
        everything[start : start + len(vectors)] = vectors

    def search(query: np.ndarray) -> list[int]:
        scores = everything @ query
        best = np.argpartition(-scores, TOP)[:TOP]
        return best[np.argsort(-scores[best])].tolist()

    return timed(search, asked)


def build(store: Store, kind: str) -> float:
    """The seconds it takes to replace the collection's index by this one."""
    client, name = client_of(store), store.collection
    index = client.prepare_index_params()
    index.add_index("vector", index_type=kind, metric_type="IP", params=INDEXES[kind][0])
    client.release_collection(name)
    for old in client.list_indexes(name):
        client.drop_index(name, old)
    started = time.perf_counter()
    client.create_index(name, index)
    client.load_collection(name)
    return time.perf_counter() - started


def query_figures(
    store: Store, asked: np.ndarray, exact: list, prefix: str, asks: dict[str, int] | None = None
) -> dict[str, float]:
    """The times of the first query and of later ones, and the share of the exact results that were found."""

    def search(query: np.ndarray) -> list[int]:
        if asks is None:
            return numbers_of(store, query)
        (hits,) = client_of(store).search(
            store.collection,
            data=[query],
            limit=TOP,
            output_fields=["path"],
            search_params={"metric_type": "IP", "params": asks},
            consistency_level="Bounded",
        )
        return [number_of(hit["id"]) for hit in hits]

    times, found = timed(search, asked)
    return summary(times, found, exact, prefix)


def timed(search: Callable[[np.ndarray], list], asked: np.ndarray) -> tuple[list[float], list[list]]:
    """The milliseconds of each query, and its results."""
    times, answers = [], []
    for query in asked:
        started = time.perf_counter()
        answers.append(search(query))
        times.append(1000 * (time.perf_counter() - started))
    return times, answers


class Given:
    """An embedder that gives one vector after the other, whatever the picture."""

    fingerprint = "benchmark"

    def __init__(self, people: People) -> None:
        self.dimension = people.dimension
        self._vectors = iter(vector for _, vectors in people.batches() for vector in vectors)

    def embed(self, images: Any, batch_size: int = 64, progress: bool = False) -> np.ndarray:
        return np.stack([next(self._vectors) for _ in images])


def one_by_one(uri: str, count: int, dimension: int, folder: Path) -> dict[str, float]:
    """Add tiny pictures one by one, and print how many a second for every thousand.

    ``single_slowdown`` is the time of an addition among the last tenth over that among the first;
    ``single_cpu_slowdown`` counts the time of the CPU, which other work on the machine changes less.
    """
    figures: dict[str, float] = {}
    rates: list[float] = []
    cpu: list[float] = []
    folder.mkdir()
    step = min(1000, max(1, count // 10))
    with Gallery(uri, Given(People(count, dimension))) as gallery:
        for start in range(0, count, step):
            paths = [folder / f"{number}.png" for number in range(start, min(start + step, count))]
            for number, path in enumerate(paths, start):
                Image.fromarray(
                    np.full((8, 8), number, np.int32).view(np.uint8)[:, :24].reshape(8, 8, 3)
                ).save(path)
            started, worked = time.perf_counter(), time.process_time()
            for path in paths:
                gallery.add(path, progress=False, workers=1)
            rates.append(len(paths) / (time.perf_counter() - started))
            cpu.append(1000 * (time.process_time() - worked) / len(paths))
            print(
                f"{start + len(paths):>9,} pictures: {rates[-1]:,.0f} a second, {cpu[-1]:.1f} ms of CPU each",
                flush=True,
            )
        assert gallery.count == count
        some = max(1, len(rates) // 10)
        figures["single_per_second"] = count / sum(step / rate for rate in rates)
        figures["single_slowdown"] = statistics.median(rates[:some]) / statistics.median(rates[-some:])
        figures["single_cpu_slowdown"] = statistics.median(cpu[-some:]) / statistics.median(cpu[:some])
        figures["single_rss_mb"] = resident_mb()
        figures["single_disk_mb"] = (gallery.info().bytes_on_disk or 0) / 1e6
    for name, value in figures.items():
        print(f"{name:<24} {value:,.3f}", flush=True)
    return figures


def entry(number: int) -> Entry:
    """A picture whose identifier is distributed like a hash and encodes its number."""
    scattered = (number * 0x9E3779B97F4A7C15) % 2**64
    return Entry(
        Path(f"/pictures/{number:09d}.jpg"),
        camera=str(number % 6),
        time=1.7e9 + number,
        attributes={"track": number // PICTURES_PER_PERSON},
        id=f"{scattered:016x}{number:048x}",
    )


def number_of(identifier: str) -> int:
    return int(identifier[16:], 16)


def resident_mb() -> float:
    """The memory of this process, which includes an embedded database."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def whole_search(embedder: str, matcher: str | None, pictures: str) -> dict[str, float]:
    """The median milliseconds of each stage of ten searches with models, and pictures added per second.

    The measurement is repeated with a cache of the matcher's maps, which the searches have filled.
    """
    import kronreid
    from kronreid.gallery import MapCache
    from kronreid.models.inference import Matcher

    with tempfile.TemporaryDirectory() as folder:
        first = kronreid.load(embedder)
        second = kronreid.load(matcher) if matcher else None
        assert second is None or isinstance(second, Matcher)
        uri = Path(folder) / "people.gallery"
        with Gallery(uri, first, second) as gallery:
            report = gallery.add(pictures)
            queries = [entry.path for entry in gallery.entries()][:11]
            figures = stages(gallery, queries, "stage_")
        figures["add_per_second"] = report.per_second
        if second is not None:
            cache = MapCache(Path(folder) / "maps")
            with Gallery(uri, first, second, cache=cache) as gallery:
                stages(gallery, queries, "")
                figures |= stages(gallery, queries, "cached_stage_")
            files = sum(1 for _ in cache.folder.rglob("*.safetensors"))
            figures["cached_mb_per_picture"] = cache.size() / 1e6 / files
    return figures


def stages(gallery: Gallery, queries: list[Path], prefix: str) -> dict[str, float]:
    """The median milliseconds of each stage, without the first search."""
    results = [gallery.search(query, rerank_top=TOP).seconds for query in queries][1:]
    return {f"{prefix}{name}_ms": 1000 * statistics.median(r[name] for r in results) for name in results[0]}


if __name__ == "__main__":
    main()
