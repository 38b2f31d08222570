"""The output of an embedding model."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def embedded(model: nn.Module, images: Tensor, mirror: bool = False) -> Embedding:
    """What a trained model makes of pictures, or of pictures and their mirror images.

    A network gives a picture and its mirror image slightly different vectors. Their mean has less noise.
    The mirror image's maps are mirrored back before they are averaged, so that a place is the same place.

    Args:
        model: An embedding model in eval mode.
        images: Its normalised input (N, 3, H, W).
        mirror: Pass the mirror images through the network as well.

    Returns:
        The model's `Embedding`; with mirror images the means of descriptors, L2-normalised, and of maps, and
        nothing else.
    """
    if not mirror:
        return model(images)
    both = model(torch.stack([images, images.flip(3)], dim=1).flatten(0, 1))
    descriptors = F.normalize(both.descriptor.float()).unflatten(0, (-1, 2))
    maps = {name: values.unflatten(0, (-1, 2)) for name, values in both.maps.items()}
    means = {name: (values[:, 0] + values[:, 1].flip(3)) / 2 for name, values in maps.items()}
    return Embedding(F.normalize(descriptors.sum(1)), {}, maps=means)
