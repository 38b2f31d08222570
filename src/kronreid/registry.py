"""What a registry is: things by name, beside their kin, to which plug-ins add their own.

There are four: `kronreid.losses.LOSSES`, `kronreid.models.MODELS`, `kronreid.data.readers.LAYOUTS` and
`kronreid.evaluation.PROTOCOLS`. docs/extending.md has an example of each.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from kronreid.errors import InputError

T = TypeVar("T")

#: What else may be wrong where a name is unknown.
NO_PLUGIN = "(a name that a plug-in adds needs --plugin)"


class Registry(Mapping[str, T]):
    """Things of one kind by name.

    Args:
        kind: What they are, for messages: ``loss``.
        things: The ones that kronreid has itself.

    Example:
        >>> LOSSES.add("circle", Circle)
        >>> LOSSES["circle"]
    """

    def __init__(self, kind: str, things: Mapping[str, T]) -> None:
        self.kind, self.things = kind, dict(things)

    def add(self, name: str, thing: T) -> None:
        """Add a thing of one's own.

        Raises:
            InputError: The name is taken.
        """
        if name in self.things:
            raise InputError(f"{self.kind} {name!r}", "this name is taken; choose another one")
        self.things[name] = thing

    def named(self, name: str, source: object) -> T:
        """The thing of a name that somebody gave in `source`, which the message names.

        Raises:
            InputError: The name is unknown. The message has the nearest known one.
        """
        if not isinstance(name, str) or name not in self.things:
            near = nearest(str(name), self.things)
            raise InputError(source, f"{name!r} is unknown; {near} {NO_PLUGIN}")
        return self.things[name]

    def __getitem__(self, name: str) -> T:
        return self.things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.things)

    def __len__(self) -> int:
        return len(self.things)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest to an unknown one, as a question; all of them if none is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
