"""The kinds of losses: what each is a function of. An entry of `LOSSES` is a class of one of these kinds."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from kronreid.options import Weight


@dataclass(frozen=True)
class Loss:
    """The options of a loss. Its fields are the options' names, with types, ranges and defaults.

    Attributes:
        weight: Its weight in the sum that is minimised; 0 leaves it out.
    """

    weight: Weight = 0.0


@dataclass(frozen=True)
class VectorLoss(Loss):
    """A loss of vectors and their identities.

    It is computed for each vector that the model gives a picture: the global and the local one of HOReID, or
    the pooled features of a pair model. With several processes it sees the batches of all of them together.
    """

    def make(self, channels: int, identities: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the loss of one vector.

        Args:
            channels: Length D of the vector.
            identities: Number of training identities.

        Returns:
            A function, or an `nn.Module` if the loss has parameters or a state. It takes L2-normalised
            float32 vectors (B, D) and the identities' numbers (B,), from 0, and returns a scalar.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class PartLoss(Loss):
    """A loss of the part descriptors of an embedding model, where the model has any."""

    def make(self) -> Callable[[list[Tensor]], Tensor]:
        """Make the loss: part descriptors of each level, (N, C, P) each, to a scalar."""
        raise NotImplementedError


@dataclass(frozen=True)
class PairLoss(Loss):
    """A loss of a pair model's logits. Logits of several scales have their losses added."""

    def make(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the loss: logits (P,), and (P,) true where a pair shows one person, to a scalar."""
        raise NotImplementedError
