"""A search as one HTML page that needs nothing but itself."""

import base64
import io
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from PIL import Image

from kronreid.data.images import ImageLike, as_list, open_rgb
from kronreid.errors import InputError
from kronreid.gallery.filters import format_time
from kronreid.gallery.indexing import picture_of
from kronreid.gallery.search import Hit, SearchResult

if TYPE_CHECKING:
    from kronreid.models.protocols import Matches

#: Height of the small pictures, twice what is shown: sharp on fine screens.
THUMBNAIL_HEIGHT = 340
QUALITY = 85


def search_page(
    result: SearchResult,
    query: ImageLike | Sequence[ImageLike],
    matcher: "Matches | None" = None,
    figure: Callable[[Any], Image.Image] | None = None,
    maps: int = 20,
) -> str:
    """The query, the ranked pictures with the scores of both stages, and why each of the best matches.

    Args:
        result: What the search found.
        query: What it was asked; the explanations are of the first picture.
        matcher: Explains the pairs.
        figure: Draws an explanation, such as `kronreid.explain.correspondence_figure`.
        maps: How many of the best hits are explained.

    Returns:
        HTML without scripts or outside references, for a light or a dark screen.
    """
    pictures = [open_rgb(image) for image in as_list(query)]
    thumbnails: dict[int, str | None] = {}
    figures: dict[int, str | None] = {}
    for hit in result.hits:
        picture = _picture(hit)
        thumbnails[hit.rank] = data_address(thumbnail(picture)) if picture else None
        figures[hit.rank] = None
        if picture and matcher is not None and figure is not None and hit.rank <= maps:
            figures[hit.rank] = data_address(figure(matcher.explain(pictures[0], picture)))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        result=result,
        queries=[data_address(thumbnail(picture)) for picture in pictures],
        thumbnails=thumbnails,
        figures=figures,
        scored=any(hit.probability is not None for hit in result.hits),
        text=printable,
        time=format_time,
    )


def printable(value: Any) -> str:
    """Anything as valid Unicode; bytes of a file's name that are no UTF-8 are shown by number."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def thumbnail(picture: Image.Image) -> Image.Image:
    """A copy no higher than `THUMBNAIL_HEIGHT`, and never wider than twice that."""
    small = picture.copy()
    small.thumbnail((2 * THUMBNAIL_HEIGHT, THUMBNAIL_HEIGHT))
    return small


def data_address(picture: Image.Image) -> str:
    """A picture as a ``data:`` address, JPEG."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _picture(hit: Hit) -> Image.Image | None:
    try:
        return picture_of(hit)
    except InputError:
        return None
