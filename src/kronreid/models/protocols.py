"""The interfaces that evaluation, galleries and the server expect of a model.

The models of `kronreid.load` implement them completely. Any other model needs only the methods that are
called.
"""

from typing import Any, Protocol

import numpy as np
from torch import Tensor


class Embeds(Protocol):
    """Turns pictures into vectors.

    Attributes:
        dimension: Length of a vector.
        fingerprint: Identifies the model. Vectors of models with different fingerprints cannot be compared.
    """

    dimension: int
    fingerprint: str

    def embed(self, images: Any, batch_size: int = ..., progress: bool = ...) -> np.ndarray:
        """Embed N pictures as (N, dimension) float32, L2-normalised."""


class Matches(Embeds, Protocol):
    """Scores pairs of pictures. Its vectors allow a first ranking without another model."""

    def encode(self, images: Any, batch_size: int = ..., progress: bool = ...) -> Any:
        """Encode pictures for comparisons. The result has a length and can be indexed by an int64 tensor."""

    def logits(self, query: Any, candidates: Any) -> Tensor:
        """(Q, G) logits of every encoded query with every encoded candidate."""

    def score_lists(self, query: Any, candidates: Any, lists: Tensor) -> Tensor:
        """(Q, K) logits of every encoded query with its own list of candidates, (Q, K) int64 indices."""

    def score(self, query: Any, candidates: Any, progress: bool = ...) -> np.ndarray:
        """(Q, G) float32 probabilities, 0 to 1, that query and candidate show the same person."""

    def explain(self, a: Any, b: Any) -> Any:
        """Explain why two pictures match."""
