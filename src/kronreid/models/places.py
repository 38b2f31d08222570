"""Place matching: the second look at a pair of pictures that an embedder takes without a second network.

KPM matches every place of one picture with every place of the other (Eq. 5, 6), warps one map onto the other
and classifies the pooled difference. Re-scoring a ranking with that gains nothing here (docs/results.md).
Place matching keeps KPM's Kronecker product S of the two maps, as cosines, and three more things: the cosine
of the two vectors, which made the ranking; how *well* each place is matched, which warping loses; and where
the place lies. With unit places u_i of X and v_j of Y,

    S_ij = <u_i, v_j>,    m_i = max_j S_ij,    n_j = max_i S_ij,
    logit = a · cos(x, y) + Σ_i w_i BN(m_i) + Σ_j w'_j BN(n_j) + b.

A match says little where many strangers would match as well: asphalt, blue jeans, a white shirt. Each place
therefore knows its commonness c_i, how well the nearest places of other people match it
(`kronreid.ops.places.commonness`), and its match counts a second time by how far it goes beyond that,

    m'_i = (m_i − c_i) / (1.1 − c_i),    and n'_j likewise, with weights of their own.

Speaker verification normalises its scores by a cohort of strangers in the same spirit (Matějka et al. 2017).
For one pair of pictures m'_i is linear in m_i, so the logit stays a weighted sum of the best matches, with
weights that belong to each picture.

The logit is a sum over places, so each place's term is its exact share of the verdict
(`PlaceMatching.terms`). The nearest kin is QAConv (Liao & Shao, ECCV 2020): it takes the same maxima from a
network that is trained for them, and has no cosine beside them.

Any embedder whose `Embedding.maps` holds maps can have one. It is fitted on the frozen network in seconds
(`kronreid.training.places`) and lies beside the model as ``places.safetensors``.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from kronreid.data.files import written_whole
from kronreid.errors import InputError, one_line
from kronreid.models.calibration import CALIBRATION
from kronreid.ops.blocks import check_lists
from kronreid.ops.places import (
    DTYPES,
    Places,
    Precision,
    best_matches,
    commonness,
    keep,
    project,
    score_block,
    score_lists,
    unit,
)
from kronreid.options import Positive, checked

PLACES = "places.safetensors"
#: Places of other people that a place is compared with to see how common it is.
STRANGERS = 1000
# Above every cosine, so that the place that everybody has divides by no zero.
_EDGE = 1.1
#: What is said of answers that are NaN or infinite.
UNUSABLE = "its answer is not finite; its weights are unusable"


@dataclass(frozen=True)
class PlacesOptions:
    """Which places are matched, and how they are kept.

    Attributes:
        levels: Maps of the embedder by name, ``X_1``, ``X_2``, … or ``below`` (`Embedding.maps`).
        numbers: D, to which each place's vector is reduced, by the principal components of training places.
        precision: How the numbers are kept: ``int8`` with a scale for each place, ``bf16`` or ``fp32``.
    """

    levels: tuple[str, ...] = ("X_1",)
    numbers: Positive = 64
    precision: Precision = "int8"

    def __post_init__(self) -> None:
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise InputError("levels", "name at least one map, and each once")


def named_map(maps: dict[str, Tensor], name: str) -> Tensor:
    """The map of this name among `Embedding.maps`; InputError where the model has none."""
    if name not in maps:
        there = ", ".join(maps) or "none"
        raise InputError("places.levels", f"this model has no map {name!r}; it has {there}")
    return maps[name]


@dataclass(frozen=True)
class Described:
    """N pictures as an embedder with places describes them, from one network pass.

    Attributes:
        vectors: (N, dimension) float32, L2-normalised.
        levels: The places of each level.
    """

    vectors: Tensor
    levels: list[Places]

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: slice | Tensor) -> "Described":
        """The pictures of a slice or of an int64 tensor."""
        return Described(self.vectors[index], [places[index] for places in self.levels])

    def to(self, device: torch.device | str) -> "Described":
        return Described(self.vectors.to(device), [places.to(device) for places in self.levels])

    @classmethod
    def cat(cls, parts: "Sequence[Described]") -> "Described":
        """One after the other; all of one model."""
        levels = [Places.cat(level) for level in zip(*(part.levels for part in parts))]
        return cls(torch.cat([part.vectors for part in parts]), levels)


@dataclass(frozen=True)
class Weights:
    """What one side's places of one level weigh in a trained head, its normalisation folded in.

    Attributes:
        plain: (M,), of the best matches m_i.
        beyond: (M,), of how far they go beyond strangers, m'_i.
    """

    plain: Tensor
    beyond: Tensor

    def of(self, places: Places) -> tuple[Tensor, Tensor]:
        """For N pictures: weights (N, M) of the m_i, and constants (N,), that make the same sum."""
        common = places.common.float()
        factor = self.beyond / (_EDGE - common)
        return self.plain + factor, -(factor * common).sum(1)


@dataclass(frozen=True)
class Head:
    """A trained head with its normalisation folded in.

    Attributes:
        cosine: a.
        x: Of each level: the weights of the first picture's places.
        y: Of each level: the weights of the second picture's places.
        bias: b, together with the constants of the normalisation.
    """

    cosine: Tensor
    x: list[Weights]
    y: list[Weights]
    bias: Tensor


class PlaceMatching(nn.Module):
    """The projection of each level's places, and the head that makes a logit of their best matches.

    Args:
        options: Which places.
        sizes: Channels, height and width of each level's maps.
    """

    def __init__(self, options: PlacesOptions, sizes: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.options, self.sizes = options, [tuple(size) for size in sizes]
        self.places = [height * width for _, height, width in sizes]
        self.projections = nn.ParameterList(
            nn.Parameter(torch.zeros(channels, min(options.numbers, channels)), requires_grad=False)
            for _, (channels, _, _) in zip(options.levels, sizes, strict=True)
        )
        # Places of other people; those of an untrained head are zero, and nothing is common.
        self.strangers = nn.ParameterList(
            nn.Parameter(
                torch.zeros(STRANGERS, projection.shape[1], dtype=torch.float16), requires_grad=False
            )
            for projection in self.projections
        )
        self.norm = nn.BatchNorm1d(4 * sum(self.places), affine=False)
        self.linear = nn.Linear(4 * sum(self.places), 1)
        self.cosine = nn.Parameter(torch.tensor(10.0))
        # Every place begins with the same small weight.
        nn.init.constant_(self.linear.weight, 1 / self.linear.in_features)
        nn.init.zeros_(self.linear.bias)

    def project(self, maps: dict[str, Tensor]) -> list[Tensor]:
        """The maps of N pictures (`Embedding.maps`) to the projected maps (N, D, H, W) of each level.

        Raises:
            InputError: A level is missing, or its map has another size than those that the head was fitted
                on.
        """
        projected = []
        for name, size, projection in zip(self.options.levels, self.sizes, self.projections):
            found = named_map(maps, name)
            if tuple(found.shape[1:]) != size:
                raise InputError(
                    "places",
                    f"fitted on maps {name} of {size}, and this model's are {tuple(found.shape[1:])}; "
                    "fit them anew with kronreid fit-places",
                )
            projected.append(project(found, projection))
        return projected

    @torch.no_grad()
    def encode(self, maps: dict[str, Tensor]) -> list[Places]:
        """The maps of N pictures to their places as they are kept, level by level; see `project`."""
        return [
            keep(places, commonness(places, strangers.float()), self.options.precision)
            for places, strangers in zip(map(unit, self.project(maps)), self.strangers)
        ]

    def _matches(self, x: Sequence[Places], y: Sequence[Places]) -> list[tuple[Tensor, Tensor]]:
        """m (P, M) and n (P, M) of P pairs, level by level."""
        return [best_matches(u.unit(), v.unit()) for u, v in zip(x, y)]

    def _shares(
        self, matches: list[tuple[Tensor, Tensor]], x: Sequence[Places], y: Sequence[Places]
    ) -> list[tuple[Tensor, Tensor]]:
        """What the places of both sides add to the logits of P pairs, (P, M) each, level by level."""
        sides = [[m for m, _ in matches], [n for _, n in matches]]
        plain = torch.cat([one for side in sides for one in side], dim=1)
        common = torch.cat([level.common.float() for side in (x, y) for level in side], dim=1)
        both = torch.cat([plain, (plain - common) / (_EDGE - common)], dim=1)
        first, second = (self.linear.weight[0] * self.norm(both)).chunk(2, dim=1)
        shares = (first + second).split(self.places * 2, dim=1)
        return list(zip(shares[: len(matches)], shares[len(matches) :]))

    def forward(self, cosines: Tensor, x: Sequence[Places], y: Sequence[Places]) -> Tensor:
        """Logits (P,) of P pairs, with gradients for the head.

        Args:
            cosines: (P,) of the pairs' vectors.
            x: The first pictures' places of each level.
            y: The second pictures'.
        """
        shares = self._shares(self._matches(x, y), x, y)
        total = torch.stack([side.sum(1) for level in shares for side in level]).sum(0)
        return self.cosine * cosines + total + self.linear.bias

    @torch.no_grad()
    def terms(
        self, first: Described, second: Described
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor, Tensor]]]:
        """The logits of P pairs as sums: of the vectors' terms and of all places' shares.

        Args:
            first: P pictures.
            second: P others.

        Returns:
            a · cos + b (P,); and for each level the shares (P, M) of the first pictures' places, those of
            the second's, and the m_i and n_j themselves.
        """
        cosines = (first.vectors * second.vectors).sum(1)
        matches = self._matches(first.levels, second.levels)
        shares = self._shares(matches, first.levels, second.levels)
        terms = [(*share, *pair) for share, pair in zip(shares, matches)]
        return self.cosine * cosines + self.linear.bias, terms

    def head(self) -> Head:
        """The trained head with its normalisation folded in."""
        mean, variance = cast(Tensor, self.norm.running_mean), cast(Tensor, self.norm.running_var)
        weight = self.linear.weight[0].detach() / torch.sqrt(variance + self.norm.eps)
        bias = self.linear.bias[0].detach() - weight @ mean
        plain, beyond = (half.split(self.places * 2) for half in weight.chunk(2))
        sides = [Weights(*pair) for pair in zip(plain, beyond)]
        return Head(self.cosine.detach(), sides[: len(self.places)], sides[len(self.places) :], bias)

    @torch.no_grad()
    def score(self, queries: Described, candidates: Described, lists: Tensor | None = None) -> Tensor:
        """Logits (Q, G) of every query with every candidate, in memory that does not grow with the pairs.

        With `lists` (Q, K) int64, the logits (Q, K) of each query with the candidates of these numbers alone.

        Raises:
            InputError: A side is empty or was described by another model, `lists` is empty or names a
                candidate that is not there, or a logit is not finite.
        """
        for which, side in (("query", queries), ("candidates", candidates)):
            if not len(side):
                raise InputError(which, "there are none to compare; give at least one picture")
            kinds = [(*places.numbers.shape[1:], places.numbers.dtype) for places in side.levels]
            dtype = DTYPES[self.options.precision]
            own = [(count, proj.shape[1], dtype) for count, proj in zip(self.places, self.projections)]
            if kinds != own or side.vectors.shape[1] != queries.vectors.shape[1]:
                raise InputError(
                    which,
                    f"places of {kinds} and vectors of {side.vectors.shape[1]} numbers are not this model's, "
                    f"whose places are of {own}; describe both sides with one model",
                )
        head = self.head()
        if lists is None:
            cosines = queries.vectors @ candidates.vectors.t()
        else:
            check_lists(lists, len(queries), len(candidates))
            # Weights belong to pictures: those of a large gallery that stand in no list need none.
            named, lists = lists.to(candidates.vectors.device).unique(return_inverse=True)
            candidates = candidates[named]
            cosines = torch.stack([candidates.vectors[row] @ x for x, row in zip(queries.vectors, lists)])
        logits = head.cosine * cosines + head.bias
        for x, y, of_x, of_y in zip(queries.levels, candidates.levels, head.x, head.y):
            (weight_x, bias_x), (weight_y, bias_y) = of_x.of(x), of_y.of(y)
            if lists is None:
                logits += score_block(x, y, weight_x, weight_y) + bias_x[:, None] + bias_y
            else:
                logits += score_lists(x, y, lists, weight_x, weight_y) + bias_x[:, None] + bias_y[lists]
        if not bool(logits.isfinite().all()):
            raise InputError("model", UNUSABLE)
        return logits

    def kind(self) -> bytes:
        """Eight bytes that tell these places from all others.

        The strangers are places of the same projection, so they stand for it, also in an exported graph. The
        head does not change what is kept.
        """
        digest = hashlib.blake2b(repr((self.options, self.places)).encode(), digest_size=8)
        for strangers in self.strangers:
            digest.update(strangers.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.digest()

    def pack(self, described: Described) -> list[bytes]:
        """The places of each picture as bytes, for a database: `kind`, then each level's numbers, scales and
        commonness.

        Returns:
            N texts of ``8 + bytes_per_picture`` bytes.
        """
        columns = [
            tensor.cpu().contiguous().view(torch.uint8).flatten(1).numpy()
            for places in described.levels
            for tensor in places.tensors
            if tensor.shape[1]
        ]
        kind = self.kind()
        return [kind + b"".join(column[row].tobytes() for column in columns) for row in range(len(described))]

    def unpack(self, packed: Sequence[bytes], vectors: Tensor) -> Described:
        """The reverse of `pack`.

        Args:
            packed: At least one; all of this `kind`, and of the right length (see `is_ours`).
            vectors: (N, dimension) float32, the same pictures' unit vectors.
        """
        content = torch.frombuffer(bytearray(b"".join(packed)), dtype=torch.uint8).view(len(packed), -1)
        start, levels = 8, []
        dtype = DTYPES[self.options.precision]
        for count, projection in zip(self.places, self.projections):
            length = count * projection.shape[1] * dtype.itemsize
            numbers = content[:, start : start + length].contiguous().view(dtype)
            start += length
            length = 2 * count if dtype is torch.int8 else 0
            scales = content[:, start : start + length].contiguous().view(torch.float16)
            start += length
            common = content[:, start : start + 2 * count].contiguous().view(torch.float16)
            start += 2 * count
            levels.append(Places(numbers.view(len(packed), count, -1), scales, common))
        return Described(vectors, levels)

    def is_ours(self, packed: bytes | None, kind: bytes) -> bool:
        """Whether `unpack` takes these bytes; `kind` is this matching's own."""
        return packed is not None and packed[:8] == kind and len(packed) == 8 + self.bytes_per_picture

    @property
    def bytes_per_picture(self) -> int:
        """What the places of one picture take."""
        width = DTYPES[self.options.precision].itemsize
        scale = 2 if self.options.precision == "int8" else 0
        return sum(
            count * (projection.shape[1] * width + scale + 2)
            for count, projection in zip(self.places, self.projections)
        )


def places_to_bytes(matching: PlaceMatching, model: str) -> bytes:
    """What ``places.safetensors`` holds.

    Args:
        matching: What was fitted.
        model: The fingerprint of the model that it was fitted on.
    """
    options = {field.name: getattr(matching.options, field.name) for field in fields(PlacesOptions)}
    about: dict[str, Any] = {"options": options, "sizes": matching.sizes, "model": model}
    tensors = {name: tensor.contiguous().cpu() for name, tensor in matching.state_dict().items()}
    return to_bytes(tensors, {"places": json.dumps(about)})


def places_fingerprint(folder: Path) -> str | None:
    """A hash of a model folder's places; None without any."""
    file = folder / PLACES
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def places_from_bytes(content: bytes, model: str, source: Path) -> PlaceMatching:
    """The place matching that `places_to_bytes` wrote, in eval mode.

    Args:
        content: The bytes.
        model: The fingerprint of the model that they are for.
        source: Where they come from, for messages.

    Raises:
        InputError: They are damaged, or were fitted on another model.
    """
    try:
        length = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["places"])
        options = checked(PlacesOptions, about["options"], str(source))
        matching = PlaceMatching(options, [tuple(size) for size in about["sizes"]])
        matching.load_state_dict(from_bytes(content))
        fitted_on = about["model"]
    except Exception as error:  # safetensors, JSON and torch raise many kinds
        raise InputError(source, f"damaged ({one_line(error)}); kronreid fit-places writes it anew") from None
    if fitted_on != model:
        raise InputError(
            source,
            "was fitted on another model than the one beside it; fit it anew with kronreid fit-places, or "
            "remove it",
        )
    return matching.eval()


def save_places(folder: Path, matching: PlaceMatching, model: str) -> None:
    """Write ``places.safetensors`` into a model folder, whole or not at all; see `places_to_bytes`.

    A calibration of the places that were there is removed.
    """
    with written_whole(folder / PLACES) as new:
        new.write_bytes(places_to_bytes(matching, model))
        (folder / CALIBRATION).unlink(missing_ok=True)


def load_places(folder: Path, model: str) -> PlaceMatching | None:
    """The place matching of a model folder, None without one; see `places_from_bytes`."""
    file = folder / PLACES
    return places_from_bytes(file.read_bytes(), model, file) if file.is_file() else None
