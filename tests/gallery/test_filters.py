import pytest
from hypothesis import given
from hypothesis import strategies as st
from milvus_lite.search.filter.parser import parse_expr

from kronreid.data.values import attribute, label, moment
from kronreid.errors import InputError
from kronreid.gallery.filters import Selection, format_time, quote


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_no_text_ends_its_own_literal(text):
    expression = parse_expr(f"camera == {quote(text)}")
    assert expression.right.value == text


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1).filter(str.strip),
        st.text(st.characters(codec="utf-8")) | st.integers() | st.floats(allow_infinity=False) | st.none(),
        max_size=3,
    ),
    st.text(st.characters(codec="utf-8")) | st.integers() | st.lists(st.floats(0, 9), min_size=1),
)
def test_attributes_with_any_name_and_value_parse(where, camera):
    expression = Selection(where=where, camera=camera).expression()
    parse_expr(expression)


def test_no_condition_is_no_expression():
    assert Selection().expression() == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udcff", 2**63])
def test_what_cannot_be_written_is_refused(value):
    with pytest.raises(InputError):
        quote(value)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"where": {"colour": ["red"]}}, "where colour: text, a number or true/false expected, got list"),
        ({"where": {"colour": float("inf")}}, "where colour inf: infinity"),
        ({"where": {"": 1}}, "a name is empty"),
        ({"where": {"a\0": 1}}, "control characters"),
        (
            {"where": {"time": "2024-05-01"}},
            r"where time: is asked for by since and until \(--since, --until\)",
        ),
        ({"where": {"box": "1,2,3,4"}}, "where box: cannot be asked for"),
        ({"camera": []}, "camera: an empty list"),
        ({"camera": [[1]]}, "camera "),
        ({"identity": "\udcff"}, "identity .*not valid Unicode"),
        ({"path": ""}, "path: is empty"),
        ({"where": {"path": 5}}, "path 5: must be text"),
        ({"since": ""}, "since '': a time expected"),
        ({"until": float("nan")}, "until nan: a time expected"),
        ({"since": "noon"}, "time 'noon'"),
    ],
)
def test_what_cannot_be_asked_for(conditions, message):
    with pytest.raises(InputError, match=message):
        Selection(**conditions).expression()


def test_one_condition_by_two_names():
    for name in ("camera", "identity", "source", "id"):
        for value in (7, "7", 7.0, ["7", 7]):
            expression = Selection(**{name: value}).expression()
            assert Selection(where={name: value}).expression() == expression == f'({name} in ["7"])'
    assert Selection(path="/a").expression() == Selection(where={"path": "/a"}).expression()
    both = Selection(camera=1, where={"camera": 2}).expression()
    assert both == '(camera in ["1"]) and (camera in ["2"])', "both must hold"


SCALARS = (
    st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(st.characters(codec="utf-8"))
)


@given(SCALARS)
def test_what_is_stored_is_asked_for(value):
    """By the value itself, and by its text."""
    stored = attribute(value)
    for asked in (value, str(value) if stored is not None else ""):
        expression = Selection(where={"k": asked}).expression()
        place = 'attributes["k"]'
        if stored is None:
            assert expression == f'((not (exists {place})) or {place} == "")'
        else:
            assert f"{place} == {quote(stored)}" in expression[1:-1].split(" or ") or " or " in str(stored)
        texts = [quote(label(value))] if stored is not None else ['""', '"-1"']
        assert all(text in Selection(camera=asked).expression() for text in texts)


@pytest.mark.parametrize("value", ["", "-1", -1, -1.0, "-1.0", float("nan"), [None], [""]])
def test_nobody_is_unknown(value):
    for name in ("camera", "identity"):
        assert Selection(**{name: value}).expression() == f'({name} in ["", "-1"])'
    assert Selection(source=-1).expression() == '(source in ["-1"])'
    assert Selection(source="").expression() == '(source in [""])'


@given(st.floats(0, 4e9))
def test_a_formatted_time_is_read_back(seconds):
    assert moment(format_time(seconds)) == pytest.approx(seconds, abs=1e-5)


def test_deeply_nested_text_is_text():
    deep = "[" * 5000
    assert quote(deep) in Selection(where={"note": deep}).expression()
