"""PK batches that are the same for any number of workers, processes and restarts.

A batch depends only on the seed and on its number. So does every augmentation: the sampler returns pairs
(index, seed), and the data set seeds its random generator with them. A run can therefore be resumed exactly
without saving the state of a generator.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from kronreid.data.images import open_rgb
from kronreid.data.records import NO_CAMERA, Picture, identities
from kronreid.data.transforms import TrainTransform, to_tensor
from kronreid.errors import InputError

log = logging.getLogger(__name__)


class PKBatchSampler(Sampler[list[tuple[int, int]]]):
    """PK sampling (Hermans et al. 2017): P identities with K pictures each.

    Identities come in random order, which is drawn again when all have been used. The K pictures of an
    identity are drawn without replacement, and repeated only if it has fewer than K. In distributed training
    each process gets its share of a batch's identities.

    Args:
        pictures: The training pictures.
        identities_per_batch: P over all processes, at least 2.
        pictures_per_identity: K, at least 2.
        iterations: Batches per epoch.
        seed: Seed of all random choices.
        across_cameras: Prefer pictures from different cameras.
        rank: Rank of this process.
        world: Number of processes, a divisor of P.

    Raises:
        InputError: There are no pictures, P or K is out of range, or P is not divisible by the number of
            processes.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        identities_per_batch: int,
        pictures_per_identity: int,
        iterations: int,
        seed: int = 0,
        across_cameras: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        groups: dict[int, list[int]] = defaultdict(list)
        for index, picture in enumerate(pictures):
            groups[picture.identity].append(index)
        known = identities(pictures)
        if not known:
            raise InputError(
                "--data (or data.root)",
                "has no training pictures, which are in bounding_box_train or train, or have split train in "
                "a list; without them a model can only be evaluated",
            )
        if len(known) < 2:
            raise InputError("training set", f"has {len(known)} identity; training needs at least two")
        if identities_per_batch < 2 or identities_per_batch > len(known):
            raise InputError(
                "batch.identities",
                f"{identities_per_batch} does not fit the training set's {len(known)} identities; set "
                f"it between 2 and {len(known)}",
            )
        if pictures_per_identity < 2:
            raise InputError(
                "batch.pictures", f"{pictures_per_identity}; give at least 2 pictures per identity"
            )
        if identities_per_batch % world:
            raise InputError(
                "batch.identities", f"{identities_per_batch} is not divisible by {world} processes"
            )
        few = sum(len(groups[identity]) < pictures_per_identity for identity in known)
        if few:
            log.info(
                "%d identities have fewer than %d pictures, which are repeated", few, pictures_per_identity
            )
        self.groups = [groups[identity] for identity in known]
        self.cameras = np.array([picture.camera for picture in pictures])
        self.identities_per_batch, self.pictures_per_identity = identities_per_batch, pictures_per_identity
        self.iterations, self.seed, self.across_cameras = iterations, seed, across_cameras
        self.rank, self.world = rank, world
        self.epoch = 0

    def __len__(self) -> int:
        return self.iterations

    def set_epoch(self, epoch: int) -> None:
        """Continue with the batches of this epoch. Lightning calls it."""
        self.epoch = epoch

    @property
    def sampler(self) -> "PKBatchSampler":
        """Itself. Lightning looks for `set_epoch` here; without it all epochs would be the same."""
        return self

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for iteration in range(self.epoch * self.iterations, (self.epoch + 1) * self.iterations):
            yield self.batch(iteration)

    def batch(self, iteration: int) -> list[tuple[int, int]]:
        """The (index, seed) pairs of one batch for this process, identity by identity."""
        share = self.identities_per_batch // self.world
        start = self.rank * share
        random = np.random.default_rng((self.seed, 1, iteration, self.rank))
        chosen = [
            index
            for group in self.chosen(iteration)[start : start + share]
            for index in self._draw(self.groups[group], random)
        ]
        seeds = random.integers(0, 2**62, size=len(chosen))
        return [(int(index), int(seed)) for index, seed in zip(chosen, seeds)]

    def chosen(self, iteration: int) -> np.ndarray:
        """The indices (P,) of a batch's identities, for all processes together."""
        per_round = len(self.groups) // self.identities_per_batch
        turn, place = divmod(iteration, per_round)
        order = np.random.default_rng((self.seed, 0, turn)).permutation(len(self.groups))
        start = place * self.identities_per_batch
        return order[start : start + self.identities_per_batch]

    def _draw(self, group: list[int], random: np.random.Generator) -> list[int]:
        shuffled = random.permutation(group)
        if self.across_cameras:
            # Put the n-th picture of every camera before the (n+1)-th of any. The sort is stable, so the
            # order within is still random.
            seen: dict[int, int] = defaultdict(int)
            turn = []
            for camera in self.cameras[shuffled]:
                turn.append(seen[camera])
                seen[camera] += 1
            shuffled = shuffled[np.argsort(turn, kind="stable")]
        return list(np.resize(shuffled, self.pictures_per_identity))


class NearestIdentities:
    """The nearest identities of each training identity, by mean feature. It is empty until `update`.

    Attributes:
        means: Mean features (identities, D), L2-normalised.
        order: (identities, identities) int64. Row i has the indices of all identities: i itself, then the
            others from nearest to farthest.
    """

    def __init__(self) -> None:
        self.means: Tensor | None = None
        self.order = np.empty((0, 0), dtype=np.int64)

    def update(self, means: Tensor) -> None:
        """Set new mean features (identities, D), L2-normalised, in the order of the labels."""
        self.means = means.cpu()
        similarity = (self.means @ self.means.t()).fill_diagonal_(torch.inf)
        self.order = similarity.argsort(dim=1, descending=True, stable=True).numpy()


class HardIdentityBatchSampler(PKBatchSampler):
    """PK sampling with global hard identity searching, GHIS (Zhang et al. 2019, as HOReID uses it).

    Each batch consists of a random identity and its P − 1 nearest ones. It depends only on the seed, the
    batch's number and `nearest`. Everything else is as in `PKBatchSampler`.

    Args:
        nearest: The nearest identities, which the training updates.
        arguments: Positional arguments of `PKBatchSampler`.
        options: Keyword arguments of `PKBatchSampler`.
    """

    def __init__(self, nearest: NearestIdentities, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.nearest = nearest

    def chosen(self, iteration: int) -> np.ndarray:
        """The indices (P,) of a batch's identities: the drawn one, then its nearest ones."""
        anchor = np.random.default_rng((self.seed, 2, iteration)).integers(len(self.groups))
        return self.nearest.order[anchor, : self.identities_per_batch]


class TrainingPictures(Dataset[tuple[Any, ...]]):
    """The training set. An item (index, seed) is a uint8 tensor (3, H, W) and the identity's label from 0.

    After `tell_cameras`, the camera's number from 0 follows, or −1 for an unknown camera.

    Args:
        pictures: The training pictures.
        transform: The augmentation.
        keep: Keep the decoded pictures in memory, so that only the first epoch decodes. A Market-1501 crop
            takes 24 kB. Each worker process keeps its own copy.
    """

    def __init__(self, pictures: Sequence[Picture], transform: TrainTransform, keep: bool = True) -> None:
        self.pictures = list(pictures)
        self.transform = transform
        label = {identity: number for number, identity in enumerate(identities(pictures))}
        self.labels = [label[picture.identity] for picture in self.pictures]
        self.cameras: list[int] | None = None
        self.decoded: dict[int, Tensor] | None = {} if keep else None

    def tell_cameras(self, cameras: int) -> None:
        """Give the camera's number with every item.

        Args:
            cameras: How many there should be.

        Raises:
            InputError: The pictures have another number of cameras.
        """
        known = sorted({picture.camera for picture in self.pictures} - {NO_CAMERA})
        if len(known) != cameras:
            raise InputError(
                "model.backbone.cameras", f"{cameras}, but the training pictures have {len(known)} cameras"
            )
        numbers = {camera: number for number, camera in enumerate(known)} | {NO_CAMERA: -1}
        self.cameras = [numbers[picture.camera] for picture in self.pictures]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Any, ...]:
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            # Only the CPU's generator: `torch.manual_seed` would also seed the GPU's, which training uses.
            torch.default_generator.manual_seed(seed)
            item = self.transform(self._image(index)), self.labels[index]
        return item if self.cameras is None else (*item, self.cameras[index])

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[tuple[Any, ...]] | InputError:
        """The items of a batch; a DataLoader calls it.

        If a picture cannot be read, its `InputError` is returned, and `collate` passes it to the main
        process. If a worker process raised it, the main process would only get the text of a traceback.
        """
        try:
            return [self[key] for key in keys]
        except InputError as error:
            return error

    def _image(self, index: int) -> Tensor:
        if self.decoded is None:
            return to_tensor(open_rgb(self.pictures[index]))
        if index not in self.decoded:
            self.decoded[index] = to_tensor(open_rgb(self.pictures[index]))
        return self.decoded[index]


def collate(items: list[tuple[Any, ...]] | InputError) -> list[Tensor] | InputError:
    """A batch of `TrainingPictures`: pictures (B, 3, H, W), labels (B,) and cameras (B,) if there are any; or
    the error of a picture."""
    return items if isinstance(items, InputError) else default_collate(items)
