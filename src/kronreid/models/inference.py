"""The public interface of models: they `embed`, `score` or `explain` pictures. `kronreid.load` opens one."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from kronreid.data.ahead import read_ahead
from kronreid.data.images import ImageLike, as_list, open_rgb
from kronreid.data.transforms import InputOptions, normalise, resize, to_tensor
from kronreid.errors import InputError
from kronreid.models.calibration import Calibration, probability
from kronreid.models.embedding import Embedding, embedded
from kronreid.models.fusing import can_fuse, fuse
from kronreid.models.half_precision import for_autocast
from kronreid.models.onnx_probe import probe_pictures
from kronreid.models.pairs import EncodedMaps, PairModel, check_input
from kronreid.models.place_matcher import PairExplanation, PlaceMatcher
from kronreid.models.places import Described, PlaceMatching
from kronreid.models.reid import ReID

#: On a CPU a pass has about this many pixels: larger maps leave the cache, and the system has to clear the
#: memory that they take.
_PIXELS = 16 * 192 * 96


@dataclass
class ScaleExplanation:
    """Correspondences and attention at one scale.

    Attributes:
        correspondence: β of KPM's Eq. 5, (H·W, H·W) float32. Row i says where place i of the first picture
            looks in the second, and sums to 1. Places are numbered row by row. A model without matching does
            not use it.
        attention_a: ã of the first picture, (H, W) float32, sums to 1; uniform in a model without attention.
        attention_b: ã of the second picture.
        height: H, the height of the maps.
        width: W, the width of the maps.
    """

    correspondence: np.ndarray
    attention_a: np.ndarray
    attention_b: np.ndarray
    height: int
    width: int


@dataclass
class Explanation:
    """Why two pictures match, or do not.

    Attributes:
        probability: Probability that both show the same person, 0 to 1.
        scales: One explanation per scale, coarsest first.
        image_a: The first picture at the network's input size, uint8 (H, W, 3) in RGB.
        image_b: The second picture.
    """

    probability: float
    scales: list[ScaleExplanation]
    image_a: np.ndarray
    image_b: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, ready for JSON: what `kronreid match --json` writes."""
        scales = [
            {
                "height": scale.height,
                "width": scale.width,
                "correspondence": scale.correspondence.tolist(),
                "attention_a": scale.attention_a.tolist(),
                "attention_b": scale.attention_b.tolist(),
            }
            for scale in self.scales
        ]
        return {"probability": self.probability, "scales": scales}


def whole_batch(number: int) -> int:
    """The least of 1, 2, 4, 8, 12, 16, … that is not below a number of pictures."""
    return number if number <= 2 else -(-number // 4) * 4


class _Network:
    """The base of both kinds: reads pictures and passes batches through a network.

    Decoding overlaps with computing.
    """

    def __init__(self, model: nn.Module, input_options: InputOptions, fingerprint: str = "") -> None:
        self.path: Path | None = None
        self.model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.input = input_options
        self.height, self.width = input_options.height, input_options.width
        self.fingerprint = fingerprint
        self.dimension = int(cast(int, model.dimension))
        self.autocast = False
        self.fast = False
        self.calibration: Calibration | None = None
        self._fused: nn.Module | None = None
        self._for_autocast: nn.Module | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def per_pass(self) -> int | None:
        """The most pictures of a pass that is fast; None without a limit."""
        pixels = self.height * self.width * (2 if self.input.mirror else 1)
        return max(1, _PIXELS // pixels) if self.device.type == "cpu" else None

    def network(self) -> Any:
        """What computes: `model`, its form for bfloat16 (`kronreid.models.half_precision`) if `autocast` is
        set, or its fast form on a CPU (`kronreid.models.fusing`) if `fast` is set."""
        if self.autocast:
            if self._for_autocast is None:
                self._for_autocast = for_autocast(self.model)
            return self._for_autocast
        if not self.fast or not can_fuse(self.model):
            return self.model
        if self._fused is None:
            pictures = probe_pictures(self.height, self.width).repeat(self.per_pass or 1, 1, 1, 1)
            batch = self.batch(list(pictures[: self.per_pass]))
            self._fused = fuse(self.model, lambda model: self._passed(model, batch))
        return self._fused

    def vectors(self, model: nn.Module, batch: Tensor) -> Tensor:
        """The vectors (N, dimension) that `model` or its fast form gives for a normalised batch."""
        raise NotImplementedError

    def _passed(self, model: nn.Module, batch: Tensor) -> Tensor:
        """The vectors, from a pass through all of a model."""
        return self.vectors(model, batch)

    def pixels(self, image: ImageLike) -> Tensor:
        """One picture at the network's input size, uint8 (3, H, W).

        Raises:
            InputError: The picture cannot be read.
        """
        return resize(to_tensor(open_rgb(image)), self.input)

    def as_seen(self, image: ImageLike) -> Image.Image:
        """One picture at the network's size."""
        return Image.fromarray(self.pixels(image).permute(1, 2, 0).contiguous().numpy())

    def batch(self, pixels: Sequence[Tensor]) -> Tensor:
        """Stack the results of `pixels` to a normalised batch (N, 3, H, W) on the model's device."""
        # Stacking as (N, H, W, 3), their layout in memory, copies the bytes once and in order.
        stacked = torch.stack([picture.permute(1, 2, 0) for picture in pixels]).permute(0, 3, 1, 2)
        return normalise(stacked.to(self.device), self.input)

    def _batches(
        self, images: Sequence[ImageLike], batch_size: int, progress: bool
    ) -> Iterator[tuple[Tensor, int]]:
        """Normalised batches on the model's device, and how many pictures of each are wanted. The next ones
        are decoded while one is computed.

        On a CPU, the last picture is repeated until a batch has one of a few sizes. oneDNN compiles kernels
        for each size and keeps them, some 3 MB for a small network, so a process that embeds batches of any
        size would grow for hours.
        """
        if batch_size < 1:
            raise InputError("batch_size", f"{batch_size}; give at least 1 picture per pass")
        batch_size = min(batch_size, self.per_pass or batch_size)
        threads = torch.get_num_threads()
        beside = 1 if self.device.type == "cpu" else threads
        bar = tqdm(total=len(images), unit=" pictures", desc="embedding", disable=None if progress else True)
        with bar, closing(read_ahead(self.pixels, images, batch_size, threads, beside)) as batches:
            for pixels in batches:
                number = len(pixels)
                if self.per_pass:
                    pixels += pixels[-1:] * (min(whole_batch(number), batch_size) - number)
                yield self.batch(pixels), number
                bar.update(number)

    @torch.no_grad()
    def embed(
        self, images: ImageLike | Sequence[ImageLike], batch_size: int = 64, progress: bool = False
    ) -> np.ndarray:
        """Embed pictures.

        Args:
            images: Paths, PIL images or uint8 arrays (H, W, 3) in RGB; one or several.
            batch_size: The most pictures per pass. On a CPU, smaller passes are used where they are faster.
            progress: Show a progress bar.

        Returns:
            (N, dimension) float32, L2-normalised: the inner product of two is their cosine similarity.

        Raises:
            InputError: A picture cannot be read (the message names it), or `batch_size` is below 1.

        Example:
            >>> embedder = kronreid.load("runs/horeid")
            >>> vectors = embedder.embed(["a.jpg", "b.jpg"])
            >>> float(vectors[0] @ vectors[1])
        """
        images = as_list(images)
        vectors = np.empty((len(images), self.dimension), dtype=np.float32)
        done = 0
        for batch, number in self._batches(images, batch_size, progress):
            vectors[done : done + number] = self.descriptors(batch)[:number].cpu().numpy()
            done += number
        return vectors

    @torch.no_grad()
    def descriptors(self, batch: Tensor) -> Tensor:
        """Pass a normalised batch (N, 3, H, W) through the network; returns L2-normalised (N, dimension)."""
        with self._precision():
            return self.vectors(self.network(), batch)

    def _precision(self):
        return torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext()


class Embedder(_Network):
    """Turns pictures into vectors.

    Attributes:
        dimension: Length of a vector.
        fingerprint: A hash of the model's files. Vectors of models with different fingerprints cannot be
            compared.
        height: Input height in pixels.
        width: Input width in pixels.
        autocast: Compute in bfloat16, with depthwise convolutions in float32. It is faster on processors that
            have bfloat16, and changes cosines in the third digit.
        fast: Compute with the fast form of the network on a CPU, which gives the same vectors.
        calibration: The meaning of its scores, as `kronreid calibrate` measured it; None without one.
    """

    _places: PlaceMatching | None = None

    @property
    def places(self) -> PlaceMatching | None:
        """Its place matching, which takes a second look at pairs; None without one. A calibration is of one
        place matching: set another, and `calibration` becomes None."""
        return self._places

    @places.setter
    def places(self, places: PlaceMatching | None) -> None:
        self._places, self.calibration = places, None

    def vectors(self, model: nn.Module, batch: Tensor) -> Tensor:
        return F.normalize(embedded(model, batch, self.input.mirror).descriptor.float())

    @torch.no_grad()
    def embeddings(
        self, images: ImageLike | Sequence[ImageLike], batch_size: int = 64, progress: bool = False
    ) -> Iterator[Embedding]:
        """What the network makes of pictures, batch by batch; descriptors are L2-normalised float32."""
        for batch, number in self._batches(as_list(images), batch_size, progress):
            with self._precision():
                embedding = embedded(self.network(), batch, self.input.mirror).first(number)
            yield replace(embedding, descriptor=F.normalize(embedding.descriptor.float()))

    @torch.no_grad()
    def describe(
        self,
        images: ImageLike | Sequence[ImageLike],
        batch_size: int = 64,
        progress: bool = False,
        places: PlaceMatching | None = None,
    ) -> Described:
        """Vectors and places of pictures from one pass through the network: what a gallery keeps.

        Args:
            images: Paths, PIL images or uint8 arrays (H, W, 3) in RGB; one or several.
            batch_size: Pictures per pass.
            progress: Show a progress bar.
            places: Another place matching than the embedder's own.

        Raises:
            InputError: The embedder has no places, a picture cannot be read, or there is none.

        Example:
            >>> found = embedder.describe(["a.jpg", "b.jpg"])
            >>> embedder.places.score(found[:1], found[1:])
        """
        if places is None:
            places = self.needed_matcher().places
        images = as_list(images)
        if not images:
            raise InputError("images", "there are none to describe")
        parts = [
            Described(embedding.descriptor, places.encode(embedding.maps))
            for embedding in self.embeddings(images, batch_size, progress)
        ]
        return Described.cat(parts)

    @property
    def matcher(self) -> PlaceMatcher | None:
        """The embedder's places as a pair model, which re-ranks unless another one is named; None without."""
        return PlaceMatcher(self, self.places) if self.places is not None else None

    def explain(self, a: ImageLike, b: ImageLike) -> PairExplanation:
        """Why two pictures match, place by place.

        Raises:
            InputError: The embedder has no places, or a picture cannot be read.
        """
        return self.needed_matcher().explain(a, b)

    def as_reid(self) -> ReID:
        """The embedder with the interfaces of other people's trackers, which ask for features of boxes."""
        return ReID(self)

    def needed_matcher(self) -> PlaceMatcher:
        """`matcher`, or an InputError that says how to get one."""
        if self.matcher is None:
            raise InputError(
                self.path or "model", "has no places; kronreid fit-places gives a trained embedder some"
            )
        return self.matcher

    @torch.no_grad()
    def part_maps(self, image: ImageLike) -> np.ndarray:
        """The maps of HOReID's sampler for one picture (HOReID, Fig. 6).

        Args:
            image: A path, a PIL image or a uint8 array (H, W, 3) in RGB.

        Returns:
            (P, h, w) float32, each map summing to 1.

        Raises:
            InputError: The picture cannot be read, or the model has no sampler.
        """
        batch, _ = next(self._batches([image], 1, progress=False))
        if not hasattr(self.model, "part_maps"):
            raise InputError("", "this model has no part sampler; use HOReID with parts > 0")
        return self.model.part_maps(batch)[0].float().cpu().numpy()


class Matcher(_Network):
    """Compares pictures pair by pair.

    Attributes:
        dimension: Length of the pooled features that `embed` returns.
        fingerprint: A hash of the model's files.
        height: Input height in pixels.
        width: Input width in pixels.
        autocast: Compute the network in bfloat16, with depthwise convolutions in float32.
        fast: Compute with the fast form of the network on a CPU, which gives the same outputs.
        matching: Precision of the matching and of the maps that `encode` keeps, torch.float32 or
            torch.bfloat16. bfloat16 halves the memory and speeds up the inner products several times; the
            ranking hardly changes (docs/performance.md). Maps of different precisions cannot be compared.
        calibration: The meaning of its logits, as `kronreid calibrate` measured it; None without one.
    """

    model: PairModel

    def __init__(self, model: PairModel, input_options: InputOptions, fingerprint: str = "") -> None:
        check_input(input_options)
        super().__init__(model, input_options, fingerprint)
        self.matching = torch.float32

    @torch.no_grad()
    def encode(
        self, images: ImageLike | Sequence[ImageLike], batch_size: int = 64, progress: bool = False
    ) -> EncodedMaps:
        """Encode pictures once for any number of comparisons.

        Args:
            images: Paths, PIL images or uint8 arrays (H, W, 3) in RGB; one or several.
            batch_size: Pictures per pass.
            progress: Show a progress bar.

        Returns:
            The encoded pictures, for `score`, `logits` and `score_lists`.

        Raises:
            InputError: A picture cannot be read, there is none, or `batch_size` is below 1.
        """
        images = as_list(images)
        if not images:
            raise InputError("images", "there is no picture to encode; give at least one")
        parts = []
        for batch, number in self._batches(images, batch_size, progress):
            with self._precision():
                pictures = self.network().encode(batch)
            parts.append(self.model.way.prepare(pictures, self.matching)[:number])
        return EncodedMaps.cat(parts)

    def vectors(self, model: nn.Module, batch: Tensor) -> Tensor:
        return cast(PairModel, model).vectors(batch)

    def _passed(self, model: nn.Module, batch: Tensor) -> Tensor:
        return cast(PairModel, model).encode(batch).pooled

    def logits(self, query: EncodedMaps, candidates: EncodedMaps) -> Tensor:
        """Logits (Q, G) float32 of every query with every candidate. The candidate is warped onto the query.

        Args:
            query: Q pictures as `encode` returns them.
            candidates: G pictures as `encode` returns them.

        Raises:
            InputError: See `score`.
        """
        return self.model.score(query, candidates)

    def score_lists(self, query: EncodedMaps, candidates: EncodedMaps, lists: Tensor) -> Tensor:
        """Logits (Q, K) float32 of each query with its own list of candidates.

        Args:
            query: Q pictures as `encode` returns them.
            candidates: G pictures as `encode` returns them.
            lists: (Q, K) int64 indices into `candidates`.

        Raises:
            InputError: See `score`. Or `lists` is empty or has an index outside the candidates.
        """
        return self.model.score(query, candidates, lists)

    @torch.no_grad()
    def score(
        self,
        query: "EncodedMaps | ImageLike | Sequence[ImageLike]",
        candidates: "EncodedMaps | ImageLike | Sequence[ImageLike]",
        progress: bool = False,
    ) -> np.ndarray:
        """Probability that two pictures show the same person, for every query and candidate; calibrated where
        the model has a calibration.

        Args:
            query: Paths, PIL images or uint8 arrays (H, W, 3) in RGB, one or several; or the result of
                `encode`.
            candidates: The same.
            progress: Show a progress bar while encoding.

        Returns:
            (Q, G) float32, 0 to 1. The candidate is warped onto the query, so score(a, b) and score(b, a)
            differ slightly.

        Raises:
            InputError: There is no query or no candidate, a picture cannot be read, the encoded pictures come
                from another model or have another precision, or the model's outputs are not finite.

        Example:
            >>> matcher = kronreid.load("runs/kpm")
            >>> matcher.score("who.jpg", ["a.jpg", "b.jpg"])
        """
        if not isinstance(query, EncodedMaps):
            query = self.encode(query, progress=progress)
        if not isinstance(candidates, EncodedMaps):
            candidates = self.encode(candidates, progress=progress)
        return probability(self.calibration, self.logits(query, candidates)).cpu().numpy()

    @torch.no_grad()
    def explain(self, a: ImageLike, b: ImageLike) -> Explanation:
        """Explain the comparison of two pictures.

        Args:
            a: The first picture: a path, a PIL image or a uint8 array (H, W, 3) in RGB.
            b: The second picture, which is warped onto the first.

        Returns:
            The probability, and the correspondences and the attention of each scale.

        Raises:
            InputError: A picture cannot be read, or the model's output is not finite.
        """
        pictures = [self.as_seen(image) for image in (a, b)]
        batch, _ = next(self._batches(pictures, 2, progress=False))
        encoded = self.model.encode(batch)
        first, second = torch.tensor([[0], [1]], device=self.device)
        chance = float(probability(self.calibration, self.model(encoded, first, second)))
        if not math.isfinite(chance):
            raise InputError("model", "its output is not finite; its weights are unusable")
        scales = []
        for scale in encoded.scales:
            height, width = scale.maps.shape[2:]
            places = height * width
            weight = (
                scale.weight if scale.weight is not None else scale.maps.new_full((2, places), 1 + 1 / places)
            )
            attention = (weight - 1).view(2, height, width).cpu().numpy()
            beta = self.model.way.correspondence(scale.maps[:1], scale.maps[1:])[0].cpu().numpy()
            scales.append(ScaleExplanation(beta, attention[0], attention[1], height, width))
        return Explanation(chance, scales, np.asarray(pictures[0]), np.asarray(pictures[1]))
