"""The forms and queries that clients send; what they get back is in `schemas`."""

from typing import Annotated

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from kronreid.gallery import Selection
from kronreid.gallery.filters import conditions_of
from kronreid.serve.schemas import Id, Text

Fraction = Annotated[float, Field(ge=0, le=1)]
BoxText = Annotated[
    str,
    Field(
        max_length=100,
        description="x,y,width,height in pixels of the upright picture; empty for all of it",
        examples=["10,20,64,128"],
    ),
]

#: The most hits of one answer.
MOST_HITS = 1000


class Filters(BaseModel):
    """Conditions that choose pictures of the gallery; all must hold.

    An empty camera, identity, source or attribute finds the pictures whose value is unknown. An empty time or
    `where` is no condition.
    """

    model_config = ConfigDict(extra="forbid")

    camera: list[Text] = Field(default=[], description="One of these cameras")
    identity: list[Text] = Field(default=[], description="One of these persons")
    source: list[Text] = Field(default=[], description="One of these sources")
    since: Text = Field(
        default="", description="Taken at this time or later: 2026-03-01, 2026-03-01T12:00, seconds"
    )
    until: Text = Field(
        default="", description="Taken at this time or earlier; a date includes the whole day"
    )
    where: list[Text] = Field(
        default=[], description="key=value: an attribute or a field; key>=number, with <, <=, > or >="
    )

    def selection(self) -> Selection:
        """The conditions, as the gallery takes them.

        Raises:
            InputError: ``where`` has another form, or has a key twice.
        """
        return Selection(
            camera=self.camera or None,
            identity=self.identity or None,
            source=self.source or None,
            since=self.since or None,
            until=self.until or None,
            where=conditions_of(filter(None, self.where), "where"),
        )


class SearchForm(Filters):
    """A search: any number of pictures of one person; uploads, gallery pictures or both."""

    pictures: list[UploadFile] = Field(default=[], description="Uploads: JPEG, PNG, WebP, BMP, TIFF or GIF")
    box: list[BoxText] = Field(
        default=[], description="Part of each upload that shows the person, in the order of `pictures`"
    )
    item: list[Id] = Field(default=[], description="Pictures of the gallery, or recent uploads")
    top: int = Field(default=100, ge=1, le=MOST_HITS, description="Hits (groups, with group_by) to rank")
    offset: int = Field(default=0, ge=0, le=MOST_HITS, description="Hits (groups) to skip")
    limit: int = Field(default=MOST_HITS, ge=1, le=MOST_HITS, description="Hits (groups) in the answer")
    rerank_top: int = Field(
        default=100, ge=0, le=MOST_HITS, description="How many hits the matcher re-scores"
    )
    matcher_weight: Fraction | None = Field(
        default=None,
        description="Weight of the matcher's score in the order; without it 1 for the embedder's places, "
        "whose score has the similarity in it, and 0.5 for a pair model",
    )
    group_by: Text = Field(default="", description="identity, camera, source or an attribute such as track")


class PairForm(BaseModel):
    """Two pictures: each an upload (`a`, `b`) or a picture of the gallery (`a_item`, `b_item`)."""

    model_config = ConfigDict(extra="forbid")

    a: UploadFile | None = None
    b: UploadFile | None = None
    a_item: Id | None = None
    b_item: Id | None = None
    a_box: BoxText = ""
    b_box: BoxText = ""


class AddForm(BaseModel):
    """Pictures for the gallery, and what is known about all of them."""

    model_config = ConfigDict(extra="forbid")

    pictures: list[UploadFile] = Field(min_length=1)
    box: list[BoxText] = Field(default=[], description="The part of each that shows the person")
    camera: Text = ""
    time: Text = ""
    identity: Text = ""
    source: Text = ""
    attribute: list[Text] = Field(default=[], description="key=value")
