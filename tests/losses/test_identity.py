"""The classification of identities against loops."""

import math

import pytest
import torch

from kronreid.losses.identity import IdentityLoss

from .vectors import unit_vectors


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
