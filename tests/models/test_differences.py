"""The ways that make differences, against loops written from the paper: Eq. 5, 8, 10 and Table 1."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from kronreid.models.differences import Differences
from kronreid.models.kpm import KPM
from kronreid.models.pairs import ScaleMaps

from .loops import Array, double, normed

PAIRS = ((0, 2), (1, 3))


def difference(x: Array, y: Array, alpha: Array, temperature: float, cosine: bool = True) -> Array:
    """Eq. 4 of two maps (C, M), divided by M.

    The inner products of Eq. 5 are those of unit vectors, or of the vectors as they are. The warp of Eq. 8
    moves the vectors as they are, and Eq. 10 weighs and sums.
    """
    channels, places = x.shape
    delta = np.zeros(channels)
    for i in range(places):
        exponentials = []
        for j in range(places):
            norms = math.sqrt((x[:, i] @ x[:, i]) * (y[:, j] @ y[:, j]))
            exponentials.append(math.exp((x[:, i] @ y[:, j]) / (norms if cosine else 1) / temperature))
        warped = np.zeros(channels)
        for j in range(places):
            warped += exponentials[j] / sum(exponentials) * y[:, j]
        delta += alpha[i] * (x[:, i] - warped)
    return delta / places


@pytest.fixture(scope="module")
def scales(kpm: KPM, images: Tensor) -> list[ScaleMaps]:
    with torch.no_grad():
        return kpm.encode(images).scales


@torch.no_grad()
def differences(model: KPM, scales: list[ScaleMaps], pairs: Sequence[tuple[int, int]]) -> list[Tensor]:
    """δ of some pairs at every scale."""
    assert isinstance(model.way, Differences)
    first, second = torch.tensor(pairs).T
    return [model.way.difference(scale, first, second) for scale in scales]


def joined(scales: list[ScaleMaps], others: list[ScaleMaps]) -> list[ScaleMaps]:
    """The pictures of both, one after the other."""
    result = []
    for a, b in zip(scales, others, strict=True):
        assert a.weight is not None
        assert b.weight is not None
        result.append(ScaleMaps(torch.cat([a.maps, b.maps]), torch.cat([a.weight, b.weight])))
    return result


def test_differences_eq_5_8_10(kpm: KPM, scales: list[ScaleMaps]) -> None:
    first, second = (0, 3, 5), (1, 6, 0)
    results = differences(kpm, scales, list(zip(first, second)))
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
    expected = differences(kpm, scales, [(0, 2), (1, 3)])
    results = differences(kpm, joined(scales, shuffled), [(0, 9), (1, 10)])
    for wanted, result in zip(expected, results):
        torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("match", "normalisation"),
    [(True, "square-after"), (True, "absolute"), (True, "square-before"), (False, "square-before")],
)
@pytest.mark.parametrize("scale_losses", [False, True])
def test_logits(
    make_kpm: Callable[..., KPM], images: Tensor, match: bool, normalisation: str, scale_losses: bool
) -> None:
    """Square, BN per scale, concatenation, one linear layer (or one per scale); `head` is the same as
    weighted sums, and `combine` what makes one logit of them."""
    model = make_kpm(match=match, attention=False, normalisation=normalisation, scale_losses=scale_losses)
    first, second = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    way = model.way
    assert isinstance(way, Differences)
    with torch.no_grad():
        pictures = model.encode(images)
        found = differences(model, pictures.scales, [(0, 3), (1, 4), (2, 5)])
        logits = way.logits(pictures, first, second)
        final = model(pictures, first, second)
        head = [(double(a), float(b)) for a, b in way.head()]
    assert len(logits) == (3 if scale_losses else 1)
    magnitude = {"square-after": np.square, "absolute": np.abs, "square-before": np.array}[normalisation]
    layers = list(model.classifier) if scale_losses else [model.classifier]  # type: ignore[arg-type]
    assert torch.stack(logits).std() > 0.05
    for pair in range(3):
        sizes = [magnitude(double(delta[pair])) for delta in found]
        normal = [normed(norm, size) for norm, size in zip(model.norms, sizes)]
        inputs = normal if scale_losses else [np.concatenate(normal)]
        expected = [
            float(double(layer.weight)[0] @ x + double(layer.bias)[0]) for layer, x in zip(layers, inputs)
        ]
        assert [float(logit[pair]) for logit in logits] == pytest.approx(expected, abs=1e-4)
        mean = float(np.mean([1 / (1 + math.exp(-logit)) for logit in expected]))
        assert float(final[pair].sigmoid()) == pytest.approx(mean, abs=1e-5)
        shares = [torch.tensor(float(a @ size) + b) for (a, b), size in zip(head, sizes)]
        assert float(way.combine(shares)) == pytest.approx(float(final[pair]), abs=1e-3)


def test_plain_inner_products(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    """Eq. 5 and 6 as they are printed."""
    model = make_kpm(similarity="product", temperature=40.0)
    with torch.no_grad():
        scales = model.encode(images).scales
    for scale, result in zip(scales, differences(model, scales, PAIRS), strict=True):
        assert scale.weight is not None
        for pair, (a, b) in enumerate(PAIRS):
            x, y = (double(scale.maps[picture]).reshape(scale.maps.shape[1], -1) for picture in (a, b))
            expected = difference(x, y, double(scale.weight[a]), temperature=40.0, cosine=False)
            np.testing.assert_allclose(double(result[pair]), expected, atol=1e-4 * np.abs(expected).max())
            assert not np.allclose(expected, difference(x, y, double(scale.weight[a]), 40.0), rtol=1e-2)


def test_the_first_picture_may_be_warped_onto_the_second(
    make_kpm: Callable[..., KPM], images: Tensor
) -> None:
    """With the same weights, the logit of (a, b) is then that of (b, a)."""
    model, turned = make_kpm(), make_kpm(warped="first")
    turned.load_state_dict(model.state_dict())
    with torch.no_grad():
        pictures = model.encode(images)
        first, second = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
        expected = model(pictures, second, first)
        assert torch.equal(turned(pictures, first, second), expected)
        assert not torch.allclose(model(pictures, first, second), expected, atol=1e-2)
        x, y = pictures.scales[0].maps[:1], pictures.scales[0].maps[1:2]
        beta = turned.way.correspondence(x, y)
    assert torch.equal(beta, model.way.correspondence(y, x).transpose(1, 2))
    torch.testing.assert_close(beta.sum(1), torch.ones_like(beta[:, 0]))


@pytest.mark.parametrize("normalisation", ["none", "concatenated", "square-after"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_without_a_square_the_logit_is_linear_in_both_pictures(
    make_kpm: Callable[..., KPM], images: Tensor, normalisation: str, batch_norm: bool
) -> None:
    """Sec. 4.3: one number of the first picture plus one of the second. So nothing tells whether they agree:
    f(a, b) + f(c, d) = f(a, d) + f(c, b). With a square it is not so."""
    model = make_kpm(
        match=False, attention=False, hourglass=False, normalisation=normalisation, batch_norm=batch_norm
    )
    with torch.no_grad():
        pictures = model.encode(images)
        a_b, c_d, a_d, c_b = model(pictures, torch.tensor([0, 1, 0, 1]), torch.tensor([2, 3, 3, 2])).double()
        assert isinstance(model.way, Differences)
        means = double(pictures.scales[0].maps).mean((2, 3))
        (a, b) = model.way.head()[0]
    apart = float((a_b + c_d) - (a_d + c_b))
    assert (abs(apart) > 1e-2) == (normalisation == "square-after")
    difference = means[0] - means[2]
    read = {
        "none": difference,
        "concatenated": np.concatenate([means[0], means[2]]),
        "square-after": difference**2,
    }[normalisation]
    assert float(a_b) == pytest.approx(float(double(a) @ read + float(b)), abs=1e-3)
    assert batch_norm == any("norms" in name for name in model.state_dict())


def test_baseline_compares_means(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    """Fig. 5: subtract the maps place by place, average, square, classify."""
    model = make_kpm(match=False, attention=False, hourglass=False)
    with torch.no_grad():
        scales = model.encode(images).scales
    (result,) = differences(model, scales, PAIRS)
    assert len(scales) == 1
    assert scales[0].weight is None
    maps = double(scales[0].maps)
    channels, height, width = maps.shape[1:]
    for pair, (a, b) in enumerate(PAIRS):
        total = np.zeros(channels)
        for row in range(height):
            for column in range(width):
                total += maps[a, :, row, column] - maps[b, :, row, column]
        np.testing.assert_allclose(double(result[pair]), total / (height * width), atol=1e-5)


def test_square_before_pooling(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    """Table 1: the squares of the places' differences are averaged, not the differences squared."""
    model = make_kpm(match=False, attention=False, normalisation="square-before")
    with torch.no_grad():
        scales = model.encode(images).scales
    results = differences(model, scales, PAIRS)
    for scale, result in zip(scales, results, strict=True):
        maps = double(scale.maps).reshape(7, scale.maps.shape[1], -1)
        for pair, (a, b) in enumerate(PAIRS):
            squares = sum((x - y) ** 2 for x, y in zip(maps[a].T, maps[b].T)) / maps.shape[2]
            np.testing.assert_allclose(double(result[pair]), squares, rtol=1e-4, atol=1e-5)


def test_square_before_pooling_after_the_warp(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    """Σ_i α_i (x_i − Σ_j β_ij y_j)² / M at every scale."""
    model = make_kpm(normalisation="square-before", temperature=0.1)
    with torch.no_grad():
        scales = model.encode(images).scales
    results = differences(model, scales, PAIRS)
    for scale, result in zip(scales, results, strict=True):
        maps, places = double(scale.maps).reshape(7, scale.maps.shape[1], -1), scale.maps[0, 0].numel()
        alpha = double(scale.weight)
        for pair, (a, b) in enumerate(PAIRS):
            # `difference` of one place alone, weighed by 1, is that place's difference divided by M.
            alone = [difference(maps[a], maps[b], np.eye(places)[i], 0.1) * places for i in range(places)]
            expected = sum(weight * delta**2 for weight, delta in zip(alpha[a], alone)) / places
            np.testing.assert_allclose(double(result[pair]), expected, rtol=1e-3, atol=1e-5)
