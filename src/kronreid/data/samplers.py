"""Batches of P identities with K pictures each, the same for any number of workers, processes and restarts.

A batch is a function of the seed and its number alone. So is every random change to a picture: the sampler
hands out (index, seed) and the data set draws from a generator of that seed. Resuming a run is therefore
exact without any state of a generator to save.
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
        InputError: No pictures, fewer identities than P or than two, or P does not divide over the processes.
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
                "it holds no training pictures, which lie in bounding_box_train or train, or have "
                "split train in a list; without them a model can only be evaluated",
            )
        if len(known) < 2:
            raise InputError("training set", f"{len(known)} identity; at least two are needed to learn from")
        if identities_per_batch < 2 or identities_per_batch > len(known):
            raise InputError(
                "batch.identities",
                f"{identities_per_batch} does not fit the training set's {len(known)} identities; set "
                f"it between 2 and {len(known)}",
            )
        if pictures_per_identity < 2:
            raise InputError(
                "batch.pictures", f"{pictures_per_identity}; at least 2 pictures of an identity make a pair"
            )
        if identities_per_batch % world:
            raise InputError(
                "batch.identities", f"{identities_per_batch} does not divide over {world} processes"
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
        """The numbers of one batch's identities (P,), for all processes together."""
        per_round = len(self.groups) // self.identities_per_batch
        turn, place = divmod(iteration, per_round)
        order = np.random.default_rng((self.seed, 0, turn)).permutation(len(self.groups))
        start = place * self.identities_per_batch
        return order[start : start + self.identities_per_batch]

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


class NearestIdentities:
    """Whom each training identity looks like, by mean feature; empty until it is told.

    Attributes:
        means: Mean features (identities, D), L2-normalised; all else follows from them.
        order: Row i: all identities' numbers, i itself first, then from the nearest to the farthest.
    """

    def __init__(self) -> None:
        self.means: Tensor | None = None
        self.order = np.empty((0, 0), dtype=np.int64)

    def update(self, means: Tensor) -> None:
        """Take new mean features (identities, D), L2-normalised, in the order of the labels."""
        self.means = means.cpu()
        similarity = (self.means @ self.means.t()).fill_diagonal_(torch.inf)
        self.order = similarity.argsort(dim=1, descending=True, stable=True).numpy()


class HardIdentityBatchSampler(PKBatchSampler):
    """PK sampling with global hard identity searching, GHIS (Zhang et al. 2019, as HOReID uses it).

    Each batch is an identity drawn at random and its P − 1 nearest ones: a function of the seed, the batch's
    number and `nearest`. Everything else is as in `PKBatchSampler`.

    Args:
        nearest: Kept up to date by the training.
        arguments: Those of `PKBatchSampler`.
        options: The same.
    """

    def __init__(self, nearest: NearestIdentities, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.nearest = nearest

    def chosen(self, iteration: int) -> np.ndarray:
        """The numbers of one batch's identities (P,): the one drawn, then from the nearest on."""
        anchor = np.random.default_rng((self.seed, 2, iteration)).integers(len(self.groups))
        return self.nearest.order[anchor, : self.identities_per_batch]


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

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[tuple[Tensor, int]] | InputError:
        """The items of a batch, as a DataLoader asks for them.

        The `InputError` of a picture that cannot be read is returned, and `collate` hands it on to the main
        process. Raised in a worker process, it would arrive there as the text of a traceback.
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


def collate(items: list[tuple[Tensor, int]] | InputError) -> list[Tensor] | InputError:
    """A batch of `TrainingPictures`: pictures (B, 3, H, W) and labels (B,); or what is wrong with one."""
    return items if isinstance(items, InputError) else default_collate(items)
