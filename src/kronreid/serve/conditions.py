"""The filters of a request, as the gallery takes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kronreid.errors import InputError
from kronreid.gallery import Selection
from kronreid.serve import schemas


@dataclass(frozen=True)
class Conditions:
    """The filters of a request; see `schemas.Filters`."""

    camera: Sequence[str] = ()
    identity: Sequence[str] = ()
    source: Sequence[str] = ()
    since: str = ""
    until: str = ""
    where: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, filters: schemas.Filters) -> "Conditions":
        """From a request.

        Raises:
            InputError: ``where`` is no ``key=value``.
        """
        where = dict(pair("where", text) for text in filters.where if text)
        lists = {
            name: [value for value in getattr(filters, name) if value]
            for name in ("camera", "identity", "source")
        }
        return cls(**lists, since=filters.since, until=filters.until, where=where)

    def selection(self) -> Selection:
        """The same for the gallery."""
        return Selection(
            camera=list(self.camera) or None,
            identity=list(self.identity) or None,
            source=list(self.source) or None,
            since=self.since or None,
            until=self.until or None,
            where=self.where,
        )

    def arguments(self) -> dict[str, Any]:
        """The same for `Gallery.search`, which takes identity and source as attributes."""
        where: dict[str, Any] = dict(self.where)
        for name in ("identity", "source"):
            if getattr(self, name):
                where[name] = list(getattr(self, name))
        return {
            "camera": list(self.camera) or None,
            "since": self.since or None,
            "until": self.until or None,
            "where": where,
        }


def pair(name: str, text: str) -> tuple[str, str]:
    """``key=value`` split.

    Raises:
        InputError: It is something else.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"{name} {text!r}: key=value is expected")
    return key, value
