"""The models by name. One file each, readable beside its paper."""

from torch import nn

from kronreid.models.baselines import Concatenated, Pooled
from kronreid.models.horeid import HOReID
from kronreid.models.kpm import KPM

#: A model's `name` in a config, and its class. Its options are the constructor's arguments.
MODELS: dict[str, type[nn.Module]] = {
    "horeid": HOReID,
    "pooled": Pooled,
    "kpm": KPM,
    "concatenated": Concatenated,
}
