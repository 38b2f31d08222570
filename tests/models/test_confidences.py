"""Matching confidences as what is compared, against loops: Eq. 5 and 7."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kronreid.models.confidences import ConfidenceClassifier
from kronreid.models.kpm import KPM
from kronreid.models.pairs import Encoded, ScaleMaps


def test_confidences_are_what_is_classified(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    """Without the warp, β alone decides: one channel per place of x, its confidences as a map over y."""
    model = make_kpm(attention=False, hourglass=False, warp=False)
    torch.manual_seed(0)
    features = torch.randn(2, 20, 8, 4)
    pictures = Encoded(torch.zeros(2, 20), [ScaleMaps(features, None)])
    with torch.no_grad():
        (logits,) = model.way.logits(pictures, torch.tensor([0, 1]), torch.tensor([1, 0]))
        for pair, (a, b) in enumerate(((0, 1), (1, 0))):
            x, y = features[a].flatten(1), features[b].flatten(1)
            beta = torch.zeros(1, 32, 8, 4)
            for i in range(32):
                cosines = (x[:, i] @ y) / (x[:, i].norm() * y.norm(dim=0))
                beta[0, i] = torch.softmax(cosines / model.way.temperature, dim=0).view(8, 4)
            expected = model.classifier.layers(beta)[0, 0]
            torch.testing.assert_close(logits[pair], expected, atol=1e-4, rtol=1e-4)


def test_confidences_of_other_sizes_are_averaged_to_8_by_4() -> None:
    """Twice the size in both directions: each of the 32 × 32 confidences is the mean of 4 × 4 of them."""
    torch.manual_seed(0)
    classifier = ConfidenceClassifier().eval()
    nn.init.normal_(classifier.layers[-1].weight)
    beta = torch.rand(2, 128, 128)
    expected = beta.view(2, 8, 2, 4, 2, 8, 2, 4, 2).mean((2, 4, 6, 8)).reshape(2, 32, 32)
    with torch.no_grad():
        large, small = classifier(beta, (16, 8)), classifier(expected, (8, 4))
    torch.testing.assert_close(large, small)
    assert (large[0] - large[1]).abs() > 1e-6
    assert classifier(torch.rand(3, 49, 49), (7, 7)).shape == (3,)
