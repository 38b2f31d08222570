"""A persistent, searchable collection of pictures: a vector database behind one small class."""

from typing import TYPE_CHECKING, Any

from kronreid.gallery.entries import Entry
from kronreid.gallery.filters import Selection
from kronreid.gallery.gallery import Gallery, GalleryInfo
from kronreid.gallery.indexing import AddReport, Unreadable
from kronreid.gallery.lists import read_list
from kronreid.gallery.search import Group, Hit, SearchResult
from kronreid.gallery.upkeep import VerifyReport

if TYPE_CHECKING:
    from kronreid.gallery.cache import MapCache

__all__ = [
    "AddReport",
    "Entry",
    "Gallery",
    "GalleryInfo",
    "Group",
    "Hit",
    "MapCache",
    "SearchResult",
    "Selection",
    "Unreadable",
    "VerifyReport",
    "read_list",
]


def __getattr__(name: str) -> Any:
    """Import the cache on first use: it needs torch, which looking after a gallery does not."""
    if name == "MapCache":
        from kronreid.gallery.cache import MapCache

        return MapCache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
