"""The routes about people; see `kronreid.serve.people_schemas`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from kronreid.serve import people_schemas as schemas
from kronreid.serve.forms import MemoryRoute

if TYPE_CHECKING:
    from kronreid.serve.app import Application

_Number = Annotated[int, Path(ge=1, le=2**53, description="The person's number")]


def people_router(of: "Application") -> APIRouter:
    """Looking at people, and correcting who is who."""
    router = APIRouter(prefix="/api/people", route_class=MemoryRoute)
    people = of.service.people

    async def change(
        request: Request, action: str, told: dict[str, Any], work: Callable[[], schemas.Done]
    ) -> schemas.Done:
        """Correct who is who, with the lines of the audit log."""
        return await of.audited(request, action, told, work, _done, change=True, lane=of.small)

    @router.get("")
    async def page(request: Request, query: Annotated[schemas.PeopleQuery, Query()]) -> schemas.PeoplePage:
        """The people of the gallery, with their times by camera."""
        return await of.audited(
            request,
            "people",
            query.model_dump(exclude_defaults=True),
            lambda: people.page(query),
            lambda answer: {"shown": [person.number for person in answer.people], "total": answer.total},
            lane=of.small,
        )

    @router.get("/{number}")
    async def one(request: Request, number: _Number) -> schemas.PersonDetail:
        """One person with all tracklets, their pictures, and the people who look alike."""
        return await of.audited(
            request, "person", {"person": number}, lambda: people.one(number), lane=of.small
        )

    @router.post("/merge")
    async def merge(request: Request, merge: schemas.Merge) -> schemas.Done:
        """Say that several people are one."""
        return await change(
            request, "merge", merge.model_dump(), lambda: people.merge(merge.into, merge.others)
        )

    @router.post("/split")
    async def split(request: Request, split: schemas.Split) -> schemas.Done:
        """Say that some tracklets of a person show somebody else."""
        return await change(
            request, "split", split.model_dump(), lambda: people.split(split.tracklets, split.to)
        )

    @router.post("/undo")
    async def undo(request: Request, undo: schemas.Undo) -> schemas.Done:
        """Take back the last merge, split, name or grouping."""
        return await change(request, "undo", undo.model_dump(), lambda: people.undo(undo.change))

    @router.post("/{number}/name")
    async def name(request: Request, number: _Number, naming: schemas.Naming) -> schemas.Done:
        """Give a person a name, or take it away."""
        told = {"person": number, "named": bool(naming.name)}  # the log outlives the name
        return await change(request, "name", told, lambda: people.name(number, naming.name))

    return router


def _done(answer: schemas.Done) -> dict[str, Any]:
    return {"made": answer.change, "about": answer.person}
