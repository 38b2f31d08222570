"""The routes about cameras and moments; see `kronreid.serve.camera_schemas`."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request, Response

from kronreid.serve import camera_schemas as schemas
from kronreid.serve.forms import MemoryRoute
from kronreid.serve.schemas import Id

if TYPE_CHECKING:
    from kronreid.serve.app import Application


def camera_router(of: "Application") -> APIRouter:
    """What the cameras have seen and do, and the frames around a picture."""
    router = APIRouter(prefix="/api", route_class=MemoryRoute)
    service = of.service

    @router.get("/cameras")
    async def cameras() -> schemas.Cameras:
        """What each camera has seen, and whether it is followed now."""
        return await of.small.run(service.cameras.all)  # about nobody, and asked for every few seconds

    @router.get("/moments/{id}")
    async def moment(request: Request, id: Id) -> schemas.Moment:
        """The frames around the moment that a picture of a tracklet was taken."""
        return await of.audited(
            request,
            "moment",
            {"item": id},
            lambda: service.moments.one(id),
            lambda answer: {"frames": len(answer.frames)},
            lane=of.videos,
        )

    @router.get(
        "/moments/{id}/frames/{number}",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}},
    )
    async def frame(request: Request, id: Id, number: Annotated[int, Path(ge=0, le=1000)]) -> Response:
        """One of these frames, as JPEG."""
        content = await of.audited(
            request,
            "frame",
            {"item": id, "frame": number},
            lambda: service.moments.frame(id, number),
            lane=of.small if service.moments.has(id) else of.videos,
        )
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    return router
