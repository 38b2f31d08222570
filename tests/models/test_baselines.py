"""The pooled baseline against Eq. 1 of HOReID."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kronreid.errors import InputError
from kronreid.models.backbone import BackboneOptions
from kronreid.models.baselines import Pooled


def test_pooled_is_the_mean_of_a_convolution(small: Callable[[int], BackboneOptions], images: Tensor) -> None:
    model = Pooled(small(1), channels=12).eval()
    with torch.no_grad():
        embedding = model(images[:2])
        maps = model.backbone(images[:2])[-1].double().numpy()
    kernel = model.reduce.weight.detach().double().numpy()[:, :, 0, 0]
    assert model.dimension == 12
    assert list(embedding.branches) == ["global"]
    assert embedding.branches["global"] is embedding.descriptor
    assert embedding.parts == []
    for picture in range(2):
        total = np.zeros(12)
        for row in range(maps.shape[2]):
            for column in range(maps.shape[3]):
                total += kernel @ maps[picture, :, row, column]
        expected = total / np.sqrt((total**2).sum())
        np.testing.assert_allclose(embedding.descriptor[picture].double().numpy(), expected, atol=1e-5)


def test_options_refused(small: Callable[[int], BackboneOptions]) -> None:
    with pytest.raises(InputError, match="channels 0"):
        Pooled(small(1), channels=0)
