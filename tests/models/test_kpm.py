"""KPM against loops written from the paper: Eq. 9, the hourglass; and every row of its tables learns."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.losses.verification import verification_loss
from kronreid.models.backbone import BackboneOptions
from kronreid.models.kpm import KPM, Hourglass, ResidualSelfAttention

from .loops import Array, double, normed

EVERYTHING_OFF: dict[str, Any] = {"match": False, "attention": False, "hourglass": False}


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


def test_attention_begins_with_all_places_alike() -> None:
    torch.manual_seed(0)
    layer = ResidualSelfAttention(32, temperature=1.0)
    weight = layer(20 * torch.randn(4, 32, 6, 3)) - 1
    assert weight.sum(1).allclose(torch.ones(4))
    assert weight.max() < 2 * weight.min()


def test_attention_eq_9(kpm: KPM, images: Tensor) -> None:
    assert kpm.attention is not None
    with torch.no_grad():
        scales = kpm.encode(images).scales
    for scale, layer in zip(scales, kpm.attention, strict=True):
        for picture in (0, 4):
            expected = 1 + attention(layer, double(scale.maps[picture]), temperature=0.5)  # type: ignore[arg-type]
            assert scale.weight is not None
            np.testing.assert_allclose(double(scale.weight[picture]), expected, atol=1e-5)
    assert scales[2].weight is not None
    spread = scales[2].weight.amax(1) / scales[2].weight.amin(1)
    assert spread.max() > 1.001, "some places weigh more than others"


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


def test_pooled_feature(kpm: KPM, images: Tensor) -> None:
    with torch.no_grad():
        pooled = kpm.vectors(images)
        assert torch.equal(kpm.encode(images).pooled, pooled)
        mean = double(kpm.backbone(images)[-1]).mean(axis=(2, 3))
    expected = mean / np.sqrt((mean**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(double(pooled), expected, atol=1e-5)
    assert kpm.dimension == pooled.shape[1]


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
    "baseline-no-square": (EVERYTHING_OFF | {"normalisation": "none"}, 1),
    "baseline-concatenated": (EVERYTHING_OFF | {"normalisation": "concatenated"}, 1),
    "baseline-no-bn": (EVERYTHING_OFF | {"batch_norm": False}, 1),
    "kpm-rsa-hg-product": ({"similarity": "product"}, 3),
    "kpm-rsa-hg-before-product": ({"normalisation": "square-before", "similarity": "product"}, 3),
    "kpm-rsa-hg-first-warped": ({"warped": "first"}, 3),
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
        pictures = model.encode(images)
        logits = model.way.logits(pictures, torch.tensor([0, 1, 2, 3]), torch.tensor([1, 0, 5, 6]))
    assert len(pictures.scales) == scales
    assert all((scale.weight is not None) == (model.attention is not None) for scale in pictures.scales)
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
        ({"normalisation": "none"}, "set match: false"),
        ({"attention": False, "normalisation": "concatenated"}, "set match: false"),
        ({"similarity": "euclid"}, "similarity 'euclid' is unknown; one of cosine, product"),
        ({"warped": "both"}, "warped 'both' is unknown; one of second, first"),
        ({"warp": False, "attention": False, "hourglass": False, "batch_norm": False}, "set warp: true"),
    ],
)
def test_options_refused(small: Callable[[int], BackboneOptions], wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match="^model: .*" + named):
        KPM(small(2), **wrong)
