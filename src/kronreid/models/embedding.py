"""The output of an embedding model."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Embedding:
    """The descriptors of N pictures, and what the losses need besides.

    Attributes:
        descriptor: (N, D), L2-normalised, to be compared by inner product.
        branches: L2-normalised vectors (N, ·) by name. Each branch has its own triplet loss; Eq. 16 sums
            those of the global and the local vectors.
        parts: The part descriptors P_l (N, C, P) of each level, for the regulariser (Eq. 13).
        maps: The maps (N, C, h, w) whose places can be matched (`kronreid.models.places`), by name: HOReID's
            levels ``X_1``, ``X_2``, …, and ``below``, the backbone's map below its last one.
    """

    descriptor: Tensor
    branches: dict[str, Tensor]
    parts: list[Tensor] = field(default_factory=list)
    maps: dict[str, Tensor] = field(default_factory=dict)

    def first(self, number: int) -> "Embedding":
        """That of the first pictures."""

        def cut(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value[:number] for name, value in values.items()}

        parts = [part[:number] for part in self.parts]
        return Embedding(self.descriptor[:number], cut(self.branches), parts, cut(self.maps))
