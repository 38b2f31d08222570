"""Place matching: the second look at a pair of pictures that an embedder takes without a second network.

KPM matches every place of one picture with every place of the other (Eq. 5, 6), warps one map onto the other
and classifies the pooled difference. Re-scoring a ranking with that gains nothing here (docs/results.md).
Place matching keeps KPM's Kronecker product S of the two maps, as cosines, and three more things: the cosine
of the two vectors, which made the ranking; how *well* each place is matched, which warping loses; and where
the place lies. With unit places u_i of X and v_j of Y,

    S_ij = <u_i, v_j>,    m_i = max_j S_ij,    n_j = max_i S_ij,
    logit = a · cos(x, y) + Σ_i w_i BN(m_i) + Σ_j w'_j BN(n_j) + b.

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
    keep,
    project,
    score_block,
    score_lists,
    unit,
)
from kronreid.options import Positive, checked

PLACES = "places.safetensors"
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
class Head:
    """A trained head with its normalisation folded in: logit = cosine · cos + Σ_i x_i m_i + Σ_j y_j n_j +
    bias.

    Attributes:
        cosine: a.
        x: Of each level (M,): the weights of the first picture's places.
        y: Of each level (M,): the weights of the second picture's places.
        bias: b, together with the constants of the normalisation.
    """

    cosine: Tensor
    x: list[Tensor]
    y: list[Tensor]
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
        self.norm = nn.BatchNorm1d(2 * sum(self.places), affine=False)
        self.linear = nn.Linear(2 * sum(self.places), 1)
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
        return [keep(unit(level), self.options.precision) for level in self.project(maps)]

    def forward(self, cosines: Tensor, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
        """Logits (P,) of P pairs, with gradients.

        Args:
            cosines: (P,) of the pairs' vectors.
            x: Unit places of the first pictures, (P, M, D) of each level.
            y: Unit places of the second.
        """
        found = [best_matches(*pair) for pair in zip(x, y)]
        matches = torch.cat([m for m, _ in found] + [n for _, n in found], dim=1)
        return self.cosine * cosines + self.linear(self.norm(matches)).squeeze(1)

    @torch.no_grad()
    def terms(
        self, first: Described, second: Described
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor, Tensor]]]:
        """The logits of P pairs as sums: of the vectors' terms and of all places' shares.

        Args:
            first: P pictures.
            second: P others.

        Returns:
            a · cos + b (P,); and for each level the shares w_i BN(m_i) (P, M) of the first pictures' places,
            those w'_j BN(n_j) of the second's, and the m_i and n_j themselves.
        """
        cosines = (first.vectors * second.vectors).sum(1)
        pairs = [best_matches(x.unit(), y.unit()) for x, y in zip(first.levels, second.levels)]
        matches = torch.cat([m for m, _ in pairs] + [n for _, n in pairs], dim=1)
        shares = (self.linear.weight[0] * self.norm(matches)).split(self.places * 2, dim=1)
        levels = len(pairs)
        terms = [(shares[number], shares[levels + number], *pair) for number, pair in enumerate(pairs)]
        return self.cosine * cosines + self.linear.bias, terms

    def head(self) -> Head:
        """The trained head with its normalisation folded in."""
        mean, variance = cast(Tensor, self.norm.running_mean), cast(Tensor, self.norm.running_var)
        weight = self.linear.weight[0].detach() / torch.sqrt(variance + self.norm.eps)
        bias = self.linear.bias[0].detach() - weight @ mean
        x, y = weight.chunk(2)
        return Head(self.cosine.detach(), list(x.split(self.places)), list(y.split(self.places)), bias)

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
            lists = lists.to(candidates.vectors.device)
            cosines = torch.stack([candidates.vectors[row] @ x for x, row in zip(queries.vectors, lists)])
        logits = head.cosine * cosines + head.bias
        for x, y, weight_x, weight_y in zip(queries.levels, candidates.levels, head.x, head.y):
            if lists is None:
                logits += score_block(x, y, weight_x, weight_y)
            else:
                logits += score_lists(x, y, lists, weight_x, weight_y)
        if not bool(logits.isfinite().all()):
            raise InputError("model", UNUSABLE)
        return logits

    def kind(self) -> bytes:
        """Eight bytes that tell places of this projection from all others; the head does not change them."""
        digest = hashlib.blake2b(repr((self.options, self.sizes)).encode(), digest_size=8)
        for projection in self.projections:
            digest.update(projection.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.digest()

    def pack(self, described: Described) -> list[bytes]:
        """The places of each picture as bytes, for a database: `kind`, then each level's numbers and scales.

        Returns:
            N texts of ``8 + bytes_per_picture`` bytes.
        """
        columns = [
            tensor.cpu().contiguous().view(torch.uint8).flatten(1).numpy()
            for places in described.levels
            for tensor in (places.numbers, places.scales)
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
            levels.append(Places(numbers.view(len(packed), count, -1), scales))
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
            count * (projection.shape[1] * width + scale)
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
