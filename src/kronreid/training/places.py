"""Fitting the place matching of a trained embedder (`kronreid.models.places`): a small head on a frozen
network.

The training pictures are described once. Each picture then stands before a list: some pictures of its person
from other cameras, its mates, and some of the strangers that look most like it. The head learns to put every
mate before all strangers of the list (a listwise logistic loss), and to say of each pair whether it shows one
person (binary cross-entropy). That takes seconds.
"""

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from tqdm import trange

from kronreid.data.records import NO_CAMERA, Picture
from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.inference import Embedder
from kronreid.models.pairs import PairModel
from kronreid.models.places import STRANGERS, Described, PlaceMatching, PlacesOptions, named_map
from kronreid.options import Positive, Weight

log = logging.getLogger(__name__)

#: Pictures of whose places the principal components are taken.
PRINCIPAL_PICTURES = 2000


@dataclass(frozen=True)
class FitOptions(PlacesOptions):
    """How the place matching of an embedder is fitted, beside what `PlacesOptions` says.

    Attributes:
        fit: Fit one at the end of the embedder's training.
        mates: Pictures of the same person in each list, from other cameras.
        strangers: Pictures of others in each list.
        hardest: Of how many of the most similar strangers they are drawn.
        lists: Lists in each step.
        steps: How many steps.
        lr: Learning rate of AdamW.
        seed: Decides which lists are drawn.
    """

    fit: bool = False
    mates: Positive = 4
    strangers: Positive = 24
    hardest: Positive = 100
    lists: Positive = 8
    steps: Positive = 300
    lr: Weight = 2e-3
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


def fit_places(
    embedder: Embedder,
    pictures: Sequence[Picture],
    options: FitOptions = FitOptions(),
    batch_size: int = 64,
    progress: bool = False,
) -> PlaceMatching:
    """Fit the place matching of an embedder, which stays as it is.

    Args:
        embedder: Any whose network gives maps (`Embedding.maps`).
        pictures: Pictures with identities and cameras, those that the embedder was trained on or others.
        options: What is fitted, and how. The same options, pictures and machine give the same result.
        batch_size: Pictures at a time through the network.
        progress: Show progress on a terminal.

    Returns:
        The place matching in eval mode, to be given to `Embedder.places`.

    Raises:
        InputError: The network has no such maps, a picture cannot be read, or there are too few people, or
            too few with pictures from several cameras.
    """
    matching, described, lists = prepare(embedder, pictures, options, batch_size, progress)
    fit_head(matching, described, lists, options, progress)
    if speaks_against(matching, described):
        log.warning(
            "places: on these pictures a better match spoke against the same person; they have no say"
        )
        nn.init.zeros_(matching.linear.weight)
    return matching.eval()


@torch.no_grad()
def speaks_against(matching: PlaceMatching, described: Described) -> bool:
    """Whether better matches lower a fitted head's logit on the whole.

    That happens where a network knows its training people by heart: their vectors alone tell them apart, and
    the strangers of a list, who were chosen because they look alike, match best. On other people such a head
    ranks worse than the vectors.
    """
    head = matching.head()
    both_sides = zip(head.x + head.y, described.levels * 2)
    return float(sum(weights.of(places)[0].sum(1).mean() for weights, places in both_sides)) <= 0


def prepare(
    embedder: Embedder,
    pictures: Sequence[Picture],
    options: FitOptions,
    batch_size: int = 64,
    progress: bool = False,
) -> tuple[PlaceMatching, Described, "Lists"]:
    """What a head is fitted on: see `fit_places`, which this is but for the fitting.

    Returns:
        A place matching with its projections and an untrained head, the pictures as it describes them, and
        their lists.
    """
    lists = Lists.possible(pictures, options)
    random = np.random.default_rng(options.seed)
    chosen = random.permutation(len(pictures))[:PRINCIPAL_PICTURES]
    matching = principal_components(
        embedder, [pictures[one] for one in chosen], options, batch_size, progress
    )
    described = embedder.describe([*pictures], batch_size, progress, places=matching)
    if not bool(described.vectors.isfinite().all()):
        raise InputError("model", "its vectors are not finite; its weights are unusable")
    lists.look(described.vectors)
    return matching, described, lists


@torch.no_grad()
def principal_components(
    embedder: Embedder, pictures: Sequence[Picture], options: FitOptions, batch_size: int, progress: bool
) -> PlaceMatching:
    """A place matching that is not fitted yet, whose projections are the principal components of these
    pictures, and whose strangers are some of their places.

    The components are those of the second moments about zero of the places' unit vectors: of all projections
    to D numbers they change inner products least.
    """
    moments: list[Tensor] = []
    sizes: list[tuple[int, int, int]] = []
    strangers: list[list[Tensor]] = [[] for _ in options.levels]
    each = math.ceil(STRANGERS / len(pictures))  # places of one picture
    random = torch.Generator().manual_seed(options.seed)
    for embedding in embedder.embeddings([*pictures], batch_size, progress):
        for number, name in enumerate(options.levels):
            maps = named_map(embedding.maps, name).float()
            if len(moments) == number:
                sizes.append((maps.shape[1], maps.shape[2], maps.shape[3]))
                moments.append(torch.zeros(maps.shape[1], maps.shape[1], dtype=torch.float64))
            places = F.normalize(maps, dim=1).flatten(2).transpose(1, 2)
            rows = places.reshape(-1, maps.shape[1])
            moments[number] += (rows.t() @ rows).double().cpu()
            chosen = torch.randint(places.shape[1], (len(places), each), generator=random)
            strangers[number].append(places[torch.arange(len(places))[:, None], chosen].flatten(0, 1).cpu())
    matching = PlaceMatching(options, sizes)
    parts = zip(options.levels, matching.projections, matching.strangers, strangers, moments)
    for name, projection, kept, found, moment in parts:
        if not bool(moment.isfinite().all()):
            raise InputError("model", f"its maps {name} are not finite; its weights are unusable")
        _, vectors = torch.linalg.eigh(moment)  # eigenvalues ascend
        components = vectors.flip(1)[:, : projection.shape[1]]
        # An eigenvector's sign is arbitrary; the largest entry is made positive, the same on every machine.
        largest = components.abs().argmax(0)
        components = components * components[largest, torch.arange(components.shape[1])].sign()
        projection.copy_(components)
        kept.copy_(F.normalize(torch.cat(found)[:STRANGERS] @ projection, dim=1))
    return matching.to(embedder.device)


def check_before_training(
    model: nn.Module, size: InputOptions, pictures: Sequence[Picture], options: FitOptions
) -> None:
    """Complain now about what would stop the fitting when the training has ended.

    Args:
        model: What is going to be trained.
        size: Of its pictures.
        pictures: Those that it is going to be trained on.
        options: How its places are going to be fitted.

    Raises:
        InputError: It is a pair model, the network has no such maps, or there are too few people.
    """
    if isinstance(model, PairModel):
        raise InputError("places.fit", "a pair model matches places already; set it to false")
    Lists.possible(pictures, options)
    with torch.no_grad():
        maps = copy.deepcopy(model).eval()(torch.zeros(1, 3, size.height, size.width)).maps
    for name in options.levels:
        named_map(maps, name)


class Lists:
    """Who can stand in whose list.

    Attributes:
        queries: (L,) int64 pictures that have a mate.
        mates: Of each query its mates, int64.
        strangers: (L, hardest) int64 of each query the strangers that look most like it; filled by `look`.
    """

    def __init__(
        self, identities: np.ndarray, queries: np.ndarray, mates: list[np.ndarray], hardest: int
    ) -> None:
        self.identities, self.queries, self.mates, self.hardest = identities, queries, mates, hardest
        self.strangers = np.empty((len(queries), 0), np.int64)

    @classmethod
    def possible(cls, pictures: Sequence[Picture], options: FitOptions) -> "Lists":
        """Find everybody's mates.

        Raises:
            InputError: Nobody has pictures from two cameras, or there are fewer than two people.
        """
        identities = np.array([picture.identity for picture in pictures], np.int64)
        cameras = np.array([picture.camera for picture in pictures], np.int64)
        people = np.unique(identities[identities > 0])
        queries, mates = [], []
        for person in people:
            own = np.flatnonzero(identities == person)
            for one in own:
                # Without cameras every other picture is a mate.
                others = (cameras[own] != cameras[one]) | (cameras[one] == NO_CAMERA)
                found = own[others & (own != one)]
                if len(found):
                    queries.append(one)
                    mates.append(found)
        if len(people) < 2 or not queries:
            raise InputError(
                "places",
                f"{len(people)} people, and {len(queries)} pictures of one whom another camera has as well; "
                "at least two people, and one of them in two cameras, are needed to fit place matching",
            )
        return cls(identities, np.array(queries), mates, options.hardest)

    @torch.no_grad()
    def look(self, vectors: Tensor, block: int = 1024) -> None:
        """Find the strangers that look most like each query, by the pictures' vectors (N, D)."""
        known = torch.from_numpy(self.identities).to(vectors.device)
        candidates = known > 0
        found = []
        for start in range(0, len(self.queries), block):
            rows = torch.from_numpy(self.queries[start : start + block]).to(vectors.device)
            similarities = vectors[rows] @ vectors.t()
            similarities.masked_fill_(~candidates | (known[rows][:, None] == known), -torch.inf)
            count = min(self.hardest, int((similarities > -torch.inf).sum(1).min()))
            found.append(similarities.topk(count, dim=1).indices.cpu().numpy())
        count = min(len(rows[0]) for rows in found)
        self.strangers = np.concatenate([rows[:, :count] for rows in found])

    def draw(
        self, options: FitOptions, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Some lists.

        Returns:
            queries (B,), candidates (B, mates + strangers) and who of them is a mate, (B, mates + strangers)
            bool. A mate stands in a list several times where the query has fewer.
        """
        chosen = random.choice(
            len(self.queries), size=options.lists, replace=len(self.queries) < options.lists
        )
        rows = []
        for number in chosen:
            mates = np.resize(random.permutation(self.mates[number]), options.mates)
            strangers = random.permutation(self.strangers[number])[: options.strangers]
            rows.append(np.concatenate([mates, strangers]))
        candidates = np.stack(rows)
        same = np.zeros(candidates.shape, bool)
        same[:, : options.mates] = True
        return self.queries[chosen], candidates, same


def fit_head(
    head: nn.Module, described: Described, lists: Lists, options: FitOptions, progress: bool = False
) -> None:
    """Train a head on places that do not change, in place.

    Args:
        head: A `PlaceMatching`, or another module that takes what its `forward` takes.
        described: The training pictures.
        lists: Who stands in whose list.
        options: Losses, steps and learning rate.
        progress: Show progress on a terminal.
    """
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=options.lr)
    random = np.random.default_rng((options.seed, 1))
    device = described.vectors.device
    head.train()
    with (
        torch.enable_grad(),
        trange(options.steps, desc="fitting places", disable=None if progress else True) as bar,
    ):
        for _ in bar:
            queries, candidates, same = lists.draw(options, random)
            first = torch.from_numpy(np.repeat(queries, candidates.shape[1])).to(device)
            second = torch.from_numpy(candidates.reshape(-1)).to(device)
            right = torch.from_numpy(same).to(device)
            cosines = (described.vectors[first] * described.vectors[second]).sum(1)
            x, y = described[first].levels, described[second].levels
            logits = head(cosines, x, y).view(right.shape)
            loss = listwise_loss(logits, right) + F.binary_cross_entropy_with_logits(logits, right.float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    head.eval()


def listwise_loss(logits: Tensor, same: Tensor) -> Tensor:
    """The logistic loss of each mate against all strangers of its list, their mean.

    For a mate's logit s and the strangers' t_k it is −log(e^s / (e^s + Σ_k e^t_k)): the other mates do not
    count.

    Args:
        logits: (B, K).
        same: (B, K) bool: who is a mate.
    """
    strangers = logits.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)
    return F.softplus(strangers - logits)[same].mean()
