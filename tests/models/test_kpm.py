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
from kronreid.models.kpm import (
    KPM,
    ConfidenceClassifier,
    Hourglass,
    ResidualSelfAttention,
    ScaleMaps,
    mean_confidence,
)

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


def index(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


def joined(scales: list[ScaleMaps], others: list[ScaleMaps]) -> list[ScaleMaps]:
    """The pictures of both, one after the other."""
    result = []
    for a, b in zip(scales, others, strict=True):
        assert a.weight is not None
        assert b.weight is not None
        result.append(ScaleMaps(torch.cat([a.maps, b.maps]), torch.cat([a.weight, b.weight])))
    return result


def test_attention_begins_with_all_places_alike() -> None:
    torch.manual_seed(0)
    layer = ResidualSelfAttention(32, temperature=1.0)
    weight = layer(20 * torch.randn(4, 32, 6, 3)) - 1
    assert weight.sum(1).allclose(torch.ones(4))
    assert weight.max() < 2 * weight.min()


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
        results = kpm.differences(scales, index(*first), index(*second))
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
    shuffled = []
    for scale in scales:
        order = torch.randperm(scale.maps.shape[2] * scale.maps.shape[3], generator=generator)
        shuffled.append(ScaleMaps(scale.maps.flatten(2)[:, :, order].view_as(scale.maps), scale.weight))
    with torch.no_grad():
        expected = kpm.differences(scales, index(0, 1), index(2, 3))
        results = kpm.differences(joined(scales, shuffled), index(0, 1), index(9, 10))
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


@pytest.mark.parametrize(
    ("match", "normalisation"),
    [(True, "square-after"), (True, "absolute"), (True, "square-before"), (False, "square-before")],
)
@pytest.mark.parametrize("scale_losses", [False, True])
def test_classify(
    make_kpm: Callable[..., KPM], images: Tensor, match: bool, normalisation: str, scale_losses: bool
) -> None:
    """Square, BN per scale, concatenation, one linear layer (or one per scale); `head` is the same as
    weighted sums, and `combine` what makes one logit of them."""
    model = make_kpm(match=match, attention=False, normalisation=normalisation, scale_losses=scale_losses)
    first, second = index(0, 1, 2), index(3, 4, 5)
    with torch.no_grad():
        _, scales = model.encode(images)
        differences = model.differences(scales, first, second)
        logits = model.classify(differences)
        final = model(scales, first, second)
    assert len(logits) == (3 if scale_losses else 1)
    magnitude = {"square-after": np.square, "absolute": np.abs, "square-before": np.array}[normalisation]
    weights, constants = model.head()
    assert not any(weight.requires_grad for weight in weights)
    layers = list(model.classifier) if scale_losses else [model.classifier]  # type: ignore[arg-type]
    assert torch.stack(logits).std() > 0.05
    for pair in range(3):
        sizes = [magnitude(double(delta[pair])) for delta in differences]
        normal = [normed(norm, size) for norm, size in zip(model.norms, sizes)]
        inputs = normal if scale_losses else [np.concatenate(normal)]
        expected = [
            float(double(layer.weight)[0] @ x + double(layer.bias)[0]) for layer, x in zip(layers, inputs)
        ]
        assert [float(logit[pair]) for logit in logits] == pytest.approx(expected, abs=1e-4)
        mean = float(np.mean([1 / (1 + math.exp(-logit)) for logit in expected]))
        assert float(final[pair].sigmoid()) == pytest.approx(mean, abs=1e-5)
        shares = [float(double(a) @ size) + b for a, b, size in zip(weights, constants, sizes)]
        combined = model.combine([torch.tensor(share) for share in shares])
        assert float(combined) == pytest.approx(float(final[pair]), abs=1e-3)


def test_the_mean_of_confidences_stays_finite() -> None:
    logits = [torch.tensor([-200.0, 300.0, 1.0]), torch.tensor([-210.0, 280.0, -2.0])]
    expected = (1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(2))) / 2
    found = mean_confidence(logits).tolist()
    assert found[0] == pytest.approx(-200 + math.log((1 + math.exp(-10)) / 2), abs=1e-3)
    assert found[1] == pytest.approx(280 - math.log((1 + math.exp(-20)) / 2), abs=1e-3)
    assert found[2] == pytest.approx(math.log(expected / (1 - expected)), abs=1e-5)
    assert mean_confidence(logits[:1]) is logits[0]


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
        (result,) = model.differences(scales, index(0, 1), index(2, 3))
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


def test_square_before_pooling(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    """Table 1: the squares of the places' differences are averaged, not the differences squared."""
    model = make_kpm(**EVERYTHING_OFF | {"hourglass": True}, normalisation="square-before")
    with torch.no_grad():
        _, scales = model.encode(images)
        results = model.differences(scales, index(0, 1), index(2, 3))
    for scale, result in zip(scales, results, strict=True):
        maps = double(scale.maps).reshape(7, scale.maps.shape[1], -1)
        for pair, (a, b) in enumerate(((0, 2), (1, 3))):
            squares = sum((x - y) ** 2 for x, y in zip(maps[a].T, maps[b].T)) / maps.shape[2]
            np.testing.assert_allclose(double(result[pair]), squares, rtol=1e-4, atol=1e-5)


def test_square_before_pooling_after_the_warp(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    """Σ_i α_i (x_i − Σ_j β_ij y_j)² / M at every scale."""
    model = make_kpm(normalisation="square-before", temperature=0.1)
    with torch.no_grad():
        _, scales = model.encode(images)
        results = model.differences(scales, index(0, 1), index(2, 3))
    for scale, result in zip(scales, results, strict=True):
        maps, places = double(scale.maps).reshape(7, scale.maps.shape[1], -1), scale.maps[0, 0].numel()
        alpha = double(scale.weight)
        for pair, (a, b) in enumerate(((0, 2), (1, 3))):
            # `difference` of one place alone, weighed by 1, is that place's difference divided by M.
            alone = [difference(maps[a], maps[b], np.eye(places)[i], 0.1) * places for i in range(places)]
            expected = sum(weight * delta**2 for weight, delta in zip(alpha[a], alone)) / places
            np.testing.assert_allclose(double(result[pair]), expected, rtol=1e-3, atol=1e-5)


def test_confidences_are_what_is_classified(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    """Without the warp, β alone decides: one channel per place of x, its confidences as a map over y."""
    model = make_kpm(attention=False, hourglass=False, warp=False)
    assert isinstance(model.classifier, ConfidenceClassifier)
    torch.manual_seed(0)
    features = torch.randn(2, 20, 8, 4)
    with torch.no_grad():
        (logits,) = model.logits([ScaleMaps(features, None)], index(0, 1), index(1, 0))
        for pair, (a, b) in enumerate(((0, 1), (1, 0))):
            x, y = features[a].flatten(1), features[b].flatten(1)
            beta = torch.zeros(1, 32, 8, 4)
            for i in range(32):
                cosines = (x[:, i] @ y) / (x[:, i].norm() * y.norm(dim=0))
                beta[0, i] = torch.softmax(cosines / model.temperature, dim=0).view(8, 4)
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


ROWS_OF_TABLES: dict[str, tuple[dict[str, Any], int]] = {
    "kpm": ({"attention": False, "hourglass": False}, 1),
    "kpm-rsa": ({"hourglass": False}, 1),
    "kpm-hg": ({"attention": False}, 3),
    "kpm-no-warp": ({"attention": False, "hourglass": False, "warp": False}, 1),
    "kpm-rsa-hg-absolute": ({"normalisation": "absolute"}, 3),
    "kpm-rsa-hg-before": ({"normalisation": "square-before"}, 3),
    "kpm-rsa-hg-ml": ({"scale_losses": True}, 3),
    "baseline-hg": ({"match": False, "attention": False}, 3),
    "baseline-hg-ml": ({"match": False, "attention": False, "scale_losses": True}, 3),
    "baseline-absolute": (EVERYTHING_OFF | {"normalisation": "absolute"}, 1),
    "baseline-square-before": (EVERYTHING_OFF | {"normalisation": "square-before"}, 1),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("row", ROWS_OF_TABLES)
def test_every_row_learns(
    small: Callable[[int], BackboneOptions], images: Tensor, row: str, precision: str
) -> None:
    options, scales = ROWS_OF_TABLES[row]
    torch.manual_seed(0)
    model = KPM(small(2), **options).train()
    for module in model.modules():  # the last layers start so small that rounding could hide a gradient
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.1)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        _, maps = model.encode(images)
        logits = model.logits(maps, index(0, 1, 2, 3), index(1, 0, 5, 6))
    assert len(maps) == scales
    assert all((scale.weight is not None) == (model.attention is not None) for scale in maps)
    assert len(logits) == (3 if options.get("scale_losses") else 1)
    same = torch.tensor([True, True, False, False])
    torch.stack([verification_loss(one, same) for one in logits]).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.backbone.network.conv_stem.weight.grad.any()
    assert all(parameter.grad.any() for parameter in model.classifier.parameters())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": 0.0}, "temperature: 0.0"),
        ({"temperature": math.nan}, "temperature: nan"),
        ({"attention_temperature": -1.0}, "attention_temperature: -1.0"),
        ({"match": False}, "attention"),
        ({"warp": False}, "attention"),
        ({"warp": False, "attention": False}, "hourglass: false"),
        (EVERYTHING_OFF | {"warp": False}, "match: true"),
        ({"warp": False, "attention": False, "hourglass": False, "normalisation": "absolute"}, "warp: false"),
        ({"normalisation": "cube"}, "normalisation 'cube'"),
        ({"hourglass": False, "scale_losses": True}, "scale_losses"),
    ],
)
def test_options_refused(small: Callable[[int], BackboneOptions], wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match="^model: .*" + named):
        KPM(small(2), **wrong)
