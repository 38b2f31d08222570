"""Requests and answers about people; see `kronreid.serve.schemas`.

Addresses
    GET    /api/people                   `PeopleQuery` -> `PeoplePage`: people with their times by camera
    GET    /api/people/{number}          -> `PersonDetail`: one person with all tracklets and their pictures
    POST   /api/people/merge             `Merge` (JSON) -> `Done`
    POST   /api/people/split             `Split` (JSON) -> `Done`
    POST   /api/people/undo              `Undo` (JSON) -> `Done`; 409 if another change is the last one
    POST   /api/people/{number}/name     `Naming` (JSON) -> `Done`
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from kronreid.data.values import LONGEST_NAME
from kronreid.serve.schemas import Id, PersonTag, Text

Number = Annotated[int, Field(ge=1, le=2**53, description="A person's number")]
TrackId = Annotated[str, Field(pattern="^[0-9a-f]{1,64}$", description="A tracklet's identifier")]

#: The most times of a person in a list, people of one page, and tracklets or people of one change.
MOST_SPANS, PAGE, MOST_MOVED = 500, 200, 500


class Span(BaseModel):
    """A time that a person was seen by a camera."""

    camera: str | None
    start: str | None = Field(description="ISO 8601, UTC")
    end: str | None


class PersonItem(PersonTag):
    """A person."""

    tracklets: int = Field(description="How many tracklets the person has")
    pictures: list[Id] = Field(description="The best picture of some tracklets, of every camera if possible")
    cameras: list[str | None]
    first: str | None = Field(description="When the person was first seen, ISO 8601, UTC")
    last: str | None = Field(description="When the person was last seen")
    timeline: list[Span] = Field(description=f"The first {MOST_SPANS} times, in their order")


class Undoable(BaseModel):
    """The change that an undo takes back."""

    change: int = Field(description="Its number; send it with the undo")
    kind: Literal["group", "merge", "split", "name"]
    words: str = Field(description="What it was: merging person 2 into person 1")


class PeopleQuery(BaseModel):
    """Which people, and in which order."""

    model_config = ConfigDict(extra="forbid")

    camera: list[Text] = Field(default=[], description="Seen by one of these cameras")
    since: Text = Field(default="", description="Seen at this time or later: 2026-03-01, 2026-03-01T12:00")
    until: Text = Field(default="", description="Seen at this time or earlier; a date includes the whole day")
    order: Literal["last", "first", "tracklets", "number"] = Field(
        default="last", description="Last seen first, first seen first, most tracklets first, or by number"
    )
    offset: int = Field(default=0, ge=0, le=10**9)
    limit: int = Field(default=60, ge=1, le=PAGE)


class PeoplePage(BaseModel):
    """Some of the people."""

    people: list[PersonItem]
    total: int = Field(description="How many people meet the conditions")
    offset: int
    cameras: list[str | None] = Field(description="Every camera that has seen somebody")
    ungrouped: int = Field(description="How many tracklets belong to nobody yet")
    undo: Undoable | None = Field(description="Null if there is nothing to take back")


class Why(BaseModel):
    """Why a tracklet belongs to its person."""

    by_hand: bool = Field(description="Somebody has put it there")
    near: TrackId | None = Field(description="The tracklet that it resembled most when it was grouped")
    similarity: float | None = Field(
        description="The cosine of the two; null for a person's first tracklet, and by hand"
    )
    average: float | None = Field(description="The mean cosine with all tracklets of the person then")


class TrackletItem(Span):
    """A tracklet."""

    id: TrackId
    source: str | None
    pictures: list[Id] = Field(description="The best first")
    why: Why


class Alike(PersonTag):
    """Somebody who looks like a person, and may be the same."""

    similarity: float = Field(description="The cosine with the nearest tracklet")
    picture: Id | None


class PersonDetail(PersonItem):
    """A person with all tracklets."""

    tracks: list[TrackletItem] = Field(description="In the order of their times")
    alike: list[Alike] = Field(description="The most similar other people, best first")
    undo: Undoable | None


class Merge(BaseModel):
    """Say that several people are one. The number and the name of `into` stay."""

    model_config = ConfigDict(extra="forbid")

    into: Number
    others: list[Number] = Field(min_length=1, max_length=MOST_MOVED)


class Split(BaseModel):
    """Say that some tracklets of a person show somebody else."""

    model_config = ConfigDict(extra="forbid")

    tracklets: list[TrackId] = Field(min_length=1, max_length=MOST_MOVED)
    to: Number | None = Field(default=None, description="The person that they show; without, a new one")


class Naming(BaseModel):
    """A person's name; empty for none."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=LONGEST_NAME)]


class Undo(BaseModel):
    """Take back the last merge, split, name or grouping."""

    model_config = ConfigDict(extra="forbid")

    change: int | None = Field(
        default=None, ge=1, le=2**53, description="`Undoable.change`, if only that one must be taken back"
    )


class Done(BaseModel):
    """What a change did."""

    change: int = Field(description="The number of the change")
    words: str
    person: int | None = Field(description="The person that it was about; the new one after a split")
