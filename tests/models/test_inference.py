"""Models as people use them: the same answer for every form of a picture, in the pictures' order."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.backbone import BackboneOptions
from kronreid.models.baselines import Pooled
from kronreid.models.half_precision import for_autocast
from kronreid.models.horeid import HOReID
from kronreid.models.inference import Embedder, EncodedMaps, Matcher, whole_batch
from kronreid.models.kpm import KPM
from kronreid.models.loading import wrap
from kronreid.models.pairs import Turned
from kronreid.ops.blocks import PreparedMaps

#: oneDNN chooses its convolutions by batch size, layout and number of threads; a network of random weights
#: magnifies how differently they round (2e-5 with two threads, under 1e-5 with one).
ROUNDING = 1e-4
BASELINE: dict[str, Any] = {"match": False, "attention": False}


@pytest.fixture(scope="module")
def embedder(horeid: HOReID, input_options: InputOptions) -> Embedder:
    tool = wrap(horeid, input_options, "c0ffee")
    assert isinstance(tool, Embedder)
    return tool


@pytest.fixture(scope="module")
def matcher(kpm: KPM, input_options: InputOptions) -> Matcher:
    tool = wrap(kpm, input_options, "c0ffee")
    assert isinstance(tool, Matcher)
    return tool


def forms(paths: list[Path]) -> list[list[Any]]:
    """The same pictures as paths, strings, PIL images and arrays."""
    opened = [Image.open(path).convert("RGB") for path in paths]
    return [list(paths), [str(path) for path in paths], opened, [np.asarray(image) for image in opened]]


def test_embed(embedder: Embedder, paths: list[Path], images: Tensor) -> None:
    vectors = embedder.embed(paths)
    assert vectors.dtype == np.float32
    assert vectors.shape == (7, embedder.dimension) == (7, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(vectors, embedder.model(images).descriptor.numpy(), atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01, "different pictures, different vectors"
    assert (embedder.height, embedder.width, embedder.fingerprint) == (64, 32, "c0ffee")


def test_every_form_of_a_picture_is_the_same(embedder: Embedder, matcher: Matcher, paths: list[Path]) -> None:
    for tool in (embedder, matcher):
        expected = tool.embed(paths[:3])
        for images in forms(paths[:3]):
            np.testing.assert_array_equal(tool.embed(images), expected)
        mixed = [form[number] for number, form in enumerate(forms(paths[:3])[1:])]
        np.testing.assert_array_equal(tool.embed(mixed), expected)
        for single in forms(paths[:1]):
            np.testing.assert_allclose(tool.embed(single[0]), expected[:1], atol=ROUNDING)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 64])
def test_batch_size_and_order_change_nothing(
    embedder: Embedder, matcher: Matcher, paths: list[Path], batch_size: int
) -> None:
    backwards = paths[::-1]
    for tool in (embedder, matcher):
        np.testing.assert_allclose(tool.embed(backwards, batch_size)[::-1], tool.embed(paths), atol=ROUNDING)


def test_no_pictures(embedder: Embedder, matcher: Matcher) -> None:
    for tool in (embedder, matcher):
        assert tool.embed([]).shape == (0, tool.dimension)
        assert tool.embed([]).dtype == np.float32
    for call in (matcher.encode, lambda images: matcher.score(images, images)):
        with pytest.raises(InputError, match="images: there is no picture"):
            call([])


def test_unreadable_pictures_are_named(
    embedder: Embedder, matcher: Matcher, paths: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(paths[0].read_bytes()[:300])
    for call in (
        lambda: embedder.embed([*paths, bad, tmp_path / "none.jpg"], batch_size=2),
        lambda: matcher.encode([*paths, bad]),
        lambda: matcher.score(paths[0], [bad]),
        lambda: matcher.explain(paths[0], bad),
    ):
        with pytest.raises(InputError, match="^" + str(bad)):
            call()


def test_autocast(embedder: Embedder, paths: list[Path], images: Tensor) -> None:
    full = embedder.embed(paths)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network = for_autocast(embedder.model)
        expected = network(images.contiguous(memory_format=torch.channels_last)).descriptor
    embedder.autocast = True
    try:
        half = embedder.embed(paths)
    finally:
        embedder.autocast = False
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)
    assert np.abs(full - half).max() > 1e-6, "it was another precision"


def test_part_maps(
    embedder: Embedder, paths: list[Path], images: Tensor, input_options: InputOptions
) -> None:
    maps = embedder.part_maps(paths[2])
    with torch.no_grad():
        expected = embedder.model.part_maps(images[2:3])[0]
    np.testing.assert_allclose(maps, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1, atol=1e-5)


def test_part_maps_refused(
    small: Callable[[int], BackboneOptions], input_options: InputOptions, paths: list[Path]
) -> None:
    for model in (Pooled(small(1), channels=8), HOReID(small(1), order=1, channels=8, dimension=8, parts=0)):
        with pytest.raises(InputError, match="parts"):
            Embedder(model, input_options).part_maps(paths[0])


def pair_logits(model: KPM, images: Tensor) -> np.ndarray:
    """Logits of every pair by the model itself, one pair at a time; the second is warped onto the first."""
    with torch.no_grad():
        encoded = model.encode(images)
        everybody = torch.arange(len(images))
        return torch.stack([model(encoded, a.repeat(len(images)), everybody) for a in everybody]).numpy()


#: Every kind of comparison that a row of KPM's tables asks for.
VARIANTS: dict[str, dict[str, Any]] = {
    "kpm": {"temperature": 0.1, "attention_temperature": 0.5},
    "kpm-absolute": {"normalisation": "absolute"},
    "kpm-before": {"normalisation": "square-before", "temperature": 0.1},
    "kpm-ml": {"scale_losses": True},
    "no-warp": {"warp": False, "attention": False, "hourglass": False},
    "baseline": BASELINE,
    "baseline-ml": BASELINE | {"scale_losses": True},
    "baseline-absolute": BASELINE | {"normalisation": "absolute"},
    "baseline-square-before": BASELINE | {"normalisation": "square-before"},
    "baseline-no-square": BASELINE | {"normalisation": "none"},
    "baseline-concatenated": BASELINE | {"normalisation": "concatenated"},
    "baseline-no-bn": BASELINE | {"batch_norm": False},
    "kpm-product": {"similarity": "product", "temperature": 5.0},
    "kpm-before-product": {"normalisation": "square-before", "similarity": "product", "temperature": 5.0},
    "no-warp-product": {
        "warp": False,
        "attention": False,
        "hourglass": False,
        "similarity": "product",
        "temperature": 50.0,
    },
    "kpm-first-warped": {"warped": "first", "temperature": 0.1},
    "kpm-before-first-warped": {"normalisation": "square-before", "warped": "first"},
}


@pytest.fixture(scope="module", params=VARIANTS)
def any_kpm(request: pytest.FixtureRequest, make_kpm: Callable[..., KPM]) -> KPM:
    """A model of every kind, which tests only read."""
    return make_kpm(**VARIANTS[request.param])


@pytest.fixture(scope="module")
def any_logits(any_kpm: KPM, images: Tensor) -> np.ndarray:
    return pair_logits(any_kpm, images)


@pytest.fixture
def any_matcher(any_kpm: KPM, input_options: InputOptions) -> Matcher:
    return Matcher(any_kpm, input_options)


def test_scores_are_the_models_logits(
    any_matcher: Matcher, any_logits: np.ndarray, paths: list[Path]
) -> None:
    expected = any_logits
    assert expected.std() > 0.1
    encoded = any_matcher.encode(paths, batch_size=3)
    assert isinstance(encoded, EncodedMaps)
    assert len(encoded) == 7
    logits = any_matcher.logits(encoded, encoded)
    np.testing.assert_allclose(logits.numpy(), expected, atol=2e-3)
    scores = any_matcher.score(paths[:2], paths)
    assert scores.shape == (2, 7)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-expected[:2])), atol=1e-3)
    np.testing.assert_allclose(any_matcher.score(encoded[:2], paths), scores, atol=1e-4)
    np.testing.assert_allclose(any_matcher.score(paths[:2], encoded), scores, atol=1e-4)
    np.testing.assert_allclose(any_matcher.score(paths[0], paths[3]), scores[:1, 3:4], atol=1e-4)


def test_score_lists(any_matcher: Matcher, any_logits: np.ndarray, paths: list[Path]) -> None:
    encoded = any_matcher.encode(paths)
    chosen = torch.tensor([1, 4])
    lists = torch.tensor([[6, 0, 3], [2, 2, 5]])
    logits = any_matcher.score_lists(encoded[chosen], encoded, lists)
    assert logits.shape == (2, 3)
    np.testing.assert_allclose(logits.numpy(), any_logits[chosen[:, None], lists], atol=2e-3)


def test_only_what_is_compared_is_kept(make_kpm: Callable[..., KPM], input_options: InputOptions) -> None:
    picture = np.zeros((64, 32, 3), np.uint8)
    for name, places in (("kpm", 2), ("baseline", 0), ("baseline-square-before", 2), ("no-warp", 2)):
        encoded = Matcher(make_kpm(**VARIANTS[name]), input_options).encode(picture)
        assert encoded.scales[0].unit.shape == (1, places, 160), name


def test_matching_in_bfloat16(any_matcher: Matcher, paths: list[Path]) -> None:
    """Maps of half the size, and nearly the same logits; what works on means alone is not touched."""
    exact = any_matcher.encode(paths)
    expected = any_matcher.logits(exact, exact)
    any_matcher.matching = torch.bfloat16
    half = any_matcher.encode(paths)
    assert {scale.unit.dtype for scale in half.scales} == {torch.bfloat16}
    logits = any_matcher.logits(half, half)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.05 * expected.std()
    if exact.scales[0].unit.shape[1]:
        assert (logits - expected).abs().max() > 0, "it was another precision"
    lists = torch.arange(7).repeat(2, 1)
    torch.testing.assert_close(any_matcher.score_lists(half[:2], half, lists), logits[:2], rtol=0, atol=1e-3)
    np.testing.assert_allclose(any_matcher.score(paths[:2], paths), logits[:2].sigmoid().numpy(), atol=1e-3)
    with pytest.raises(InputError, match="in one precision"):
        any_matcher.score(exact, half)


def other_channels(maps: EncodedMaps) -> EncodedMaps:
    """The same pictures as a model with one channel less would encode them."""
    scales = [
        PreparedMaps(s.unit[:, :, 1:], s.norms, s.weight, s.weighted_mean[:, 1:], s.size) for s in maps.scales
    ]
    return EncodedMaps(maps.pooled, scales)


def test_bad_maps_are_refused(any_matcher: Matcher, paths: list[Path]) -> None:
    encoded = any_matcher.encode(paths[:3])
    lists = torch.zeros(3, 2, dtype=torch.long)
    no_scales = EncodedMaps(encoded.pooled, [])
    for query, candidates, message in (
        (encoded, other_channels(encoded), "candidates: its maps have"),
        (other_channels(encoded), encoded, "query: its maps have"),
        (no_scales, no_scales, "query: its maps have"),
        (encoded, encoded[:0], "candidates: is empty"),
        (encoded[:0], encoded, "query: is empty"),
    ):
        with pytest.raises(InputError, match=message):
            any_matcher.score(query, candidates)
        with pytest.raises(InputError, match=message):
            any_matcher.score_lists(query, candidates, lists[: len(query)])
    for wrong, message in (
        (torch.zeros(3, 0, dtype=torch.long), "lists: expected"),
        (torch.zeros(2, 4, dtype=torch.long), "lists: expected"),
        (lists + 3, "outside the candidates"),
        (lists - 1, "outside the candidates"),
    ):
        with pytest.raises(InputError, match=message):
            any_matcher.score_lists(encoded, encoded, wrong)


@pytest.mark.parametrize("part", ["backbone", "classifier"])
def test_a_broken_model_never_answers(
    any_kpm: KPM, input_options: InputOptions, paths: list[Path], part: str
) -> None:
    broken = Matcher(copy.deepcopy(any_kpm), input_options)
    layers = [m for m in getattr(broken.model, part).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        layers[-1].weight.view(-1)[0] = float("nan")
    for call in (
        lambda: broken.score(paths[0], paths[1:3]),
        lambda: broken.score_lists(
            broken.encode(paths[:1]), broken.encode(paths[:2]), torch.tensor([[0, 1]])
        ),
        lambda: broken.explain(paths[0], paths[1]),
    ):
        with pytest.raises(InputError, match=r"finite|NaN"):
            call()


def test_encoded_maps_are_indexed_like_lists(matcher: Matcher, paths: list[Path]) -> None:
    encoded = matcher.encode(paths)
    scores = matcher.score(encoded, encoded)
    np.testing.assert_allclose(matcher.score(encoded[2:5], encoded), scores[2:5], atol=1e-5)
    back = encoded[torch.tensor([6, 1])]
    assert len(back) == 2
    np.testing.assert_allclose(matcher.score(encoded, back), scores[:, [6, 1]], atol=1e-5)
    np.testing.assert_allclose(encoded.pooled.numpy(), matcher.embed(paths), atol=1e-5)


def test_explain(any_matcher: Matcher, any_logits: np.ndarray, paths: list[Path], images: Tensor) -> None:
    model, logits = any_matcher.model, any_logits
    why = any_matcher.explain(paths[0], paths[4])
    assert why.probability == pytest.approx(1 / (1 + np.exp(-logits[0, 4])), abs=1e-4)
    back = any_matcher.explain(str(paths[4]), Image.open(paths[0]))
    assert back.probability == pytest.approx(1 / (1 + np.exp(-logits[4, 0])), abs=1e-4)
    with torch.no_grad():
        scales = model.encode(images).scales
    sizes = [(2, 1), (4, 2), (8, 4)][: len(model.channels)]
    assert [(scale.height, scale.width) for scale in why.scales] == sizes
    for scale, reverse, maps in zip(why.scales, back.scales, scales, strict=True):
        places = scale.height * scale.width
        assert scale.correspondence.shape == (places, places)
        # The warped picture's places are looked for by those of the other one.
        over = 0 if isinstance(model.way, Turned) else 1
        np.testing.assert_allclose(scale.correspondence.sum(axis=over), 1, atol=1e-5)
        x, y = (maps.maps[number].flatten(1).double() for number in (0, 4))
        if model.way.cosine:
            x, y = x / x.norm(dim=0), y / y.norm(dim=0)
        expected = torch.softmax(x.t() @ y / model.way.temperature, dim=over).numpy()
        np.testing.assert_allclose(scale.correspondence, expected, atol=1e-3)
        weight = maps.weight if maps.weight is not None else torch.full((7, places), 1 + 1 / places)
        for attention, number in ((scale.attention_a, 0), (scale.attention_b, 4)):
            assert attention.shape == (scale.height, scale.width)
            assert attention.sum() == pytest.approx(1, abs=1e-4)
            np.testing.assert_allclose(attention.ravel(), weight[number].numpy() - 1, atol=1e-4)
        np.testing.assert_allclose(reverse.attention_a, scale.attention_b, atol=1e-5)


def test_explanation_shows_what_the_network_saw(matcher: Matcher, paths: list[Path]) -> None:
    why = matcher.explain(paths[0], paths[4])
    for image, path in ((why.image_a, paths[0]), (why.image_b, paths[4])):
        assert image.shape == (64, 32, 3)
        assert image.dtype == np.uint8
        resized = np.asarray(Image.open(path).resize((32, 64), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(image.astype(int) - resized).max() <= 3


def test_a_batch_holds_a_picture_at_least(embedder: Embedder, matcher: Matcher, paths: list[Path]) -> None:
    for call in (embedder.embed, matcher.embed, matcher.encode):
        with pytest.raises(InputError, match="batch_size: 0"):
            call(paths, batch_size=0)


@given(st.integers(1, 500))
def test_whole_batches_have_few_sizes(number: int) -> None:
    size = whole_batch(number)
    assert number <= size <= number + 3
    assert size in (1, 2) or size % 4 == 0


def test_a_pass_is_filled_up_to_one_of_a_few_sizes(
    embedder: Embedder, matcher: Matcher, paths: list[Path]
) -> None:
    pictures = paths[:5]
    for tool in (embedder, matcher):
        assert [len(batch) for batch, _ in tool._batches(pictures, 64, progress=False)] == [8]
        np.testing.assert_allclose(tool.embed(pictures), tool.embed(pictures, 1), atol=ROUNDING)
    (embedding,) = embedder.embeddings(pictures)
    parts = [*embedding.branches.values(), *embedding.parts, *embedding.maps.values(), embedding.descriptor]
    assert {len(part) for part in parts} == {5}
    assert len(matcher.encode(pictures)) == 5
