import json
import math
from collections import namedtuple
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronreid.data.values import (
    DEEPEST,
    LARGEST,
    attribute,
    attribute_name,
    attributes,
    is_absent,
    label,
    moment,
    pairs,
    picture_path,
    read_box,
    shown,
)
from kronreid.errors import InputError

BERLIN = timezone(timedelta(hours=2))
EMPTY = [
    None,
    "",
    "  ",
    b"",
    float("nan"),
    np.float32("nan"),
    np.datetime64("NaT"),
    np.timedelta64("NaT"),
    Decimal("NaN"),
    Decimal("sNaN"),
]


class Colour(str, Enum):
    RED = "red"


class Number(IntEnum):
    TWO = 2


#: Type by type: what is given, its label, its attribute.
TABLE = [
    ("7", "7", 7),
    (" 7 ", "7", 7),
    ("7.0", "7", 7),
    ("-1.0", "-1", -1),
    ("0.5", "0.5", 0.5),
    ("1e-07", "1e-07", 1e-07),
    ("1e-7", "1e-07", 1e-07),
    ("0.00001", "1e-05", 1e-05),
    ("1e+16", "10000000000000000", 10**16),
    ("0046", "0046", "0046"),
    ("007.0", "007.0", "007.0"),
    ("1e3", "1e3", "1e3"),
    ("1.10", "1.10", "1.10"),
    ("+5", "+5", "+5"),
    ("-0", "0", 0),
    ("-0.0", "0", 0),
    ("1_000", "1_000", "1_000"),
    ("٣", "٣", "٣"),
    ("7.0.0", "7.0.0", "7.0.0"),
    ("nan", "nan", "nan"),
    ("inf", "inf", "inf"),
    ("true", "true", True),
    ("False", "false", False),
    ("TRUE", "true", True),
    ("null", "null", "null"),
    ("north door", "north door", "north door"),
    ("[1]", "[1]", "[1]"),
    (str(LARGEST), str(LARGEST), LARGEST),
    (str(LARGEST + 1), str(LARGEST + 1), str(LARGEST + 1)),
    ("9" * 5000, "9" * 5000, "9" * 5000),
    (7, "7", 7),
    (7.0, "7", 7),
    (-1, "-1", -1),
    (0.5, "0.5", 0.5),
    (1e300, "1e+300", 1e300),
    (2**64, str(2**64), str(2**64)),
    (True, "true", True),
    (np.bool_(False), "false", False),
    (np.uint8(7), "7", 7),
    (np.uint64(2**64 - 1), str(2**64 - 1), str(2**64 - 1)),
    (np.float32(0.1), "0.1", 0.1),
    (np.float16(0.1), "0.1", 0.1),
    (np.float64(7), "7", 7),
    (np.array(7.0), "7", 7),
    (np.str_("a"), "a", "a"),
    (Number.TWO, "2", 2),
    (Colour.RED, "red", "red"),
    (Decimal("7"), "7", 7),
    (Decimal("7.00"), "7", 7),
    (Decimal("1.50"), "1.5", 1.5),
    (Decimal(10) ** 30, str(10**30), str(10**30)),
    (b"door", "door", "door"),
    (bytearray(b"7"), "7", 7),
    (date(2024, 5, 1), "2024-05-01", "2024-05-01"),
    (datetime(2024, 5, 1, 10), "2024-05-01T10:00:00", "2024-05-01T10:00:00"),
    (datetime(2024, 5, 1, 10, tzinfo=BERLIN), "2024-05-01T10:00:00+02:00", "2024-05-01T10:00:00+02:00"),
    (time(10, 30), "10:30:00", "10:30:00"),
    (timedelta(minutes=1), "60", 60),
    (timedelta(milliseconds=1500), "1.5", 1.5),
    (np.timedelta64(1500, "ms"), "1.5", 1.5),
    (np.datetime64("2024-05-01"), "2024-05-01", "2024-05-01"),
    (np.datetime64("2024-05-01T10:00:00", "ns"), "2024-05-01T10:00:00", "2024-05-01T10:00:00"),
    (UUID(int=7), str(UUID(int=7)), str(UUID(int=7))),
    (Path("/a/b"), "/a/b", "/a/b"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text", "stored"), TABLE, ids=shown)
def test_what_it_becomes(value, text, stored):
    assert label(value) == text
    assert attribute(value) == stored
    assert type(attribute(value)) is type(stored)
    assert not is_absent(value)


@pytest.mark.parametrize("value", EMPTY, ids=repr)
def test_what_is_empty(value):
    assert label(value) is None
    assert attribute(value) is None
    assert attributes({"a": value}) == {"a": None}
    assert moment(value) is None
    assert is_absent(value) or value == "  " or isinstance(value, Decimal)


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ([1, 2.0, "7", float("nan"), None], [1, 2, "7", None, None]),
        ((1, (2,)), [1, [2]]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([0.1, np.nan], np.float32), [0.1, None]),
        (np.array(["2024-05-01"], "datetime64[D]"), ["2024-05-01"]),
        ({"a": None, "b": {"c": Decimal("1.5"), 7.0: "007"}}, {"b": {"c": 1.5, "7": "007"}}),
        (Pair(1, b"x"), [1, "x"]),
        ([], []),
        ({}, {}),
    ],
)
def test_lists_and_objects(value, stored):
    assert attribute(value) == stored
    assert attribute(stored) == stored
    with pytest.raises(InputError, match=r"camera .*must be text or a number"):
        label(value, "camera")


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("inf"), "infinity"),
        (np.float32("-inf"), "infinity"),
        (Decimal("inf"), "infinity"),
        (Decimal("1e999999"), "infinity"),
        (10**5000, "too many digits"),
        (b"\xff", "not valid Unicode"),
        ("\udcff", "not valid Unicode"),
        (["\ud800"], "not valid Unicode"),
        ({"\udcff": 1}, "not valid Unicode"),
        ({1: "a", "1": "b"}, "'1' is given twice"),
        ([float("inf")], "infinity"),
        (nested(DEEPEST + 1), "deeper than 64"),
        (Ellipsis, "must be text"),
        ({1, 2}, "must be text"),
        (1j, "must be text"),
        (print, "must be text"),
        (np.datetime64(2**60, "s"), "years 1 to 9999"),
        (np.timedelta64(1, "M"), "no fixed length"),
    ],
    ids=shown,
)
def test_what_cannot_be_stored_is_one_line(value, message):
    for read in (attribute, label):
        with pytest.raises(InputError, match=f"^colour.*{message}") as caught:
            read(value, "colour")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


def test_what_is_nested_as_deep_as_allowed_is_stored():
    assert attribute(nested(DEEPEST)) == nested(DEEPEST)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.decimals(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(timezone.utc) | st.just(BERLIN)),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.complex_numbers(),
    st.from_type(type),
    st.floats(width=32).map(np.float32),
    st.integers(-(2**63), 2**63 - 1).flatmap(
        lambda n: st.sampled_from(["Y", "D", "s", "us", "ns", "as"]).map(lambda unit: np.datetime64(n, unit))
    ),
    st.integers(-(2**62), 2**62).map(lambda n: np.timedelta64(n, "s")),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda more: (
        st.lists(more, max_size=3)
        | st.dictionaries(st.text() | st.integers() | st.binary(), more, max_size=3)
        | st.tuples(more)
        | st.sets(st.integers())
    ),
    max_leaves=8,
)


def same(one, other) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@given(ANYTHING)
def test_whatever_is_given_it_is_read_or_refused(value):
    for read in (attribute, label, attribute_name, attributes, moment, picture_path, read_box):
        with suppress(InputError):
            read(value)


@given(ANYTHING)
def test_what_was_read_is_read_again_as_it_is(value):
    for read in (attribute, label):
        with suppress(InputError):
            found = read(value)
            assert found != ""
            assert json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
            assert same(read(found), found)


@given(st.booleans() | st.integers() | st.floats(allow_infinity=False))
def test_a_value_and_its_text_are_one_thing(value):
    """The text is how CSV has it: written by Python, by pandas in a column with gaps, or by numpy."""
    texts = [str(value), json.dumps(value)]
    if isinstance(value, int) and abs(value) < 2**53:
        texts.append(str(float(value)) if not isinstance(value, bool) else str(value).upper())
    for text in texts if value == value else [""]:
        assert same(attribute(text), attribute(value))
        assert label(text) == label(value)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False).map(np.float32))
def test_a_number_of_32_bits_is_what_its_text_says(value):
    assert attribute(value) == float(str(value))


def test_what_pandas_has():
    pandas = pytest.importorskip("pandas")
    for value in (pandas.NaT, pandas.NA):
        assert attribute(value) is label(value) is moment(value) is None
        assert is_absent(value)
    assert attribute(pandas.Timedelta(1500, "ms")) == 1.5
    when = pandas.Timestamp("2024-05-01T12:00:00.000000001", tz="Europe/Berlin")
    assert attribute(when) == "2024-05-01T12:00:00+02:00", "as without pandas"
    assert moment(when) == moment(pandas.Timestamp("2024-05-01T10:00")) == 1714557600
    with pytest.raises(InputError, match="attribute"):
        attribute(pandas.DataFrame({"a": [1]}))


def test_attributes_have_names():
    assert attributes({" a ": "7", 2: 1.0, "b": ""}) == {"a": 7, "2": 1, "b": None}
    for name, message in {
        "": "a name is empty",
        " ": "a name is empty",
        None: "a name is empty",
        "a\0": "control characters",
        "\udcff": "not valid Unicode",
        (1, 2): "text or a number",
    }.items():
        with pytest.raises(InputError, match=message):
            attribute_name(name)
    with pytest.raises(InputError, match="attributes: a is given twice"):
        attributes({"a": 1, " a": 2})
    with pytest.raises(InputError, match="names with values"):
        attributes(["a"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^attributes: colour .*must be text"):
        attributes({"colour": object()})


@pytest.mark.parametrize(
    "value",
    [
        "2024-05-01T10:00:00Z",
        "2024-05-01T12:00:00+02:00",
        " 2024-05-01 10:00 ",
        b"2024-05-01T10:00",
        "1714557600",
        "1714557600.0",
        1714557600,
        np.float64(1714557600),
        Decimal("1714557600"),
        datetime(2024, 5, 1, 10),
        datetime(2024, 5, 1, 12, tzinfo=BERLIN),
        np.datetime64("2024-05-01T10"),
        np.datetime64("2024-05-01T10:00", "ns"),
    ],
)
def test_one_moment_in_many_forms(value):
    assert moment(value) == moment(value, end_of_day=True) == 1714557600


@pytest.mark.parametrize("value", ["2024-05-01", date(2024, 5, 1), np.datetime64("2024-05-01")], ids=repr)
def test_a_day_ends(value):
    assert moment(value) == 1714521600
    assert moment(value, end_of_day=True) == pytest.approx(1714521600 + 86400, abs=1e-3)


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2024-13-01",
        "inf",
        "nan",
        "10:00",
        1714557600000,
        "1714557600000",
        float("inf"),
        -1e12,
        10**30,
        True,
        "true",
        [2024],
        {"year": 2024},
        time(10),
        timedelta(days=1),
        np.timedelta64(1, "D"),
        Ellipsis,
        "0001-01-01T00:00:00+14:00",
        np.datetime64(2**60, "s"),
        b"\xff",
    ],
    ids=shown,
)
def test_what_is_no_moment(value):
    with pytest.raises(InputError, match=r"^time "):
        moment(value)


@pytest.mark.parametrize("value", ["20240501", 20240501, 20240501.0])
def test_a_date_without_dashes_is_not_taken_for_seconds(value):
    with pytest.raises(InputError, match="time 20240501: looks like a date; write 2024-05-01"):
        moment(value)
    assert moment(20241399) == 20241399, "no date"


def test_paths():
    for value in ("a.jpg", b"a.jpg", Path("a.jpg"), np.str_("a.jpg")):
        assert picture_path(value) == Path("a.jpg")
    assert picture_path(b"\xff.jpg") == picture_path("\udcff.jpg")
    for value in (
        None,
        "",
        float("nan"),
        b"",
        5,
        5.0,
        True,
        ["a.jpg"],
        "a\0b",
        "\ud800",
        Ellipsis,
    ):
        with pytest.raises(InputError, match=r"^path"):
            picture_path(value)


@pytest.mark.parametrize(
    "value",
    [
        "1,2,3,4",
        b"1,2,3,4",
        [1, 2.2, 3, 4],
        (1, 2, Decimal(3), np.int64(4)),
        np.array([1, 2, 3, 4.0], np.float32),
        {"x": 1, "y": "2", "w": 3.0, "h": 4},
        {"x": 1, "y": 2, "width": 3, "height": 4, "w": None, "other": "z"},
    ],
    ids=repr,
)
def test_boxes(value):
    assert read_box(value) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "value", [None, "", float("nan"), {}, {"x": None, "y": float("nan"), "w": ""}], ids=repr
)
def test_no_box(value):
    assert read_box(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "wide",
        5,
        True,
        [],
        [1, 2, 3],
        [1, 2, 3, None],
        ["1,2", 3, 4],
        {"x": 1},
        [1, 2, 0, 4],
        [math.inf] * 4,
        Ellipsis,
    ],
    ids=repr,
)
def test_what_is_no_box(value):
    with pytest.raises(InputError, match=r"^box"):
        read_box(value)


def test_pairs():
    assert pairs(["a=1", "b = c=d", "e="], "--set") == {"a": "1", "b": " c=d", "e": ""}
    for texts, message in (
        (["a"], "--set 'a': must be key=value"),
        (["=a"], "key=value"),
        (["a=1", "a=2"], "--set a: is given"),
    ):
        with pytest.raises(InputError, match=message):
            pairs(texts, "--set")
