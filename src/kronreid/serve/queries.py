"""The pictures of requests: uploads, pictures of the gallery, and uploads of a little while ago."""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image

from kronreid.serve import schemas
from kronreid.serve.files import own_key
from kronreid.serve.opened import OpenGallery
from kronreid.serve.pictures import Pictures
from kronreid.serve.uploads import Recent, Upload, data_address, jpeg, read_upload, thumbnail


@dataclass(frozen=True)
class Sent:
    """A picture as it was uploaded: its name, its bytes, and the box of the person."""

    name: str
    content: bytes
    box: str = ""


class Queries:
    """Reads the pictures of requests, each upload only once.

    Args:
        gallery: Where identifiers are looked up.
        pictures: Reads the gallery's pictures.
        most_pixels: Larger uploads are refused.
        state: The folder of the server's key, which makes the identifiers of uploads.

    Attributes:
        recent: The uploads that are remembered.
    """

    def __init__(self, gallery: OpenGallery, pictures: Pictures, most_pixels: int, state: Path) -> None:
        self.recent = Recent()
        self._gallery = gallery
        self._pictures = pictures
        self._most_pixels = most_pixels
        self._key = lru_cache(partial(own_key, state))

    def read(self, sent: Sent) -> Upload:
        """Decode an upload.

        Raises:
            InputError: It is not a picture that the server accepts.
        """
        return read_upload(sent.name, sent.content, sent.box, self._most_pixels)

    def image(self, picture: Sent | str) -> Image.Image:
        """An upload, or a picture of the gallery or remembered upload by its identifier."""
        return self._identified(picture)[1]

    def all(
        self, sent: Sequence[Sent], items: Sequence[str]
    ) -> Iterator[tuple[Image.Image, schemas.QueryPicture]]:
        """The pictures of a search, uploads first, and how the answer shows them."""
        pictures: list[Sent | str] = [*sent, *items]
        for picture in pictures:
            id, image = self._identified(picture)
            # Small, so that the answer stays small.
            address = data_address(jpeg(thumbnail(image)), "image/jpeg")
            yield (
                image,
                schemas.QueryPicture(id=id, picture=address, width=image.width, height=image.height),
            )

    def _identified(self, picture: Sent | str) -> tuple[str, Image.Image]:
        if isinstance(picture, Sent):
            upload = self.read(picture)
            id = hmac.new(self._key(), upload.entry.id.encode(), hashlib.sha256).hexdigest()
            self.recent.put(id, upload.image)
            return id, upload.image
        return picture, self.recent.get(picture) or self._pictures.image(self._gallery.entry(picture))
