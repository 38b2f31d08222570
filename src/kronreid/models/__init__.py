"""The models by name. One file each, readable beside its paper."""

from torch import nn

from kronreid.models.averaged import Averaged
from kronreid.models.baselines import Concatenated, Pooled
from kronreid.models.horeid import HOReID
from kronreid.models.kpm import KPM
from kronreid.registry import Registry

#: A model's `name` in a config, and its class. Its options are the constructor's arguments.
MODELS: Registry[type[nn.Module]] = Registry(
    "model",
    {
        "horeid": HOReID,
        "pooled": Pooled,
        "kpm": KPM,
        "concatenated": Concatenated,
        "averaged": Averaged,
    },
)
