import json
import os

import numpy as np
import pytest
from PIL import Image

from kronreid.errors import InputError
from kronreid.gallery import Entry, Gallery, Selection

from .conftest import ColourEmbedder, paint


@pytest.fixture
def gallery(place, embedder, crops):
    with place.open(embedder) as gallery:
        gallery.add(crops)
        yield gallery


@pytest.mark.parametrize("name", ["day_2026_03_01", "_2026", "A", "a" * 200])
def test_names_that_a_collection_may_have(place, name):
    """A server refuses to look for a collection of another name."""
    store = place.store(name)
    assert not store.exists
    store.close()


def test_adding_twice_adds_once(place, embedder, crops):
    with place.open(embedder) as gallery:
        first = gallery.add(crops, batch_size=7)
        again = gallery.add(crops, batch_size=3)
        assert (first.added, first.skipped_existing, first.unreadable) == (20, 0, [])
        assert (again.added, again.skipped_existing) == (0, 20)
        assert embedder.seen == gallery.count == 20


def test_it_is_there_when_opened_again(place, embedder, crops):
    with place.open(embedder) as gallery:
        gallery.add(crops)
        before = sorted(gallery.entries(), key=lambda entry: entry.id)
    with place.open(embedder) as gallery:
        assert sorted(gallery.entries(), key=lambda entry: entry.id) == before
        assert gallery.verify().intact


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_equal_content_under_two_names_is_stored_once(place, tmp_path, embedder, batch_size):
    content = paint(tmp_path / "crops" / "a.png", 1).read_bytes()
    for name in ("b.png", "c.png", "d.png"):
        (tmp_path / "crops" / name).write_bytes(content)
    with place.open(embedder) as gallery:
        report = gallery.add(tmp_path / "crops", batch_size=batch_size)
        assert (report.added, report.skipped_existing, gallery.count) == (1, 3, 1)


def test_the_same_person_is_found_first(gallery, crops, embedder):
    query = crops / "0007_c1s1_000007_00.png"
    hits = gallery.search(query, top=5).hits
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert query in [hit.path for hit in hits[:2]]
    assert [hit.identity for hit in hits[:2]] == ["7", "7"]
    assert hits[0].similarity == pytest.approx(1, abs=1e-6)
    vectors = {
        e.path: v for e, v in zip(gallery.entries(), embedder.embed([e.path for e in gallery.entries()]))
    }
    expected = sorted((float(vectors[path] @ vectors[query]) for path in vectors), reverse=True)[:5]
    assert [hit.similarity for hit in hits] == pytest.approx(expected, abs=1e-6)


def test_several_queries_are_their_mean(gallery, crops, embedder):
    queries = sorted(crops.iterdir())[:4]
    mean = embedder.embed(queries).mean(axis=0)
    mean /= np.linalg.norm(mean)
    for hit in gallery.search(queries, top=20).hits:
        assert hit.similarity == pytest.approx(float(embedder.embed(hit.path)[0] @ mean), abs=1e-6)


def test_filters(gallery, crops):
    query = crops / "0007_c1s1_000007_00.png"
    gallery.update(Selection(camera=1), time="2024-05-01T10:00:00", attributes={"line": 'it\'s "A"\n'})
    gallery.update(Selection(camera=2), time="2024-05-02T10:00:00")

    def cameras(**conditions):
        return {hit.camera for hit in gallery.search(query, **conditions).hits}

    assert cameras(camera=2) == {"2"}
    assert cameras(camera=["1", "2"]) == {"1", "2"}
    assert cameras(since="2024-05-02") == {"2"}
    assert cameras(until="2024-05-01") == {"1"}
    assert cameras(since="2024-05-01T10:00:00", until="2024-05-02T10:00:00") == {"1", "2"}
    assert cameras(where={"line": 'it\'s "A"\n'}) == {"1"}
    assert cameras(where={"line": '" or true or "'}) == set()
    assert cameras(camera='1"] or camera in ["2') == set()
    assert cameras(where={'a"] == 1 or attributes["b': "1"}) == set()
    assert {hit.identity for hit in gallery.search(query, where={"identity": 7}).hits} == {"7"}
    report = gallery.verify()
    assert (report.checked, report.intact) == (20, True)


def test_text_that_reads_as_a_value_meets_that_value_too(gallery):
    values = {1: 12, 2: "12", 3: True, 4: "true", 5: 1.5, 6: "012"}
    for person, value in values.items():
        gallery.update(Selection(identity=person), attributes={"frame": value})

    def people(wanted):
        return {int(entry.identity) for entry in gallery.entries(Selection(where={"frame": wanted}))}

    assert people("12") == people(12) == people(12.0) == {1, 2}
    assert people("true") == {3, 4}
    assert people("1.5") == {5}
    assert people("012") == {6}
    assert people("9" * 30) == people("1e999") == people("nan") == people("[12]") == set()


def test_entries_without_a_time_meet_no_time(gallery, crops):
    query = crops / "0007_c1s1_000007_00.png"
    assert gallery.search(query, since=0).hits == []
    assert gallery.search(query, until="2100-01-01").hits == []


def test_the_matcher_orders_the_best(place, embedder, matcher, crops):
    with place.open(embedder, matcher) as gallery:
        gallery.add(crops)
        result = gallery.search(crops / "0007_c1s1_000007_00.png", top=8, rerank_top=5, matcher_weight=1)
        scored = result.hits[:5]
        assert [hit.probability for hit in scored] == sorted(
            (hit.probability for hit in scored), reverse=True
        )
        assert [hit.probability for hit in result.hits[5:]] == [None] * 3
        assert list(result.seconds) == ["embed", "search", "decode", "match", "total"]
        plain = gallery.search(crops / "0007_c1s1_000007_00.png", top=2, rerank_top=5, matcher_weight=1)
        assert [hit.id for hit in plain.hits] == [hit.id for hit in result.hits[:2]]
        json.dumps(result.as_dict())


def test_a_candidate_whose_file_has_gone_keeps_its_similarity(place, embedder, matcher, crops):
    with place.open(embedder, matcher) as gallery:
        gallery.add(crops)
        (crops / "0007_c1s1_000007_00.png").unlink()
        result = gallery.search(crops / "0007_c2s1_000007_00.png", top=20, rerank_top=20, matcher_weight=1)
        assert len(result.hits) == 20
        assert [hit.path.name for hit in result.hits if hit.probability is None] == [
            "0007_c1s1_000007_00.png"
        ]
        assert len(result.unreadable) == 1


def test_groups(gallery, crops):
    result = gallery.search(crops / "0007_c1s1_000007_00.png", top=3, group_by="identity")
    assert len(result.groups) == 3
    assert result.groups[0].key == "7"
    assert [len(group.hits) for group in result.groups] == [2, 2, 2]
    assert sorted(hit.id for group in result.groups for hit in group.hits) == sorted(
        hit.id for hit in result.hits
    )


def test_a_new_gallery_is_found_at_once_by_a_search_after_each_addition(place, tmp_path, embedder):
    with place.open(embedder) as gallery:
        for person in range(6):
            path = paint(tmp_path / "more" / f"{person}.png", person)
            gallery.add(path)
            assert gallery.search(path, top=1).hits[0].path == path


def test_a_server_is_told_to_index_many_new_pictures(server, embedder, crops, monkeypatch):
    monkeypatch.setattr("kronreid.gallery.milvus.SETTLED_FROM", 11)

    def sealed() -> int:
        return gallery._store.client.get_collection_stats("people")["row_count"]

    with server.open(embedder) as gallery:
        before = sealed()
        gallery.add(crops / "*_c1*")
        assert sealed() == before
        gallery.delete(Selection(path=crops))
        gallery.add(crops)
        assert sealed() >= before + 20
        assert gallery.verify().checked == 20


def test_an_entry_is_found_by_its_identifier(gallery):
    for entry in gallery.entries():
        assert gallery.entry(entry.id) == entry
    assert gallery.entry("0" * 64) is None
    assert gallery.entry('" or id > "') is None


@pytest.mark.parametrize(("limit", "most"), [(3, 16384), (8, 16384), (100, 16384), (6, 12)])
def test_pages_together_are_everything_once(gallery, limit, most, monkeypatch):
    for selection in (Selection(), Selection(camera=2), Selection(camera=9)):
        monkeypatch.undo()
        expected = {entry.id: entry for entry in gallery.entries(selection)}
        monkeypatch.setattr("kronreid.gallery.milvus.MOST", most)  # how far a server skips
        pages = [list(gallery.entries(selection, offset, limit)) for offset in range(0, 24, limit)]
        assert all(len(page) == limit for page in pages[: len(expected) // limit])
        found = [entry for page in pages for entry in page]
        assert len(found) == len(expected)
        assert {entry.id: entry for entry in found} == expected


@pytest.mark.parametrize(("offset", "limit"), [(-1, 5), (0, 0), (5, None), (0, 10_000)])
def test_impossible_pages_are_refused(gallery, offset, limit):
    with pytest.raises(InputError, match=f"limit {limit}, offset {offset}"):
        list(gallery.entries(None, offset, limit))


def test_counting_by_what_is_known(gallery):
    gallery.update(Selection(identity=7), time=7205.5, attributes={"track": 3, "tags": ["a"]})
    gallery.update(Selection(identity=8, camera=2), time=-1, camera=None)
    assert gallery.counts() == {(): 20}
    assert gallery.counts(selection=Selection(camera=1)) == {(): 10}
    assert gallery.counts("camera") == {("1",): 10, ("2",): 9, (None,): 1}
    assert gallery.counts("camera", "hour", selection=Selection(identity=[7, 8])) == {
        ("1", 7200.0): 1,
        ("2", 7200.0): 1,
        ("1", None): 1,
        (None, -3600.0): 1,
    }
    assert gallery.counts("day") == {(0.0,): 2, (-86400.0,): 1, (None,): 17}
    assert gallery.counts("track", "tags") == {(3, '["a"]'): 2, (None, None): 18}


def test_deleting(gallery, crops):
    assert gallery.delete(Selection(camera=1, identity=[3, 4])) == 2
    assert gallery.delete(Selection(path=crops / "0007_c1s1_000007_00.png")) == 1
    assert gallery.count == 17
    assert all(hit.identity != "3" or hit.camera == "2" for hit in gallery.search(next(crops.iterdir())).hits)
    assert gallery.add(crops).added == 3
    assert gallery.delete(Selection(path=crops)) == 20
    assert gallery.count == 0
    with pytest.raises(InputError, match="empty"):
        gallery.search(next(crops.iterdir()))


def test_a_folder_is_not_its_neighbour(place, tmp_path, embedder):
    for number, name in enumerate(("a/1.png", "a/b/1.png", "a0/1.png", "a%/1.png", "a_/1.png", "ab/1.png")):
        paint(tmp_path / name, number)
    with place.open(embedder) as gallery:
        for name in ("a", "a0", "a%", "a_", "ab"):
            gallery.add(tmp_path / name)
        assert gallery.delete(Selection(path=tmp_path / "a")) == 2
        assert gallery.count == 4


@pytest.mark.parametrize("action", ["delete", "update"])
def test_everything_is_never_meant_by_nothing(gallery, action):
    with pytest.raises(InputError, match="no condition"):
        getattr(gallery, action)(Selection())
    assert gallery.count == 20


def test_updating_changes_what_is_named_and_nothing_else(gallery, crops):
    before = {entry.id: entry for entry in gallery.entries()}
    assert gallery.update(Selection(identity=7), camera="entrance", time=5, attributes={"seen": True}) == 2
    after = {entry.id: entry for entry in gallery.entries()}
    changed = [i for i in before if before[i] != after[i]]
    assert {before[i].identity for i in changed} == {"7"}
    for i in changed:
        assert (after[i].camera, after[i].time, after[i].attributes) == ("entrance", 5.0, {"seen": True})
    assert gallery.update(Selection(identity=7), identity=None) == 2
    assert gallery.count == 20
    assert gallery.verify().intact
    with pytest.raises(InputError, match="colour"):
        gallery.update(Selection(camera=1), colour="red")


def test_an_exported_list_fills_another_gallery(gallery, tmp_path, embedder, crops):
    gallery.update(Selection(camera=1), time="2024-05-01", source="monday, 9\n", attributes={"a": [1, "ü"]})
    assert gallery.export(tmp_path / "list.csv") == 20
    with Gallery(tmp_path / "copy.gallery", embedder) as copy:
        assert copy.add(tmp_path / "list.csv").added == 20
        original = {entry.id: entry for entry in gallery.entries()}
        assert {entry.id: entry for entry in copy.entries()} == original


def test_verify_notices_changed_and_missing_files(gallery, crops):
    first, second, *_ = sorted(crops.iterdir())
    first.unlink()
    paint(second, 99)
    report = gallery.verify()
    assert (report.checked, report.missing, report.changed, report.intact) == (20, [first], [second], True)
    assert gallery.verify(files=False).missing == []


def test_bad_pictures_are_skipped_counted_and_listed(place, tmp_path, embedder, crops):
    (crops / "empty.jpg").write_bytes(b"")
    (crops / "text.jpg").write_text("hello")
    (crops / "half.png").write_bytes((crops / "0001_c1s1_000001_00.png").read_bytes()[:300])
    (crops / "dangling.png").symlink_to("nowhere.png")
    (crops / "huge.png").write_bytes(b"P6 10001 10000 255\n")
    with place.open(embedder) as gallery:
        report = gallery.add([crops, tmp_path / "missing.jpg"])
        assert report.added == gallery.count == 20
        bad = {"empty.jpg", "text.jpg", "half.png", "dangling.png", "huge.png", "missing.jpg"}
        assert {unreadable.path.name for unreadable in report.unreadable} == bad
        checked = gallery.verify()
        assert (checked.checked, checked.intact, checked.missing, checked.changed) == (20, True, [], [])
        assert all(unreadable.path.name not in unreadable.reason for unreadable in report.unreadable)


def test_pictures_of_every_kind_are_added(place, tmp_path, embedder, matcher):
    grey = Image.fromarray(np.full((32, 16), 200, np.uint8))
    kinds = {
        "cmyk.jpg": grey.convert("CMYK"),
        "grey.jpg": grey,
        "sixteen.png": Image.fromarray(np.full((32, 16), 200 * 256, np.uint16)),
        "clear.png": grey.convert("RGBA"),
        "palette.png": grey.quantize(),
    }
    for name, image in kinds.items():
        image.save(tmp_path / name)
    others = [Image.new("RGB", (16, 32), colour) for colour in ("red", "blue")]
    grey.convert("RGB").save(tmp_path / "moving.webp", save_all=True, append_images=others, lossless=True)
    with place.open(embedder, matcher) as gallery:
        assert gallery.add(tmp_path).added == 6
        hits = gallery.search(np.full((32, 16, 3), 200, np.uint8)).hits
        assert [hit.similarity for hit in hits] == pytest.approx([1] * 6, abs=1e-5)
        assert [hit.probability for hit in hits] == pytest.approx([1] * 6, abs=0.2)
        report = gallery.verify()
        assert (report.checked, report.intact, report.missing, report.changed) == (6, True, [], [])


def test_names_with_anything_in_them(place, tmp_path, embedder, matcher):
    names = [
        b"a b.png",
        b"it's.png",
        b'"q".png',
        b"new\nline.png",
        b"back\\slash.png",
        b"latin-\xe9.png",
        b"%41.png",
    ]
    names += ["übung-人.png".encode(), b"{x}.png", b"-.png"]
    for number, name in enumerate(names):
        paint(tmp_path / "crops" / "a.png", number).rename(tmp_path / "crops" / os.fsdecode(name))
    with place.open(embedder, matcher) as gallery:
        assert gallery.add(tmp_path / "crops").added == len(names)
        assert {os.fsencode(entry.path.name) for entry in gallery.entries()} == set(names)
        report = gallery.verify()
        assert (report.checked, report.intact, report.missing, report.changed) == (len(names), True, [], [])
        for name in names:
            path = tmp_path / "crops" / os.fsdecode(name)
            result = gallery.search(path, top=1)
            assert result.hits[0].path == path
            assert result.hits[0].probability == pytest.approx(1)
            json.dumps(result.as_dict()).encode()
            assert gallery.delete(Selection(path=path)) == 1
        assert gallery.count == 0


def test_boxes_of_frames(place, tmp_path, embedder, matcher):
    frame = np.concatenate([np.full((32, 16, 3), value, np.uint8) for value in (10, 120, 250)], axis=1)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    boxes = [
        Entry(tmp_path / "frame.png", box=(16 * i, 0, 16, 32), attributes={"track": i}) for i in range(3)
    ]
    with place.open(embedder, matcher) as gallery:
        assert gallery.add(boxes).added == 3
        assert gallery.add([*boxes, tmp_path / "frame.png"]).added == 1
        hits = gallery.search(np.full((32, 16, 3), 120, np.uint8), top=2).hits
        assert (hits[0].box, hits[0].attributes) == ((16, 0, 16, 32), {"track": 1})
        assert hits[0].probability == pytest.approx(1.0)
        report = gallery.verify()
        assert (report.checked, report.changed) == (4, [])


def test_what_is_said_about_all_overrides_the_names(place, embedder, crops):
    with place.open(embedder) as gallery:
        gallery.add(crops, camera="door", time="2024-05-01", source="monday", attributes={"weather": "rain"})
        entries = list(gallery.entries())
        assert {(entry.camera, entry.source, entry.time) for entry in entries} == {
            ("door", "monday", 1714521600.0)
        }
        assert {entry.identity for entry in entries} == {str(person) for person in range(1, 11)}
        assert len(list(gallery.entries(Selection(where={"weather": "rain", "source": "monday"})))) == 20
        with pytest.raises(InputError, match="attributes"):
            gallery.add(crops, attributes={"a": object()})


def test_vectors_of_another_model_are_refused(place, gallery, crops):
    for other in (ColourEmbedder("another"), ColourEmbedder()):
        if other.fingerprint == "c0ffee":
            other.dimension = 32
        with pytest.raises(InputError, match="made by model c0ffee"):
            place.open(other)
    assert gallery.search(next(crops.iterdir())).hits
    report = gallery.verify()
    assert (report.checked, report.intact) == (20, True)


def test_without_a_model_it_can_be_kept_but_not_searched(place, gallery, crops, embedder):
    gallery.close()
    with place.open() as kept:
        info = kept.info()
        assert (info.count, info.dimension, info.fingerprint) == (20, 64, "c0ffee")
        assert (info.bytes_on_disk is None) == place.uri.startswith("http")
        assert info.bytes_on_disk is None or info.bytes_on_disk > 20 * 64 * 4
        assert kept.delete(Selection(camera=1)) == 10
        for action in (kept.add, kept.search):
            with pytest.raises(InputError, match="without a model"):
                action(crops)
        kept.attach(embedder)
        assert kept.search(next(crops.iterdir())).hits


@pytest.mark.parametrize("top", [0, -1, 20_000])
def test_impossible_numbers_are_refused(gallery, crops, top):
    with pytest.raises(InputError, match="top"):
        gallery.search(next(crops.iterdir()), top=top)


def test_a_server_that_is_not_there_is_named(embedder, monkeypatch):
    monkeypatch.setattr("kronreid.gallery.milvus_connection.PATIENCE_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9: the Milvus server does not answer"):
        Gallery("http://127.0.0.1:9", embedder)


def test_a_closed_gallery_says_so(gallery, crops):
    gallery.close()
    gallery.close()
    with pytest.raises(InputError, match="closed"):
        gallery.search(next(crops.iterdir()))
