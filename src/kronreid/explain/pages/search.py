"""The page of a search: the query, the ranked pictures with their scores, and why the best ones match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from kronreid.data.images import ImageLike, as_list, open_rgb, unrecognisable
from kronreid.errors import InputError
from kronreid.explain.matches import correspondence_figure
from kronreid.explain.pages import render
from kronreid.explain.places import shares_figure
from kronreid.explain.style import bitmap
from kronreid.gallery.filters import format_time
from kronreid.gallery.indexing import picture_of
from kronreid.gallery.search import Hit, SearchResult
from kronreid.gallery.sources import EVERYWHERE, Sources
from kronreid.models.place_matcher import PairExplanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kronreid.models.inference import Explanation, Matcher
    from kronreid.models.place_matcher import PlaceMatcher


def search_page(
    result: SearchResult,
    query: ImageLike | Sequence[ImageLike],
    matcher: Matcher | PlaceMatcher | None = None,
    maps: int = 20,
    sources: Sources = EVERYWHERE,
    blurred: Callable[[Hit], bool] = lambda hit: False,
) -> str:
    """A page with the query, the ranked pictures with both stages' scores, and explanations of the best hits.

    Args:
        result: The result of the search.
        query: The query pictures; the explanations compare with the first one.
        matcher: Explains the pairs, a pair model or an embedder's places; None leaves the explanations out.
        maps: Number of best hits to explain.
        sources: Where the hits' files may lie.
        blurred: Whose pictures are made unrecognisable. They are not explained, since that shows them.

    Returns:
        HTML without scripts or external references, for light and dark screens.

    Raises:
        InputError: A query picture cannot be read.
    """
    queries = [open_rgb(image) for image in as_list(query)]
    pictures = {hit.rank: _picture(hit, sources) for hit in result.hits}
    hidden = {hit.rank for hit in result.hits if blurred(hit)}
    for rank in hidden:
        if picture := pictures[rank]:
            pictures[rank] = unrecognisable(picture)
    figures = {
        rank: bitmap(_figure(matcher.explain(queries[0], picture)))
        for rank, picture in pictures.items()
        if picture and matcher and rank <= maps and rank not in hidden
    }
    return render(
        "search.html",
        result=result,
        queries=queries,
        pictures=pictures,
        figures=figures,
        scored=any(hit.probability is not None for hit in result.hits),
        time=format_time,
    )


def _figure(why: Explanation | PairExplanation) -> Figure:
    return shares_figure(why) if isinstance(why, PairExplanation) else correspondence_figure(why)


def _picture(hit: Hit, sources: Sources) -> Image.Image | None:
    try:
        return picture_of(hit, sources)
    except InputError:
        return None
