"""A data set, embedders and a matcher without networks.

Vectors and the matcher's maps are whole numbers, so that their scores are exact. Places are not: no two of
their logits are equal.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from kronreid.data.records import Picture, ReIDDataset
from kronreid.evaluation import evaluate, evaluate_dataset
from kronreid.models.place_matcher import PlaceMatcher
from kronreid.models.places import Described, PlaceMatching, PlacesOptions
from kronreid.ops.places import keep


def signs(names, dimension, salt):
    """(N, dimension) of ±1, fixed by each name."""
    rows = [
        np.random.default_rng([salt, *str(name).encode()]).choice([-1.0, 1.0], dimension) for name in names
    ]
    return np.array(rows, np.float32).reshape(-1, dimension)


class FakeEmbedder:
    def __init__(self):
        self.seen = []

    def embed(self, images, batch_size=64, progress=False):
        self.seen.extend(images)
        return signs(images, 16, 1) / 4


@dataclass
class FakeMaps:
    values: torch.Tensor

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return FakeMaps(self.values[index])


class FakeMatcher(FakeEmbedder):
    """Logits are whole numbers: many ties."""

    def __init__(self):
        super().__init__()
        self.encoded = 0
        self.pairs = 0
        self.most = 0

    def encode(self, images, batch_size=64, progress=False):
        self.encoded += len(images)
        return FakeMaps(torch.from_numpy(signs(images, 8, 2)))

    def logits(self, query, candidates):
        self.pairs += len(query) * len(candidates)
        twisted = torch.roll(candidates.values, 1, 1)  # not the same in both directions
        return query.values @ twisted.T

    def score_lists(self, query, candidates, lists):
        self.pairs += lists.numel()
        twisted = torch.roll(candidates.values, 1, 1)
        return (query.values[:, None] * twisted[lists]).sum(2)


class FakePlaces(FakeEmbedder):
    """An embedder with a place matching; six places of eight numbers are fixed by each name."""

    def __init__(self, precision="int8"):
        super().__init__()
        self.encoded = 0
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.places = PlaceMatching(PlacesOptions(numbers=8, precision=precision), [(8, 3, 2)]).eval()
            torch.nn.init.normal_(self.places.linear.weight)

    @property
    def matcher(self):
        return PlaceMatcher(self, self.places)

    def describe(self, images, batch_size=64, progress=False, places=None):
        self.encoded += len(images)
        rows = [np.random.default_rng([3, *str(name).encode()]).normal(size=(6, 8)) for name in images]
        unit = F.normalize(torch.tensor(np.array(rows), dtype=torch.float32), dim=2)
        kept = keep(unit, torch.zeros(unit.shape[:2]), places.options.precision)
        return Described(torch.from_numpy(signs(images, 16, 1) / 4), [kept])


def fake_dataset(queries=23, gallery=90, people=9, cameras=3, seed=0, root="nowhere"):
    rng = np.random.default_rng(seed)

    def pictures(part, count, lowest):
        return tuple(
            Picture(
                Path(root) / f"{part}_{i}.jpg", int(rng.integers(lowest, people)), int(rng.integers(cameras))
            )
            for i in range(count)
        )

    query, rest = pictures("query", queries, 1), pictures("gallery", gallery, -1)
    return ReIDDataset("fake", "market1501", Path(root), (), query, rest)


def results_of_every_kind():
    """What evaluations find, as arrays by name; the gallery of the first has three tiles."""
    rng = np.random.default_rng(0)
    q, g = rng.normal(size=(40, 33)).astype(np.float32), rng.normal(size=(9001, 33)).astype(np.float32)
    labels = (
        (rng.integers(1, 40, 40), rng.integers(0, 4, 40)),
        (rng.integers(-1, 40, 9001), rng.integers(0, 4, 9001)),
    )
    dataset = fake_dataset()
    embedder = FakeEmbedder()
    out = [
        evaluate(q, *labels[0], g, *labels[1], verification=True),
        evaluate_dataset(embedder, dataset, batch_size=8),
        evaluate_dataset(embedder, dataset, batch_size=500),  # more processes than batches
        evaluate_dataset(embedder, dataset, k_reciprocal=True),
        evaluate_dataset(embedder, dataset, matcher=FakeMatcher(), rerank_top=9),
        evaluate_dataset(FakeMatcher(), dataset, rerank_top="all"),
        evaluate_dataset(embedder, fake_dataset(cameras=2), protocol="cuhk03-classic"),
        evaluate_dataset(FakePlaces(), dataset, rerank_top=9),
        evaluate_dataset(FakePlaces("bf16"), dataset, rerank_top="all", batch_size=8),
    ]
    out += [result.first_stage for result in out if result.first_stage is not None]
    arrays = {"embedded": np.array(len(embedder.seen))}
    for number, result in enumerate(out):
        for key, value in vars(result).items():
            if key not in ("seconds", "hardest", "verification", "first_stage", "rerank_ms_per_query"):
                arrays[f"{number}.{key}"] = np.asarray(value)
        arrays[f"{number}.hardest"] = np.array(
            [[str(one.query), *map(str, one.pictures)] for one in result.hardest]
        )
    arrays["0.roc"] = np.stack(out[0].verification.roc())
    return arrays
