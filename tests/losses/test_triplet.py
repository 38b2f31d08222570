"""The triplet losses against loops written from the papers."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kronreid.losses.triplet import batch_hard_triplet_loss, triplet_loss

from .vectors import unit_vectors


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
