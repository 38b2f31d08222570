from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronreid.gallery.entries import Entry
from kronreid.gallery.search import grouped, ranked


def entry(number: int, **known) -> Entry:
    return Entry(Path(f"/{number}"), id=f"{number:064x}", **known)


@given(st.lists(st.tuples(st.floats(-1, 1), st.none() | st.floats(-40, 40)), max_size=20))
def test_scored_hits_come_first_by_probability_then_the_others_by_similarity(scores):
    found = [(entry(i), similarity) for i, (similarity, _) in enumerate(scores)]
    hits = ranked(found, [logit for _, logit in scores], 1)
    assert [hit.rank for hit in hits] == list(range(1, len(scores) + 1))
    assert sorted(hit.id for hit in hits) == [e.id for e, _ in found]
    scored = [hit for hit in hits if hit.probability is not None]
    assert hits[: len(scored)] == scored
    assert all(a.probability >= b.probability for a, b in pairwise(scored))
    rest = hits[len(scored) :]
    assert all(a.similarity >= b.similarity for a, b in pairwise(rest))


def test_groups_follow_their_best_hit_and_strangers_stay_alone():
    people = ["anna", None, "bert", "anna", None]
    hits = ranked([(entry(i, identity=name), 1 - i / 10) for i, name in enumerate(people)], [None] * 5, 1)
    groups = grouped(hits, "identity")
    assert [(group.key, [hit.rank for hit in group.hits]) for group in groups] == [
        ("anna", [1, 4]),
        (None, [2]),
        ("bert", [3]),
        (None, [5]),
    ]


@pytest.mark.parametrize("track", [3, "3", 3.5, ["a"]])
def test_grouping_by_an_attribute(track):
    hits = ranked([(entry(i, attributes={"track": track}), 1 - i / 10) for i in range(3)], [None] * 3, 1)
    assert [len(group.hits) for group in grouped(hits, "track")] == [3]
