"""A persistent, searchable collection of pictures: a vector database behind one small class.

The names below are imported on first use, so that what needs only some of them needs only their packages.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kronreid.gallery.cache import MapCache
    from kronreid.gallery.entries import Entry
    from kronreid.gallery.filters import Selection
    from kronreid.gallery.gallery import Gallery, GalleryInfo
    from kronreid.gallery.indexing import AddReport, Unreadable
    from kronreid.gallery.lists import read_list
    from kronreid.gallery.search import Group, Hit, SearchResult
    from kronreid.gallery.upkeep import VerifyReport

_HOME = {
    "AddReport": "indexing",
    "Entry": "entries",
    "Gallery": "gallery",
    "GalleryInfo": "gallery",
    "Group": "search",
    "Hit": "search",
    "MapCache": "cache",
    "SearchResult": "search",
    "Selection": "filters",
    "Unreadable": "indexing",
    "VerifyReport": "upkeep",
    "read_list": "lists",
}

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
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
