"""Answers of the web interface, as the API, its OpenAPI document, the page and `kronreid.Client` share them.

The forms that clients send are in `requests`.

Addresses
    GET    /                   the page (``page/index.html``); its files are ``/static/<name>``, a flat folder
    POST   /api/login          `Login` (JSON) -> 204 and a cookie; ``/?token=…`` does the same, then goes to /
    POST   /api/logout         ends the session -> 204; with ?everywhere=true all sessions
    GET    /api/health         -> `Health`; /api/ready -> `Health` or 503; /metrics in Prometheus' format
    GET    /api/info           -> `Info`; on 401 the page asks for the token
    POST   /api/search         `SearchForm` (multipart) -> `SearchAnswer`
    POST   /api/match          `PairForm` (multipart) -> `MatchAnswer`
    POST   /api/explain        `PairForm` (multipart) -> `ExplainAnswer`
    GET    /api/pictures/{id}  ?size=thumb|full -> JPEG, cut to the entry's box; ETag, private cache
    GET    /api/gallery        `Filters`, offset, limit -> `GalleryPage`
    GET    /api/gallery/stats  `Filters` -> `GalleryStats`
    POST   /api/gallery        `AddForm` (multipart) -> `AddAnswer`; 403 unless started with --allow-add
    DELETE /api/gallery/{id}   -> 204
    POST   /api/feedback       `Feedback` (JSON) -> 204
    GET    /api/feedback.csv   the last mark of each pair
    GET    /api/reports        -> `Reports`; each is a page at its own `url`, without scripts, may be framed
    /api/people…               see `kronreid.serve.people_schemas`
    GET    /api/openapi.json   the same in OpenAPI's format

Errors are `Problem` with a status above 399: 401 without a valid token, 403 not allowed, 404 no such picture,
person or tracklet, 409 a picture's file is gone or has changed, or somebody has made another change since,
413 too large, 415 no form or not UTF-8, 422 bad input, 429 too busy (with ``Retry-After`` in seconds), 503
out of order, 504 took too long.

The page runs under ``script-src 'self'; style-src 'self'; img-src 'self' data: blob:``: no inline script, no
``style="…"`` in HTML (setting ``element.style`` from a script is fine), nothing from other hosts.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: An entry's or an uploaded picture's identifier: SHA-256, hexadecimal.
Id = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="Identifier: 64 hexadecimal digits")]
Text = Annotated[str, Field(max_length=1000)]


class Problem(BaseModel):
    """What went wrong, in words for the user."""

    message: str = Field(description="One sentence: what is wrong and what to do")


class Login(BaseModel):
    """The token that the server printed at its start, or was started with."""

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
    """Limits on uploads."""

    bytes: int = Field(description="Bytes of one request, all pictures together")
    pixels: int = Field(description="Pixels of one picture")
    pictures: int = Field(description="Pictures of one request")


class Info(BaseModel):
    """What this server can do."""

    version: str
    gallery: GallerySummary
    has_matcher: bool = Field(description="Pairs are scored and explained")
    matcher: Literal["places", "model"] | None = Field(
        description="By what: the places of the embedder, or a pair model (--matcher); null by nothing"
    )
    has_parts: bool = Field(description="The embedder gives HOReID's part maps")
    has_reports: bool
    has_people: bool = Field(description="The gallery has tracklets, of which people are made")
    has_cameras: bool = Field(description="Cameras are or were followed by kronreid track")
    allow_add: bool
    token_required: Literal["changes", "everything"]
    signed_in: bool = Field(description="This request carried a valid token, so changes are allowed")
    limits: Limits


# ── pictures ────────────────────────────────────────────────────────────────────────────────


class Item(BaseModel):
    """One picture of the gallery."""

    id: Id
    picture: str = Field(description="Address of the JPEG; add ?size=thumb for a small one")
    name: str = Field(description="The file's name, without its folder")
    camera: str | None
    time: str | None = Field(description="ISO 8601, UTC")
    identity: str | None
    source: str | None
    attributes: dict[str, Any]
    width: int | None = Field(
        description="Of the full picture, cut to its box; null if the file cannot be read"
    )
    height: int | None


class PersonTag(BaseModel):
    """Who somebody is."""

    number: int = Field(description="Stays the same, and is not used for anybody else")
    name: str | None


class HitItem(Item):
    """One picture that was found."""

    rank: int = Field(description="1 for the best")
    similarity: float = Field(description="Cosine with the query, −1 to 1")
    probability: float | None = Field(
        description="The matcher's probability of the same person; null where it did not score"
    )
    same: bool | None = Field(description="The user's mark of this picture for this query, if any")
    track: str | None = Field(description="The tracklet that it is of, where the person is known")
    person: PersonTag | None = Field(description="Whom it shows, as grouping and users say; null if unknown")


class HitGroup(BaseModel):
    """Hits that share an identity, a camera or an attribute."""

    key: Any = Field(description="What they share; null for a single hit whose value is unknown")
    ranks: list[int] = Field(description="Their ranks, best first")


class QueryPicture(BaseModel):
    """A picture that was searched for, cropped and upright."""

    id: Id = Field(
        description="Use it as `item`, `a_item`, `b_item` and in feedback; that of an upload expires"
    )
    picture: str = Field(description="Address of a JPEG, or a data: address for an upload")
    width: int
    height: int


# ── search ──────────────────────────────────────────────────────────────────────────────────────────────


class Limit(BaseModel):
    """From which similarity on a hit counts, by the calibration of the embedder (docs/calibration.md)."""

    similarity: float = Field(description="The lowest that counts")
    rate: float = Field(
        description="The share of searches for people who are not in the gallery that have such a hit all "
        "the same"
    )
    sentence: str = Field(description="The rate in words: one false alarm in a thousand searches")
    passed: int = Field(description="How many hits count, of all `total`")


class SearchAnswer(BaseModel):
    """What a search found."""

    hits: list[HitItem] = Field(description="Best first; hits that the matcher scored come before the others")
    groups: list[HitGroup] = Field(description="The same hits by what they share; empty without group_by")
    total: int = Field(description="Number of all hits (groups, with group_by); the answer has some of them")
    offset: int
    seconds: dict[str, float] = Field(description="Time by stage: embed, search, decode, match … and total")
    unreadable: list[str] = Field(description="Why the matcher could not score some pictures")
    limit: Limit | None = Field(
        description="Null if the embedder has no calibration, or one that is too small for this gallery"
    )
    query: list[QueryPicture]


# ── pairs ───────────────────────────────────────────────────────────────────────────────────────────────


class MatchAnswer(BaseModel):
    """How similar two pictures are."""

    similarity: float = Field(description="Cosine of the embedder's vectors, −1 to 1")
    probability: float | None = Field(
        description="The matcher's probability of the same person; null without a matcher"
    )
    meaning: str = Field(description="What the numbers mean and do not mean, in two or three sentences")
    seconds: float


class Scale(BaseModel):
    """What the matcher saw at one scale. Places are numbered row by row: place = row * width + column."""

    height: int
    width: int
    correspondence: str = Field(
        description="Base64 of (height·width)² bytes, row-major. Row i: where place i of A looks in B; a "
        "byte is 255 at the row's maximum. Column j: which places of A look at place j of B (multiply by "
        "`row_maximum` to compare rows)"
    )
    row_maximum: list[float] = Field(description="The share (0 to 1) that 255 stands for in each row")
    attention_a: list[float] = Field(
        description="height·width shares, row-major, with sum 1; all equal without RSA"
    )
    attention_b: list[float]


class PartMaps(BaseModel):
    """Where HOReID's part sampler looks in one picture. Stretch each map over the picture."""

    count: int
    height: int
    width: int
    maps: str = Field(
        description="Base64 of count·height·width bytes, map by map, row-major; 255 at the map's maximum"
    )
    maximum: list[float] = Field(description="The share (0 to 1) that 255 stands for in each map")


class PlaceLevel(BaseModel):
    """What the places of one level say, each array as rows of numbers. Stretch them over the picture."""

    shares_a: list[list[float]] = Field(description="What each place of A adds to the logit")
    shares_b: list[list[float]]
    found_a: list[list[int]] = Field(
        description="The place of B that each place of A matches best: row * width + column"
    )
    found_b: list[list[int]]
    similarity_a: list[list[float]] = Field(description="The cosine of that best match")
    similarity_b: list[list[float]]


class PlaceVerdict(BaseModel):
    """A verdict of the embedder's places as a sum: logit = vectors + gain + loss."""

    probability: float
    logit: float = Field(description="The higher, the surer it is that they show one person")
    cosine: float = Field(description="Of the two vectors")
    vectors: float = Field(description="What the vectors add to the logit")
    gain: float = Field(description="The sum of all places' shares above zero, for the same person")
    loss: float = Field(description="The sum of those below zero, against it")
    levels: list[PlaceLevel]


class ExplainAnswer(MatchAnswer):
    """Why two pictures match, or do not."""

    picture_a: str = Field(description="data: address of a PNG: the picture as the network saw it")
    picture_b: str
    scales: list[Scale] = Field(description="Coarsest first; empty without a pair model")
    places: PlaceVerdict | None = Field(description="Null unless the embedder's places compare")
    parts_a: PartMaps | None = Field(description="Null unless the embedder has parts")
    parts_b: PartMaps | None


# ── gallery ─────────────────────────────────────────────────────────────────────────────────────────────


class GalleryPage(BaseModel):
    """Some pictures of the gallery, in the order of their identifiers."""

    items: list[Item]
    total: int = Field(description="Number of pictures that meet the filters")
    offset: int


class CountItem(BaseModel):
    """How many pictures share a value."""

    value: str | None = Field(description="Camera, or the start of an hour (ISO 8601, UTC); null if unknown")
    count: int


class GalleryStats(BaseModel):
    """How many pictures there are, by camera and by hour."""

    count: int
    cameras: list[CountItem]
    hours: list[CountItem] = Field(description="In order of time, without hours that have no pictures")


class Refused(BaseModel):
    """A picture that could not be added."""

    name: str
    message: str


class AddAnswer(BaseModel):
    """What adding pictures did."""

    added: int
    skipped_existing: int
    ids: list[Id] = Field(description="Of the sent pictures that are in the gallery now, in their order")
    unreadable: list[Refused]


class Feedback(BaseModel):
    """A mark: whether a picture of the gallery shows a query's person. With `same` null it is removed."""

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
