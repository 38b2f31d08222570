"""What the web interface takes and gives: the one description that the API, its OpenAPI document and the page
share.

Addresses
    GET    /                   the page (``page/index.html``); its files are ``/static/<name>``, a flat folder
    POST   /api/login          `Login` (JSON) -> 204 and a cookie; ``/?token=…`` does the same, then goes to /
    POST   /api/logout         -> 204
    GET    /api/health         -> `Health`; /api/ready -> `Health` or 503; /metrics in Prometheus' format
    GET    /api/info           -> `Info`; 401 tells the page that it must ask for the token
    POST   /api/search         `SearchForm` (multipart) -> `SearchAnswer`
    POST   /api/match          `PairForm` (multipart) -> `MatchAnswer`
    POST   /api/explain        `PairForm` (multipart) -> `ExplainAnswer`
    GET    /api/pictures/{id}  ?size=thumb|full -> JPEG, cut to the entry's box; ETag, private cache
    GET    /api/gallery        `Filters`, offset, limit -> `GalleryPage`
    GET    /api/gallery/stats  `Filters` -> `GalleryStats`
    POST   /api/gallery        `AddForm` (multipart) -> `AddAnswer`; 403 unless started with --allow-add
    DELETE /api/gallery/{id}   -> 204
    POST   /api/feedback       `Feedback` (JSON) -> 204
    GET    /api/feedback.csv   every mark, the last of each pair
    GET    /api/reports        -> `Reports`; each is a page at its own `url`, scripts off, may be framed
    GET    /api/openapi.json   the same for machines

Errors are `Problem` with a status above 399: 401 without a valid token, 403 not allowed, 404 no such picture,
409 the file behind a picture has gone or changed, 413 too large, 422 bad input, 429 too busy (with
``Retry-After`` in seconds), 503 out of order, 504 took too long.

The page runs under ``script-src 'self'; style-src 'self'; img-src 'self' data: blob:``: no inline script, no
``style="…"`` in HTML (setting ``element.style`` from a script is fine), nothing from other hosts.
"""

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from kronreid.data.values import pairs
from kronreid.gallery import Selection

#: An entry's or an uploaded picture's identifier: SHA-256, hexadecimal.
Id = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="Identifier: 64 hexadecimal digits")]
Text = Annotated[str, Field(max_length=1000)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BoxText = Annotated[
    str,
    Field(
        max_length=100,
        description="x,y,width,height in pixels of the upright picture; empty for all of it",
        examples=["10,20,64,128"],
    ),
]

#: Most hits of one answer.
MOST_HITS = 1000


class Problem(BaseModel):
    """What went wrong, for a person."""

    message: str = Field(description="One sentence: what is wrong and what to do")


class Login(BaseModel):
    """The token that the server printed at its start, or was given."""

    token: Text


class Health(BaseModel):
    """Whether the server works."""

    status: Literal["ok", "unavailable"]
    message: str = ""


class GallerySummary(BaseModel):
    """The gallery behind the page."""

    uri: str
    count: int
    dimension: int
    model: str
    fingerprint: str


class Limits(BaseModel):
    """What an upload may have at most."""

    bytes: int = Field(description="Of one request, all pictures together")
    pixels: int = Field(description="Of one picture")
    pictures: int = Field(description="Of one request")


class Info(BaseModel):
    """What this server can do."""

    version: str
    gallery: GallerySummary
    has_matcher: bool = Field(description="Scores pairs and explains them")
    has_parts: bool = Field(description="The embedder has HOReID's part maps")
    has_reports: bool
    allow_add: bool
    token_required: Literal["changes", "everything"]
    signed_in: bool = Field(description="This request carried a valid token: changes are allowed")
    limits: Limits


# ── filters and pictures ────────────────────────────────────────────────────────────────────────────────


class Filters(BaseModel):
    """Which pictures of the gallery are meant; all conditions must hold.

    An empty camera, identity, source or value of an attribute means pictures of which it is not known. An
    empty time or `where` is no condition.
    """

    model_config = ConfigDict(extra="forbid")

    camera: list[Text] = Field(default=[], description="One of these cameras")
    identity: list[Text] = Field(default=[], description="One of these persons")
    source: list[Text] = Field(default=[], description="One of these sources")
    since: Text = Field(default="", description="Taken then or later: 2026-03-01, 2026-03-01T12:00, seconds")
    until: Text = Field(default="", description="Taken then or earlier; a date means its end")
    where: list[Text] = Field(default=[], description="key=value: an attribute or a field; each key once")

    def selection(self) -> Selection:
        """The conditions, as the gallery takes them.

        Raises:
            InputError: ``where`` is not ``key=value``, or has a key twice.
        """
        return Selection(
            camera=self.camera or None,
            identity=self.identity or None,
            source=self.source or None,
            since=self.since or None,
            until=self.until or None,
            where=pairs(filter(None, self.where), "where"),
        )


class Item(BaseModel):
    """One picture of the gallery."""

    id: Id
    picture: str = Field(description="Address of the JPEG; add ?size=thumb for a small one")
    name: str = Field(description="Name of the file, without its folder")
    camera: str | None
    time: str | None = Field(description="ISO 8601, UTC")
    identity: str | None
    source: str | None
    attributes: dict[str, Any]
    width: int | None = Field(description="Of the full picture (its box); null if the file cannot be read")
    height: int | None


class HitItem(Item):
    """One picture that was found."""

    rank: int = Field(description="1 for the best")
    similarity: float = Field(description="Cosine with the query, −1 to 1")
    probability: float | None = Field(
        description="The matcher's, of the same person; null where it did not look"
    )
    same: bool | None = Field(description="The mark that was given to this picture for this query, if any")


class HitGroup(BaseModel):
    """Hits that share an identity, a camera or an attribute."""

    key: Any = Field(description="What they share; null for a single hit of which it is not known")
    ranks: list[int] = Field(description="Their ranks, best first")


class QueryPicture(BaseModel):
    """A picture that was searched for, cropped and upright."""

    id: Id = Field(
        description="Usable as `item`, `a_item`, `b_item` and in feedback: of uploads only for a while"
    )
    picture: str = Field(description="Address of a JPEG, or a data: address for an upload")
    width: int
    height: int


# ── search ──────────────────────────────────────────────────────────────────────────────────────────────


class SearchForm(Filters):
    """A search: any number of pictures of one person; uploads, gallery pictures or both."""

    pictures: list[UploadFile] = Field(default=[], description="Uploads: JPEG, PNG, WebP, BMP, TIFF or GIF")
    box: list[BoxText] = Field(
        default=[], description="Part of each upload that shows the person, in the order of `pictures`"
    )
    item: list[Id] = Field(default=[], description="Pictures of the gallery, or uploaded a while ago")
    top: int = Field(default=100, ge=1, le=MOST_HITS, description="Hits (groups, with group_by) to rank")
    offset: int = Field(default=0, ge=0, le=MOST_HITS, description="Hits (groups) to leave out of the answer")
    limit: int = Field(default=MOST_HITS, ge=1, le=MOST_HITS, description="Hits (groups) in the answer")
    rerank_top: int = Field(default=100, ge=0, le=MOST_HITS, description="How many the matcher looks at")
    matcher_weight: Fraction = Field(default=0.5, description="The matcher's say in the order")
    group_by: Text = Field(default="", description="identity, camera, source or an attribute such as track")


class SearchAnswer(BaseModel):
    """What a search found."""

    hits: list[HitItem] = Field(description="Best first; those the matcher looked at come before the others")
    groups: list[HitGroup] = Field(description="The same hits by what they share; empty without group_by")
    total: int = Field(description="Hits (groups, with group_by) there are, of which these are some")
    offset: int
    seconds: dict[str, float] = Field(description="Time by stage: embed, search, decode, match … and total")
    unreadable: list[str] = Field(description="Why the matcher could not look at some pictures")
    query: list[QueryPicture]


# ── pairs ───────────────────────────────────────────────────────────────────────────────────────────────


class PairForm(BaseModel):
    """Two pictures: each an upload (`a`, `b`) or a picture of the gallery (`a_item`, `b_item`)."""

    model_config = ConfigDict(extra="forbid")

    a: UploadFile | None = None
    b: UploadFile | None = None
    a_item: Id | None = None
    b_item: Id | None = None
    a_box: BoxText = ""
    b_box: BoxText = ""


class MatchAnswer(BaseModel):
    """How alike two pictures are."""

    similarity: float = Field(description="Cosine of the embedder's vectors, −1 to 1")
    probability: float | None = Field(description="The matcher's, of the same person; null without a matcher")
    meaning: str = Field(description="What that says and what not, in two or three sentences")
    seconds: float


class Scale(BaseModel):
    """What the matcher saw at one scale. Places are numbered row by row: place = row * width + column."""

    height: int
    width: int
    correspondence: str = Field(
        description="Base64 of (height·width)² bytes, row-major. Row i: where place i of A looks in B; a "
        "byte is 255 at the row's maximum. Column j: which places of A look at place j of B (times "
        "`row_maximum` to compare rows)"
    )
    row_maximum: list[float] = Field(description="Share (0 to 1) that 255 stands for, of each row")
    attention_a: list[float] = Field(description="height·width shares, row-major, sum 1; equal without RSA")
    attention_b: list[float]


class PartMaps(BaseModel):
    """Where HOReID's part sampler looks in one picture; stretch the maps over it."""

    count: int
    height: int
    width: int
    maps: str = Field(
        description="Base64 of count·height·width bytes, map by map, row-major; 255 at its maximum"
    )
    maximum: list[float] = Field(description="Share (0 to 1) that 255 stands for, of each map")


class ExplainAnswer(MatchAnswer):
    """Why two pictures match, or do not."""

    picture_a: str = Field(description="data: address, PNG, as the network saw it")
    picture_b: str
    scales: list[Scale] = Field(description="Coarsest first; empty without a matcher")
    parts_a: PartMaps | None = Field(description="Null unless the embedder has parts")
    parts_b: PartMaps | None


# ── gallery ─────────────────────────────────────────────────────────────────────────────────────────────


class GalleryPage(BaseModel):
    """Some pictures of the gallery, in the order of their identifiers."""

    items: list[Item]
    total: int = Field(description="Pictures that meet the filters")
    offset: int


class CountItem(BaseModel):
    """How many pictures share a value."""

    value: str | None = Field(description="Camera, or the start of an hour (ISO 8601, UTC); null: unknown")
    count: int


class GalleryStats(BaseModel):
    """How many pictures there are, by camera and by hour."""

    count: int
    cameras: list[CountItem]
    hours: list[CountItem] = Field(description="In order of time; hours without pictures are left out")


class AddForm(BaseModel):
    """Pictures for the gallery, and what is known about all of them."""

    model_config = ConfigDict(extra="forbid")

    pictures: list[UploadFile] = Field(min_length=1)
    box: list[BoxText] = Field(default=[], description="Part of each that shows the person")
    camera: Text = ""
    time: Text = ""
    identity: Text = ""
    source: Text = ""
    attribute: list[Text] = Field(default=[], description="key=value")


class Refused(BaseModel):
    """A picture that could not be added."""

    name: str
    message: str


class AddAnswer(BaseModel):
    """What came of it."""

    added: int
    skipped_existing: int
    ids: list[Id] = Field(description="Of the pictures that are in the gallery now, in the order given")
    unreadable: list[Refused]


class Feedback(BaseModel):
    """A mark: whether a picture of the gallery shows the person of a query; `same` null takes it back."""

    model_config = ConfigDict(extra="forbid")

    query: Id = Field(description="`QueryPicture.id` of the search, or a picture of the gallery")
    item: Id
    same: bool | None


# ── reports ─────────────────────────────────────────────────────────────────────────────────────────────


class Report(BaseModel):
    """A page that an evaluation wrote."""

    name: str
    title: str
    url: str
    modified: str = Field(description="ISO 8601, UTC")


class Reports(BaseModel):
    """The reports below the folder that the server was given."""

    reports: list[Report]
