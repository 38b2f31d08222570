"""The numbers behind the papers' figures, against their definitions written as loops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.explain import parts
from kronreid.models.baselines import Pooled
from kronreid.models.horeid import HOReID
from kronreid.models.loading import wrap
from kronreid.models.storage import build

SIZE = InputOptions(height=64, width=32)
BACKBONE = {"name": "test_resnet", "weights": "none"}


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def shares(*shape: int, seed: int = 0) -> np.ndarray:
    """Maps (..., h, w) that sum to 1 each."""
    values = np.random.default_rng(seed).random(shape) ** 4
    return values / values.sum(axis=(-2, -1), keepdims=True)


def embedder(**options) -> object:
    torch.manual_seed(0)
    arguments = {"backbone": BACKBONE, "channels": 12, "dimension": 16, "parts": 5, **options}
    return wrap(build("horeid", arguments), SIZE)


def test_similarities_are_inner_products_of_maps_scaled_by_their_pooled_norms(
    people: list[Image.Image],
) -> None:
    a, b = random(5, 3, 2), random(5, 4, 2, seed=1)
    found = parts.place_similarities(a, b)
    assert found.shape == (6, 8)
    for i in range(6):
        for j in range(8):
            x = a[:, i // 2, i % 2] / np.linalg.norm(a.mean(axis=(1, 2)))
            y = b[:, j // 2, j % 2] / np.linalg.norm(b.mean(axis=(1, 2)))
            assert found[i, j] == pytest.approx(x @ y)


@given(st.integers(0, 1000))
def test_the_mean_similarity_is_the_cosine_of_the_pooled_descriptors(seed: int) -> None:
    a, b = random(4, 3, 3, seed=seed), random(4, 3, 3, seed=seed + 1)
    pooled_a, pooled_b = a.mean(axis=(1, 2)), b.mean(axis=(1, 2))
    cosine = pooled_a @ pooled_b / np.linalg.norm(pooled_a) / np.linalg.norm(pooled_b)
    assert parts.place_similarities(a, b).mean() == pytest.approx(cosine)


def test_share_of_the_strongest_by_hand() -> None:
    values = np.array([[5.0, 3.0], [2.0, -7.0]])
    assert parts.share_of_strongest(values, 0.25) == pytest.approx(0.5)
    assert parts.share_of_strongest(values, 0.5) == pytest.approx(0.8)
    assert parts.share_of_strongest(values, 0.001) == pytest.approx(0.5)  # at least one pair
    assert parts.share_of_strongest(values, 1.0) == pytest.approx(1.0)


def test_components_are_the_covariances_eigenvectors() -> None:
    maps = random(2, 6, 5, 3) * np.array([9, 5, 3, 0.1, 0.1, 0.1])[:, None, None]
    found = parts.principal_components(maps)
    assert found.shape == (2, 5, 3, 3)
    rows = maps.transpose(0, 2, 3, 1).reshape(-1, 6)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    for index in range(3):
        axis = vectors[:, np.argsort(values)[::-1][index]]
        projected = (rows - rows.mean(axis=0)) @ axis
        projected *= 1 if (projected**3).sum() > 0 else -1
        low, high = np.percentile(projected, [1, 99])
        expected = np.clip((projected - low) / (high - low), 0, 1)
        np.testing.assert_allclose(found[..., index].ravel(), expected, atol=1e-9)


@given(st.integers(0, 1000))
def test_components_do_not_depend_on_how_the_features_are_turned(seed: int) -> None:
    maps = random(1, 5, 6, 4, seed=seed) * np.array([7, 4, 2, 1, 0.5])[:, None, None]
    turn, _ = np.linalg.qr(random(5, 5, seed=seed + 1))
    turned = np.einsum("dc,nchw->ndhw", turn, maps)
    np.testing.assert_allclose(
        parts.principal_components(turned), parts.principal_components(maps), atol=1e-6
    )


def test_components_of_a_flat_map_are_finite() -> None:
    assert np.isfinite(parts.principal_components(np.ones((1, 4, 3, 2)))).all()


def test_the_first_component_is_lightness_and_the_second_blue_to_yellow() -> None:
    greys = parts.component_colours(np.array([[level, 0.5, 0.5] for level in (0.0, 0.5, 1.0)]))
    assert greys.dtype == np.uint8
    assert (np.ptp(greys.astype(int), axis=1) <= 1).all()
    assert greys[0, 0] < greys[1, 0] < greys[2, 0]
    blue, yellow = parts.component_colours(np.array([[0.5, 0.0, 0.5], [0.5, 1.0, 0.5]])).astype(int)
    assert blue[2] > blue[0] + 50
    assert yellow[0] > yellow[2] + 50


def test_places_covered() -> None:
    assert parts.places_covered(np.full((3, 4), 1 / 12)) == pytest.approx(12)
    single = np.zeros((3, 4))
    single[1, 2] = 1
    assert parts.places_covered(single) == pytest.approx(1)
    single[0, 0] = single[1, 2] = 0.5
    np.testing.assert_allclose(parts.places_covered(np.stack([single, single])), [2, 2])


def test_places_sampled_counts_different_peaks() -> None:
    maps = np.zeros((2, 4, 3, 3))
    for part, place in enumerate((0, 4, 4, 8)):
        maps[0, part].flat[place] = 1
        maps[1, part].flat[5] = 1
    assert parts.places_sampled(maps).tolist() == [3, 1]


def test_share_at_the_rim() -> None:
    assert parts.share_at_rim(np.full((1, 2, 4, 5), 1 / 20))[0] == pytest.approx(14 / 20)
    inside = np.zeros((1, 1, 4, 5))
    inside[0, 0, 1, 2] = 1
    assert parts.share_at_rim(inside)[0] == pytest.approx(0)


@given(st.integers(2, 6), st.integers(0, 1000))
def test_alikeness_is_the_mean_cosine_over_pairs_of_different_parts(count: int, seed: int) -> None:
    values = random(2, 4, count, seed=seed)
    for found, each in zip(parts.part_alikeness(values), values):
        cosines = [
            each[:, i] @ each[:, j] / np.linalg.norm(each[:, i]) / np.linalg.norm(each[:, j])
            for i in range(count)
            for j in range(count)
            if i != j
        ]
        assert found == pytest.approx(np.mean(cosines))


def test_a_point_lies_in_one_place_of_every_scale() -> None:
    beta = shares(6, 3, 2).reshape(6, 6)
    scale = SimpleNamespace(correspondence=beta, height=3, width=2)
    assert parts.place_at(scale, (0.0, 0.0)) == (0, 0)
    assert parts.place_at(scale, (0.99, 0.99)) == (2, 1)
    assert parts.place_at(scale, (0.5, 0.34)) == (1, 1)
    np.testing.assert_array_equal(parts.matching_map(scale, (0.5, 0.34)), beta[3].reshape(3, 2))
    with pytest.raises(InputError, match="place: 1,0 lies outside"):
        parts.place_at(scale, (1.0, 0.0))


def test_channels_are_the_papers_or_spread_evenly() -> None:
    assert parts.spread_channels(64, (2, 60)) == [2, 60]
    assert parts.spread_channels(60, (2, 30, 60)) == [0, 30, 59]
    assert parts.spread_channels(2, (2, 30, 60)) == [0, 1]


@pytest.mark.parametrize("normalise", [False, True])
def test_the_last_product_pools_to_the_descriptor(people: list[Image.Image], normalise: bool) -> None:
    tool = embedder(parts=0, normalise_levels=normalise)
    insight = parts.look_inside(tool, people[:2])
    pooled = insight.products[-1].mean(axis=(2, 3))
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(pooled, tool.embed(people[:2]), atol=1e-5)
    assert insight.part_maps is None
    assert insight.parts == []
    assert insight.pictures.shape == (2, 64, 32, 3)


def test_products_are_circular_convolutions_of_sketches(people: list[Image.Image]) -> None:
    tool = embedder()
    insight = parts.look_inside(tool, people[:1])
    model = tool.model
    assert isinstance(model, HOReID)
    assert len(insight.levels) == len(insight.products) == 3
    expected = None
    for level, sketch, product in zip(insight.levels, model.ghp.sketches, insight.products):
        place = level[0, :, 1, 0]
        sketched = np.zeros(16)
        for channel, value in enumerate(place):
            sketched[int(sketch.h[channel])] += float(sketch.s[channel]) * value
        if expected is None:
            expected = sketched
        else:
            expected = np.array(
                [sum(expected[j] * sketched[(i - j) % 16] for j in range(16)) for i in range(16)]
            )
        np.testing.assert_allclose(product[0, :, 1, 0], expected, rtol=1e-3, atol=1e-6)


def test_parts_are_weighted_averages_by_the_maps(people: list[Image.Image]) -> None:
    tool = embedder()
    insight = parts.look_inside(tool, people[:2])
    np.testing.assert_allclose(insight.part_maps.sum(axis=(2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(insight.part_maps[0], tool.part_maps(people[0]), atol=1e-6)
    with torch.no_grad():
        local = tool.model.lhp.convs[0](tool.model.levels(tool.batch([tool.pixels(people[1])]))[0])[0].numpy()
    for part in range(5):
        expected = (local * insight.part_maps[1, part]).sum(axis=(1, 2))
        np.testing.assert_allclose(insight.parts[0][1, :, part], expected, rtol=1e-3, atol=1e-6)


def test_a_model_of_parts_alone_has_no_levels_to_show(people: list[Image.Image]) -> None:
    insight = parts.look_inside(embedder(ghp=False), people[:1])
    assert insight.levels == insight.products == []
    assert insight.part_maps.shape[1] == 5


def test_another_model_is_refused(people: list[Image.Image]) -> None:
    torch.manual_seed(0)
    pooled = build("pooled", {"backbone": BACKBONE, "channels": 8})
    assert isinstance(pooled, Pooled)
    with pytest.raises(InputError, match="Pooled has no separate levels"):
        parts.look_inside(wrap(pooled, SIZE), people[:1])
