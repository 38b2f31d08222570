"""What evaluation, galleries and the server ask of a model.

`kronreid.load` gives models that have all of it; models of others need the methods that are called.
"""

from typing import Any, Protocol

import numpy as np
from torch import Tensor


class Embeds(Protocol):
    """Turns pictures into vectors.

    Attributes:
        dimension: Length of a vector.
        fingerprint: Names the model: vectors of different fingerprints do not compare.
    """

    dimension: int
    fingerprint: str

    def embed(self, images: Any, batch_size: int = ..., progress: bool = ...) -> np.ndarray:
        """(N, dimension) float32, L2-normalised."""


class Matches(Embeds, Protocol):
    """Scores pairs of pictures. Its vectors are for a first ranking without another model."""

    def encode(self, images: Any, batch_size: int = ..., progress: bool = ...) -> Any:
        """What comparing needs of each picture; it has a length and can be indexed by an int64 tensor."""

    def logits(self, query: Any, candidates: Any) -> Tensor:
        """(Q, G) logits of every encoded query against every encoded candidate."""

    def score_lists(self, query: Any, candidates: Any, lists: Tensor) -> Tensor:
        """(Q, K) logits of every encoded query against its own K of the candidates."""

    def score(self, query: Any, candidates: Any, progress: bool = ...) -> np.ndarray:
        """(Q, G) float32 probabilities of the same person."""

    def explain(self, a: Any, b: Any) -> Any:
        """Why two pictures match."""
