"""Fitting places: whose lists hold whom, the loss by loops, and heads that learn what places tell."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import kronreid
from kronreid.data.readers import read
from kronreid.data.records import DISTRACTOR, JUNK, NO_CAMERA, Picture
from kronreid.errors import InputError
from kronreid.models.inference import Embedder
from kronreid.models.places import PLACES, STRANGERS, Described, PlaceMatching, PlacesOptions
from kronreid.ops.places import keep, unit
from kronreid.training import places as fitting
from kronreid.training.config import make_config
from kronreid.training.places import (
    FitOptions,
    Lists,
    fit_head,
    fit_places,
    listwise_loss,
    principal_components,
)
from kronreid.training.train import train

Make: TypeAlias = Callable[..., Embedder]
FEW = FitOptions(numbers=6, mates=2, strangers=5, hardest=8, lists=4, steps=30)


def pictures_of(people: list[tuple[int, int]]) -> list[Picture]:
    """Pictures that are not there, of these identities and cameras."""
    return [Picture(Path(f"{number}.jpg"), *who) for number, who in enumerate(people)]


#: Identities and cameras: of people, junk and distractors, with and without a camera.
crowds = st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 3)), min_size=2, max_size=25).map(pictures_of)
options_of_lists = st.builds(
    FitOptions,
    mates=st.integers(1, 4),
    strangers=st.integers(1, 6),
    hardest=st.integers(1, 9),
    lists=st.integers(1, 5),
)


def are_mates(one: Picture, other: Picture) -> bool:
    """One person in two cameras, or in two pictures where the first's camera is not known."""
    return (
        one.identity == other.identity
        and one.identity not in (JUNK, DISTRACTOR)
        and one.path != other.path
        and (one.camera == NO_CAMERA or one.camera != other.camera)
    )


def can_be_fitted(pictures: list[Picture]) -> bool:
    people = {one.identity for one in pictures} - {JUNK, DISTRACTOR}
    return len(people) >= 2 and any(are_mates(a, b) for a in pictures for b in pictures)


# --- lists -------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(crowds, options_of_lists, st.integers(0, 99))
def test_lists_hold_mates_and_the_nearest_strangers(
    pictures: list[Picture], options: FitOptions, seed: int
) -> None:
    assume(can_be_fitted(pictures))
    lists = Lists.possible(pictures, options)
    vectors = F.normalize(torch.randn(len(pictures), 4, generator=torch.Generator().manual_seed(seed)))
    lists.look(vectors, block=3)
    askers = [n for n, one in enumerate(pictures) if any(are_mates(one, other) for other in pictures)]
    assert sorted(lists.queries.tolist()) == askers
    strangers: dict[int, set[int]] = {}
    for query, mates, near in zip(lists.queries.tolist(), lists.mates, lists.strangers, strict=True):
        one = pictures[query]
        assert sorted(mates.tolist()) == [n for n, other in enumerate(pictures) if are_mates(one, other)]
        others = [
            n for n, other in enumerate(pictures) if other.identity not in (one.identity, JUNK, DISTRACTOR)
        ]
        others.sort(key=lambda n: float(vectors[query] @ vectors[n]), reverse=True)
        fewest = min(
            sum(1 for b in pictures if b.identity not in (pictures[a].identity, JUNK, DISTRACTOR))
            for a in askers
        )
        assert len(near) == min(options.hardest, fewest)
        assert set(near.tolist()) == set(others[: len(near)])
        strangers[query] = set(near.tolist())
    queries, candidates, same = lists.draw(options, np.random.default_rng(seed))
    assert len(queries) == options.lists
    assert (
        candidates.shape == same.shape == (options.lists, options.mates + min(options.strangers, len(near)))
    )
    assert set(queries.tolist()) <= set(askers)
    assert len(set(queries.tolist())) == min(options.lists, len(askers)) or options.lists > len(askers)
    for query, row, right in zip(queries.tolist(), candidates, same):
        assert right.sum() == options.mates
        mates = row[right].tolist()
        assert all(are_mates(pictures[query], pictures[mate]) for mate in mates)
        number = sum(are_mates(pictures[query], other) for other in pictures)
        assert len(set(mates)) == min(options.mates, number), "none twice while there are others"
        chosen = row[~right].tolist()
        assert len(set(chosen)) == len(chosen)
        assert set(chosen) <= strangers[query]


@pytest.mark.parametrize(
    ("people", "counted"),
    [
        ([], "0 people, and 0 pictures"),
        ([(1, 1), (1, 2)], "1 people, and 2 pictures"),
        ([(1, 1), (1, 1), (2, 1), (2, 1)], "2 people, and 0 pictures"),
        ([(1, 1), (2, 2), (3, 1)], "3 people, and 0 pictures"),
        ([(1, 1), (1, 2), (JUNK, 1), (DISTRACTOR, 2)], "1 people, and 2 pictures"),
        ([(JUNK, 1), (JUNK, 2), (DISTRACTOR, 1), (DISTRACTOR, 2)], "0 people, and 0 pictures"),
    ],
)
def test_too_few_people_or_cameras_are_one_line(people: list[tuple[int, int]], counted: str) -> None:
    with pytest.raises(InputError, match=f"^places: {counted}") as caught:
        Lists.possible(pictures_of(people), FEW)
    assert "\n" not in str(caught.value)


def test_without_cameras_every_other_picture_is_a_mate() -> None:
    lists = Lists.possible(pictures_of([(1, NO_CAMERA), (1, NO_CAMERA), (2, NO_CAMERA)]), FEW)
    assert lists.queries.tolist() == [0, 1]
    assert [mates.tolist() for mates in lists.mates] == [[1], [0]]


# --- the loss ----------------------------------------------------------------------------------------


def test_the_listwise_loss_equals_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 6, generator=generator, dtype=torch.float64)
    same = torch.rand(4, 6, generator=generator) < 0.4
    same[:, 0], same[:, 1] = True, False
    losses = []
    for row, right in zip(logits.tolist(), same.tolist()):
        strangers = [math.exp(t) for t, mate in zip(row, right) if not mate]
        losses += [
            -math.log(math.exp(s) / (math.exp(s) + sum(strangers))) for s, mate in zip(row, right) if mate
        ]
    assert float(listwise_loss(logits, same)) == pytest.approx(sum(losses) / len(losses), abs=1e-9)
    assert torch.autograd.gradcheck(lambda values: listwise_loss(values, same), logits.requires_grad_())


def test_the_listwise_loss_is_stable_and_asks_for_order_alone() -> None:
    same = torch.tensor([[True, True, False, False]])
    right, wrong = torch.tensor([[900.0, 800, -800, -900]]), torch.tensor([[-900.0, -800, 800, 900]])
    assert float(listwise_loss(right, same)) == 0
    assert float(listwise_loss(wrong, same)) == pytest.approx(1750)
    assert float(listwise_loss(right + 50, same)) == float(listwise_loss(right, same))


# --- principal components ----------------------------------------------------------------------------


def test_projections_are_the_principal_components_of_unit_places(
    embedder_with_places: Make, pedestrians: Path
) -> None:
    embedder, pictures = embedder_with_places(), read(pedestrians).train[:6]
    options = FitOptions(("below", "X_1"), numbers=5)
    matching = principal_components(embedder, pictures, options, batch_size=4, progress=False)
    maps = [embedding.maps for embedding in embedder.embeddings([*pictures], 6)]
    assert matching.sizes == [tuple(maps[0][name].shape[1:]) for name in options.levels]
    for name, projection in zip(options.levels, matching.projections):
        rows = maps[0][name].double().permute(0, 2, 3, 1).flatten(0, 2).numpy()
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        values, vectors = np.linalg.eigh(rows.T @ rows)
        first = vectors[:, np.argsort(values)[::-1][:5]]
        found = projection.detach().double().numpy()
        assert found.shape == first.shape
        np.testing.assert_allclose(np.abs((found * first).sum(0)), 1, atol=1e-3)  # the same but for the sign
        largest = np.abs(found).argmax(0)
        assert (found[largest, np.arange(5)] > 0).all()


def test_components_keep_inner_products_better_than_chance(
    embedder_with_places: Make, pedestrians: Path
) -> None:
    embedder, pictures = embedder_with_places(), read(pedestrians).train[:6]
    matching = principal_components(embedder, pictures, FitOptions(numbers=4), 64, False)
    maps = next(embedder.embeddings([*pictures])).maps["X_1"]
    rows = F.normalize(maps, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    chance = torch.linalg.qr(torch.randn(16, 4, generator=torch.Generator().manual_seed(0))).Q

    def error(projection: Tensor) -> float:
        return float((rows @ rows.t() - rows @ projection @ (rows @ projection).t()).norm())

    assert error(matching.projections[0]) < 0.5 * error(chance)


def test_strangers_are_places_of_the_pictures(embedder_with_places: Make, pedestrians: Path) -> None:
    """Projected unit vectors of real places, of every picture; the same seed draws the same."""
    embedder, pictures = embedder_with_places(), read(pedestrians).train[:6]
    options = FitOptions(("below", "X_1"), numbers=5)
    matching = principal_components(embedder, pictures, options, batch_size=4, progress=False)
    maps = next(embedder.embeddings([*pictures], 6)).maps
    for strangers, places in zip(matching.strangers, map(unit, matching.project(maps))):
        assert strangers.shape == (STRANGERS, 5)
        nearest = (strangers.float() @ places.flatten(0, 1).t()).max(1)
        assert (nearest.values > 0.999).all()
        assert len(set((nearest.indices // places.shape[1]).tolist())) == 6
    again = principal_components(embedder, pictures, options, batch_size=4, progress=False)
    assert all(torch.equal(*pair) for pair in zip(matching.strangers, again.strangers))


# --- fitting -----------------------------------------------------------------------------------------


def crowd(people: int, informative: bool, seed: int) -> tuple[list[Picture], Described, PlaceMatching]:
    """Described pictures of people, 4 each, whose vectors say nothing; their places do, if informative."""
    random = torch.Generator().manual_seed(seed)
    owners = torch.arange(people).repeat_interleave(4)
    own = torch.randn(people, 6, 8, generator=random)
    noise = torch.randn(len(owners), 6, 8, generator=random)
    unit = F.normalize((own[owners] if informative else 0) + 0.4 * noise, dim=2)
    vectors = F.normalize(torch.randn(len(owners), 5, generator=random))
    pictures = pictures_of([(int(owner) + 1, number % 4) for number, owner in enumerate(owners)])
    matching = PlaceMatching(PlacesOptions(numbers=8), [(8, 3, 2)])
    return pictures, Described(vectors, [keep(unit, torch.zeros(unit.shape[:2]))]), matching


def area(matching: PlaceMatching, pictures: list[Picture], described: Described) -> float:
    """The share of (mate, stranger) pairs of each query that the logits order rightly."""
    logits = matching.score(described, described)
    identities = torch.tensor([one.identity for one in pictures])
    same = identities[:, None] == identities
    apart = ~torch.eye(len(pictures), dtype=torch.bool)
    right = [
        (row[mates & other][:, None] > row[~mates]).float().mean()
        for row, mates, other in zip(logits, same, apart)
    ]
    return float(torch.stack(right).mean())


def test_the_head_learns_what_places_tell_about_people_that_it_never_saw() -> None:
    pictures, described, matching = crowd(12, informative=True, seed=0)
    lists = Lists.possible(pictures, FEW)
    lists.look(described.vectors)
    fit_head(matching, described, lists, replace(FEW, steps=100, lr=0.01))
    assert not matching.training
    others, unseen, _ = crowd(10, informative=True, seed=1)
    assert area(matching, others, unseen) > 0.95
    logits = matching.score(unseen, unseen)
    same = torch.tensor([[a.identity == b.identity for a in others] for b in others])
    assert logits[same].mean() > 0 > logits[~same].mean()


def test_the_head_does_not_learn_what_is_not_there() -> None:
    pictures, described, matching = crowd(12, informative=False, seed=0)
    lists = Lists.possible(pictures, FEW)
    lists.look(described.vectors)
    fit_head(matching, described, lists, FEW)
    others, unseen, _ = crowd(10, informative=False, seed=1)
    assert 0.4 < area(matching, others, unseen) < 0.6


@pytest.mark.parametrize(("weight", "against"), [(-0.1, True), (0.0, True), (0.1, False)])
def test_places_whose_better_matches_speak_against_a_person_have_no_say(
    embedder_with_places: Make,
    pedestrians: Path,
    weight: float,
    against: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The ranking is then that of the vectors."""

    def fitted(head: PlaceMatching, *arguments: object) -> None:
        torch.nn.init.constant_(head.linear.weight, weight)
        head.eval()

    monkeypatch.setattr(fitting, "fit_head", fitted)
    embedder, pictures = embedder_with_places(), read(pedestrians).train
    matching = fit_places(embedder, pictures, FEW)
    assert ("they have no say" in caplog.text) == against
    described = embedder.describe([*pictures], places=matching)
    cosines = described.vectors @ described.vectors.t()
    alone = matching.cosine * cosines + matching.linear.bias
    assert torch.allclose(matching.score(described, described), alone, atol=1e-4) == against


def test_a_fit_improves_the_loss_and_is_repeatable(
    embedder_with_places: Make, make_pedestrians: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, pictures = embedder_with_places(), read(make_pedestrians(train_identities=6)).train
    losses: list[float] = []
    loss = fitting.listwise_loss

    def recorded(logits: Tensor, same: Tensor) -> Tensor:
        value = loss(logits, same)
        losses.append(value.item())
        return value

    monkeypatch.setattr(fitting, "listwise_loss", recorded)
    options = replace(FEW, steps=40, lr=0.02, levels=("X_1", "below"))
    before = {name: tensor.clone() for name, tensor in embedder.model.state_dict().items()}
    first = fit_places(embedder, pictures, options)
    assert len(losses) == 40
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert not first.training
    assert first.options.numbers == 6
    for name, tensor in embedder.model.state_dict().items():
        assert torch.equal(tensor, before[name]), "the network stays as it is"
    short = replace(options, steps=3)
    first = fit_places(embedder, pictures, short)
    torch.rand(3)  # random numbers that the caller draws have no say
    again = fit_places(embedder, pictures, short)
    other = fit_places(embedder, pictures, replace(short, seed=1))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert not torch.equal(first.norm.running_mean, other.norm.running_mean)


def test_what_cannot_be_fitted_is_one_line(
    embedder_with_places: Make, pedestrians: Path, tmp_path: Path
) -> None:
    embedder, pictures = embedder_with_places(), read(pedestrians).train
    broken = embedder_with_places()
    torch.nn.init.constant_(broken.model.reduce.weight, torch.nan)  # type: ignore[arg-type,union-attr]
    missing = [*pictures, Picture(tmp_path / "none.jpg", 1, 1)]
    cases: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: fit_places(embedder, pictures, replace(FEW, levels=("X_7",))),
            "places.levels: .*'X_7'; it has X_1, below",
        ),
        (lambda: fit_places(embedder, pictures[:1], FEW), "places: 1 people"),
        (lambda: fit_places(embedder, missing, FEW), str(tmp_path / "none.jpg")),
        (lambda: fit_places(broken, pictures, FEW), "model: .* not finite"),
        (lambda: fit_places(broken, pictures, replace(FEW, levels=("below",))), "model: .* not finite"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=f"^{message}") as caught:
            call()
        assert "\n" not in str(caught.value)


# --- training ----------------------------------------------------------------------------------------

CONFIG: dict[str, Any] = {
    "model": {"name": "pooled", "backbone": {"name": "test_resnet", "weights": "none"}, "channels": 16},
    "input": {"height": 64, "width": 32},
    "batch": {"identities": 4, "pictures": 2},
    "training": {"iterations": 1, "epoch": 1, "evaluate_every": 0, "accelerator": "cpu"},
    "places": {"fit": True, "numbers": 6, "steps": 3, "lists": 2, "strangers": 3},
}


def test_training_can_end_with_fitting(pedestrians: Path, tmp_path: Path) -> None:
    data = {"root": str(pedestrians), "workers": 0}
    run = train(make_config({**CONFIG, "data": data}), tmp_path / "run")
    embedder = kronreid.load(run)
    assert isinstance(embedder, Embedder)
    assert embedder.places is not None
    assert embedder.places.options == PlacesOptions(numbers=6)
    assert yaml.safe_load((run / "config.yaml").read_text())["places"]["steps"] == 3
    score = embedder.needed_matcher().score(
        [one.path for one in read(pedestrians).query[:1]], [*read(pedestrians).gallery]
    )
    assert np.isfinite(score).all()
    bare = train(make_config({**CONFIG, "data": data, "places": {}}), tmp_path / "bare")
    assert not (bare / PLACES).exists()


def test_what_cannot_be_fitted_stops_a_training_before_it_begins(
    pedestrians: Path, make_pedestrians: Callable[..., Path], tmp_path: Path
) -> None:
    pair = {"name": "kpm", "backbone": {"name": "test_resnet", "weights": "none"}}
    one_camera = make_pedestrians("one-camera", cameras=1, pictures_per_camera=4)
    for changes, root, message in (
        ({"model": pair}, pedestrians, "places.fit: a pair model"),
        ({}, one_camera, "places: 4 people, and 0 pictures"),
        (
            {"places": {"fit": True, "levels": ["X_2"]}},
            pedestrians,
            "places.levels: this model has no map 'X_2'",
        ),
    ):
        values = {**CONFIG, **changes, "data": {"root": str(root), "workers": 0}}
        with pytest.raises(InputError, match=f"^{message}"):
            train(make_config(values), tmp_path / "run")
        assert not (tmp_path / "run").exists()
