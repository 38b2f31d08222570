"""Place matching: one logit by three forms, its files, and what is said of places that do not fit."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.inference import Embedder
from kronreid.models.loading import load
from kronreid.models.places import (
    PLACES,
    Described,
    PlaceMatching,
    PlacesOptions,
    load_places,
    save_places,
)
from kronreid.models.storage import build, save
from kronreid.ops.places import best_matches

SIZES = {"X_1": (6, 3, 2), "below": (5, 4, 3)}
Make: TypeAlias = Callable[..., PlaceMatching]


@pytest.fixture(scope="module")
def make_matching(random_places: Make) -> Make:
    """A head of random numbers for maps of `SIZES`."""

    def make(
        levels: Sequence[str] = ("X_1",), numbers: int = 4, precision: Any = "int8", seed: int = 0
    ) -> PlaceMatching:
        options = PlacesOptions(tuple(levels), numbers, precision)
        return random_places(options, [SIZES[name] for name in levels], seed)

    return make


def make_maps(count: int, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(count, *size, generator=generator) for name, size in SIZES.items()}


def describe(matching: PlaceMatching, count: int, seed: int = 1, dimension: int = 7) -> Described:
    vectors = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))
    return Described(F.normalize(vectors), matching.encode(make_maps(count, seed)))


# --- the logit ---------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    levels=st.sampled_from([("X_1",), ("below",), ("X_1", "below")]),
    numbers=st.integers(1, 9),
    precision=st.sampled_from(["int8", "bf16", "fp32"]),
    queries=st.integers(1, 4),
    candidates=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_all_forms_of_the_logit_are_one(
    make_matching: Make,
    levels: tuple[str, ...],
    numbers: int,
    precision: Any,
    queries: int,
    candidates: int,
    seed: int,
) -> None:
    """The trained form on pairs, the folded head's sum, the sum of all terms, blocks and lists."""
    matching = make_matching(levels, numbers, precision, seed)
    x, y = describe(matching, queries, seed + 1), describe(matching, candidates, seed + 2)
    q, g = (
        index.flatten()
        for index in torch.meshgrid(torch.arange(queries), torch.arange(candidates), indexing="ij")
    )
    first, second = x[q], y[g]
    cosines = (first.vectors * second.vectors).sum(1)
    with torch.no_grad():
        logits = matching(cosines, first.levels, second.levels)

    vectors, terms = matching.terms(first, second)
    total = vectors + sum(share.sum(1) for level in terms for share in level[:2])
    torch.testing.assert_close(total, logits, rtol=1e-4, atol=1e-4)

    head = matching.head()
    folded = head.cosine * cosines + head.bias
    for level, (u, v) in enumerate(zip(first.levels, second.levels)):
        matches = best_matches(u.unit(), v.unit())
        for found, value, places, weights in zip(terms[level][2:], matches, (u, v), (head.x, head.y)):
            torch.testing.assert_close(found, value)
            weight, constant = weights[level].of(places)
            folded = folded + (value * weight).sum(1) + constant
    torch.testing.assert_close(folded, logits, rtol=1e-4, atol=1e-4)

    block = matching.score(x, y)
    torch.testing.assert_close(block.flatten(), logits, rtol=1e-4, atol=1e-4)
    lists = torch.randint(candidates, (queries, 3), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(matching.score(x, y, lists), block.gather(1, lists), rtol=1e-4, atol=1e-4)


def test_the_logit_equals_its_formula(make_matching: Make) -> None:
    """a · cos + Σ w BN(m) + Σ w' BN(n) + the same of m' and n' + b, with numbers from the state dict."""
    matching = make_matching(("X_1", "below"), precision="fp32")
    x, y = describe(matching, 1, 3), describe(matching, 1, 4)
    state = {name: tensor.double() for name, tensor in matching.state_dict().items()}
    values, common = [], []
    for side in ("m", "n"):
        for u, v in zip(x.levels, y.levels):
            s = u.unit()[0].double() @ v.unit()[0].double().t()
            values += (s.amax(1) if side == "m" else s.amax(0)).tolist()
            common += (u if side == "m" else v).common[0].tolist()
    values += [(value - c) / (1.1 - c) for value, c in zip(values, common)]
    logit = float(state["cosine"]) * float(x.vectors[0].double() @ y.vectors[0].double()) + float(
        state["linear.bias"]
    )
    for weight, value, mean, variance in zip(
        state["linear.weight"][0], values, state["norm.running_mean"], state["norm.running_var"], strict=True
    ):
        logit += float(weight) * (value - float(mean)) / (float(variance) + matching.norm.eps) ** 0.5
    assert float(matching.score(x, y)) == pytest.approx(logit, abs=1e-4)


def test_a_logit_trains_the_head_and_not_the_projections(make_matching: Make) -> None:
    matching = make_matching(("X_1", "below")).train()
    side = describe(matching, 6)
    turned = [places[torch.arange(5, -1, -1)] for places in side.levels]
    matching(torch.rand(6), side.levels, turned).square().sum().backward()
    trained = {name for name, one in matching.named_parameters() if one.grad is not None and one.grad.any()}
    assert trained == {"cosine", "linear.weight", "linear.bias"}
    assert all(not projection.requires_grad for projection in matching.projections)


# --- places of maps ----------------------------------------------------------------------------------


def test_places_are_the_projected_unit_vectors_of_the_named_maps(make_matching: Make) -> None:
    matching = make_matching(("below", "X_1"), numbers=3, precision="fp32")
    maps = make_maps(2)
    levels = matching.encode(maps)
    assert [level.numbers.shape for level in levels] == [(2, 12, 3), (2, 6, 3)]
    for name, projection, level in zip(("below", "X_1"), matching.projections, levels):
        rows = maps[name].flatten(2).transpose(1, 2)
        expected = F.normalize(F.normalize(rows, dim=2) @ projection, dim=2)
        torch.testing.assert_close(level.unit(), expected, rtol=1e-5, atol=1e-6)


def test_no_more_numbers_are_kept_than_a_map_has_channels(make_matching: Make) -> None:
    matching = make_matching(("X_1", "below"), numbers=64)
    assert [tuple(projection.shape) for projection in matching.projections] == [(6, 6), (5, 5)]


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_bytes_per_picture_are_those_of_the_places(make_matching: Make, precision: Any) -> None:
    matching = make_matching(("X_1", "below"), precision=precision)
    levels = describe(matching, 3).levels
    assert matching.bytes_per_picture == sum(level.bytes_per_picture for level in levels)
    tensors = [tensor for level in levels for tensor in level.tensors]
    assert 3 * matching.bytes_per_picture == sum(one.numel() * one.element_size() for one in tensors)


def test_maps_that_do_not_fit_are_named(make_matching: Make) -> None:
    matching, maps = make_matching(("X_1", "below")), make_maps(2)
    for changed, message in (
        ({"X_1": maps["X_1"]}, "places.levels: this model has no map 'below'; it has X_1"),
        ({}, "places.levels: this model has no map 'X_1'; it has none"),
        ({**maps, "X_1": maps["X_1"][:, :, :2]}, r"places: fitted on maps X_1 of \(6, 3, 2\).*\(6, 2, 2\)"),
        ({**maps, "below": maps["below"][:, :4]}, r"places: fitted on maps below.*fit-places"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            matching.encode(changed)


@pytest.mark.parametrize("levels", [(), ("X_1", "X_1")])
def test_levels_are_named_once(levels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="levels: name at least one"):
        PlacesOptions(levels)


# --- described pictures ------------------------------------------------------------------------------


def test_described_pictures_index_and_join(make_matching: Make) -> None:
    side = describe(make_matching(("X_1", "below")), 6)
    parts = Described.cat([side[:2], side[torch.tensor([4, 2])], side[5:]])
    order = [0, 1, 4, 2, 5]
    assert len(parts) == 5
    assert torch.equal(parts.vectors, side.vectors[order])
    for new, old in zip(parts.levels, side.levels, strict=True):
        assert all(torch.equal(one, other[order]) for one, other in zip(new.tensors, old.tensors))


def test_pictures_of_another_model_are_not_scored(make_matching: Make) -> None:
    matching = make_matching()
    side = describe(matching, 3)
    others = {
        "other levels": describe(make_matching(("X_1", "below")), 3),
        "another level": describe(make_matching(("below",)), 3),
        "other numbers": describe(make_matching(numbers=3), 3),
        "another precision": describe(make_matching(precision="fp32"), 3),
        "other vectors": describe(matching, 3, dimension=8),
    }
    for name, other in others.items():
        with pytest.raises(InputError, match=r"^candidates: .*describe both sides with one model"):
            matching.score(side, other)
        with pytest.raises(InputError, match="describe both sides with one model"):
            matching.score(other, side)
        assert name


def test_nothing_to_score_is_said(make_matching: Make) -> None:
    matching = make_matching()
    side = describe(matching, 2)
    zeros = torch.zeros(2, 1, dtype=torch.long)
    cases: list[tuple[Callable[[], Tensor], str]] = [
        (lambda: matching.score(side[:0], side), "^query: there are none"),
        (lambda: matching.score(side, side[:0]), "^candidates: there are none"),
        (lambda: matching.score(side, side, zeros + 2), "^lists: .*outside"),
        (lambda: matching.score(side, side, zeros - 1), "^lists: .*outside"),
        (lambda: matching.score(side, side, zeros[:1]), "^lists: expected"),
        (lambda: matching.score(side, side, zeros[:, :0]), "^lists: expected"),
        (lambda: matching.score(side, side, zeros.float()), "^lists: .*int64"),
    ]
    for function, message in cases:
        with pytest.raises(InputError, match=message):
            function()


@pytest.mark.parametrize("where", ["vectors", "places", "head"])
def test_answers_that_are_not_finite_are_bad_input(make_matching: Make, where: str) -> None:
    matching = make_matching(precision="fp32")
    side = describe(matching, 2)
    if where == "vectors":
        side.vectors[1, 2] = torch.nan
    elif where == "places":
        side.levels[0].numbers[1] = torch.nan
    else:
        torch.nn.init.constant_(matching.cosine, torch.inf)
    with pytest.raises(InputError, match=r"^model: its answer is not finite"):
        matching.score(side, side)


# --- files -------------------------------------------------------------------------------------------


def test_round_trip(make_matching: Make, tmp_path: Path) -> None:
    assert load_places(tmp_path, "c0ffee") is None
    matching = make_matching(("X_1", "below"), numbers=3, precision="bf16")
    save_places(tmp_path, matching, "c0ffee")
    loaded = load_places(tmp_path, "c0ffee")
    assert loaded is not None
    assert not loaded.training
    assert loaded.options == matching.options
    assert loaded.sizes == matching.sizes
    assert {path.name for path in tmp_path.iterdir()} == {PLACES}
    sides = describe(matching, 3, 1), describe(loaded, 4, 2)
    assert torch.equal(loaded.score(*sides), matching.score(*sides))


def refusal(folder: Path, model: str = "c0ffee") -> str:
    with pytest.raises(InputError) as caught:
        load_places(folder, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_places_of_another_model_are_refused(make_matching: Make, tmp_path: Path) -> None:
    save_places(tmp_path, make_matching(), "c0ffee")
    message = refusal(tmp_path, "decaf")
    assert message.startswith(f"{tmp_path / PLACES}: was fitted on another model")
    assert "kronreid fit-places" in message


def rewritten(file: Path, change: Callable[[dict[str, Any]], object], **tensors: Tensor) -> None:
    """The file with other words about it, or other tensors."""
    with safe_open(file, "pt") as opened:
        about = json.loads(opened.metadata()["places"])
    change(about)
    save_file({**load_file(file), **tensors}, file, {"places": json.dumps(about)})


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("model"),
        lambda about: about.pop("sizes"),
        lambda about: about.pop("options"),
        lambda about: about.update(sizes=[[6, 3]]),
        lambda about: about.update(sizes=[[6, 3, 3]]),
        lambda about: about.update(sizes=[[6, 3, 2], [6, 3, 2]]),
        lambda about: about.update(sizes=[]),
        lambda about: about.update(sizes=[["six", 3, 2]]),
        lambda about: about.update(sizes=[[-6, 3, 2]]),
        lambda about: about["options"].update(numbers=5),
        lambda about: about["options"].update(numbers=0),
        lambda about: about["options"].update(levels=[]),
        lambda about: about["options"].update(levels=["X_1", "below"]),
        lambda about: about["options"].update(precision="int4"),
        lambda about: about["options"].update(colour="red"),
    ],
)
def test_damaged_words_are_one_line(
    make_matching: Make, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    save_places(tmp_path, make_matching(), "c0ffee")
    rewritten(tmp_path / PLACES, change)
    assert refusal(tmp_path).startswith(f"{tmp_path / PLACES}: ")


def test_damaged_files_are_one_line(make_matching: Make, tmp_path: Path) -> None:
    file = tmp_path / PLACES
    save_places(tmp_path, make_matching(), "c0ffee")
    for data in (b"", b"no places", file.read_bytes()[:-10], file.read_bytes()[:100]):
        file.write_bytes(data)
        assert refusal(tmp_path).startswith(f"{file}: damaged")
    save_file({"x": torch.zeros(1)}, file)  # no words at all
    assert refusal(tmp_path).startswith(f"{file}: damaged")
    save_places(tmp_path, make_matching(), "c0ffee")
    rewritten(file, lambda about: None, **{"linear.bias": torch.zeros(2)})
    assert refusal(tmp_path).startswith(f"{file}: damaged")
    rewritten(file, lambda about: None, **{"linear.bias": torch.zeros(1), "more": torch.zeros(1)})
    assert refusal(tmp_path).startswith(f"{file}: damaged")


# --- beside an embedder ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    arguments = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 8}
    torch.manual_seed(0)
    save(tmp_path, "pooled", arguments, InputOptions(64, 32), build("pooled", arguments))
    return tmp_path


def opened(folder: Path) -> Embedder:
    embedder = load(folder, device="cpu")
    assert isinstance(embedder, Embedder)
    return embedder


@pytest.fixture
def matching(folder: Path, random_places: Make) -> PlaceMatching:
    """Places that lie beside the model of the folder."""
    embedder = opened(folder)
    size = next(embedder.embeddings([np.zeros((64, 32, 3), np.uint8)])).maps["X_1"].shape[1:]
    matching = random_places(PlacesOptions(numbers=4), [tuple(size)])
    save_places(folder, matching, embedder.fingerprint)
    return matching


def test_a_model_is_opened_with_its_places(folder: Path, paths: list[Path], matching: PlaceMatching) -> None:
    embedder = opened(folder)
    assert embedder.places is not None
    described = embedder.describe(paths)
    assert len(described) == len(paths)
    np.testing.assert_allclose(described.vectors.numpy(), embedder.embed(paths), atol=1e-6)
    maps = torch.cat([embedding.maps["X_1"] for embedding in embedder.embeddings(paths)])
    assert torch.equal(described.levels[0].numbers, matching.encode({"X_1": maps})[0].numbers)
    for batch_size in (1, 3):
        parts = embedder.describe(paths, batch_size)
        torch.testing.assert_close(parts.vectors, described.vectors, rtol=0, atol=1e-4)
        torch.testing.assert_close(parts.levels[0].unit(), described.levels[0].unit(), rtol=0, atol=0.01)
    with pytest.raises(InputError, match=r"^images: there are none"):
        embedder.describe([])


def test_a_model_that_changes_does_not_keep_its_places(folder: Path, matching: PlaceMatching) -> None:
    """A new model removes them; a file of weights that is exchanged by hand is noticed."""
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"places\.safetensors: was fitted on another model"):
        load(folder, device="cpu")
    arguments = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 8}
    save(folder, "pooled", arguments, InputOptions(64, 32), build("pooled", arguments))
    assert not (folder / PLACES).exists()
    assert opened(folder).places is None


def test_places_do_not_change_the_models_fingerprint(folder: Path, request: pytest.FixtureRequest) -> None:
    before = opened(folder).fingerprint
    request.getfixturevalue("matching")
    assert opened(folder).places is not None
    assert opened(folder).fingerprint == before


def test_an_embedder_without_places_says_how_to_get_some(folder: Path, paths: list[Path]) -> None:
    embedder = opened(folder)
    assert embedder.matcher is None
    for call in (lambda: embedder.describe(paths), lambda: embedder.explain(paths[0], paths[1])):
        with pytest.raises(InputError, match=r"has no places; kronreid fit-places"):
            call()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pooled", {"channels": 8}),
        ("horeid", {"order": 2, "channels": 8, "dimension": 16, "parts": 3}),
        ("horeid", {"order": 2, "channels": 8, "dimension": 16, "parts": 0, "hierarchical": False}),
        ("concatenated", {"channels": 8, "dimension": 16, "order": 2}),
    ],
)
def test_every_embedding_model_gives_maps(tmp_path: Path, images: Tensor, name: str, options: dict) -> None:
    """By the same names and of the same numbers folded and unfolded."""
    arguments = {"backbone": {"name": "test_resnet", "weights": "none"}, **options}
    torch.manual_seed(0)
    save(tmp_path, name, arguments, InputOptions(64, 32), build(name, arguments))
    found = []
    for folded in (True, False):
        with torch.no_grad():
            found.append(load(tmp_path, device="cpu", folded=folded).model(images).maps)
    levels = [f"X_{number}" for number in range(1, options.get("order", 1) + 1)]
    assert list(found[0]) == list(found[1]) == [*levels, "below"]
    for level in found[0]:
        assert found[0][level].dim() == 4
        torch.testing.assert_close(found[0][level], found[1][level], rtol=1e-3, atol=1e-3)
