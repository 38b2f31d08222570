"""The losses by name: those of both papers and of what they compare with, one file each."""

from kronreid.losses.identity import Identity
from kronreid.losses.kinds import Loss, PairLoss, PartLoss, VectorLoss
from kronreid.losses.oim import OIM
from kronreid.losses.regulariser import Regulariser
from kronreid.losses.triplet import Triplet
from kronreid.losses.verification import Verification
from kronreid.registry import Registry

__all__ = ["LOSSES", "Loss", "PairLoss", "PartLoss", "VectorLoss"]

#: A loss's name in a config, and the class of its options, which makes it.
LOSSES: Registry[type[Loss]] = Registry(
    "loss",
    {
        "triplet": Triplet,
        "regulariser": Regulariser,
        "identity": Identity,
        "oim": OIM,
        "verification": Verification,
    },
)
