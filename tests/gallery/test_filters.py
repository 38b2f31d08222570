from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from milvus_lite.search.filter.parser import parse_expr

from kronreid.errors import InputError
from kronreid.gallery.filters import Selection, format_time, parse_time, quote


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_no_text_ends_its_own_literal(text):
    expression = parse_expr(f"camera == {quote(text)}")
    assert expression.right.value == text


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")), max_size=3
    )
)
def test_attributes_with_any_name_and_value_parse(where):
    expression = Selection(where=where, camera="1").expression()
    parse_expr(expression)


def test_no_condition_is_no_expression():
    assert Selection().expression() == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udcff", 2**63])
def test_what_cannot_be_written_is_refused(value):
    with pytest.raises(InputError):
        quote(value)


def test_only_scalars_can_be_asked_for():
    with pytest.raises(InputError, match="where colour"):
        Selection(where={"colour": ["red"]}).expression()  # type: ignore[dict-item]


def test_times_without_a_zone_are_utc():
    assert parse_time("1970-01-02") == 86400
    assert parse_time("1970-01-02", end_of_day=True) == pytest.approx(2 * 86400, abs=1e-3)
    assert parse_time("1970-01-01T02:00:00+02:00") == 0
    assert parse_time("1970-01-01T00:00:00Z") == 0
    assert parse_time("12.5") == parse_time(12.5) == 12.5
    assert parse_time(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0


@pytest.mark.parametrize("text", ["yesterday", "", "2024-13-01", "inf"])
def test_unreadable_times_are_refused(text):
    with pytest.raises(InputError, match="time"):
        parse_time(text)


@given(st.floats(0, 4e9))
def test_a_formatted_time_is_read_back(seconds):
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize("value", [1714557600000, "1714557600000", float("nan"), float("inf"), -1e12])
def test_no_time_outside_the_calendar(value):
    with pytest.raises(InputError, match=r"^time "):
        parse_time(value)


def test_deeply_nested_text_is_text():
    deep = "[" * 5000
    assert quote(deep) in Selection(where={"note": deep}).expression()
