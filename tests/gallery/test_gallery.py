import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kronreid.errors import InputError
from kronreid.gallery import Entry, Gallery, Selection, selection_of

from .conftest import ColourEmbedder, paint


@pytest.fixture
def gallery(tmp_path, embedder, crops):
    with Gallery(tmp_path / "people.db", embedder) as gallery:
        gallery.add(crops)
        yield gallery


def test_adding_twice_adds_once(tmp_path, embedder, crops):
    with Gallery(tmp_path / "people.db", embedder) as gallery:
        first = gallery.add(crops, batch_size=7)
        again = gallery.add(crops, batch_size=3)
        assert (first.added, first.skipped_existing, first.unreadable) == (20, 0, [])
        assert (again.added, again.skipped_existing) == (0, 20)
        assert embedder.seen == gallery.count == 20


def test_it_is_there_when_opened_again(tmp_path, embedder, crops):
    with Gallery(tmp_path / "people.db", embedder) as gallery:
        gallery.add(crops)
        before = sorted(gallery.entries(), key=lambda entry: entry.id)
    with Gallery(tmp_path / "people.db", embedder) as gallery:
        assert sorted(gallery.entries(), key=lambda entry: entry.id) == before
        assert gallery.verify().intact


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_equal_content_under_two_names_is_stored_once(tmp_path, embedder, batch_size):
    content = paint(tmp_path / "crops" / "a.png", 1).read_bytes()
    for name in ("b.png", "c.png", "d.png"):
        (tmp_path / "crops" / name).write_bytes(content)
    with Gallery(tmp_path / "people.db", embedder) as gallery:
        report = gallery.add(tmp_path / "crops", batch_size=batch_size)
        assert (report.added, report.skipped_existing, gallery.count) == (1, 3, 1)


def test_the_same_person_is_found_first(gallery, crops, embedder):
    query = crops / "0007_c1s1_000007_00.png"
    hits = gallery.search(query, top=5).hits
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert hits[0].path == query
    assert hits[0].similarity == pytest.approx(1, abs=1e-6)
    assert hits[1].identity == "7"
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
    assert {hit.identity for hit in gallery.search(query, where={"identity": 7}).hits} == {"7"}


def test_entries_without_a_time_meet_no_time(gallery, crops):
    query = crops / "0007_c1s1_000007_00.png"
    assert gallery.search(query, since=0).hits == []
    assert gallery.search(query, until="2100-01-01").hits == []


def test_the_matcher_orders_the_best(tmp_path, embedder, matcher, crops):
    with Gallery(tmp_path / "people.db", embedder, matcher) as gallery:
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


def test_a_candidate_whose_file_has_gone_keeps_its_similarity(tmp_path, embedder, matcher, crops):
    with Gallery(tmp_path / "people.db", embedder, matcher) as gallery:
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


def test_a_new_gallery_is_found_at_once_by_a_search_after_each_addition(tmp_path, embedder):
    with Gallery(tmp_path / "people.db", embedder) as gallery:
        for person in range(6):
            path = paint(tmp_path / "more" / f"{person}.png", person)
            gallery.add(path)
            assert gallery.search(path, top=1).hits[0].path == path


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


def test_a_folder_is_not_its_neighbour(tmp_path, embedder):
    for number, name in enumerate(("a/1.png", "a/b/1.png", "a0/1.png", "a%/1.png", "a_/1.png", "ab/1.png")):
        paint(tmp_path / name, number)
    with Gallery(tmp_path / "people.db", embedder) as gallery:
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
    with Gallery(tmp_path / "copy.db", embedder) as copy:
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


def test_bad_pictures_are_skipped_counted_and_listed(tmp_path, embedder, crops):
    (crops / "empty.jpg").write_bytes(b"")
    (crops / "text.jpg").write_text("hello")
    (crops / "half.png").write_bytes((crops / "0001_c1s1_000001_00.png").read_bytes()[:300])
    (crops / "dangling.png").symlink_to("nowhere.png")
    (crops / "huge.png").write_bytes(b"P6 10001 10000 255\n")
    with Gallery(tmp_path / "people.db", embedder) as gallery:
        report = gallery.add([crops, tmp_path / "missing.jpg"])
        assert report.added == gallery.count == 20
        bad = {"empty.jpg", "text.jpg", "half.png", "dangling.png", "huge.png", "missing.jpg"}
        assert {unreadable.path.name for unreadable in report.unreadable} == bad
        assert all(unreadable.path.name not in unreadable.reason for unreadable in report.unreadable)


def test_names_with_anything_in_them(tmp_path, embedder, matcher):
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
    with Gallery(tmp_path / "people.db", embedder, matcher) as gallery:
        assert gallery.add(tmp_path / "crops").added == len(names)
        assert {os.fsencode(entry.path.name) for entry in gallery.entries()} == set(names)
        for name in names:
            path = tmp_path / "crops" / os.fsdecode(name)
            result = gallery.search(path, top=1)
            assert result.hits[0].path == path
            assert result.hits[0].probability == pytest.approx(1)
            json.dumps(result.as_dict()).encode()
            assert gallery.delete(Selection(path=path)) == 1
        assert gallery.count == 0


def test_boxes_of_frames(tmp_path, embedder, matcher):
    frame = np.concatenate([np.full((32, 16, 3), value, np.uint8) for value in (10, 120, 250)], axis=1)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    boxes = [
        Entry(tmp_path / "frame.png", box=(16 * i, 0, 16, 32), attributes={"track": i}) for i in range(3)
    ]
    with Gallery(tmp_path / "people.db", embedder, matcher) as gallery:
        assert gallery.add(boxes).added == 3
        assert gallery.add([*boxes, tmp_path / "frame.png"]).added == 1
        hits = gallery.search(np.full((32, 16, 3), 120, np.uint8), top=2).hits
        assert (hits[0].box, hits[0].attributes, hits[0].probability) == ((16, 0, 16, 32), {"track": 1}, 1.0)
        report = gallery.verify()
        assert (report.checked, report.changed) == (4, [])


def test_what_is_said_about_all_overrides_the_names(tmp_path, embedder, crops):
    with Gallery(tmp_path / "people.db", embedder) as gallery:
        gallery.add(crops, camera="door", time="2024-05-01", source="monday", attributes={"weather": "rain"})
        entries = list(gallery.entries())
        assert {(entry.camera, entry.source, entry.time) for entry in entries} == {
            ("door", "monday", 1714521600.0)
        }
        assert {entry.identity for entry in entries} == {str(person) for person in range(1, 11)}
        assert len(list(gallery.entries(selection_of(where={"weather": "rain", "source": "monday"})))) == 20
        with pytest.raises(InputError, match="attributes"):
            gallery.add(crops, attributes={"a": object()})


def test_vectors_of_another_model_are_refused(gallery, tmp_path, crops):
    for other in (ColourEmbedder("another"), ColourEmbedder()):
        if other.fingerprint == "c0ffee":
            other.dimension = 32
        with pytest.raises(InputError, match="made by model c0ffee"):
            Gallery(tmp_path / "people.db", other)
    assert gallery.search(next(crops.iterdir())).hits


def test_without_a_model_it_can_be_kept_but_not_searched(gallery, tmp_path, crops, embedder):
    gallery.close()
    with Gallery(tmp_path / "people.db") as kept:
        info = kept.info()
        assert (info.count, info.dimension, info.fingerprint) == (20, 64, "c0ffee")
        assert info.bytes_on_disk > 20 * 64 * 4
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


def test_addresses_that_are_no_gallery(tmp_path, embedder):
    (tmp_path / "file.db").write_text("x")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "folder.db" / "x.txt").write_text("x")
    for name, message in {
        "people": r"ending in \.db",
        "file.db": "not a gallery",
        "folder.db": "other files",
        "no/where.db": "does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            Gallery(tmp_path / name, embedder)
    with pytest.raises(InputError, match="no such gallery"):
        Gallery(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_is_not_there_is_named(embedder, monkeypatch):
    monkeypatch.setattr("kronreid.gallery.store.PATIENCE_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9: the Milvus server does not answer"):
        Gallery("http://127.0.0.1:9", embedder)


def test_a_closed_gallery_says_so(gallery, crops):
    gallery.close()
    gallery.close()
    with pytest.raises(InputError, match="closed"):
        gallery.search(next(crops.iterdir()))


def test_two_in_one_process_share_the_file(gallery, tmp_path, crops, embedder):
    other = Gallery(tmp_path / "people.db", embedder)
    gallery.close()
    assert other.count == 20
    other.close()
    with Gallery(tmp_path / "people.db", embedder) as again:
        assert again.count == 20


HOLD = """
import sys, time
from kronreid.gallery import Gallery
try:
    with Gallery(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


def test_another_process_is_told_that_the_file_is_open(gallery, tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "people.db")]
    process = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert process.stdout.startswith("InputError")
    assert "open in another process" in process.stdout
    assert process.stderr == ""
    gallery.close()
    process = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert process.stdout == "open\n"
