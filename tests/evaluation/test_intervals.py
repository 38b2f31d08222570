"""Intervals over samples of people."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronreid.evaluation.intervals import interval


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1) | st.just(float("nan"))), min_size=1, max_size=40)
)
def test_an_interval_lies_within_the_values(pairs: list[tuple[int, float]]) -> None:
    people, values = (np.array(column) for column in zip(*pairs))
    found = interval(values, people, samples=50)
    there = ~np.isnan(values)
    if len(set(people[there])) < 2:
        assert found is None
        return
    assert found is not None
    low, high = found
    assert np.nanmin(values) - 1e-9 <= low <= high <= np.nanmax(values) + 1e-9


def test_people_are_drawn_and_not_queries() -> None:
    """Many queries of two people tell no more than two queries."""
    values, people = np.array([0.0, 1.0]), np.array([1, 2])
    assert interval(values.repeat(100), people.repeat(100)) == interval(values, people) == (0.0, 1.0)


def test_a_bootstrap_by_loops() -> None:
    random = np.random.default_rng(3)
    values, people = random.random(30), random.integers(0, 8, 30)
    generator, means = np.random.default_rng(5), []
    names = np.unique(people)
    for _ in range(200):
        drawn = generator.integers(len(names), size=len(names))
        means.append(np.mean(np.concatenate([values[people == names[one]] for one in drawn])))
    assert interval(values, people, seed=5, samples=200) == pytest.approx(np.quantile(means, (0.025, 0.975)))
