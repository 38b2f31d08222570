"""The losses against loops written from the papers, and the pairs of a batch."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kronreid.losses import (
    OIM,
    IdentityLoss,
    batch_hard_triplet_loss,
    in_batch_pairs,
    sampler_regulariser,
    triplet_loss,
    verification_loss,
)


def unit_vectors(count: int, dimension: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dimension, generator=generator))


def triplet_terms(vectors: Tensor, labels: list[int], margin: float) -> list[float]:
    """The summands of one line of HOReID's Eq. 16, one for each valid triplet (a, p, n)."""
    count, terms = len(labels), []
    for a in range(count):
        for p in range(count):
            for n in range(count):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    to_negative = sum(float(x * y) for x, y in zip(vectors[a], vectors[n]))
                    to_positive = sum(float(x * y) for x, y in zip(vectors[a], vectors[p]))
                    terms.append(max(0.0, to_negative - to_positive + margin))
    return terms


@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    margin=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_triplet_loss_eq_16(labels: list[int], margin: float, seed: int) -> None:
    vectors = unit_vectors(len(labels), seed=seed)
    terms = triplet_terms(vectors.double(), labels, margin)
    active = [term for term in terms if term > 1e-6]
    expected = sum(terms) / max(len(terms), 1)
    assert float(triplet_loss(vectors, torch.tensor(labels), margin)) == pytest.approx(expected, abs=1e-5)
    if all(term == 0 or term > 1e-6 for term in terms):  # else rounding decides which are active
        expected = sum(active) / max(len(active), 1)
        loss = triplet_loss(vectors, torch.tensor(labels), margin, average="active")
        assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_triplet_loss_averages_differ() -> None:
    """The mean over all triplets counts the easy ones too."""
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 2])
    # Two anchors; each has a negative at cosine 0.8, which costs 0.8 − 1 + 0.3 = 0.1, and one at −1: free.
    assert float(triplet_loss(vectors, labels, 0.3)) == pytest.approx(0.05)
    assert float(triplet_loss(vectors, labels, 0.3, "active")) == pytest.approx(0.1)


@pytest.mark.parametrize("average", ["all", "active"])
@pytest.mark.parametrize(
    ("labels", "margin"),
    [([1, 1, 1], 0.2), ([1, 2, 3], 0.2), ([1], 0.2), ([1, 1, 2], -2.5)],
    ids=["one identity", "nobody twice", "one picture", "all far apart"],
)
def test_triplet_loss_of_nothing_is_zero_with_gradient_zero(
    average: str, labels: list[int], margin: float
) -> None:
    vectors = unit_vectors(len(labels)).requires_grad_()
    loss = triplet_loss(vectors, torch.tensor(labels), margin, average)
    loss.backward()
    assert loss.detach() == 0
    assert vectors.grad is not None
    assert torch.equal(vectors.grad, torch.zeros_like(vectors))


def test_triplet_loss_pulls_and_pushes() -> None:
    vectors = unit_vectors(12, seed=3).requires_grad_()
    labels = torch.arange(4).repeat_interleave(3)
    loss = triplet_loss(vectors, labels)
    loss.backward()
    assert vectors.grad is not None
    better = F.normalize(vectors.detach() - 0.1 * vectors.grad)
    assert triplet_loss(better, labels) < loss.detach()
    half = triplet_loss(vectors.detach().bfloat16(), labels)
    assert half.dtype == torch.float32


@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    margin=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_batch_hard_triplet_loss(labels: list[int], margin: float, seed: int) -> None:
    """Hermans et al. 2017, Eq. 5: each picture's farthest positive and nearest negative."""
    vectors = unit_vectors(len(labels), seed=seed)

    def distance(a: int, b: int) -> float:
        return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(vectors[a], vectors[b])))

    terms = []
    for a, label in enumerate(labels):
        positives = [distance(a, p) for p, other in enumerate(labels) if other == label and p != a]
        negatives = [distance(a, n) for n, other in enumerate(labels) if other != label]
        if positives and negatives:
            terms.append(max(0.0, margin + max(positives) - min(negatives)))
    expected = sum(terms) / max(len(terms), 1)
    loss = batch_hard_triplet_loss(vectors, torch.tensor(labels), margin)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("labels", [[1, 1, 1], [1, 2, 3], [1]], ids=str)
def test_batch_hard_triplet_loss_of_nothing_is_zero_with_gradient_zero(labels: list[int]) -> None:
    vectors = unit_vectors(len(labels)).requires_grad_()
    loss = batch_hard_triplet_loss(vectors, torch.tensor(labels))
    loss.backward()
    assert loss.detach() == 0
    assert vectors.grad is not None
    assert torch.equal(vectors.grad, torch.zeros_like(vectors))


def test_batch_hard_triplet_loss_pulls_and_pushes() -> None:
    """Also where two pictures of an identity have the same vector: their distance has no slope."""
    vectors = unit_vectors(12, seed=3)
    vectors[1] = vectors[0]
    vectors.requires_grad_()
    labels = torch.arange(4).repeat_interleave(3)
    loss = batch_hard_triplet_loss(vectors, labels, 0.5)
    loss.backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()
    better = F.normalize(vectors.detach() - 0.1 * vectors.grad)
    assert batch_hard_triplet_loss(better, labels, 0.5) < loss.detach()
    assert batch_hard_triplet_loss(vectors.detach().bfloat16(), labels).dtype == torch.float32


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_identity_loss(smoothing: float) -> None:
    """Softmax and cross-entropy of normalised batches, with a share of the target spread over all."""
    torch.manual_seed(0)
    loss = IdentityLoss(5, identities=3, smoothing=smoothing)
    torch.nn.init.normal_(loss.classifier.weight)
    vectors, labels = unit_vectors(4), torch.tensor([0, 2, 2, 1])
    centred = (vectors - vectors.mean(0)) / torch.sqrt(vectors.var(0, unbiased=False) + 1e-5)
    total = 0.0
    for vector, label in zip(centred, labels):
        logits = [float(vector @ weight) for weight in loss.classifier.weight.detach()]
        logs = [logit - math.log(sum(map(math.exp, logits))) for logit in logits]
        target = [smoothing / 3 + (1 - smoothing) * (number == int(label)) for number in range(3)]
        total -= sum(share * log for share, log in zip(target, logs))
    result = loss(vectors, labels)
    assert float(result.detach()) == pytest.approx(total / 4, abs=1e-5)
    result.backward()
    assert loss.neck.bias.grad is None
    assert loss.classifier.weight.grad is not None


def test_oim_follows_the_features() -> None:
    """Xiao et al. 2017: p_i = exp(v_i · x / τ) / Σ_j …, and v_t ← η v_t + (1 − η) x, picture by picture."""
    torch.manual_seed(0)
    oim = OIM(5, identities=4, temperature=0.2, momentum=0.3)
    table = [[0.0] * 5 for _ in range(4)]
    for seed, labels in enumerate(([0, 2, 2, 1], [2, 2, 0, 2], [1, 1, 1, 1])):
        vectors = unit_vectors(4, seed=seed)
        total = 0.0
        for vector, label in zip(vectors.tolist(), labels):
            logits = [sum(v * x for v, x in zip(row, vector)) / 0.2 for row in table]
            total -= logits[label] - math.log(sum(map(math.exp, logits)))
        numbers = torch.tensor(labels)
        assert float(oim(vectors, numbers)) == pytest.approx(total / 4, abs=1e-5)
        oim.update(vectors, numbers)
        for vector, label in zip(vectors.tolist(), labels):
            row = [0.3 * v + 0.7 * x for v, x in zip(table[label], vector)]
            length = math.sqrt(sum(v * v for v in row))
            table[label] = [v / length for v in row]
        torch.testing.assert_close(oim.table, torch.tensor(table))
    assert not oim.table[3].any(), "nobody has seen the fourth"


def test_oim_trains_the_features_alone() -> None:
    """The gradient is that of the table before the update; the table itself is saved, not trained."""
    oim = OIM(5, identities=3, temperature=0.5)
    labels = torch.tensor([0, 1, 2, 1])
    oim.update(unit_vectors(4, seed=1), labels)
    before = oim.table.clone()
    vectors = unit_vectors(4, seed=2).requires_grad_()
    loss = oim(vectors, labels)
    oim.update(vectors, labels)
    assert not torch.equal(oim.table, before)
    loss.backward()
    shares = (vectors.detach() @ before.t() / 0.5).softmax(1)
    expected = (shares - F.one_hot(labels, 3)) @ before / 0.5 / 4
    torch.testing.assert_close(vectors.grad, expected)
    assert list(oim.parameters()) == []
    assert list(oim.state_dict()) == ["table"]
    assert not oim.table.requires_grad


def test_sampler_regulariser_eq_13() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures, channels, count, margin = 3, 4, 5, 0.1
    parts = [torch.randn(pictures, channels, count, generator=generator) + 0.3 for _ in range(2)]
    total = 0.0
    for picture in range(pictures):
        double_sum = 0.0
        for level in parts:
            for i in range(count):
                for j in range(count):
                    if i != j:
                        a, b = level[picture, :, i].double(), level[picture, :, j].double()
                        cosine = float((a * b).sum()) / math.sqrt(float((a * a).sum() * (b * b).sum()))
                        double_sum += max(0.0, cosine - margin)
        total += double_sum / (2 * len(parts) * count * (count - 1))
    result = sampler_regulariser(parts, margin)
    assert total > 0.05
    assert float(result) == pytest.approx(total / pictures, abs=1e-6)


def test_sampler_regulariser_bounds() -> None:
    """Zero for parts that differ and for a single one; (1 − m) / 2 where all are the same."""
    different = torch.eye(4)[None]
    same = torch.ones(2, 4, 3)
    assert float(sampler_regulariser([different, different], 0.2)) == 0
    assert float(sampler_regulariser([same[:, :, :1]], 0.2)) == 0
    assert float(sampler_regulariser([same, same], 0.2)) == pytest.approx(0.4)
    assert sampler_regulariser([same.bfloat16()]).dtype == torch.float32


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
