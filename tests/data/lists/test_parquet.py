"""Whatever type a column of a Parquet file has, its rows are read, or skipped for a reason in one line."""

import io
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv, parquet

from kronreid.data.lists import read_rows
from kronreid.data.lists.parquet import parquet_values
from kronreid.data.values import attribute, attributes, label
from kronreid.errors import InputError

NS = 1714557600123456789
WHEN = "2024-05-01T10:00:00.123456"
#: What stands in place of a row that is skipped.
SKIPPED = object()


def broken_text() -> pa.Array:
    """Parquet does not check that text is text."""
    _, offsets, content = pa.array([b"a", b"\xff"]).buffers()
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, content])


#: A column by the name of its type, and the attributes that its rows have.
COLUMNS = {
    "null": (pa.array([None, None], pa.null()), [None, None]),
    "bool": (pa.array([True, None]), [True, None]),
    "int8": (pa.array([-7, None], pa.int8()), [-7, None]),
    "uint64": (pa.array([7, 2**64 - 1], pa.uint64()), [7, str(2**64 - 1)]),
    "float16": (pa.array([0.5, None], pa.float32()).cast(pa.float16()), [0.5, None]),
    "float32": (pa.array([0.1, float("nan")], pa.float32()), [0.1, None]),
    "float64": (pa.array([7.0, float("nan")]), [7, None]),
    "nothing but NaN": (pa.array([float("nan")] * 2), [None, None]),
    "infinity": (pa.array([1.5, float("inf")]), [1.5, SKIPPED]),
    "decimal128": (pa.array([Decimal("7"), Decimal("1.5")], pa.decimal128(10, 2)), [7, 1.5]),
    "decimal256": (pa.array([Decimal(10) ** 40, None], pa.decimal256(70, 2)), [str(10**40), None]),
    "string": (pa.array(["007", ""]), ["007", None]),
    "large_string": (pa.array(["a", None], pa.large_string()), ["a", None]),
    "string_view": (pa.array(["a", "7"], pa.string_view()), ["a", 7]),
    "broken text": (broken_text(), ["a", SKIPPED]),
    "binary": (pa.array([b"a", b"\xff"]), ["a", SKIPPED]),
    "large_binary": (pa.array([b"7", None], pa.large_binary()), [7, None]),
    "binary of fixed size": (pa.array([b"ab", None], pa.binary(2)), ["ab", None]),
    "dictionary": (pa.array(["a", None]).dictionary_encode(), ["a", None]),
    "date32": (pa.array([date(2024, 5, 1), None]), ["2024-05-01", None]),
    "date64": (pa.array([date(2024, 5, 1), None], pa.date64()), ["2024-05-01", None]),
    "date after all": (pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32()), ["1970-01-01", SKIPPED]),
    "time32": (pa.array([time(10, 30), None], pa.time32("s")), ["10:30:00", None]),
    "time64": (pa.array([1000, None], pa.time64("ns")), ["00:00:00.000001", None]),
    "timestamp": (pa.array([datetime(2024, 5, 1, 10), None]), ["2024-05-01T10:00:00", None]),
    "timestamp of a zone": (pa.array([NS // 1000], pa.timestamp("us", "UTC")), [f"{WHEN}+00:00"]),
    "nanoseconds": (pa.array([NS, None], pa.timestamp("ns")), [WHEN, None]),
    "nanoseconds of a zone": (pa.array([NS, None], pa.timestamp("ns", "UTC")), [f"{WHEN}+00:00", None]),
    "timestamp after all": (pa.array([0, 2**62], pa.timestamp("us")), ["1970-01-01T00:00:00", SKIPPED]),
    "timestamp of no zone": (pa.array([None, NS // 1000], pa.timestamp("us", "Mars/Here")), [None, SKIPPED]),
    "duration": (pa.array([timedelta(seconds=90), None]), [90, None]),
    "duration in nanoseconds": (pa.array([1_500_000_001, None], pa.duration("ns")), [1.5, None]),
    "list": (pa.array([[1, None], None]), [[1, None], None]),
    "list of 32 bits": (pa.array([[0.1, float("nan")], []], pa.list_(pa.float32())), [[0.1, None], []]),
    "list of nanoseconds": (pa.array([[NS], None], pa.list_(pa.timestamp("ns"))), [[WHEN], None]),
    "list of fixed size": (pa.array([[0.1, 2], None], pa.list_(pa.float32(), 2)), [[0.1, 2], None]),
    "large_list": (pa.array([["7"], None], pa.large_list(pa.string())), [["7"], None]),
    "list_view": (pa.array([["a"], None], pa.list_view(pa.string())), [["a"], None]),
    "struct": (pa.array([{"a": 1, "b": None}, None]), [{"a": 1}, None]),
    "struct of 32 bits": (
        pa.array([{"a": [0.1]}], pa.struct([("a", pa.list_(pa.float32()))])),
        [{"a": [0.1]}],
    ),
    "struct with a name twice": (
        pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
        [SKIPPED],
    ),
    "map": (
        pa.array([[("a", 1), (" b", 2)], None], pa.map_(pa.string(), pa.int32())),
        [{"a": 1, " b": 2}, None],
    ),
    "map of numbers": (pa.array([[(1, 2)], None], pa.map_(pa.int32(), pa.int32())), [{"1": 2}, None]),
    "map with a key twice": (pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int32())), [SKIPPED]),
    "uuid": (pa.array([bytes(16)], pa.binary(16)).cast(pa.uuid()), ["00000000-0000-0000-0000-000000000000"]),
    "json": (pa.array(['{"a": 1}', None], pa.json_()), ['{"a": 1}', None]),
}
FIELDS = ["path", "camera", "identity", "source", "time", "box", "x", "attributes", "id", "split", "seen"]


def write(folder: Path, **columns: pa.Array) -> Path:
    parquet.write_table(pa.table(columns), folder / "list.parquet")
    return folder / "list.parquet"


def paths(column: pa.Array) -> pa.Array:
    return pa.array([f"{number}.jpg" for number in range(len(column))])


def stored(row) -> object:
    try:
        return attributes(row.attributes).get("seen")
    except InputError:
        return SKIPPED


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_is_an_attribute(tmp_path, name):
    column, expected = COLUMNS[name]
    # A first row that is always sound, so that something of the list is usable.
    sound = pa.concat_arrays([pa.nulls(1, column.type), column]) if name != "dictionary" else column
    extra = len(sound) - len(column)
    content = read_rows(write(tmp_path, path=paths(sound), seen=sound))
    found = dict.fromkeys(range(1 + extra, len(sound) + 1), SKIPPED)
    found |= {row.number: stored(row) for row in content.rows if row.number > extra}
    assert list(found.values()) == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected]
    for record in content.skipped:
        assert "seen: " in str(record)
        assert "\n" not in str(record)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_any_type_is_read_or_skipped(tmp_path, field):
    for column, _ in COLUMNS.values():
        columns = {"path": paths(column)} | {field: column}
        try:
            content = read_rows(write(tmp_path, **columns))
        except InputError as error:  # none is usable
            assert field in str(error) or field == "x"  # noqa: PT017
            assert str(error).startswith(f"{tmp_path / 'list.parquet'}: row 1: ")  # noqa: PT017
            continue
        assert len(content.rows) + len(content.skipped) == len(column)
        for row in content.rows:
            assert isinstance(row.path, Path)
            for text in (row.camera, row.identity, row.source):
                assert text is None or isinstance(text, str)


def test_fields_in_parquets_types(tmp_path):
    columns = {
        "path": pa.array([b"a-\xff.jpg", b"b.jpg"]),
        "camera": pa.array([3.0, None]),
        "identity": pa.array([Decimal("7"), Decimal("-1")]),
        "time": pa.array([NS, None], pa.timestamp("ns")),
        "box": pa.array([{"x": 1, "y": 2, "w": 3, "h": 4}, None]),
        "attributes": pa.array([[("track", 5)], None], pa.map_(pa.string(), pa.int64())),
        "__index_level_0__": pa.array([0, 1]),
        "": pa.array([0, 1]),
    }
    first, second = read_rows(write(tmp_path, **columns)).rows
    assert first.path == tmp_path / "a-\udcff.jpg"
    assert (first.camera, first.identity, first.box) == ("3", "7", (1, 2, 3, 4))
    assert (first.time, type(first.time)) == (datetime.fromisoformat(WHEN), datetime)
    assert first.attributes == {"track": 5, "__index_level_0__": 0}
    assert (second.camera, second.identity, second.box, second.time) == (None, "-1", None, None)


@pytest.mark.parametrize("name", ["list", "list of fixed size"])
def test_boxes_as_lists(tmp_path, name):
    kind = pa.list_(pa.float32(), 4) if name != "list" else pa.list_(pa.int64())
    column = pa.array([[1, 2, 3, 4], [1, 2, 0, 4]], kind)
    content = read_rows(write(tmp_path, path=paths(column), box=column))
    assert [row.box for row in content.rows] == [(1, 2, 3, 4)]
    assert [record.where for record in content.skipped] == ["row 2"]


def test_paths_that_are_none(tmp_path):
    for column in (
        pa.array([1, 2]),
        pa.array([1.5, float("nan")]),
        pa.array([["a.jpg"]]),
        pa.array(["a\0b"]),
    ):
        with pytest.raises(InputError, match=r"list\.parquet: row 1: path"):
            read_rows(write(tmp_path, path=column))


def test_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["path", "path"])
    parquet.write_table(table, tmp_path / "list.parquet")
    with pytest.raises(InputError, match="two columns are named path"):
        read_rows(tmp_path / "list.parquet")


def test_a_damaged_file(tmp_path):
    path = write(tmp_path, path=pa.array([f"{number}.jpg" for number in range(5000)]))
    content = bytearray(path.read_bytes())
    for start, length in ((40, 400), (len(content) - 60, 40), (0, len(content) // 2)):
        damaged = content.copy()
        damaged[start : start + length] = bytes(length)
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"list\.parquet: is not a readable Parquet file") as caught:
            read_rows(path)
        assert "\n" not in str(caught.value)


SCALARS = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(allow_nan=False, allow_infinity=False),
    pa.float32(): st.floats(width=32, allow_nan=False, allow_infinity=False),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(codec="utf-8", exclude_characters='\0",\r\n'), min_size=1),
    pa.date32(): st.dates(),
    pa.time32("s"): st.times().map(lambda value: value.replace(microsecond=0)),
}


@given(st.sampled_from(list(SCALARS)).flatmap(lambda kind: st.tuples(st.just(kind), SCALARS[kind])))
def test_csv_and_parquet_of_one_thing_store_one_value(given):
    """Written by pyarrow, as CSV and as Parquet."""
    kind, value = given
    table = pa.table({"seen": pa.array([value], kind), "path": ["a.jpg"]})
    written, text = io.BytesIO(), io.BytesIO()
    parquet.write_table(table, written)
    written.seek(0)
    csv.write_csv(table.select(["seen"]), text, csv.WriteOptions(include_header=False, quoting_style="none"))
    (row,) = parquet_values(written)
    line = text.getvalue().decode().removesuffix("\n")
    assert attribute(line) == attribute(row["seen"])
    assert label(line) == label(row["seen"])
