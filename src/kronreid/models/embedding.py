"""What an embedding model returns."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Embedding:
    """The descriptor of each picture, and what training needs beside it.

    Attributes:
        descriptor: (N, D), L2-normalised: compared by inner product.
        branches: L2-normalised vectors (N, ·) that each get a triplet loss of their own (Eq. 16 sums one over
            the global and one over the local vectors).
        parts: The sampled part descriptors P_l of each level, (N, C, P) each, for the regulariser (Eq. 13).
        maps: The maps (N, C, h, w) whose places can be matched (`kronreid.models.places`), by name: HOReID's
            levels ``X_1``, ``X_2``, …, and ``below``, the backbone's map below its last one.
    """

    descriptor: Tensor
    branches: dict[str, Tensor]
    parts: list[Tensor] = field(default_factory=list)
    maps: dict[str, Tensor] = field(default_factory=dict)
