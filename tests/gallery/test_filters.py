import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronreid.data.values import attribute, label, moment
from kronreid.errors import InputError
from kronreid.gallery.filters import Below, HasValue, OneOf, Selection, Taken, format_time


def test_a_selection_without_conditions_means_everything():
    assert Selection().conditions() == Selection(where={}).conditions() == []


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
        Selection(**conditions).conditions()


def test_every_kind_of_condition(tmp_path):
    day = 1_714_521_600.0
    selection = Selection(path=tmp_path, id=["b", "a"], since=0, until="2024-05-01", where={" k ": "1.0"})
    assert selection.conditions() == [
        OneOf("id", ("a", "b")),
        Below(tuple(sorted([str(tmp_path), tmp_path.as_uri()]))),
        Taken(0.0, pytest.approx(day + 86_400, abs=1e-3)),
        HasValue("k", (1, "1", "1.0", 1.0)),
    ]
    assert Selection(since="2024-05-01").conditions() == [Taken(day, None)]


def test_one_condition_by_two_names():
    for name in ("camera", "identity", "source", "id"):
        for value in (7, "7", 7.0, ["7", 7]):
            conditions = Selection(**{name: value}).conditions()
            assert Selection(where={name: value}).conditions() == conditions == [OneOf(name, ("7",))]
    assert Selection(path="/a").conditions() == Selection(where={"path": "/a"}).conditions()
    both = Selection(camera=1, where={"camera": 2}).conditions()
    assert both == [OneOf("camera", ("1",)), OneOf("camera", ("2",))], "both must hold"


SCALARS = (
    st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(st.characters(codec="utf-8"))
)


@given(SCALARS)
def test_what_is_stored_is_asked_for(value):
    """By the value itself, and by its text."""
    stored = attribute(value)
    for asked in (value, str(value) if stored is not None else ""):
        (condition,) = Selection(where={"k": asked}).conditions()
        wanted = () if stored is None else (stored, type(stored))
        forms = [(form, type(form)) for form in condition.values]
        assert condition == HasValue("k", ()) if stored is None else wanted in forms
        texts = {label(value)} if stored is not None else {"", "-1"}
        assert texts <= set(Selection(camera=asked).conditions()[0].texts)


@pytest.mark.parametrize("value", ["", "-1", -1, -1.0, "-1.0", float("nan"), [None], [""]])
def test_nobody_is_unknown(value):
    for name in ("camera", "identity"):
        assert Selection(**{name: value}).conditions() == [OneOf(name, ("", "-1"))]
    assert Selection(source=-1).conditions() == [OneOf("source", ("-1",))]
    assert Selection(source="").conditions() == [OneOf("source", ("",))]


@given(st.floats(0, 4e9))
def test_a_formatted_time_is_read_back(seconds):
    assert moment(format_time(seconds)) == pytest.approx(seconds, abs=1e-5)


def test_deeply_nested_text_is_text():
    deep = "[" * 5000
    (condition,) = Selection(where={"note": deep}).conditions()
    assert set(condition.values) == {deep}
