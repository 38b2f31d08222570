"""The section ``loss`` of a config: the options of every registered loss."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from keyword import iskeyword
from typing import Any, ClassVar, TypeVar, get_type_hints

from kronreid.errors import InputError
from kronreid.losses.kinds import Loss
from kronreid.options import Weight

L = TypeVar("L", bound=Loss)

#: The options of the papers' losses stand in the section itself, each under a name of its own. The values are
#: the loss and its option. Every other loss has a section by its name.
KEYS = {
    "triplet": ("triplet", "weight"),
    "margin": ("triplet", "margin"),
    "mining": ("triplet", "mining"),
    "average": ("triplet", "average"),
    "regulariser": ("regulariser", "weight"),
    "regulariser_margin": ("regulariser", "margin"),
    "identity": ("identity", "weight"),
    "smoothing": ("identity", "smoothing"),
    "oim": ("oim", "weight"),
    "oim_temperature": ("oim", "temperature"),
    "oim_momentum": ("oim", "momentum"),
    "verification": ("verification", "weight"),
}


@dataclass(frozen=True)
class LossOptions:
    """What is minimised: the sum of the losses whose weight is not 0.

    `loss_options` makes the class with the options of all losses.

    Attributes:
        pooled: Weight of the losses of vectors for a pair model's pooled features, which make its first
            ranking. Not in KPM.
    """

    pooled: Weight = 0.0
    losses: ClassVar[Mapping[str, type[Loss]]] = {}

    def chosen(self, kind: type[L]) -> dict[str, L]:
        """The losses of a kind whose weight is not 0, by name, with their options."""
        found = {name: self._of(name) for name in self.losses}
        return {name: loss for name, loss in found.items() if isinstance(loss, kind) and loss.weight}

    def _of(self, name: str) -> Loss:
        own = {option: getattr(self, key) for key, (loss, option) in KEYS.items() if loss == name}
        return self.losses[name](**own) if own else getattr(self, name)


@cache
def loss_options(losses: tuple[tuple[str, type[Loss]], ...]) -> type[LossOptions]:
    """The section with the options of these losses.

    Raises:
        InputError: A loss has the name of another option.
    """
    known = dict(losses)
    options: list[tuple[str, Any, Any]] = []
    for key, (name, option) in KEYS.items():
        default = next(one.default for one in fields(known[name]) if one.name == option)
        options.append(
            (key, get_type_hints(known[name], include_extras=True)[option], field(default=default))
        )
    flat = {name for name, _ in KEYS.values()}
    for name in (name for name in known if name not in flat):
        if name in KEYS or hasattr(LossOptions, name) or not name.isidentifier() or iskeyword(name):
            raise InputError(f"loss {name!r}", "this is an option or no identifier; choose another name")
        options.append((name, known[name], field(default_factory=known[name])))
    return make_dataclass(
        "LossOptions", options, bases=(LossOptions,), namespace={"losses": known}, frozen=True
    )
