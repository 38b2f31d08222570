"""What HOReID compares with, against loops: Eq. 1, and attention without a high-order product."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kronreid.errors import InputError
from kronreid.models.backbone import BackboneOptions
from kronreid.models.baselines import Concatenated, Pooled


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


@pytest.mark.parametrize("parts", [0, 3])
def test_concatenated_levels(small: Callable[[int], BackboneOptions], images: Tensor, parts: int) -> None:
    torch.manual_seed(0)
    model = Concatenated(small(1), order=2, channels=6, dimension=4, parts=parts).eval()
    with torch.no_grad():
        embedding = model(images[:2])
        levels = [level.double().numpy() for level in model.levels(images[:2])]
    assert model.dimension == embedding.descriptor.shape[1] == (8 if parts else 4)
    assert list(embedding.branches) == ["global", "local"][: 2 if parts else 1]

    def mixed(layer: torch.nn.Module | None, picture: int) -> np.ndarray:
        """A layer's outputs at every place of the levels, side by side: (outputs, places)."""
        assert isinstance(layer, torch.nn.Conv2d)
        together = np.concatenate([level[picture].reshape(6, -1) for level in levels])
        return layer.weight.detach().double().numpy()[:, :, 0, 0] @ together

    for picture in range(2):
        expected = [mixed(model.whole, picture).mean(1)]
        if parts:
            exponentials = np.exp(mixed(model.sampler, picture))
            where = exponentials / exponentials.sum(1, keepdims=True)
            of_parts = [mixed(model.local, picture) @ weights for weights in where]
            np.testing.assert_allclose(
                embedding.parts[0][picture].double().numpy().T, of_parts, rtol=1e-4, atol=1e-5
            )
            expected.append(np.mean(of_parts, axis=0))
        expected = [vector / np.sqrt((vector**2).sum()) for vector in expected]
        for branch, vector in zip(embedding.branches.values(), expected, strict=True):
            np.testing.assert_allclose(branch[picture].double().numpy(), vector, atol=1e-5)
        both = np.concatenate(expected) / np.sqrt(len(expected))
        np.testing.assert_allclose(embedding.descriptor[picture].double().numpy(), both, atol=1e-5)


def test_options_refused(small: Callable[[int], BackboneOptions]) -> None:
    with pytest.raises(InputError, match="channels 0"):
        Pooled(small(1), channels=0)
    for wrong in ({"order": 0}, {"parts": -1}, {"dimension": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Concatenated(small(1), **wrong)
