"""The verification loss, and the pairs of a batch."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.losses.verification import in_batch_pairs, verification_loss

from .vectors import unit_vectors


def test_verification_loss() -> None:
    logits, same = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([True, False, False])
    expected = -(
        math.log(1 / (1 + math.exp(-2.0)))
        + math.log(1 - 1 / (1 + math.exp(1.0)))
        + math.log(1 - 1 / (1 + math.exp(-0.5)))
    )
    assert float(verification_loss(logits, same)) == pytest.approx(expected / 3)
    assert verification_loss(logits.bfloat16(), same).dtype == torch.float32


batches = st.lists(st.integers(0, 4), min_size=1, max_size=14)


def pairs_of(labels: list[int], negatives: int, seed: int, **options: Any) -> list[tuple[int, int, bool]]:
    generator = torch.Generator().manual_seed(seed)
    first, second, same = in_batch_pairs(torch.tensor(labels), negatives, generator, **options)
    assert first.shape == second.shape == same.shape
    return list(zip(first.tolist(), second.tolist(), same.tolist()))


@settings(max_examples=80, deadline=None)
@given(labels=batches, negatives=st.integers(1, 16), seed=st.integers(0, 2**40))
def test_pairs_of_a_batch(labels: list[int], negatives: int, seed: int) -> None:
    pairs = pairs_of(labels, negatives, seed)
    assert pairs == sorted(pairs, key=lambda pair: not pair[2]), "positives first"
    assert len(set(pairs)) == len(pairs), "no pair twice"
    for anchor, label in enumerate(labels):
        mine = [(second, same) for first, second, same in pairs if first == anchor]
        assert anchor not in {second for second, _ in mine}, "no picture with itself"
        assert all(same == (labels[second] == label) for second, same in mine)
        assert sum(same for _, same in mine) == (labels.count(label) > 1)
        assert sum(not same for _, same in mine) == min(negatives, len(labels) - labels.count(label))
    assert pairs_of(labels, negatives, seed) == pairs


@settings(max_examples=60, deadline=None)
@given(labels=batches, negatives=st.integers(1, 6), hard=st.integers(1, 8), seed=st.integers(0, 2**40))
def test_hard_negatives_are_the_hardest(labels: list[int], negatives: int, hard: int, seed: int) -> None:
    pooled = unit_vectors(len(labels), 8, seed % 1000)
    pairs = pairs_of(labels, negatives, seed, pooled=pooled, hard=hard)
    similarity = pooled @ pooled.t()
    for anchor, label in enumerate(labels):
        strangers = [other for other, theirs in enumerate(labels) if theirs != label]
        hardest = sorted(strangers, key=lambda other: -float(similarity[anchor, other]))[
            : min(hard, negatives)
        ]
        mine = {second for first, second, same in pairs if first == anchor and not same}
        assert len(mine) == min(negatives, len(strangers))
        assert set(hardest) <= mine


def test_partners_are_drawn_at_random() -> None:
    labels = [0] * 4 + [1] * 4
    drawn = [pairs_of(labels, 2, seed) for seed in range(60)]
    assert {second for pairs in drawn for first, second, same in pairs if first == 0 and same} == {1, 2, 3}
    assert {second for pairs in drawn for first, second, same in pairs if first == 0 and not same} == {
        4,
        5,
        6,
        7,
    }
    hard = [pairs_of(labels, 2, seed, pooled=unit_vectors(8), hard=1) for seed in range(60)]
    counts = [sum((0, second, False) in pairs for pairs in hard) for second in range(4, 8)]
    assert sorted(counts)[-1] == 60, "the hardest is always there"
    assert sorted(counts)[0] > 5, "and the other is drawn"


def test_partners_are_right_whatever_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a zero, the smallest number of the generator."""
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.zeros(shape))
    assert pairs_of([0, 1, 1], 1, 0)[:2] == [(1, 2, True), (2, 1, True)]


def test_hard_negatives_need_features() -> None:
    with pytest.raises(ValueError, match="pooled"):
        pairs_of([0, 1], 1, 0, hard=1)
