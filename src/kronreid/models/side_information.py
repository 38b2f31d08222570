"""Camera embeddings of vision transformers: SIE of TransReID (He et al., ICCV 2021, Sec. 3.3)."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from kronreid.errors import InputError

#: λ, the weight of the embeddings beside the tokens, as in TransReID's code.
WEIGHT = 3.0
#: The share of training pictures whose camera the network is not told, so that it learns to do without.
UNKNOWN = 0.25


class CameraEmbeddings(nn.Module):
    """A vector for each camera, which is added to all tokens: Z + λ S[c].

    The embeddings take up what a camera changes, like colours and contrast. If the camera is unknown, new or
    not told, as always outside training, the mean of all embeddings takes its place.

    Args:
        cameras: C, the number of cameras.
        dimension: D, the length of a token.

    Attributes:
        told: (N,) int64, the cameras of the next training batch from 0, and −1 for an unknown one; None if
            they are not told.
    """

    def __init__(self, cameras: int, dimension: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(cameras, dimension))
        nn.init.trunc_normal_(self.embedding, std=0.02)
        self.told: Tensor | None = None

    def tell(self, cameras: Tensor) -> None:
        """Tell the cameras of the next training batch, but for a random share of them, `UNKNOWN`.

        The same cameras hold until the next call, so that gradient checkpointing computes the same again.
        """
        known = torch.rand(len(cameras)) >= UNKNOWN
        self.told = torch.where(known.to(cameras.device), cameras, -1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Add the embeddings to tokens (N, T, D)."""
        mean = self.embedding.mean(0, keepdim=True)
        if not self.training or self.told is None:
            return tokens + WEIGHT * mean
        rows = torch.cat([self.embedding, mean])[self.told]  # the last row is that of −1
        return tokens + WEIGHT * rows[:, None]

    def after(self, module: nn.Module, inputs: Any, tokens: Tensor) -> Tensor:
        """A hook behind the module that gives the tokens."""
        return self(tokens)


def embed_cameras(network: nn.Module, name: str, cameras: int) -> CameraEmbeddings:
    """Camera embeddings for a network, behind its position embeddings.

    Args:
        network: A network of timm for feature maps.
        name: Its name, for messages.
        cameras: The number of cameras.

    Raises:
        InputError: It is no plain vision transformer.
    """
    transformer = getattr(network, "model", None)
    last = getattr(transformer, "norm_pre", None)
    if not isinstance(last, nn.Module) or not hasattr(transformer, "embed_dim"):
        raise InputError(
            "backbone.cameras",
            f"{name} is no plain vision transformer (ViT, DeiT, EVA, DINO, CLIP); leave the option out",
        )
    made = CameraEmbeddings(cameras, int(cast(Any, transformer).embed_dim))
    last.register_forward_hook(made.after)
    return made
