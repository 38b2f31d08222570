"""KPM against loops written from the paper: Eq. 5, 8, 9, 10, the hourglass and the head."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.losses import verification_loss
from kronreid.models.backbone import BackboneOptions
from kronreid.models.kpm import KPM, Hourglass, ResidualSelfAttention, ScaleMaps

Array = np.ndarray
EVERYTHING_OFF: dict[str, Any] = {"match": False, "attention": False, "hourglass": False}


def double(tensor: Tensor | None) -> Array:
    assert tensor is not None
    return tensor.detach().double().numpy()


def normed(norm: nn.Module, vector: Array) -> Array:
    """BN of trained statistics."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    unit = (vector - double(norm.running_mean)) / np.sqrt(double(norm.running_var) + norm.eps)
    return unit * double(norm.weight) + double(norm.bias)


def attention(layer: ResidualSelfAttention, maps: Array, temperature: float) -> Array:
    """ã of Eq. 9 at every place of (C, H, W), row by row."""
    conv1, norm1, relu1, conv2, norm2, relu2, last = layer.layers
    assert isinstance(relu1, nn.ReLU)
    assert isinstance(relu2, nn.ReLU)
    scores = []
    for place in maps.reshape(len(maps), -1).T:
        x = np.maximum(normed(norm1, double(conv1.weight)[:, :, 0, 0] @ place), 0)  # type: ignore[arg-type]
        x = np.maximum(normed(norm2, double(conv2.weight)[:, :, 0, 0] @ x), 0)  # type: ignore[arg-type]
        scores.append(float(double(last.weight)[0, :, 0, 0] @ x) + float(double(last.bias)[0]))  # type: ignore[arg-type]
    exponentials = [math.exp(score / temperature) for score in scores]
    return np.array(exponentials) / sum(exponentials)


def difference(x: Array, y: Array, alpha: Array, temperature: float) -> Array:
    """Eq. 4 of two maps (C, M), divided by M.

    The inner products of Eq. 5 are those of unit vectors, the warp of Eq. 8 moves the vectors as they are,
    Eq. 10
    weighs and sums.
    """
    channels, places = x.shape
    delta = np.zeros(channels)
    for i in range(places):
        exponentials = []
        for j in range(places):
            cosine = (x[:, i] @ y[:, j]) / math.sqrt((x[:, i] @ x[:, i]) * (y[:, j] @ y[:, j]))
            exponentials.append(math.exp(cosine / temperature))
        warped = np.zeros(channels)
        for j in range(places):
            warped += exponentials[j] / sum(exponentials) * y[:, j]
        delta += alpha[i] * (x[:, i] - warped)
    return delta / places


@pytest.fixture(scope="module")
def scales(kpm: KPM, images: Tensor) -> list[ScaleMaps]:
    with torch.no_grad():
        return kpm.encode(images)[1]


def pairs(scales: list[ScaleMaps], *index: int) -> list[ScaleMaps]:
    return [scale.take(torch.tensor(index)) for scale in scales]


def test_attention_eq_9(kpm: KPM, scales: list[ScaleMaps]) -> None:
    assert kpm.attention is not None
    for scale, layer in zip(scales, kpm.attention, strict=True):
        for picture in (0, 4):
            expected = 1 + attention(layer, double(scale.maps[picture]), temperature=0.5)  # type: ignore[arg-type]
            assert scale.weight is not None
            np.testing.assert_allclose(double(scale.weight[picture]), expected, atol=1e-5)
    assert scales[2].weight is not None
    spread = scales[2].weight.amax(1) / scales[2].weight.amin(1)
    assert spread.max() > 1.001, "some places weigh more than others"


def test_differences_eq_5_8_10(kpm: KPM, scales: list[ScaleMaps]) -> None:
    first, second = (0, 3, 5), (1, 6, 0)
    with torch.no_grad():
        results = kpm.differences(pairs(scales, *first), pairs(scales, *second))
    assert [tuple(result.shape) for result in results] == [(3, channels) for channels in kpm.channels]
    for scale, result in zip(scales, results):
        for number, (a, b) in enumerate(zip(first, second)):
            x, y = (double(scale.maps[picture]).reshape(scale.maps.shape[1], -1) for picture in (a, b))
            assert scale.weight is not None
            expected = difference(x, y, double(scale.weight[a]), temperature=0.1)
            assert np.abs(expected).max() > 1e-3
            np.testing.assert_allclose(double(result[number]), expected, atol=1e-4 * np.abs(expected).max())


def test_it_matters_not_where_the_second_persons_parts_are(kpm: KPM, scales: list[ScaleMaps]) -> None:
    """The warp finds them wherever they are: shuffling the places of the second map changes nothing."""
    generator = torch.Generator().manual_seed(0)
    x, y = pairs(scales, 0, 1), pairs(scales, 2, 3)
    shuffled = []
    for scale in y:
        order = torch.randperm(scale.maps.shape[2] * scale.maps.shape[3], generator=generator)
        shuffled.append(ScaleMaps(scale.maps.flatten(2)[:, :, order].view_as(scale.maps), scale.weight))
    with torch.no_grad():
        expected, results = kpm.differences(x, y), kpm.differences(x, shuffled)
    for wanted, result in zip(expected, results):
        torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-3)


def test_scales_of_the_paper(kpm: KPM) -> None:
    """256 × 128 pixels give maps of 8 × 4, 16 × 8 and 32 × 16, each of half the channels."""
    with torch.no_grad():
        pooled, scales = kpm.encode(torch.rand(1, 3, 256, 128))
    assert [tuple(scale.maps.shape[2:]) for scale in scales] == [(8, 4), (16, 8), (32, 16)]
    assert [scale.maps.shape[1] for scale in scales] == kpm.channels == [160, 80, 40]
    assert [scale.weight.shape[1] for scale in scales if scale.weight is not None] == [32, 128, 512]
    assert pooled.shape == (1, 160)


def bilinear(maps: Array) -> Array:
    """Twice the size: an output pixel's centre lies between four input centres, whose edges are repeated."""
    channels, height, width = maps.shape
    result = np.zeros((channels, 2 * height, 2 * width))
    for row in range(2 * height):
        for column in range(2 * width):
            v, u = max((row + 0.5) / 2 - 0.5, 0), max((column + 0.5) / 2 - 0.5, 0)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            down, across = v - top, u - left
            result[:, row, column] = (1 - down) * (
                (1 - across) * maps[:, top, left] + across * maps[:, top, right]
            ) + down * ((1 - across) * maps[:, bottom, left] + across * maps[:, bottom, right])
    return result


def test_hourglass() -> None:
    """Sec. 3.2: halve the channels, double the size, add the 1×1 convolution of the map of that size."""
    torch.manual_seed(0)
    hourglass = Hourglass([5, 6, 8])
    maps = [torch.randn(1, 5, 8, 4), torch.randn(1, 6, 4, 2), torch.randn(1, 8, 2, 1)]
    results = [double(scale[0]) for scale in hourglass(maps)]
    assert hourglass.channels == [8, 4, 2]

    def convolved(layer: nn.Module, x: Array) -> Array:
        kernel, bias = double(layer.weight)[:, :, 0, 0], double(layer.bias)  # type: ignore[arg-type]
        return np.einsum("oc,chw->ohw", kernel, x) + bias[:, None, None]

    expected = [double(maps[2][0])]
    for down, lateral, fine in zip(hourglass.down, hourglass.lateral, (maps[1], maps[0])):
        expected.append(bilinear(convolved(down, expected[-1])) + convolved(lateral, double(fine[0])))
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-5)


def test_classify(kpm: KPM, scales: list[ScaleMaps]) -> None:
    """Square, BN per scale, concatenation, one linear layer; `head` is the same as one weighted sum."""
    with torch.no_grad():
        differences = kpm.differences(pairs(scales, 0, 1, 2), pairs(scales, 3, 4, 5))
        logits = kpm.classify(differences)
        torch.testing.assert_close(kpm(pairs(scales, 0, 1, 2), pairs(scales, 3, 4, 5)), logits)
    weights, constant = kpm.head()
    assert logits.shape == (3,)
    assert logits.std() > 0.05
    for pair in range(3):
        squares = [normed(norm, double(delta[pair]) ** 2) for norm, delta in zip(kpm.norms, differences)]
        expected = float(
            double(kpm.classifier.weight)[0] @ np.concatenate(squares) + double(kpm.classifier.bias)[0]
        )
        assert float(logits[pair]) == pytest.approx(expected, abs=1e-4)
        folded = sum(float(double(a) @ double(delta[pair]) ** 2) for a, delta in zip(weights, differences))
        assert folded + constant == pytest.approx(expected, abs=1e-4)
    assert not any(weight.requires_grad for weight in weights)


def test_pooled_feature(kpm: KPM, images: Tensor) -> None:
    with torch.no_grad():
        pooled, _ = kpm.encode(images)
        mean = double(kpm.backbone(images)[-1]).mean(axis=(2, 3))
    expected = mean / np.sqrt((mean**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(double(pooled), expected, atol=1e-5)
    assert kpm.dimension == pooled.shape[1]


def test_baseline_compares_means(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    """Fig. 5: subtract the maps place by place, average, square, classify."""
    model = make_kpm(**EVERYTHING_OFF)
    with torch.no_grad():
        _, scales = model.encode(images)
        (result,) = model.differences(pairs(scales, 0, 1), pairs(scales, 2, 3))
    assert len(scales) == 1
    assert scales[0].weight is None
    maps = double(scales[0].maps)
    channels, height, width = maps.shape[1:]
    for pair, (a, b) in enumerate(((0, 2), (1, 3))):
        total = np.zeros(channels)
        for row in range(height):
            for column in range(width):
                total += maps[a, :, row, column] - maps[b, :, row, column]
        np.testing.assert_allclose(double(result[pair]), total / (height * width), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "scales", "weighted"),
    [
        ({"attention": False, "hourglass": False}, 1, False),
        ({"hourglass": False}, 1, True),
        ({"attention": False}, 3, False),
        ({"match": False, "attention": False}, 3, False),
    ],
    ids=["kpm", "kpm-rsa", "kpm-hg", "baseline-hg"],
)
def test_every_row_of_table_5(
    small: Callable[[int], BackboneOptions],
    images: Tensor,
    options: dict[str, Any],
    scales: int,
    weighted: bool,
) -> None:
    model = KPM(small(2), **options).train()
    _, maps = model.encode(images)
    loss = verification_loss(model(pairs(maps, 0, 1), pairs(maps, 2, 3)), torch.tensor([True, False]))
    loss.backward()
    assert len(maps) == scales
    assert all((scale.weight is not None) == weighted for scale in maps)
    assert math.isfinite(loss.item())
    assert model.backbone.network.conv_stem.weight.grad.any()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_weight_gets_a_finite_gradient(
    small: Callable[[int], BackboneOptions], images: Tensor, precision: str
) -> None:
    torch.manual_seed(0)
    model = KPM(small(2)).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        _, scales = model.encode(images)
        logits = model(pairs(scales, 0, 1, 2, 3), pairs(scales, 1, 0, 5, 6))
    assert logits.dtype == torch.float32
    verification_loss(logits, torch.tensor([True, True, False, False])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(
        parameter.grad.any() for parameter in model.classifier.parameters() if parameter.grad is not None
    )


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": 0.0}, "temperatures 0.0"),
        ({"attention_temperature": -1.0}, "-1.0"),
        ({"match": False}, "attention"),
    ],
    ids=["tau", "tau-rsa", "attention"],
)
def test_options_refused(small: Callable[[int], BackboneOptions], wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        KPM(small(2), **wrong)
