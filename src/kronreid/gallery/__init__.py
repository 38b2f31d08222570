"""A persistent, searchable collection of pictures: the vector database behind one small class."""

from kronreid.gallery.entries import Entry
from kronreid.gallery.filters import Selection
from kronreid.gallery.gallery import Gallery, GalleryInfo, VerifyReport, selection_of
from kronreid.gallery.indexing import AddReport, Unreadable
from kronreid.gallery.lists import read_list
from kronreid.gallery.page import search_page
from kronreid.gallery.search import Group, Hit, SearchResult

__all__ = [
    "AddReport",
    "Entry",
    "Gallery",
    "GalleryInfo",
    "Group",
    "Hit",
    "SearchResult",
    "Selection",
    "Unreadable",
    "VerifyReport",
    "read_list",
    "search_page",
    "selection_of",
]
