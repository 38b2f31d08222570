"""PK batches and training pictures: functions of the seed and the batch's number, and of nothing else."""

import itertools
import logging
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from kronreid.data.readers import read
from kronreid.data.records import DISTRACTOR, JUNK, NO_CAMERA, Picture
from kronreid.data.samplers import (
    HardIdentityBatchSampler,
    NearestIdentities,
    PKBatchSampler,
    TrainingPictures,
)
from kronreid.data.transforms import AugmentOptions, InputOptions, TrainTransform
from kronreid.errors import InputError

Batches = list[list[tuple[int, int]]]


def people(*cameras: list[int]) -> list[Picture]:
    """Identity n has one picture for each camera of the n-th list; numbers have gaps, as in real data."""
    return [
        Picture(Path(f"{identity}-{shot}.jpg"), 3 * identity + 2, camera)
        for identity, group in enumerate(cameras)
        for shot, camera in enumerate(group)
    ]


groups = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=7), min_size=2, max_size=9)


@settings(max_examples=60, deadline=None)
@given(
    cameras=groups, p=st.integers(2, 9), k=st.integers(2, 5), seed=st.integers(0, 2**40), across=st.booleans()
)
def test_p_identities_with_k_pictures_each(cameras: Any, p: int, k: int, seed: int, across: bool) -> None:
    assume(p <= len(cameras))
    pictures = people(*cameras)
    sizes = Counter(picture.identity for picture in pictures)
    sampler = PKBatchSampler(pictures, p, k, iterations=5, seed=seed, across_cameras=across)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 5
    for batch in batches:
        assert len(batch) == p * k
        assert len({picture_seed for _, picture_seed in batch}) == p * k, (
            "each picture is changed differently"
        )
        shown = [pictures[index].identity for index, _ in batch]
        rows = [shown[start : start + k] for start in range(0, p * k, k)]
        assert all(len(set(row)) == 1 for row in rows), "identity by identity"
        assert len({row[0] for row in rows}) == p
        for start in range(0, p * k, k):
            # A picture comes again only where there are not K of them, and then as rarely as possible.
            times = Counter(index for index, _ in batch[start : start + k])
            have = sizes[shown[start]]
            assert len(times) == min(k, have)
            assert max(times.values()) == -(-k // have)


@settings(max_examples=40, deadline=None)
@given(cameras=groups, p=st.integers(2, 4), seed=st.integers(0, 2**40), epochs=st.integers(2, 4))
def test_resuming_at_an_epoch_gives_the_same_batches(cameras: Any, p: int, seed: int, epochs: int) -> None:
    assume(p <= len(cameras))
    pictures = people(*cameras)
    whole = list(PKBatchSampler(pictures, p, 3, iterations=4 * epochs, seed=seed))
    pieces: Batches = []
    for epoch in range(epochs):
        fresh = PKBatchSampler(pictures, p, 3, iterations=4, seed=seed)
        fresh.set_epoch(epoch)
        pieces += fresh
    assert pieces == whole


def test_a_batch_sampler_is_told_its_epoch_as_lightning_does() -> None:
    """Lightning sets the epoch of ``dataloader.sampler`` and of ``dataloader.batch_sampler.sampler`` only."""
    loader: DataLoader = DataLoader([0] * 8, batch_sampler=PKBatchSampler(people(*[[1, 2]] * 4), 2, 2, 3))  # type: ignore[arg-type]
    first = list(loader.batch_sampler)  # type: ignore[arg-type]
    loader.batch_sampler.sampler.set_epoch(1)  # type: ignore[union-attr]
    assert list(loader.batch_sampler) != first  # type: ignore[arg-type]


def test_seeds_differ() -> None:
    pictures = people(*[[1, 2, 3, 4]] * 8)
    batches = [list(PKBatchSampler(pictures, 4, 2, 3, seed=seed)) for seed in (0, 1)]
    assert batches[0] != batches[1]
    assert batches[0][0] != batches[0][1]


@settings(max_examples=40, deadline=None)
@given(cameras=groups, share=st.integers(1, 2), world=st.integers(2, 3), seed=st.integers(0, 2**40))
def test_processes_share_the_identities_of_one_batch(cameras: Any, share: int, world: int, seed: int) -> None:
    p = share * world
    assume(p <= len(cameras))
    pictures = people(*cameras)

    def shown(batch: list[tuple[int, int]]) -> set[int]:
        return {pictures[index].identity for index, _ in batch}

    alone = PKBatchSampler(pictures, p, 2, 4, seed=seed)
    together = [PKBatchSampler(pictures, p, 2, 4, seed=seed, rank=rank, world=world) for rank in range(world)]
    for batch, *shares in zip(alone, *together):
        assert [len(part) for part in shares] == [share * 2] * world
        sets = [shown(part) for part in shares]
        assert sum(len(part) for part in sets) == p, "no identity is with two processes"
        assert set.union(*sets) == shown(batch)
        assert len({seed for part in shares for _, seed in part}) == 2 * p


def test_everybody_has_a_turn_before_anybody_has_two() -> None:
    pictures = people(*[[1, 1]] * 12)
    batches = list(PKBatchSampler(pictures, 3, 2, iterations=8))
    for turn in (batches[:4], batches[4:]):
        times = Counter(pictures[index].identity for batch in turn for index, _ in batch)
        assert times == dict.fromkeys({picture.identity for picture in pictures}, 2)
    assert batches[:4] != batches[4:]


@settings(max_examples=60, deadline=None)
@given(cameras=groups, k=st.integers(2, 5), seed=st.integers(0, 2**40))
def test_across_cameras(cameras: Any, k: int, seed: int) -> None:
    """Every camera gives its n-th picture before any gives its (n+1)-th."""
    pictures = people(*cameras)
    sampler = PKBatchSampler(pictures, 2, k, 2, seed=seed, across_cameras=True)
    for batch in sampler:
        for start in (0, k):
            rows = [pictures[index] for index, _ in batch[start : start + k]]
            have = Counter(picture.camera for picture in pictures if picture.identity == rows[0].identity)
            taken: Counter[int] = Counter()
            for picture in rows[: sum(have.values())]:
                assert taken[picture.camera] == min(
                    taken[camera] for camera in have if taken[camera] < have[camera]
                )
                taken[picture.camera] += 1


def on_a_circle(count: int) -> NearestIdentities:
    """Identity n looks at angle n: the nearest are those of the next numbers."""
    angles = torch.arange(count) * (2 * torch.pi / count)
    nearest = NearestIdentities()
    nearest.update(torch.stack([angles.cos(), angles.sin()], dim=1))
    return nearest


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 9), p=st.integers(2, 9), dimension=st.integers(1, 4), seed=st.integers(0, 99))
def test_nearest_identities(count: int, p: int, dimension: int, seed: int) -> None:
    """Itself, then all others from the most similar on; a batch is one drawn and the first of its list."""
    assume(p <= count)
    generator = torch.Generator().manual_seed(seed)
    means = torch.nn.functional.normalize(torch.randn(count, dimension, generator=generator))
    nearest = NearestIdentities()
    nearest.update(means)
    for identity, order in enumerate(nearest.order):
        assert order[0] == identity
        assert sorted(order) == list(range(count))
        similar = [float(means[identity] @ means[other]) for other in order[1:]]
        assert all(a >= b - 1e-6 for a, b in itertools.pairwise(similar))
    pictures = people(*[[1, 2]] * count)
    sampler = HardIdentityBatchSampler(nearest, pictures, p, 2, 6, seed)
    for batch in sampler:
        shown = [(pictures[index].identity - 2) // 3 for index, _ in batch]
        assert shown[::2] == shown[1::2] == list(nearest.order[shown[0]][:p])


def test_hard_batches_change_with_the_means_and_the_iteration_only() -> None:
    pictures = people(*[[1, 2, 3]] * 12)
    nearest = on_a_circle(12)
    sampler = HardIdentityBatchSampler(nearest, pictures, 3, 2, 20, seed=4)
    first = list(sampler)
    assert list(HardIdentityBatchSampler(on_a_circle(12), pictures, 3, 2, 20, seed=4)) == first
    anchors = {pictures[batch[0][0]].identity for batch in first}
    assert len(anchors) > 6, "drawn at random"
    fresh = HardIdentityBatchSampler(nearest, pictures, 3, 2, 10, seed=4)
    fresh.set_epoch(1)
    assert list(fresh) == first[10:]
    nearest.update(nearest.means[torch.randperm(12, generator=torch.Generator().manual_seed(0))])  # type: ignore[index]
    changed = list(sampler)
    assert changed != first
    assert [batch[0] for batch in changed] == [batch[0] for batch in first], "the same identities are drawn"


def test_processes_share_a_hard_batch() -> None:
    pictures = people(*[[1, 2, 3]] * 12)
    whole = HardIdentityBatchSampler(on_a_circle(12), pictures, 4, 2, 5)
    shares = [
        HardIdentityBatchSampler(on_a_circle(12), pictures, 4, 2, 5, rank=rank, world=2) for rank in (0, 1)
    ]
    for batch, *parts in zip(whole, *shares):
        together = [pictures[index].identity for part in parts for index, _ in part]
        assert together == [pictures[index].identity for index, _ in batch]


def test_few_pictures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        PKBatchSampler(people([1], [1, 2], [1, 2, 3, 4]), 2, 4, 1)
    assert "2 identities have fewer than 4 pictures" in caplog.text


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"identities_per_batch": 1}, "batch.identities: 1"),
        ({"identities_per_batch": 4}, "batch.identities: 4"),
        ({"pictures_per_identity": 1}, "batch.pictures: 1"),
        ({"world": 2, "identities_per_batch": 3}, "batch.identities: 3"),
        ({"pictures": people([1, 2, 3])}, "training set: has 1 identity"),
        ({"pictures": []}, "--data (or data.root): has no training pictures"),
        (
            {"pictures": [Picture(Path("a.jpg"), who, 1) for who in (JUNK, DISTRACTOR, 5)]},
            "training set: has 1 identity",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals(change: dict[str, Any], named: str) -> None:
    arguments: dict[str, Any] = {
        "pictures": people([1, 2], [1, 2], [1, 2]),
        "identities_per_batch": 2,
        "pictures_per_identity": 2,
        "iterations": 1,
    }
    with pytest.raises(InputError) as caught:
        PKBatchSampler(**{**arguments, **change})
    assert str(caught.value).startswith(named)
    assert "\n" not in str(caught.value)


def training_pictures(root: Path, keep: bool = True) -> TrainingPictures:
    augment = AugmentOptions(crop_area=(0.64, 1.0), flip=0.5, shift=0.05, erase=0.5)
    return TrainingPictures(read(root).train, TrainTransform(InputOptions(64, 32), augment), keep)


def test_the_number_of_workers_changes_nothing(pedestrians: Path) -> None:
    results = []
    for workers in (0, 2):
        data = training_pictures(pedestrians)
        sampler = PKBatchSampler(data.pictures, 2, 2, 3, seed=1)
        torch.manual_seed(workers)
        results.append(list(DataLoader(data, batch_sampler=sampler, num_workers=workers)))
    for (pictures, labels), (others, other_labels) in zip(*results, strict=True):
        assert pictures.shape == (4, 3, 64, 32)
        assert pictures.dtype == torch.uint8
        assert torch.equal(pictures, others)
        assert torch.equal(labels, other_labels)


def test_training_pictures(pedestrians: Path) -> None:
    data, again = training_pictures(pedestrians), training_pictures(pedestrians, keep=False)
    assert len(data) == 16
    assert [data[index, 0][1] for index in range(16)] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    first = data[3, 7][0]
    assert not torch.equal(data[3, 8][0], first), "another seed, another change"
    for tried in (data, again):
        for _ in range(2):
            assert torch.equal(tried[3, 7][0], first)


def test_cameras_are_told(pedestrians: Path) -> None:
    data = training_pictures(pedestrians)
    assert len(data[0, 0]) == 2
    data.tell_cameras(2)
    assert [data[index, 0][2] for index in range(16)] == [one.camera - 1 for one in data.pictures]
    data.pictures[0] = replace(data.pictures[0], camera=NO_CAMERA)
    data.tell_cameras(2)
    assert [data[index, 0][2] for index in (0, 1)] == [-1, data.pictures[1].camera - 1]
    with pytest.raises(InputError, match=r"^model.backbone.cameras: 3, but the training pictures have 2 "):
        data.tell_cameras(3)


def test_global_generators_are_left_alone(pedestrians: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the GPU's, which `torch.manual_seed` would seed and `fork_rng` of no device would not restore."""

    def touched(*_: object) -> None:
        raise AssertionError("the GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched)
    data = training_pictures(pedestrians)
    torch.default_generator.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    data[0, 1]
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert random.getstate() == before[2]
