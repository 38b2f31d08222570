"""The filters of a request, as the gallery takes them."""

from kronreid.data.values import pairs
from kronreid.gallery import Selection
from kronreid.serve import schemas


def selection_of(filters: schemas.Filters) -> Selection:
    """The conditions of a request; an empty list, time or ``where`` is no condition.

    Raises:
        InputError: ``where`` is no ``key=value``, or has a key twice.
    """
    return Selection(
        camera=filters.camera or None,
        identity=filters.identity or None,
        source=filters.source or None,
        since=filters.since or None,
        until=filters.until or None,
        where=pairs(filter(None, filters.where), "where"),
    )
