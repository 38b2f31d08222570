"""The journal of people: whatever is done in whatever order can be read back, undone and forgotten."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.gallery.journal import Change, Grouping, History, Join, Journal

#: Actions as numbers: which one, and up to three tracklets or people to choose.
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["group", "watch", "merge", "split", "name", "undo"]),
        st.integers(0, 40),
        st.integers(0, 40),
        st.integers(0, 40),
    ),
    max_size=25,
)
ordinary = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
on_disk = settings(ordinary, max_examples=20)


def act(history: History, action: tuple[str, int, int, int]) -> Change | None:
    """A change like those of `kronreid.gallery.people`; None where there is nothing to do."""
    kind, a, b, c = action
    now = history.at()
    members, free = now.members(), [f"{n:x}" for n in range(a, a + 4) if f"{n:x}" not in now.person_of]
    numbers = sorted(members)
    if kind in ("group", "watch"):
        moves, joins, near = {}, {}, sorted(now.person_of)
        for place, tracklet in enumerate(free):
            old = near[(b + place) % len(near)] if near and (c + place) % 3 else None
            moves[tracklet] = now.person_of[old] if old else now.next_person + place
            joins[tracklet] = Join(old, 0.8, 0.75) if old else Join()
        return history.change("group", moves=moves, joins=joins, limit=0.7, automatic=kind == "watch")
    if not numbers:
        return None
    one, other = numbers[a % len(numbers)], numbers[b % len(numbers)]
    if kind == "merge" and one != other:
        names = {other: None} if other in now.names else {}
        return history.change(
            "merge", moves=dict.fromkeys(members[other], one), names=names, about=(one, other)
        )
    if kind == "split" and len(members[one]) > 1:
        return history.change("split", moves={members[one][c % len(members[one])]: now.next_person})
    if kind == "name":
        return history.change("name", names={one: f"name {c}"})
    last = history.last()
    return history.undoing(last) if kind == "undo" and last else None


def same(a: Grouping, b: Grouping) -> bool:
    return (a.person_of, a.names, a.joins) == (b.person_of, b.names, b.joins)


@on_disk
@given(ACTIONS)
def test_what_is_written_is_read_back(tmp_path_factory, actions) -> None:
    journal = Journal(tmp_path_factory.mktemp("j") / "people.groups.jsonl")
    expected = Grouping()
    for action in actions:
        history = journal.change(lambda history, action=action: act(history, action))
        if history.changes:
            expected = history.at()
        assert journal.read() == history
    assert journal.read().at() == expected


@ordinary
@given(ACTIONS)
def test_undoing_everything_restores_every_state_on_the_way(actions) -> None:
    history = History()
    states = [history.at()]
    for action in actions:
        change = act(history, action) if action[0] not in ("watch", "undo") else None
        if change is not None:
            history.add(change)
            states.append(history.at())
    highest = states[-1].next_person
    for state in reversed(states[:-1]):
        history.add(history.undoing(history.last()))
        assert same(history.at(), state)
        assert history.at().next_person == highest, "a number is never used again"
    assert history.last() is None


@ordinary
@given(ACTIONS)
def test_undoing_keeps_all_tracklets_that_were_added_since(actions) -> None:
    history = History()
    for action in actions:
        before, last = history.at(), history.last()
        change = act(history, action)
        if change is None:
            continue
        history.add(change)
        now = history.at()
        if change.kind == "undo":
            assert set(before.person_of) - set(now.person_of) <= (
                set(last.moves) if last.kind == "group" else set()
            )
        elif change.kind == "group":
            assert now.person_of | before.person_of == now.person_of, "grouping moves nobody"


@on_disk
@given(ACTIONS, st.sets(st.integers(0, 44)))
def test_forgotten_tracklets_leave_nothing_and_change_nothing_else(tmp_path_factory, actions, gone) -> None:
    journal = Journal(tmp_path_factory.mktemp("j") / "people.groups.jsonl")
    for action in actions:
        journal.change(lambda history, action=action: act(history, action))
    before = journal.read().at()
    ids = {f"{n:x}" for n in gone}
    journal.forget(ids.intersection)
    after = journal.read().at()
    assert after.person_of == {id: who for id, who in before.person_of.items() if id not in ids}
    left = set(after.person_of.values())
    assert {who: after.names.get(who) for who in left} == {who: before.names.get(who) for who in left}
    assert after.next_person == before.next_person
    for change in journal.read().changes:
        assert not ids & (
            change.moves.keys() | change.joins.keys() | {join.near for join in change.joins.values()}
        )
        emptied = {who for who in change.names if who not in left and change.names[who]}
        assert not emptied & {before.person_of.get(id) for id in ids}


def test_a_name_goes_with_the_last_tracklet(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "people.groups.jsonl")
    journal.change(lambda history: history.change("group", moves={"a": 1, "b": 1, "c": 2}))
    journal.change(lambda history: history.change("name", names={1: "Ada"}))
    journal.forget({"a"}.intersection)
    assert journal.read().at().names == {1: "Ada"}
    journal.forget({"b"}.intersection)
    text = journal.file.read_text()
    assert "Ada" not in text
    assert '"b"' not in text
    assert journal.read().at().person_of == {"c": 2}
    assert journal.read().at().next_person == 3


def test_what_was_joined_to_a_merged_person_goes_back_with_it() -> None:
    history = History()
    history.add(history.change("group", moves={"a": 1, "b": 2}, joins={"a": Join(), "b": Join()}))
    history.add(history.change("merge", moves={"b": 1}, about=(1, 2)))
    joins = {"c": Join("b", 0.9, 0.8), "d": Join("c", 0.9, 0.8), "e": Join("a", 0.9, 0.8)}
    history.add(history.change("group", moves=dict.fromkeys("cde", 1), joins=joins, automatic=True))
    history.add(history.undoing(history.last()))
    assert history.at().person_of == {"a": 1, "b": 2, "c": 2, "d": 2, "e": 1}
    assert history.at().joins["d"] == joins["d"]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_does_not_count_and_is_replaced(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "people.groups.jsonl")
    journal.change(lambda history: history.change("group", moves={"a": 1}))
    whole = journal.file.read_bytes()
    journal.change(lambda history: history.change("name", names={1: "Ada"}))
    journal.file.write_bytes(journal.file.read_bytes()[:-cut])
    assert journal.read().at().names == {}
    journal.change(lambda history: history.change("name", names={1: "Eve"}))
    assert journal.file.read_bytes().startswith(whole)
    assert journal.read().at().names == {1: "Eve"}
    assert all(json.loads(line) for line in journal.file.read_text().splitlines())


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"number": 1}', '{"number":1,"time":1,"kind":"x"}', "\x00", '{"a":1}']
)
def test_a_damaged_line_is_left_out(tmp_path: Path, line: str) -> None:
    journal = Journal(tmp_path / "people.groups.jsonl")
    journal.change(lambda history: history.change("group", moves={"a": 1}))
    with journal.file.open("a") as file:
        file.write(line + "\n")
    journal.change(lambda history: history.change("group", moves={"b": 2}))
    assert journal.read().at().person_of == {"a": 1, "b": 2}


def test_a_journal_of_another_gallery_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "people.groups.jsonl"
    Journal(file, "http://one:19530").change(lambda history: history.change("group", moves={"a": 1}))
    assert Journal(file, "http://one:19530").read().at().person_of == {"a": 1}
    for other in ("", "http://two:19530"):
        with pytest.raises(InputError, match="belongs to the gallery http://one:19530"):
            Journal(file, other).read()
    file.write_text("no journal\n")
    with pytest.raises(InputError, match="is not a journal of people"):
        Journal(file).read()


def test_changes_of_several_threads_are_all_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "people.groups.jsonl")

    def add(number: int) -> None:
        mine = Journal(journal.file)
        mine.change(lambda history: history.change("group", moves={f"{number}": history.at().next_person}))
        if number % 5 == 0:
            mine.forget({f"{number}"}.intersection)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(20)))
    history = journal.read()
    assert set(history.at().person_of) == {f"{number}" for number in range(20) if number % 5}
    assert len(set(history.at().person_of.values())) == 16, "no number is given twice"
    numbers = [change.number for change in history.changes]
    assert numbers == sorted(set(numbers))
    assert history.next_change == 21


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "people.groups.jsonl")
    journal.change(lambda history: history.change("group", moves={"a": 1}))
    assert journal.file.stat().st_mode & 0o077 == 0
    journal.forget(lambda known: known)
    assert journal.file.stat().st_mode & 0o077 == 0


def test_a_change_that_cannot_be_made_leaves_everything_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "people.groups.jsonl")
    journal.change(lambda history: history.change("group", moves={"a": 1}))
    before = copy.deepcopy(journal.read())

    def refuse(history: History) -> Change:
        raise InputError("merge", "no")

    with pytest.raises(InputError):
        journal.change(refuse)
    assert journal.change(lambda history: None) == before == journal.read()
