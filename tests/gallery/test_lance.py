"""What is particular to LanceDB: several processes, versions, what deletion leaves, damage."""

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lancedb.index import IvfFlat

from kronreid.errors import InputError
from kronreid.gallery import Entry, Gallery, Selection, lance, lance_table
from kronreid.gallery.lance import LanceStore
from kronreid.gallery.lance_filters import numbers_of, sql, terms_of
from kronreid.gallery.lance_table import SharedTable, _mergeable, fragments, measured

from . import clock_child
from .conftest import PlacesEmbedder, paint

RNG = np.random.default_rng(0)
CHILD = Path(__file__).with_name("writer_child.py")
PROCESSES = multiprocessing.get_context("forkserver")


def vectors(count: int, dimension: int = 8) -> np.ndarray:
    found = RNG.standard_normal((count, dimension)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def entries(numbers, folder: str = "/p", **values) -> list[Entry]:
    return [
        Entry(Path(folder) / f"{i}.jpg", id=f"{i * 0x9E3779B97F4A7C15 % 2**64:064x}", **values)
        for i in numbers
    ]


@pytest.fixture
def store(tmp_path):
    store = LanceStore(str(tmp_path / "people"), "people")
    store.create(8, {"kronreid.dimension": "8"})
    yield store
    store.close()


@pytest.fixture
def busy(monkeypatch):
    """The table is merged and cleaned all the time."""
    monkeypatch.setattr(lance, "_WRITES_BETWEEN", 2)
    monkeypatch.setattr(lance, "SETTLED_FROM", 0)
    monkeypatch.setattr(lance_table, "MOST_FRAGMENTS", 2)
    monkeypatch.setattr(lance_table, "LEAST_WASTE", 1)
    monkeypatch.setattr(lance_table, "JUST_WRITTEN", 0)


def reference(stored: dict[str, np.ndarray], query: np.ndarray, top: int) -> list[str]:
    return sorted(stored, key=lambda id: -float(stored[id] @ query))[:top]


def test_searches_are_exact_whatever_happens_between_them(store, busy):
    """The first by LanceDB, the others in memory; after additions, changes, deletions and merges."""
    stored: dict[str, np.ndarray] = {}
    for step in range(12):
        new = entries(range(30 * step, 30 * step + 30), camera=str(step % 3))
        made = vectors(30)
        store.upsert(new, made)
        stored |= {entry.id: vector for entry, vector in zip(new, made)}
        if step % 3 == 1:
            again = entries(range(10))
            made = vectors(10)
            store.upsert(again, made)
            stored |= {entry.id: vector for entry, vector in zip(again, made)}
        if step % 4 == 2:
            gone = list(stored)[5:25]
            store.delete(gone)
            for id in gone:
                del stored[id]
        if step == 7:
            store.purge()
        query = vectors(1)[0]
        found = store.search(query, 15)
        assert [entry.id for entry, _ in found] == reference(stored, query, 15)
        assert [similarity for _, similarity in found] == pytest.approx(
            [float(stored[entry.id] @ query) for entry, _ in found], abs=1e-5
        )
        cameras = {entry.camera for entry, _ in store.search(query, 50, Selection(camera=["0", "1"]))}
        assert cameras <= {"0", "1"}
    assert store.count() == len(stored)
    assert {row["id"] for row in store.rows(["id"])} == stored.keys()
    fresh = LanceStore(store.uri, "people")
    assert [entry.id for entry, _ in fresh.search(query, 15)] == reference(stored, query, 15)
    fresh.close()


def test_places_stay_with_their_picture(store, busy):
    some = entries(range(6))
    store.upsert(some[:4], vectors(4), [b"a" * 5000, b"b", b"c", b"d"])
    store.upsert(some[4:], vectors(2))
    store.update([Entry(entry.path, id=entry.id, camera="7") for entry in some])
    store.delete([some[1].id])
    store.purge()
    ids = [entry.id for entry in some]
    found = store.described(ids)
    assert {id: places for id, (_, places) in found.items()} == {
        ids[0]: b"a" * 5000,
        ids[2]: b"c",
        ids[3]: b"d",
    }
    assert {entry.camera for entry in store.get(ids)} == {"7"}


def test_a_change_does_not_bring_back_what_was_deleted(store):
    some = entries(range(3))
    store.upsert(some, vectors(3))
    store.delete([some[0].id])
    store.update([Entry(entry.path, id=entry.id, camera="7") for entry in some])
    assert {entry.id: entry.camera for entry in store.page(0, 9)} == {some[1].id: "7", some[2].id: "7"}


def test_the_table_stays_small(store, busy):
    """Additions one by one, changes and deletions: few fragments, and little beside what is stored."""
    for number in range(30):
        store.upsert(entries([number]), vectors(1))
        if number % 10 == 9:
            store.update(entries(range(number - 9, number), camera="2"))
            store.delete([entry.id for entry in entries([number - 5])])
    store.settle()
    assert store.count() == 27
    table = store._table.latest()
    assert len(fragments(table)) <= 4
    assert len(list((Path(store.uri) / "people.lance" / "_versions").glob("*.manifest"))) <= 4


def test_looking_after_a_table_reads_only_what_is_new(store, busy, monkeypatch):
    """However many rows there are, unless another process has merged fragments meanwhile."""
    read = []

    def counted(table, first=0):
        found = fragments(table, first)
        read.append(sum(size for _, size in found))
        return found

    monkeypatch.setattr(lance_table, "fragments", counted)
    monkeypatch.setattr(lance_table, "LEAST_WASTE", 10**9)
    monkeypatch.setattr(lance_table, "LARGE_FRAGMENT", 400)
    store.upsert(entries(range(1000)), vectors(1000))
    for number in range(1000, 1020):
        store.upsert(entries([number]), vectors(1))
    assert read[0] >= 1000
    assert max(read[1:]) <= 20
    other = LanceStore(store.uri, "people")
    for number in range(1020, 1050):
        (store if number % 3 else other).upsert(entries([number]), vectors(1))
        if number % 7 == 0:
            other.delete([entry.id for entry in entries([number - 9])])
    other.close()
    store._tidy()
    assert len(fragments(store._table.latest())) <= 4
    left = {entry.id for entry in entries(set(range(1050)) - {1022 - 9, 1029 - 9, 1036 - 9, 1043 - 9})}
    assert sorted(row["id"] for row in store.rows(["id"])) == sorted(left)


def test_many_files_are_measured_less_often(store, busy, monkeypatch):
    """What old versions have left is removed in the end, and at once at the end of a long addition."""
    monkeypatch.setattr(lance_table, "FILES_A_TIDY", 3)
    monkeypatch.setattr(lance_table, "LEAST_WASTE", 50_000)
    seen = []
    monkeypatch.setattr(
        lance_table, "measured", lambda folder: seen.append(measured(folder)) or measured(folder)
    )
    for number in range(60):
        store.upsert(entries([number]), vectors(1))
    assert 2 < len(seen) < 40
    assert min(files for _, files in seen[1:]) < max(files for _, files in seen) / 2, "it was cleaned"
    before = len(seen)
    store.settle()
    assert len(seen) == before + 1


def test_memory_does_not_grow_with_the_number_of_writes(tmp_path, monkeypatch):
    """LanceDB keeps descriptions of versions that are gone. They are forgotten with their files."""
    monkeypatch.setattr(lance, "_WRITES_BETWEEN", 4)
    monkeypatch.setattr(lance_table, "MOST_FRAGMENTS", 4)
    sessions = []

    def session(*sizes: int) -> lancedb.Session:
        sessions.append(lancedb_session(*sizes))
        return sessions[-1]

    lancedb_session = lancedb.Session
    monkeypatch.setattr(lancedb, "Session", session)
    store = LanceStore(str(tmp_path / "people"), "people")
    store.create(8, {})
    kept = []
    for number in range(24):
        store.upsert(entries([number]), vectors(1))
        kept.append(sessions[-1].size_bytes)
    assert max(kept[8:]) <= 1.5 * max(kept[:8])
    assert store.count() == 24
    store.close()


def test_a_relative_path_stays_where_it_is(tmp_path, monkeypatch):
    """Also when the process has gone elsewhere since, and the table is looked after."""
    monkeypatch.setattr(lance, "_WRITES_BETWEEN", 2)
    monkeypatch.chdir(tmp_path)
    store = LanceStore("people", "people")
    store.create(8, {})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for number in range(5):
        store.upsert(entries([number]), vectors(1))
    assert store.count() == 5
    store.close()
    assert list(Path().iterdir()) == []


@given(st.lists(st.integers(1, 200_000), max_size=120))
def test_merging_leaves_few_small_fragments_and_no_large_one_is_moved(sizes):
    start = _mergeable(sizes)
    left = sizes[:start] + ([sum(sizes[start:])] if start < len(sizes) else [])
    small = [size for size in left if size < lance_table.LARGE_FRAGMENT]
    if start < len(sizes):
        assert max(sizes[start:]) < lance_table.LARGE_FRAGMENT
        assert len(sizes) - start >= 2
    after_the_last_large = len(small)
    assert after_the_last_large <= len(sizes)


@pytest.mark.parametrize("dimension", [8, 256])
def test_the_index_finds_nearly_everything_and_forgets(tmp_path, monkeypatch, dimension):
    """Vectors of people, in memory that is too small for them."""
    monkeypatch.setattr(lance, "INDEXED_FROM", 256)
    monkeypatch.setattr(lance, "MOST_KEPT", 0)
    monkeypatch.setattr(lance, "_LIST", 20)
    store = LanceStore(str(tmp_path / "people"), "people")
    store.create(dimension, {})
    people = RNG.standard_normal((200, dimension)).astype(np.float32)
    made = np.repeat(people, 10, axis=0) + 0.3 * RNG.standard_normal((2000, dimension)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    some = entries(range(2000))
    stored = {entry.id: vector for entry, vector in zip(some, made)}
    assert not store.build_index(), "too few"
    store.upsert(some[:1500], made[:1500])
    store._table.write(lambda table: table.create_index("vector", config=IvfFlat(num_partitions=64)))
    found = [entry.id for entry, _ in store.search(made[1], 50)]
    known = {entry.id: stored[entry.id] for entry in some[:1500]}
    assert found == reference(known, made[1], 50), "an index that was built in another way is not asked"
    assert store.build_index()
    assert [entry.id for entry, _ in store.search(made[1], 1400)] == reference(known, made[1], 1400)
    store.upsert(some[1500:], made[1500:])  # which the index does not know
    for gone in ([], [entry.id for entry in some[:100]]):
        store.delete(gone)
        store.purge()
        for id in gone:
            del stored[id]
        found = [
            len({entry.id for entry, _ in store.search(query, 50)} & set(reference(stored, query, 50))) / 50
            for query in vectors(20, dimension)
        ]
        assert np.mean(found) > 0.98
        assert [index.name for index in store._table.latest().list_indices()] == [lance._INDEX]
    everything = bytes_of(Path(store.uri))
    assert made[50].tobytes() not in everything
    assert made[150].tobytes() in everything
    store.close()


# ── several processes ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_writers_of_which_one_is_killed_and_a_reader(tmp_path, scheme):
    """In a folder the writers take turns. In an object store, here an address of files, they collide."""
    uri = scheme + str(tmp_path / "people")
    store = LanceStore(uri, "people")
    store.create(8, {})
    store.upsert(entries([1]), np.eye(8, dtype=np.float32)[:1])
    writers = [
        PROCESSES.Process(target=runpy.run_path, args=(str(CHILD), {"uri": uri, "start": start}))
        for start in (1000, 2000)
    ]
    for writer in writers:
        writer.start()
    try:
        for delay in (0.05, 0.2, 0.4):  # a third one is killed in the middle of whatever it does, and again
            third = PROCESSES.Process(target=runpy.run_path, args=(str(CHILD), {"uri": uri, "start": 3000}))
            third.start()
            third.join(delay)
            third.kill()
            third.join()
        writers.append(
            PROCESSES.Process(target=runpy.run_path, args=(str(CHILD), {"uri": uri, "start": 3000}))
        )
        writers[-1].start()
        counts = [1]
        while any(writer.is_alive() for writer in writers):
            found = store.search(np.eye(8, dtype=np.float32)[0], 5)
            assert found[0][1] == pytest.approx(1)
            assert len({row["id"] for row in store.rows(["id", "vector"])}) >= 1
            counts.append(store.count())
            time.sleep(0.02)
    finally:
        for writer in writers:
            writer.join(120)
            writer.kill()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(set(counts)) > 2, "the reader saw what was added meanwhile"
    ids = [row["id"] for row in store.rows(["id"])]
    assert len(set(ids)) == len(ids) == store.count() == 1 + 3 * 54 + 12
    assert store.count(Selection(camera=7)) == 3 * 30
    store.close()


def test_reading_while_a_thread_writes(tmp_path, embedder, crops, busy):
    query = next(crops.iterdir())
    with Gallery(tmp_path / "people", embedder) as gallery:
        gallery.add(query)
        adding = threading.Thread(target=gallery.add, args=(crops,), kwargs={"batch_size": 1})
        adding.start()
        while adding.is_alive():
            assert gallery.search(query, top=1).hits[0].path == query
        adding.join()
        assert gallery.count == 20


def test_a_collision_is_tried_again_and_then_told(store, monkeypatch):
    pauses = []
    monkeypatch.setattr(lance_table.time, "sleep", pauses.append)

    def collide(table):
        raise RuntimeError("Retryable commit conflict for version 7: preempted by concurrent transaction")

    with pytest.raises(InputError, match="other processes write all the time; try again in a moment"):
        store._table.write(collide)
    assert len(pauses) == lance_table.TRIES - 1
    assert pauses[-1] > pauses[0]


#: Runs in a process of its own, which imports nothing of the tests; `say` sends a line to them.
ALONE = """
import os, sys
import numpy as np
from PIL import Image
from kronreid.errors import InputError
from kronreid.gallery import Gallery, Selection

class Embedder:
    dimension, fingerprint = 64, "c0ffee"
    def embed(self, images, batch_size=64, progress=False):
        return np.ones((len(images), 64), np.float32)

os.chdir(folder)
"""
LISTENING = """
with Gallery("people", Embedder()) as gallery:
    Image.new("RGB", (8, 8)).save("a.png")
    gallery.add("a.png", progress=False)
    gallery.search("a.png")
    say([name for name in sys.modules if "milvus" in name or name == "grpc"])
    own = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
           if os.path.lexists(f"/proc/self/fd/{fd}")}
    lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
    say([line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in own])
"""
FORBIDDEN = """
os.setegid(65534)
os.seteuid(65534)
try:
    with Gallery("people") as gallery:
        say(gallery.count)
        gallery.delete(Selection(camera=1))
except InputError as error:
    say(str(error))
"""


def alone(script: str, folder: Path) -> list[Any]:
    """What a process sends that runs a script in a folder."""
    heard, say = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=exec, args=(ALONE + script, {"folder": folder, "say": say.send}))
    process.start()
    say.close()
    said = []
    try:
        while True:
            said.append(heard.recv())
    except EOFError:
        process.join(60)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == 0
    return said


def test_no_port_is_opened_and_nothing_of_milvus_is_imported(tmp_path):
    assert alone(LISTENING, tmp_path) == [[], []]


# ── forgetting ──────────────────────────────────────────────────────────────────────────────────────────


def bytes_of(folder: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


@pytest.mark.parametrize("way", ["delete", "expire", "changed before", "interrupted"])
def test_nothing_of_a_deleted_picture_remains(tmp_path, way, monkeypatch):
    gallery = Gallery(tmp_path / "people", PlacesEmbedder())
    with gallery:
        for person in range(8):
            path = paint(tmp_path / "crops" / f"secret-{person}-name.png", person)
            gallery.add(
                path, time=1e6 if person == 3 else time.time(), attributes={"who": f"hidden-{person}-x"}
            )
        victim, other = (next(gallery.entries(Selection(where={"who": f"hidden-{n}-x"}))) for n in (3, 4))
        if way == "changed before":
            gallery.update(Selection(where={"who": "hidden-3-x"}), camera="changed-camera")
        kept = gallery._store.described([victim.id, other.id])
        vector, places = kept[victim.id]
        if way == "interrupted":
            gallery._store.delete([victim.id])  # a process that is killed here has removed no bytes
            assert vector.tobytes() in bytes_of(tmp_path / "people")
        if way == "expire":
            assert gallery.expire("30d") == 1
        else:
            expected = 0 if way == "interrupted" else 1
            assert gallery.delete(Selection(where={"who": "hidden-3-x"})) == expected
        everything = bytes_of(tmp_path / "people")
        assert vector.tobytes() not in everything
        first = int(np.flatnonzero(vector)[0])
        assert vector[first : first + 8].tobytes() not in everything
        assert places[8:72] not in everything
        for text in ("secret-3-name", "hidden-3-x", "changed-camera"):
            assert text.encode() not in everything, text
        assert b"secret-4-name" in everything, "the search finds what is there"
        log = [json.loads(line) for line in (tmp_path / "people" / "deleted.jsonl").read_text().splitlines()]
        assert [line["id"] for line in log] == [victim.id]
        assert abs(log[0]["time"] - time.time()) < 600
        assert gallery.verify().intact
        assert gallery.count == 7


def test_what_has_no_time_never_expires_and_conditions_hold(tmp_path, embedder, crops):
    with Gallery(tmp_path / "people", embedder) as gallery:
        gallery.add(crops)
        gallery.update(Selection(camera=1), time="2001-01-01")
        assert gallery.expire("30d", Selection(identity=[3, 4], where={"camera": 1})) == 2
        assert gallery.expire(30 * 86_400, Selection(since="2001-01-02")) == 0
        assert gallery.expire("4w") == 8
        assert gallery.expire("0.5h") == 0
        assert gallery.count == 10
        for keep in ("", "soon", "-1d", "1y", "nan"):
            with pytest.raises(InputError, match="like 30d or 12h"):
                gallery.expire(keep)
        assert gallery.count == 10


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed (apt-get install faketime)")
def test_the_clock_may_be_set_back(tmp_path):
    """Nothing is lost, and deleted bytes go, though LanceDB tells the age of its versions by the clock."""
    settings = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+5h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    child = [sys.executable, str(Path(__file__).with_name("clock_child.py")), str(tmp_path / "people"), "0"]
    done = subprocess.run(
        child, capture_output=True, text=True, timeout=120, env=os.environ | settings | {"NO_FAKE_STAT": "1"}
    )
    assert done.returncode == 0, done.stderr
    clock_child.forget(tmp_path / "people", 1)
    clock_child.main(tmp_path / "people", 1)
    clock_child.forget(tmp_path / "people", 2)


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_gallery_is_told_and_repaired(tmp_path, embedder, crops, damage):
    with Gallery(tmp_path / "people", embedder) as gallery:
        gallery.add(crops / "*_c1*")
        gallery.add(crops / "*_c2*")
    files = (tmp_path / "people" / "people.lance" / "data").iterdir()
    first, _ = sorted(files, key=lambda file: file.stat().st_mtime)
    if damage == "missing":
        first.unlink()
    else:
        first.write_bytes(first.read_bytes()[:500])
    with Gallery(tmp_path / "people", embedder) as gallery:
        report = gallery.verify()
        assert (report.intact, report.unreadable, report.checked) == (False, 10, 10)
        with pytest.raises(Exception, match="people"):
            list(gallery.entries())
        assert gallery.repair() == 10
        assert gallery.verify().intact
        assert {entry.camera for entry in gallery.entries()} == {"2"}
        assert gallery.add(crops).added == 10
        assert gallery.count == gallery.verify().checked == 20


def test_a_vector_that_is_not_whole_is_given_up(tmp_path, embedder, crops):
    with Gallery(tmp_path / "people", embedder) as gallery:
        gallery.add(crops)
        bad = next(gallery.entries())
        gallery._store.upsert([bad], np.full((1, 64), 2, np.float32))
        assert gallery.verify().bad_vectors == [bad.id]
        assert gallery.repair() == 1
        assert gallery.verify().intact


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
def test_a_folder_without_permission_is_named(tmp_path, embedder, crops):
    with Gallery(tmp_path / "people", embedder) as gallery:
        gallery.add(crops)
    for folder in [tmp_path, *tmp_path.parents[:-2]]:  # anybody may read, as root's folders are closed
        folder.chmod(0o755)
    count, said = alone(FORBIDDEN, tmp_path)
    assert count == 20
    assert said == "people: no permission to read or write it; change its owner or its rights"
    with Gallery(tmp_path / "people", embedder) as gallery:
        assert gallery.verify().checked == 20


def test_addresses_that_are_no_gallery(tmp_path, embedder):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.txt").write_text("x")
    (tmp_path / "old.db" / "collections").mkdir(parents=True)
    for name, message in {
        "file": "is a file; a gallery is a folder",
        "folder": "other files",
        "no/where": "does not exist",
        "old.db": r"kronreid gallery import .*old\.db .*old\.gallery",
    }.items():
        with pytest.raises(InputError, match=message):
            Gallery(tmp_path / name, embedder)
    for address in ("db://people", "ftp://host/people"):
        with pytest.raises(InputError, match="a gallery is a folder, http"):
            Gallery(address, embedder)
    with pytest.raises(InputError, match="no such gallery"):
        Gallery(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_version_that_goes_under_a_reader_is_read_again(store):
    store.upsert(entries(range(5)), vectors(5))
    other = SharedTable(store.uri, "people")
    calls = []

    def read(table):
        calls.append(table.version)
        if len(calls) == 1:
            other.write(lambda table: table.delete("id < 'a'"))
            other.purge()
        return len(table.search().select(["vector"]).limit(100).to_arrow())

    assert store._table.read(read) == store.count()
    assert len(calls) == 2


# ── the language of filters ─────────────────────────────────────────────────────────────────────────────

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_infinity=False, allow_nan=False)
VALUES = TEXTS | NUMBERS | st.booleans()


@pytest.fixture(scope="module")
def two_rows(tmp_path_factory):
    store = LanceStore(str(tmp_path_factory.mktemp("filters") / "people"), "people")
    store.create(8, {})
    store.upsert(entries(range(2), camera="1", attributes={"track": 3}), vectors(2))
    yield store
    store.close()


@settings(max_examples=25, deadline=None)
@given(TEXTS, VALUES)
def test_no_text_ends_its_own_literal(two_rows, text, value):
    """Whatever a value says, the other condition still holds, so nothing is found."""
    name = "".join(text.split()) or "k"
    name = "".join(c for c in name if c.isalnum()) or "k"
    for selection in (
        Selection(camera=["9", text.strip() or "9"], where={"never": value if str(value).strip() else "x"}),
        Selection(identity=text.strip() or "x", source="x"),
        Selection(where={name + "x": value if str(value).strip() else "x"}),
    ):
        assert two_rows.count(selection) == 0
    assert two_rows.count(Selection(camera="1", where={"track>=": 3})) == 2


@pytest.mark.parametrize(
    "attack", ["' OR '1'='1", "x') OR (true", "'; DROP TABLE people; --", "\\' OR 1=1 --", "`x` OR true"]
)
def test_attacks_find_nothing(two_rows, attack):
    for selection in (
        Selection(camera=attack),
        Selection(where={"track": attack}),
        Selection(where={attack: "1"}),
        Selection(path=f"/{attack}"),
    ):
        assert two_rows.count(selection) == 0
    assert two_rows.count() == 2


def test_comparisons(place, embedder, crops):
    """The same on every engine."""
    with place.open(embedder) as gallery:
        gallery.add(crops)
        for person, value in {1: 9, 2: 10, 3: 10.5, 4: -3, 5: "10", 6: "ten", 7: True, 8: [11]}.items():
            gallery.update(Selection(identity=person), attributes={"track": value})

        def people(where):
            return {int(entry.identity) for entry in gallery.entries(Selection(where=where))}

        assert people({"track>=": 10}) == {2, 3, 5}
        assert people({"track>": "10"}) == {3}
        assert people({"track<=": 9}) == {1, 4}
        assert people({"track<": 10, "track>": -1}) == {1}
        assert people({"track": "ten"}) == {6}


def test_what_is_kept_of_attributes():
    given = {"a": 7.0, "b": "7", "c": True, "d": [1], "e": None, "f": "x" * 999}
    assert terms_of(given)[:6] == ['"a"', '"a":7', '"b"', '"b":"7"', '"c"', '"c":true']
    assert terms_of(given)[6] == '"d"'
    assert len(terms_of(given)[-1]) < 80
    assert numbers_of(given) == {"a": 7.0}
    assert sql(Selection()) == ""
