"""Batches of P identities with K pictures each, the same for any number of workers, processes and restarts.

A batch is a function of the seed and its number alone. So is every random change to a picture: the sampler
hands out (index, seed) and the data set draws from a generator of that seed. Resuming a run is therefore
exact without any state of a generator to save.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from kronreid.data.images import open_rgb
from kronreid.data.records import Picture, identities
from kronreid.data.transforms import TrainTransform, to_tensor
from kronreid.errors import InputError

log = logging.getLogger(__name__)


class PKBatchSampler(Sampler[list[tuple[int, int]]]):
    """PK sampling (Hermans et al. 2017): P identities, K pictures of each.

    Identities come in a random order that is drawn anew when all have had their turn. The K pictures are
    drawn without replacement, and with it only where an identity has fewer than K; with `across_cameras`
    they come from different cameras as far as there are any. In distributed training each process gets its
    share of the same batch's identities.

    Args:
        pictures: The training pictures.
        identities_per_batch: P, over all processes together.
        pictures_per_identity: K.
        iterations: Batches per epoch.
        seed: Decides everything.
        across_cameras: Prefer pictures of different cameras.
        rank: This process's number.
        world: Number of processes; it divides P.

    Raises:
        InputError: Fewer identities than P or than two, or P does not divide over the processes.
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
        if len(known) < 2:
            raise InputError(f"training set: {len(known)} identity; at least two are needed to learn from")
        if identities_per_batch < 2 or identities_per_batch > len(known):
            raise InputError(
                f"batch.identities: {identities_per_batch} does not fit the training set's {len(known)} "
                f"identities; set it between 2 and {len(known)}"
            )
        if pictures_per_identity < 2:
            raise InputError(
                f"batch.pictures: {pictures_per_identity}; at least 2 pictures of an identity make a pair"
            )
        if identities_per_batch % world:
            raise InputError(
                f"batch.identities: {identities_per_batch} does not divide over {world} processes"
            )
        few = sum(len(groups[identity]) < pictures_per_identity for identity in known)
        if few:
            log.info(
                "%d identities have fewer than %d pictures; theirs are repeated", few, pictures_per_identity
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
        """Continue with this epoch's batches (Lightning calls it)."""
        self.epoch = epoch

    @property
    def sampler(self) -> "PKBatchSampler":
        """Itself, where Lightning looks for a batch sampler's `set_epoch`: or all epochs are alike."""
        return self

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for iteration in range(self.epoch * self.iterations, (self.epoch + 1) * self.iterations):
            yield self.batch(iteration)

    def batch(self, iteration: int) -> list[tuple[int, int]]:
        """This process's (index, seed) pairs of one batch, identity by identity."""
        share = self.identities_per_batch // self.world
        per_round = len(self.groups) // self.identities_per_batch
        turn, place = divmod(iteration, per_round)
        order = np.random.default_rng((self.seed, 0, turn)).permutation(len(self.groups))
        start = place * self.identities_per_batch + self.rank * share
        random = np.random.default_rng((self.seed, 1, iteration, self.rank))
        chosen = [
            index
            for group in order[start : start + share]
            for index in self._draw(self.groups[group], random)
        ]
        seeds = random.integers(0, 2**62, size=len(chosen))
        return [(int(index), int(seed)) for index, seed in zip(chosen, seeds)]

    def _draw(self, group: list[int], random: np.random.Generator) -> list[int]:
        shuffled = random.permutation(group)
        if self.across_cameras:
            # The n-th picture of every camera before the (n+1)-th of any: stable, so still random within.
            seen: dict[int, int] = defaultdict(int)
            turn = []
            for camera in self.cameras[shuffled]:
                turn.append(seen[camera])
                seen[camera] += 1
            shuffled = shuffled[np.argsort(turn, kind="stable")]
        return list(np.resize(shuffled, self.pictures_per_identity))


class TrainingPictures(Dataset[tuple[Tensor, int]]):
    """Training pictures by (index, seed): a uint8 tensor (3, H, W) and the identity's number from 0.

    Args:
        pictures: The training pictures.
        transform: The random changes.
        keep: Keep the decoded pictures in memory (a Market-1501 crop takes 24 kB), so that only the first
            epoch decodes. With worker processes each keeps its own.
    """

    def __init__(self, pictures: Sequence[Picture], transform: TrainTransform, keep: bool = True) -> None:
        self.pictures = list(pictures)
        self.transform = transform
        label = {identity: number for number, identity in enumerate(identities(pictures))}
        self.labels = [label[picture.identity] for picture in self.pictures]
        self.decoded: dict[int, Tensor] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            # Of the CPU alone: `torch.manual_seed` would seed the GPU, too, where training draws.
            torch.default_generator.manual_seed(seed)
            return self.transform(self._image(index)), self.labels[index]

    def _image(self, index: int) -> Tensor:
        if self.decoded is None:
            return to_tensor(open_rgb(self.pictures[index].path))
        if index not in self.decoded:
            self.decoded[index] = to_tensor(open_rgb(self.pictures[index].path))
        return self.decoded[index]
