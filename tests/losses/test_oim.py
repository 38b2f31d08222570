"""OIM against loops written from its paper."""

import math

import pytest
import torch
import torch.nn.functional as F

from kronreid.losses.oim import OIMLoss

from .vectors import unit_vectors


def test_oim_follows_the_features() -> None:
    """Xiao et al. 2017: p_i = exp(v_i · x / τ) / Σ_j …, and v_t ← η v_t + (1 − η) x, picture by picture."""
    torch.manual_seed(0)
    oim = OIMLoss(5, identities=4, temperature=0.2, momentum=0.3)
    table = [[0.0] * 5 for _ in range(4)]
    for seed, labels in enumerate(([0, 2, 2, 1], [2, 2, 0, 2], [1, 1, 1, 1])):
        vectors = unit_vectors(4, seed=seed)
        total = 0.0
        for vector, label in zip(vectors.tolist(), labels):
            logits = [sum(v * x for v, x in zip(row, vector)) / 0.2 for row in table]
            total -= logits[label] - math.log(sum(map(math.exp, logits)))
        numbers = torch.tensor(labels)
        assert float(oim(vectors, numbers)) == pytest.approx(total / 4, abs=1e-5)
        for vector, label in zip(vectors.tolist(), labels):
            row = [0.3 * v + 0.7 * x for v, x in zip(table[label], vector)]
            length = math.sqrt(sum(v * v for v in row))
            table[label] = [v / length for v in row]
        torch.testing.assert_close(oim.table, torch.tensor(table))
    assert not oim.table[3].any(), "nobody has seen the fourth"


def test_oim_trains_the_features_alone() -> None:
    """The gradient is that of the table before the update; the table itself is saved, not trained."""
    oim = OIMLoss(5, identities=3, temperature=0.5)
    labels = torch.tensor([0, 1, 2, 1])
    oim.update(unit_vectors(4, seed=1), labels)
    before = oim.table.clone()
    vectors = unit_vectors(4, seed=2).requires_grad_()
    loss = oim(vectors, labels)
    assert not torch.equal(oim.table, before)
    loss.backward()
    shares = (vectors.detach() @ before.t() / 0.5).softmax(1)
    expected = (shares - F.one_hot(labels, 3)) @ before / 0.5 / 4
    torch.testing.assert_close(vectors.grad, expected)
    assert list(oim.parameters()) == []
    assert list(oim.state_dict()) == ["table"]
    assert not oim.table.requires_grad
    after = oim.table.clone()
    oim.eval()(vectors, labels)
    assert torch.equal(oim.table, after)
