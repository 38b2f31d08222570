"""What is particular to Milvus: files, servers and its language of filters.

Milvus Lite can be a server too, of the same protocol.
"""

import re
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from milvus_lite.adapter.grpc.server import start_server_in_thread
from milvus_lite.search.filter.parser import parse_expr
from pymilvus import MilvusException

from kronreid.cli import main
from kronreid.errors import InputError
from kronreid.gallery import Gallery, Selection
from kronreid.gallery.entries import FIELDS, Entry
from kronreid.gallery.milvus import MilvusStore, _bounds, _ranges, expression, quote
from kronreid.gallery.store import open_store

from .conftest import ColourEmbedder


@pytest.fixture
def server(tmp_path):
    server, db, port = start_server_in_thread(str(tmp_path / "server"))
    yield f"http://127.0.0.1:{port}"
    server.stop(grace=0)
    db.close()


def test_a_server_behaves_as_a_folder(server, tmp_path, embedder, matcher, crops):
    results = []
    for uri in (server, tmp_path / "people.gallery"):
        with Gallery(uri, embedder, matcher) as gallery:
            assert gallery.add(crops, batch_size=7, time="2024-05-01").added == 20
            assert gallery.add(crops).skipped_existing == 20
            assert gallery.update(Selection(camera=2), source='"b" or true') == 10
            assert gallery.delete(Selection(identity=[3, 4])) == 4
            query = crops / "0007_c1s1_000007_00.png"
            hits = gallery.search(query, camera=[2], where={"source": '"b" or true'}, since="2024-05-01").hits
            results.append((hits, sorted(gallery.entries(), key=lambda entry: entry.id), gallery.verify()))
        with Gallery(uri, embedder) as again:
            assert again.count == 16
        with pytest.raises(InputError, match="made by model"):
            Gallery(uri, ColourEmbedder("another"))
    (first_hits, *first), (second_hits, *second) = results
    assert first == second
    assert [hit.id for hit in first_hits] == [hit.id for hit in second_hits]
    assert [hit.similarity for hit in first_hits] == pytest.approx([hit.similarity for hit in second_hits])


def test_several_galleries_share_a_server(server, embedder, crops):
    with (
        Gallery(server, embedder, collection="one") as one,
        Gallery(server, embedder, collection="two") as two,
    ):
        one.add(crops)
        assert (one.count, two.count) == (20, 0)
    with pytest.raises(InputError, match="no gallery 'three'"):
        Gallery(server, collection="three")


def test_a_server_that_goes_and_comes_back(tmp_path, embedder, crops, monkeypatch):
    monkeypatch.setattr("kronreid.gallery.milvus_connection.PATIENCE_SECONDS", 1.0)
    server, db, port = start_server_in_thread(str(tmp_path / "server"))

    class Stopper(ColourEmbedder):
        def embed(self, images, batch_size=64, progress=False):
            if self.seen == 8:
                server.stop(grace=0).wait()
                db.close()
            return super().embed(images)

    gallery = Gallery(f"http://127.0.0.1:{port}", Stopper())
    with pytest.raises(InputError, match="does not answer"):
        gallery.add(crops, batch_size=4)
    monkeypatch.setattr("kronreid.gallery.milvus_connection.PATIENCE_SECONDS", 60.0)
    server, db, _ = start_server_in_thread(str(tmp_path / "server"), port=port)
    try:
        with Gallery(f"http://127.0.0.1:{port}", embedder) as again:
            assert again.count == 8
            assert again.add(crops, batch_size=4).added == 12
            assert again.verify().intact
    finally:
        server.stop(grace=0)
        db.close()
        gallery.close()


def test_a_failed_write_closes_the_file_for_everybody(tmp_path):
    uri = str(tmp_path / "people.db")
    first, second = MilvusStore(uri, "people"), MilvusStore(uri, "people")
    first.create(4, {})
    first.upsert([Entry(tmp_path / "a", id="0" * 64)], np.eye(4, dtype=np.float32)[:1])
    with pytest.raises(Exception, match="dim"):
        second.upsert([Entry(tmp_path / "x", id="x")], np.ones((1, 3), np.float32))
    for store in (first, second):
        with pytest.raises(InputError, match="closed"):
            store.count()
        store.close()
    again = MilvusStore(uri, "people")
    assert again.count() == 1
    again.close()


def entries_of(store, *more):
    return [Entry.from_row(row) for row in store.rows([*FIELDS, *more])]


@pytest.mark.parametrize(("rows", "page"), [(0, 10), (1, 10), (10, 10), (11, 10), (1000, 7)])
def test_ranges_cover_every_identifier_once(rows, page):
    ranges = _ranges(rows, page)
    assert len(ranges) == max(1, -(-rows // page))
    identifiers = [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(200)] if rows else []
    for identifier in identifiers:
        inside = [eval(_bounds(*bounds) or "True", {"id": identifier}) for bounds in ranges]
        assert inside.count(True) == 1


def test_pages_give_every_row(tmp_path, monkeypatch):
    monkeypatch.setattr("kronreid.gallery.milvus.PAGE_EMBEDDED", 9)
    monkeypatch.setattr("kronreid.gallery.milvus.PAGE_WITH_VECTORS", 7)
    store = MilvusStore(str(tmp_path / "people.db"), "people")
    store.create(4, {})
    entries = [
        Entry(tmp_path / str(i), id=f"{i * 0x9E3779B97F4A7C15 % 2**64:064x}"[::-1]) for i in range(100)
    ]
    vectors = np.eye(4, dtype=np.float32)[np.arange(100) % 4]
    store.upsert(entries, vectors)
    expected = sorted(entries, key=lambda entry: entry.id)
    assert entries_of(store) == expected
    stored = list(store.rows([*FIELDS, "vector"], Selection(path=tmp_path)))
    assert list(map(Entry.from_row, stored)) == expected
    for row in stored:
        assert np.array_equal(row["vector"], vectors[int(Path(row["path"]).name)])
    store.close()


@pytest.mark.parametrize("call", ["query", "get", "search"])
@pytest.mark.parametrize(
    "said",
    ["SERVER: Sent message larger than max (325575278 vs. 268435456)", "query results exceed the limit size"],
)
def test_what_is_too_large_for_one_answer_comes_in_several(tmp_path, monkeypatch, call, said):
    class TooLarge(grpc.RpcError):
        def __str__(self) -> str:
            return said

    store = MilvusStore(str(tmp_path / "people.db"), "people")
    store.create(4, {})
    entries = [Entry(tmp_path / str(i), id=f"{i * 0x9E3779B97F4A7C15 % 2**64:064x}"[::-1]) for i in range(20)]
    monkeypatch.setattr("kronreid.gallery.milvus.MOST_WRITTEN", 7)
    store.upsert(entries, np.eye(4, dtype=np.float32)[np.arange(20) % 4])
    page = store.page(2, 15)
    real = getattr(store.client, call)

    def limited(*arguments, **options):
        rows = real(*arguments, **options)
        if len(rows[0] if call == "search" else rows) > 3 and "path" in options["output_fields"]:
            raise TooLarge
        return rows

    monkeypatch.setattr(store.client, call, limited)
    expected = sorted(entries, key=lambda entry: entry.id)
    assert entries_of(store) == entries_of(store, "vector") == expected
    assert store.page(2, 15) == page
    assert sorted(store.get([entry.id for entry in entries]), key=lambda entry: entry.id) == expected
    found = store.search(np.eye(4, dtype=np.float32)[1], 20)
    assert sorted((entry for entry, _ in found), key=lambda entry: entry.id) == expected
    assert [similarity for _, similarity in found] == [1.0] * 5 + [0.0] * 15
    store.close()


def test_an_answer_that_is_too_large_in_itself_is_said(tmp_path, monkeypatch):
    store = MilvusStore(str(tmp_path / "people.db"), "people")
    store.create(4, {})
    store.upsert([Entry(tmp_path / "a", id="0" * 64)], np.eye(4, dtype=np.float32)[:1])

    def refuse(*_, **__):
        raise MilvusException(message="query results exceed the limit size")

    for call in ("query", "get"):
        monkeypatch.setattr(store.client, call, refuse)
    for read in (lambda: store.page(0, 5), lambda: store.get(["0" * 64])):
        with pytest.raises(InputError, match="the answer is too large; ask for fewer pictures"):
            read()
    store.close()


NAME = r"[A-Za-z_][A-Za-z0-9_]{0,199}"


@settings(max_examples=50)
@given(name=st.text(max_size=12).filter(lambda text: not re.fullmatch(NAME, text)))
@example(name="2026_03_01")
@example(name="march-2026")
@example(name="../people")
@example(name="people\n")
@example(name="märz")
@example(name="a" * 201)
@example(name="")
def test_names_that_no_collection_has(tmp_path_factory, name):
    """Refused before anything is asked or made, in one line, alike for a folder and a server."""
    file = tmp_path_factory.getbasetemp() / "names.gallery"
    for uri in (str(file), "http://127.0.0.1:1"):
        with pytest.raises(InputError) as caught:
            open_store(uri, name)
        assert str(caught.value).startswith("--collection ")
        assert "\n" not in str(caught.value)
    assert not file.exists()


def test_a_gallery_of_an_older_version_is_brought_over(tmp_path, embedder, crops, capsys):
    old, new = tmp_path / "old.db", tmp_path / "new.gallery"
    source = MilvusStore(str(old), "people")
    source.create(64, {"kronreid.fingerprint": "c0ffee", "kronreid.dimension": "64", "kronreid.model": "m"})
    paths = sorted(crops.iterdir())
    entries = [
        Entry(path, camera=str(i % 2), time=5.0 if i else None, attributes={"track": i}, id=f"{i:064x}")
        for i, path in enumerate(paths)
    ]
    vectors = embedder.embed(paths)
    source.upsert(entries, vectors)
    source.close()
    for use in (["info", "--gallery", str(old)], ["list", "--gallery", str(old)]):
        assert main(["gallery", *use]) == 2
        assert f"kronreid gallery import {old} {tmp_path / 'old.gallery'}" in capsys.readouterr().err
    for _ in range(2):  # the second time after an interruption, say
        assert main(["gallery", "import", str(old), str(new)]) == 0
        assert f"20 pictures of {old} are in {new}" in capsys.readouterr().out
    with Gallery(new, embedder) as gallery:
        assert list(gallery.entries()) == entries
        assert gallery.model == "m"
        assert gallery.search(paths[7], top=1).hits[0].path == paths[7]
    with Gallery(tmp_path / "other.gallery", ColourEmbedder("another")):
        pass
    for arguments, message in (
        ([str(old), str(tmp_path / "other.gallery")], "was made by another model"),
        ([str(new), str(tmp_path / "x")], "is no gallery of an older version"),
        ([str(old)], "needs the old gallery and the new one"),
    ):
        assert main(["gallery", "import", *arguments]) == 2
        assert message in capsys.readouterr().err


# ── the language of filters ─────────────────────────────────────────────────────────────────────────────


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_no_text_ends_its_own_literal(text):
    parsed = parse_expr(f"camera == {quote(text)}")
    assert parsed.right.value == text


@given(
    st.dictionaries(
        # A name that ends in a sign such as < compares.
        st.text(
            st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="<>=!"), min_size=1
        ).filter(str.strip),
        st.text(st.characters(codec="utf-8")) | st.integers() | st.floats(allow_infinity=False) | st.none(),
        max_size=3,
    ),
    st.text(st.characters(codec="utf-8")) | st.integers() | st.lists(st.floats(0, 9), min_size=1),
)
def test_attributes_with_any_name_and_value_parse(where, camera):
    parse_expr(expression(Selection(where=where, camera=camera)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udcff", 2**63])
def test_what_cannot_be_written_is_refused(value):
    with pytest.raises(InputError):
        quote(value)


def test_conditions_as_expressions():
    assert expression(Selection()) == ""
    assert expression(Selection(camera=[1, 2], source="")) == '(camera in ["1", "2"]) and (source in [""])'
    assert expression(Selection(since=5)) == "(time > -1e+18 and time >= 5.0)"
    assert expression(Selection(where={"k": 1})) == '(attributes["k"] == 1 or attributes["k"] == "1")'
    assert expression(Selection(where={"k": ""})) == (
        '((not (exists attributes["k"])) or attributes["k"] == "")'
    )
    assert expression(Selection(path="/a b/")).startswith(
        '(((path == "/a b") or (path >= "/a b/" and path < "/a b0"))'
    )
