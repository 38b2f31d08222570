"""Pair models: any way of comparing trains, scores, explains, exports and is saved, without anything else."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kronreid.data.readers import read
from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.evaluation import evaluate_dataset
from kronreid.export.graphs import ScorerGraph, outputs
from kronreid.models.inference import Matcher
from kronreid.models.kpm import KPM, WAYS
from kronreid.models.loading import load
from kronreid.models.pairs import Encoded, EncodedMaps, Named, Way, mean_confidence
from kronreid.models.storage import build, save
from kronreid.training.config import make_config
from kronreid.training.modules import PairTraining
from kronreid.training.train import lightning_module


class Nearest(Way):
    """A way that is in no paper: the cosine of the pooled vectors, and how well the best places match."""

    one_scale = True

    def __init__(self, channels: list[int], temperature: float, scale_losses: bool) -> None:
        super().__init__(channels, temperature, scale_losses)
        self.linear = nn.Linear(2, 1)
        self.layers = {"linear": self.linear}

    def logit(self, cosine: Tensor, matches: Tensor) -> Tensor:
        """Of cosines (…) and of the cosines of all places with all places (…, M, M)."""
        return self.linear(torch.stack([cosine, matches.amax(-1).mean(-1)], dim=-1)).squeeze(-1)

    def logits(self, pictures: Encoded, first: Tensor, second: Tensor) -> list[Tensor]:
        units = nn.functional.normalize(pictures.scales[0].maps.flatten(2), dim=1)
        cosine = (pictures.pooled[first] * pictures.pooled[second]).sum(1)
        return [self.logit(cosine, units[first].transpose(1, 2) @ units[second])]

    def score(self, queries: EncodedMaps, candidates: EncodedMaps, lists: Tensor | None = None) -> Tensor:
        x, y = queries.scales[0].unit.float(), candidates.scales[0].unit.float()
        matches = torch.einsum("qic,gjc->qgij", x, y)
        logits = self.logit(queries.pooled @ candidates.pooled.T, matches)
        return logits if lists is None else logits.gather(1, lists)

    def inputs(self, names: list[str]) -> tuple[list[str], list[str]]:
        return names, names

    def exported(self, queries: Named, candidates: Named, sizes: list[tuple[int, int]]) -> Tensor:
        x, y = (nn.functional.normalize(side["maps_1"], dim=2) for side in (queries, candidates))
        matches = x[:, None] @ y[None].transpose(2, 3)
        return self.logit(queries["pooled"] @ candidates["pooled"].T, matches)


ARGUMENTS = {
    "backbone": {"name": "test_resnet", "weights": "none", "last_stride": 2},
    "attention": False,
    "hourglass": False,
    "warp": False,
    "normalisation": "nearest",
}


@pytest.fixture
def nearest(monkeypatch: pytest.MonkeyPatch, images: Tensor, settle: Callable[..., None]) -> KPM:
    """A model that compares by `Nearest`, which one line makes known."""
    monkeypatch.setitem(WAYS, (True, False, "nearest"), Nearest)
    torch.manual_seed(0)
    model = build("kpm", ARGUMENTS)
    assert isinstance(model, KPM)
    nn.init.normal_(model.get_submodule("linear").weight)  # type: ignore[arg-type]
    settle(model, lambda: model(model.encode(images), *torch.triu_indices(7, 7, 1)))
    return model


def test_a_new_way_scores_and_is_saved(
    nearest: KPM, paths: list[Path], images: Tensor, input_options: InputOptions, tmp_path: Path
) -> None:
    save(tmp_path, "kpm", ARGUMENTS, input_options, nearest)
    matcher = load(tmp_path, device="cpu")
    assert isinstance(matcher, Matcher)
    encoded = matcher.encode(paths, batch_size=3)
    first, second = torch.cartesian_prod(torch.arange(7), torch.arange(7)).T
    with torch.no_grad():
        expected = nearest(nearest.encode(images), first, second).view(7, 7)
        logits = matcher.logits(encoded, encoded)
        lists = torch.tensor([[6, 0, 3]])
        found = matcher.score_lists(encoded[2:3], encoded, lists)
    assert expected.std() > 1e-3
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found, expected[2:3].gather(1, lists), rtol=1e-3, atol=1e-4)
    assert matcher.explain(paths[0], paths[4]).probability == pytest.approx(
        float(expected[0, 4].sigmoid()), abs=1e-4
    )


def test_a_new_way_trains(nearest: KPM) -> None:
    config = make_config({"model": {"name": "kpm", **ARGUMENTS}, "input": {"height": 64, "width": 32}})
    module = lightning_module(config, identities=2)
    assert isinstance(module, PairTraining)
    module.trainer = SimpleNamespace(global_step=0, world_size=1, global_rank=0)  # type: ignore[assignment]
    torch.manual_seed(0)
    losses = module.losses(torch.rand(4, 3, 64, 32), torch.tensor([0, 0, 1, 1]))
    losses["verification"].backward()
    first, *_, last = module.model.parameters()
    for parameter in (first, last, module.model.get_parameter("linear.weight")):
        assert parameter.grad is not None
        assert parameter.grad.any()


@torch.no_grad()
def test_a_new_way_is_exported(nearest: KPM, images: Tensor) -> None:
    example = nearest.encode(images)
    graph, encoded = ScorerGraph(nearest, example), outputs(example)
    assert graph.names == ["query_pooled", "query_maps_1", "candidate_pooled", "candidate_maps_1"]
    logits = graph(*(encoded[name][:2] for name in encoded), *encoded.values())
    first, second = torch.cartesian_prod(torch.arange(2), torch.arange(7)).T
    torch.testing.assert_close(logits, nearest(example, first, second).view(2, 7), rtol=1e-3, atol=1e-4)


def test_a_new_way_is_evaluated(nearest: KPM, input_options: InputOptions, pedestrians: Path) -> None:
    dataset, matcher = read(pedestrians), Matcher(nearest, input_options)
    several, everything = (
        evaluate_dataset(matcher, dataset, rerank_top=top) for top in (len(dataset.gallery), "all")
    )
    assert several.score_kind == "logit"
    np.testing.assert_allclose(several.average_precision, everything.average_precision)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"classifier.bias", "classifier.weight", *(f"norms.{n}.running_mean" for n in range(3))}),
        ({"scale_losses": True}, {f"classifier.{n}.weight" for n in range(3)}),
        (
            {"warp": False, "attention": False, "hourglass": False},
            {"classifier.layers.0.weight", "classifier.layers.7.running_var", "classifier.layers.10.bias"},
        ),
    ],
    ids=lambda value: "" if isinstance(value, set) else str(value),
)
def test_a_checkpoint_has_the_ways_layers_by_their_own_names(
    make_kpm: Callable[..., KPM], images: Tensor, options: dict[str, bool], names: set[str]
) -> None:
    """And they stay the way's: what a copy loads is what it compares by."""
    model = make_kpm(**options)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("backbone.")}
    assert names <= kept.keys()
    assert not any("way" in name for name in kept)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    first, second = torch.tensor([0, 1]), torch.tensor([2, 3])
    with torch.no_grad():
        expected = model(model.encode(images), first, second)
        assert not torch.equal(other(other.encode(images), first, second), expected)
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(other.encode(images), first, second), expected)
    for name, layer in other.way.layers.items():
        assert layer is other.get_submodule(name)
        assert layer is not model.get_submodule(name)


def test_maps_of_another_size_or_way_are_refused(make_kpm: Callable[..., KPM], images: Tensor) -> None:
    model, means = make_kpm(attention=False), make_kpm(attention=False, match=False)
    with torch.no_grad():
        maps = model.way.prepare(model.encode(images), torch.float32)
        larger = model.way.prepare(model.encode(images.repeat(1, 1, 2, 1)), torch.float32)
        without_places = means.way.prepare(means.encode(images), torch.float32)
    for query, candidates in ((maps, larger), (maps, without_places), (without_places, without_places)):
        with pytest.raises(InputError, match="one model in one precision"):
            model.score(query, candidates)
    assert means.score(without_places, without_places).shape == (7, 7)


def test_the_mean_of_confidences_stays_finite() -> None:
    logits = [torch.tensor([-200.0, 300.0, 1.0]), torch.tensor([-210.0, 280.0, -2.0])]
    expected = (1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(2))) / 2
    found = mean_confidence(logits).tolist()
    assert found[0] == pytest.approx(-200 + math.log((1 + math.exp(-10)) / 2), abs=1e-3)
    assert found[1] == pytest.approx(280 - math.log((1 + math.exp(-20)) / 2), abs=1e-3)
    assert found[2] == pytest.approx(math.log(expected / (1 - expected)), abs=1e-5)
    assert mean_confidence(logits[:1]) is logits[0]
