"""What is stored is found by its text, wherever it came from, in a file and on a server."""

import csv
import json
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from kronreid.data.values import attribute, label
from kronreid.errors import InputError
from kronreid.gallery import Entry, Gallery, Selection
from kronreid.gallery.entries import LONGEST_ATTRIBUTES, LONGEST_TEXT

#: A value of Python, and texts that mean the same.
VALUES = [
    (7, ["7", "7.0", " 7"]),
    (-7.0, ["-7", "-7.0"]),
    (Decimal("2.5"), ["2.5"]),
    (np.float32(0.1), ["0.1"]),
    (1e-07, ["1e-07", "1e-7"]),
    (2**53 + 1, ["9007199254740993"]),
    (2**64, ["18446744073709551616"]),
    (1e300, ["1e+300"]),
    (True, ["true", "True", "TRUE"]),
    (date(2024, 5, 1), ["2024-05-01"]),
    (timedelta(minutes=1.5), ["90"]),
    ("0046", ["0046"]),
    ("1.10", ["1.10"]),
    (b"\xc3\xbcber", ["über", " über "]),
    ('it\'s "a" \\ {b}\n\t\0.', ['it\'s "a" \\ {b}\n\t\0.']),
]


@pytest.fixture
def boxes(tmp_path):
    """Three boxes of one frame: each is a picture of its own."""
    Image.new("RGB", (256, 256)).save(tmp_path / "frame.png")

    return [Entry(tmp_path / "frame.png", (16 * number, 0, 16, 16)) for number in range(3)]


def write_lists(folder, values):
    """A CSV list with all texts, and a Parquet list for each value; boxes tell the pictures apart."""
    rows = [(number, text) for number, (_, texts) in enumerate(values) for text in texts]
    with (folder / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "x", "y", "w", "h", "number", "camera", "kind"])
        for i, (number, text) in enumerate(rows):
            writer.writerow(["frame.png", i % 16 * 16, i // 16 * 16, 8, 8, number, text, text])
    lists = [folder / "texts.csv"]
    for number, (value, _) in enumerate(values):
        try:
            column = pa.array([value])
        except (OverflowError, pa.ArrowInvalid):  # 2**64
            column = pa.array([Decimal(value)])
        box = {side: pa.array([n]) for side, n in zip("xywh", (number * 16, 240, 9, 9))}
        table = pa.table({"path": ["frame.png"], **box, "number": [number], "camera": column, "kind": column})
        lists.append(folder / f"{number}.parquet")
        parquet.write_table(table, lists[-1])
    return lists


def test_one_thing_is_one_value_and_is_found(place, tmp_path, embedder):
    Image.new("RGB", (256, 256)).save(tmp_path / "frame.png")
    with place.open(embedder) as gallery:
        for path in write_lists(tmp_path, VALUES):
            assert gallery.add(path).unreadable == []
        for number, (value, _) in enumerate(VALUES):
            entry = Entry(tmp_path / "frame.png", (number * 16, 200, 7, 7), attributes={"number": number})
            gallery.add([entry], camera=value, attributes={"kind": value})
        by_number: dict[int, set[str]] = {}
        for entry in gallery.entries():
            by_number.setdefault(entry.attributes["number"], set()).add(entry.id)
            value = VALUES[entry.attributes["number"]][0]
            assert (entry.camera, entry.attributes["kind"]) == (label(value), attribute(value))
        for number, (value, texts) in enumerate(VALUES):
            assert len(by_number[number]) == len(texts) + 2
            for given in (value, texts[-1]):
                selection = Selection(camera=given, where={"kind": given, "camera": [given]})
                assert {entry.id for entry in gallery.entries(selection)} == by_number[number]


def test_what_is_not_known_is_found_by_nothing(place, tmp_path, embedder, boxes):
    (tmp_path / "list.csv").write_text(
        "path,x,y,w,h,identity,camera,source,kind\n"
        "frame.png,0,0,9,9,-1,-1,,\n"
        "frame.png,1,0,9,9,,,-1,0\n"
        "frame.png,2,0,9,9,-1.0,-1.0,a,false\n"
        "frame.png,3,0,9,9,7,1,b,x\n"
    )
    with place.open(embedder) as gallery:
        assert gallery.add(tmp_path / "list.csv").added == 4

        def found(**conditions):
            return sorted(entry.box[0] for entry in gallery.entries(Selection(**conditions)))

        for unknown in ("", "-1", -1, float("nan")):
            assert found(identity=unknown) == found(camera=unknown) == [0, 1, 2]
            assert found(where={"identity": unknown}) == [0, 1, 2]
        assert found(identity=["", 7]) == [0, 1, 2, 3]
        assert found(source="") == [0]
        assert found(source="-1") == [1]
        for unknown in ("", None, float("nan")):
            assert found(where={"kind": unknown}) == [0]
            assert found(where={"never": unknown}) == [0, 1, 2, 3]
        assert gallery.counts("identity", "camera") == {(None, None): 3, ("7", "1"): 1}
        assert (
            gallery.update(Selection(camera=1), camera="", time="", attributes={"kind": "", "new": "2.0"})
            == 1
        )
        assert found(camera="") == [0, 1, 2, 3]
        assert found(where={"kind": ""}) == [0, 3]
        assert found(where={"new": "2"}) == [3]


def test_what_older_versions_stored_is_found(place, tmp_path, embedder):
    with place.open(embedder) as gallery:
        older = [
            Entry(
                tmp_path / "a", camera="7.0", identity="-1", attributes={"kind": "7", "score": 2.0}, id="0a"
            ),
            Entry(
                tmp_path / "b", camera="-1", identity="1", attributes={"kind": "", "score": "True"}, id="0b"
            ),
        ]
        gallery._store.upsert(older, np.eye(64, dtype=np.float32)[:2])

        def found(**conditions):
            return [entry.id for entry in gallery.entries(Selection(**conditions))]

        assert found(camera="7.0") == found(identity=-1) == ["0a"]
        assert found(where={"kind": "7"}) == found(where={"kind": 7}) == found(where={"score": "2"}) == ["0a"]
        assert found(camera="") == found(where={"kind": ""}) == found(where={"score": "True"}) == ["0b"]
        assert [(entry.camera, entry.identity) for entry in gallery.entries()] == [("7.0", None), (None, "1")]


def test_how_much_can_be_stored(place, tmp_path, embedder, boxes):
    room = LONGEST_ATTRIBUTES - len('{"text":"","track":7}')
    with place.open(embedder) as gallery:
        most = {"text": "ü" * (room // 2) + "x" * (room % 2), "track": 7}
        assert len(json.dumps(most, ensure_ascii=False, separators=(",", ":")).encode()) == LONGEST_ATTRIBUTES
        first, second, third = boxes
        assert gallery.add([first], source="x" * LONGEST_TEXT, attributes=most).added == 1
        report = gallery.add([second, third], identity=5, attributes=most | {"track": 70})
        assert (report.added, gallery.count) == (0, 1)
        assert [one.reason for one in report.unreadable] == [
            "attributes: 65,537 bytes are more than the 65,536 allowed for a picture; text is the largest"
        ] * 2
        (stored,) = gallery.entries(Selection(source="x" * LONGEST_TEXT, where={"text": most["text"]}))
        assert stored.attributes == most
        for changes in ({"attributes": {"more": 1}}, {"source": "x" * (LONGEST_TEXT + 1)}, {"camera": [1]}):
            with pytest.raises(InputError, match=r"bytes are more than|text or a number"):
                gallery.update(Selection(where={"track": 7}), **changes)
        assert list(gallery.entries()) == [stored]
        assert gallery.update(Selection(where={"track": 7}), attributes={"text": ""}) == 1


def test_a_column_of_vectors_is_kept_or_skipped(place, tmp_path, embedder):
    """4,096 numbers of 32 bits fit; of 64 bits they do not, and those rows are skipped with the reason."""
    Image.new("RGB", (64, 64)).save(tmp_path / "frame.png")
    numbers = np.random.default_rng(0).normal(size=(2, 4096))
    with place.open(embedder) as gallery:
        for kind, bits in ((pa.float32(), 32), (pa.float64(), 64)):
            table = pa.table(
                {
                    "path": ["frame.png"] * 3,
                    "box": [f"{x},0,{bits},9" for x in range(3)],
                    "vector": pa.array([*numbers.tolist(), None], pa.list_(kind)),
                }
            )
            parquet.write_table(table, tmp_path / f"{bits}.parquet")
        assert gallery.add(tmp_path / "32.parquet").added == 3
        report = gallery.add(tmp_path / "64.parquet")
        assert (report.added, gallery.count) == (1, 4)
        assert [one.path for one in report.unreadable] == [tmp_path / "64.parquet"] * 2
        assert all("vector is the largest" in one.reason for one in report.unreadable)
        vectors = [entry.attributes["vector"] for entry in gallery.entries() if "vector" in entry.attributes]
        assert sorted(vectors) == sorted(numbers.astype(np.float32).astype(str).astype(float).tolist())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"camera": [1, 2]}, "camera .*text or a number"),
        ({"identity": float("inf")}, "identity inf: infinity"),
        ({"source": b"\xff"}, "source .*not valid Unicode"),
        ({"time": "soon"}, "time 'soon'"),
        ({"attributes": {"a": object()}}, "attributes: a .*must be text"),
        ({"attributes": {"camera": 3}}, "attributes: camera is the name of a field"),
        ({"attributes": {"": 3}}, "a name is empty"),
        ({"attributes": 3}, "attributes 3: must be names with values"),
    ],
)
def test_values_that_cannot_be_stored_are_refused(tmp_path, embedder, boxes, values, message):
    with Gallery(tmp_path / "people.gallery", embedder) as gallery:
        with pytest.raises(InputError, match=message):
            gallery.add(boxes, **values)
        gallery.add(boxes)
        with pytest.raises(InputError, match=message):
            gallery.update(Selection(path=tmp_path), **values)
        assert all(entry == Entry(entry.path, entry.box, id=entry.id) for entry in gallery.entries())


def test_entries_that_cannot_be_stored_are_listed(tmp_path, embedder, boxes):
    first, second, _ = boxes
    odd = [
        Entry(5),
        Entry("a\0.png"),
        Entry(tmp_path / "frame.png", box=(1, 2)),
        Entry(tmp_path / "frame.png", time="soon"),
        Entry(tmp_path / "frame.png", attributes=None),
        Entry(tmp_path / "frame.png", second.box, camera={1}),
        Entry(str(tmp_path / "frame.png"), np.array(first.box), camera=3.0, time="1970-01-02", identity=-1),
    ]
    with Gallery(tmp_path / "people.gallery", embedder) as gallery:
        report = gallery.add(odd)
        assert (report.added, len(report.unreadable)) == (1, 6)
        (entry,) = gallery.entries()
        assert entry == Entry(tmp_path / "frame.png", first.box, "3", 86400.0, id=entry.id)
        assert gallery.add([odd[-2]], camera=1).added == 1, (
            "what is said of all replaces what cannot be stored"
        )
