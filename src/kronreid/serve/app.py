"""The web application's routes. What they do is in `service`, who may use them in `gate`."""

import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Form, Query, Request, Response, UploadFile
from fastapi.responses import RedirectResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from kronreid import __version__
from kronreid.data.values import pairs
from kronreid.errors import InputError
from kronreid.explain.style import PALETTE
from kronreid.serve import reports, requests, schemas
from kronreid.serve.audit import Audit
from kronreid.serve.camera_routes import camera_router
from kronreid.serve.forms import MemoryRoute
from kronreid.serve.gate import REPORT_POLICY, Access, Gate, port_of, sent_cookies
from kronreid.serve.guesses import Guesses
from kronreid.serve.lanes import Lane
from kronreid.serve.metrics import Metrics
from kronreid.serve.opened import OutOfOrder
from kronreid.serve.people_routes import people_router
from kronreid.serve.problems import RESPONSES, add_handlers, problem
from kronreid.serve.queries import Sent
from kronreid.serve.service import Service
from kronreid.serve.sessions import LASTS, cookie_name
from kronreid.serve.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

#: The most pictures of one page of the gallery, and the largest offset.
PAGE, LAST = 1000, 10**9

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


class Application:
    """The web application.

    Args:
        service: Does the work; closed with the application.
        settings: How the server behaves.
        metrics: Counts requests and their times.

    Attributes:
        asgi: The application as a web server runs it.
    """

    def __init__(self, service: Service, settings: Settings, metrics: Metrics) -> None:
        self.service = service
        self.settings = settings
        self.metrics = metrics
        self.access = Access(settings)
        self.audit = Audit(settings.audit)
        self.guesses = Guesses()
        self.searches = Lane("search", settings.threads, settings.waiting, settings.timeout)
        self.small = Lane("picture", 4, 512, settings.timeout)  # a page requests hundreds of pictures at once
        self.videos = Lane("video", 1, 8, settings.timeout)  # each piece of work has a process of its own
        metrics.inside.set_function(lambda: self.searches.inside)
        app = FastAPI(
            title="kronreid",
            version=__version__,
            description="Find a person again in a gallery of pictures, and see why two pictures match.",
            openapi_url="/api/openapi.json",
            docs_url=None,  # FastAPI's own pages load scripts from other hosts
            redoc_url=None,
            responses=RESPONSES,
            lifespan=self._life,
        )
        app.router.route_class = MemoryRoute
        _page(app, self)
        _api(app, self)
        add_handlers(app)
        self.asgi = Gate(app, settings, self.access, self.searches, metrics, self.wrong_token)

    @asynccontextmanager
    async def _life(self, app: FastAPI) -> AsyncIterator[None]:
        yield
        self.searches.close()
        self.small.close()
        self.videos.close()
        self.service.close()

    async def audited(
        self,
        request: Request,
        action: str,
        asked: dict[str, Any],
        function: Callable[[], T],
        found: Callable[[T], dict[str, Any]] = lambda answer: {},
        *,
        change: bool = False,
        lane: Lane | None = None,
    ) -> T:
        """Run a function in a thread, and write a line in the audit log before the answer, also if it fails.

        A change is also written before it is begun, with the same ``request``, so nothing changes that cannot
        be logged. If only its result cannot be logged, the change has happened, and is answered.

        Args:
            request: Tells who sent it.
            action: The name of what is done.
            asked: What the client asked for.
            function: Does the work.
            found: What to log of the result.
            change: Whether it changes something.
            lane: Its threads; the searches' by default.

        Returns:
            The function's result.
        """
        client = client_of(request)
        known = {"who": request.scope.get("kronreid.who"), **asked}
        if change:
            known["request"] = secrets.token_hex(4)

        def result(**told: Any) -> None:
            step = {"step": "failed" if "failed" in told else "done"} if change else {}
            try:
                self.audit.write(action, client, **known, **step, **told)
            except OutOfOrder as error:
                if not change or "failed" in told:
                    raise
                log.error("%s", error)

        def work() -> T:
            if change:
                self.audit.write(action, client, **known, step="begun")
            try:
                answer = function()
            except Exception as error:
                with suppress(OutOfOrder):  # what failed says more
                    result(failed=str(error))
                raise
            result(**found(answer))
            return answer

        return await (lane or self.searches).run(work)

    async def wrong_token(self, client: str) -> None:
        """Log a wrong token, and make its sender wait.

        Raises:
            Busy: Too many of them wait already.
        """
        unlogged = self.guesses.wrong(client)
        if unlogged is not None:
            more = {"unlogged_before": unlogged} if unlogged else {}
            await self.small.run(lambda: self.audit.write("login", client, right=False, **more))
        await self.guesses.pause(client)


def client_of(request: Request) -> str:
    """The client's address, as far as it is believed."""
    return request.client.host if request.client else ""


def _page(app: FastAPI, of: Application) -> None:
    """The page and its files. All are read at the start, so nothing else can be requested."""
    served = {
        file.name: (file.read_bytes(), _TYPES[suffix])
        for file in files("kronreid.serve").joinpath("page").iterdir()
        if file.is_file() and (suffix := "." + file.name.rpartition(".")[2]) in _TYPES
    }
    colours = "".join(f" --{name}: light-dark({light}, {dark});" for name, (light, dark) in PALETTE.items())
    served["palette.css"] = f":root {{{colours} }}\n".encode(), _TYPES[".css"]

    @app.get("/", include_in_schema=False)
    async def page(request: Request, token: str = "") -> Response:
        if token:
            answer: Response = RedirectResponse("/", 303)
            if await _right(of, request, token):
                _sign_in(of, request, answer)
            return answer
        content, kind = served["index.html"]
        return Response(content, media_type=kind)

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in served:
            return problem(404, "there is no such file")
        content, kind = served[name]
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(status_code=204)

    @app.get("/reports/{name:path}", include_in_schema=False)
    async def report(request: Request, name: str) -> Response:
        root = of.settings.reports
        if root is None:
            return problem(404, "there is no such report")
        content = await of.audited(
            request,
            "report",
            {"name": name},
            lambda: reports.content(root, name),
            lambda page: {"found": page is not None},
            lane=of.small,
        )
        if content is None:
            return problem(404, "there is no such report")
        headers = {"Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
        return Response(content, media_type="text/html", headers=headers)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(of.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _right(of: Application, request: Request, token: str) -> bool:
    """Whether that is the token. The attempt is logged, and a wrong one has to wait."""
    client = client_of(request)
    if of.access.right(token):
        await of.small.run(lambda: of.audit.write("login", client, right=True))
        return True
    await of.wrong_token(client)
    return False


def _sign_in(of: Application, request: Request, answer: Response) -> None:
    secure = request.url.scheme == "https"
    answer.set_cookie(
        cookie_name(port_of(request.scope), secure),
        of.access.sessions.begin(),
        httponly=True,
        samesite="strict",
        secure=secure,
        path="/",
        max_age=int(LASTS),
    )


def _api(app: FastAPI, of: Application) -> None:
    _session(app, of)
    _looking(app, of)
    _gallery(app, of)
    app.include_router(people_router(of))
    app.include_router(camera_router(of))


def _session(app: FastAPI, of: Application) -> None:
    """Signing in, and the server's state."""
    service = of.service

    @app.post("/api/login", status_code=204)
    async def login(request: Request, login: schemas.Login) -> Response:
        """Exchange the token for a cookie."""
        if not await _right(of, request, login.token):
            return problem(401, "this is not the token; the server printed it when it was started")
        answer = Response(status_code=204)
        _sign_in(of, request, answer)
        return answer

    @app.post("/api/logout", status_code=204)
    async def logout(request: Request, everywhere: bool = False) -> Response:
        """End the session, or all sessions, which needs one or the token."""
        sessions, secure = of.access.sessions, request.url.scheme == "https"
        port = port_of(request.scope)
        if request.scope["kronreid.who"] is not None:
            end = [sessions.end_all] if everywhere else []
            end += [partial(sessions.end, secret) for secret in sent_cookies(request.headers, port, secure)]
            asked = {"everywhere": everywhere}
            await of.audited(request, "logout", asked, lambda: [one() for one in end], lane=of.small)
        answer = Response(status_code=204)
        name = cookie_name(port, secure)
        answer.delete_cookie(name, path="/", httponly=True, samesite="strict", secure=secure)
        return answer

    @app.get("/api/health")
    async def health() -> schemas.Health:
        """Whether the server runs."""
        return schemas.Health(status="ok")

    @app.get("/api/ready")
    async def ready(response: Response) -> schemas.Health:
        """Whether the server runs and the gallery answers."""
        try:
            of.metrics.pictures.set(await of.small.run(service.ready))
        except InputError as error:
            response.status_code = 503
            return schemas.Health(status="unavailable", message=str(error))
        return schemas.Health(status="ok")

    @app.get("/api/info")
    async def info(request: Request) -> schemas.Info:
        """What this server can do, and which gallery it has."""
        scope = request.scope
        return await of.small.run(
            service.info, scope["kronreid.who"] is not None, scope["kronreid.everything"]
        )

    @app.get("/api/reports")
    async def all_reports() -> schemas.Reports:
        """The reports that can be opened."""
        root = of.settings.reports
        if root is None:
            return schemas.Reports(reports=[])
        return schemas.Reports(reports=await of.small.run(reports.describe_all, root))


def _looking(app: FastAPI, of: Application) -> None:
    """Searching, comparing, pictures."""
    service = of.service

    @app.post("/api/search")
    async def search(
        request: Request,
        form: Annotated[requests.SearchForm, Form(media_type="multipart/form-data")],
    ) -> schemas.SearchAnswer:
        """Find a person in the gallery."""
        sent = await _pictures(of, form.pictures, form.box)
        if len(sent) + len(form.item) > of.settings.upload_pictures:
            raise InputError("item", f"a search takes at most {of.settings.upload_pictures} pictures")
        selection = form.selection()
        options = form.model_dump(
            include={"top", "offset", "limit", "rerank_top", "matcher_weight", "group_by"}
        )
        asked = {"items": form.item, "uploads": len(sent), "filters": _said(form), **options}
        answer = await of.audited(
            request,
            "search",
            asked,
            lambda: service.search(sent, form.item, selection, **options),
            lambda answer: {
                "query": [query.id for query in answer.query],
                "uploaded": [hashlib.sha256(one.content).hexdigest() for one in sent],
                "hits": answer.total,
            },
        )
        for stage, seconds in answer.seconds.items():
            of.metrics.stages.labels(stage).observe(seconds)
        return answer

    @app.post("/api/match")
    async def match(
        request: Request, form: Annotated[requests.PairForm, Form(media_type="multipart/form-data")]
    ) -> schemas.MatchAnswer:
        """How similar two pictures are."""
        a, b = await _two(of, form)
        return await of.audited(request, "match", _of_pair(form), lambda: service.match(a, b))

    @app.post("/api/explain")
    async def explain(
        request: Request, form: Annotated[requests.PairForm, Form(media_type="multipart/form-data")]
    ) -> schemas.ExplainAnswer:
        """Why two pictures match, or do not: correspondences, attention, part maps."""
        a, b = await _two(of, form)
        return await of.audited(request, "explain", _of_pair(form), lambda: service.explain(a, b))

    @app.get("/api/pictures/{id}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    async def picture(request: Request, id: schemas.Id, size: Literal["thumb", "full"] = "full") -> Response:
        """A picture of the gallery, cut to its box, as JPEG."""
        tag = f'"{id[:32]}-{size}"'
        # The identifier is a hash of the content, so its picture never changes. But it may be deleted.
        headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
        asked = {"item": id, "size": size}
        if tag in request.headers.get("if-none-match", ""):
            await of.audited(request, "picture", asked, lambda: service.gallery.entry(id), lane=of.small)
            return Response(status_code=304, headers=headers)
        content = await of.audited(
            request, "picture", asked, lambda: service.picture(id, size == "thumb"), lane=of.small
        )
        return Response(content, media_type="image/jpeg", headers=headers)


class _Page(requests.Filters):
    """The filters and the page of a listing."""

    offset: int = Field(default=0, ge=0, le=LAST)
    limit: int = Field(default=100, ge=1, le=PAGE)


def _gallery(app: FastAPI, of: Application) -> None:
    """Browsing and changing."""
    service = of.service

    @app.get("/api/gallery")
    async def browse(request: Request, page: Annotated[_Page, Query()]) -> schemas.GalleryPage:
        """Pictures of the gallery."""
        selection = page.selection()
        return await of.audited(
            request,
            "browse",
            {"filters": _said(page), "offset": page.offset, "limit": page.limit},
            lambda: service.browse(selection, page.offset, page.limit),
            lambda answer: {"shown": len(answer.items), "total": answer.total},
            lane=of.small,
        )

    @app.get("/api/gallery/stats")
    async def stats(request: Request, filters: Annotated[requests.Filters, Query()]) -> schemas.GalleryStats:
        """How many pictures there are, by camera and by hour."""
        selection = filters.selection()
        return await of.audited(
            request,
            "stats",
            {"filters": _said(filters)},
            lambda: service.stats(selection),
            lambda answer: {"total": answer.count},
            lane=of.small,
        )

    @app.post("/api/gallery")
    async def add(
        request: Request, form: Annotated[requests.AddForm, Form(media_type="multipart/form-data")]
    ) -> schemas.AddAnswer:
        """Add pictures."""
        if not of.settings.allow_add:
            raise HTTPException(403, "pictures cannot be added; start the server with --allow-add")
        sent = await _pictures(of, form.pictures, form.box)
        known = form.model_dump(include={"camera", "time", "identity", "source"})
        attributes = pairs(filter(None, form.attribute), "attribute")
        return await of.audited(
            request,
            "add",
            {"uploads": len(sent), "known": known | {"attributes": attributes}},
            lambda: service.add(sent, attributes=attributes, **known),
            lambda answer: {"added": answer.added, "ids": answer.ids},
            change=True,
        )

    @app.delete("/api/gallery/{id}", status_code=204)
    async def delete(request: Request, id: schemas.Id) -> Response:
        """Remove a picture from the gallery."""
        await of.audited(request, "delete", {"item": id}, lambda: service.delete(id), change=True)
        return Response(status_code=204)

    @app.post("/api/feedback", status_code=204)
    async def feedback(request: Request, mark: schemas.Feedback) -> Response:
        """Mark a hit as the same person or not."""
        await of.audited(
            request,
            "feedback",
            mark.model_dump(),
            lambda: service.mark(mark.query, mark.item, mark.same),
            change=True,
        )
        return Response(status_code=204)

    @app.get(
        "/api/feedback.csv",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}}}},
    )
    async def marks(request: Request) -> Response:
        """Every mark, for training."""
        headers = {"Content-Disposition": 'attachment; filename="feedback.csv"'}
        content = await of.audited(request, "marks", {}, service.marks.csv, lane=of.small)
        return Response(content, media_type="text/csv; charset=utf-8", headers=headers)


async def _pictures(of: Application, uploads: list[UploadFile], boxes: list[str]) -> list[Sent]:
    """Uploads, each with its box."""
    most = of.settings.upload_pictures
    if len(uploads) > most:
        raise HTTPException(413, f"pictures: {len(uploads)} are more than the {most} allowed in one request")
    if len(boxes) > len(uploads):
        raise InputError("box", f"{len(boxes)} boxes given for {len(uploads)} uploaded pictures")
    boxes = boxes + [""] * (len(uploads) - len(boxes))
    return [
        Sent(upload.filename or "picture", await upload.read(), box) for upload, box in zip(uploads, boxes)
    ]


async def _two(of: Application, form: requests.PairForm) -> tuple[Sent | str, Sent | str]:
    """The two pictures of a pair."""
    found: list[Sent | str] = []
    for name, upload, item, box in (
        ("a", form.a, form.a_item, form.a_box),
        ("b", form.b, form.b_item, form.b_box),
    ):
        if (upload is None) == (item is None):
            raise InputError(name, f"give either an uploaded picture or {name}_item")
        if item is not None and box:
            raise InputError(f"{name}_box", "is for uploaded pictures; the gallery knows its pictures' boxes")
        found.append(item if upload is None else (await _pictures(of, [upload], [box]))[0])  # type: ignore[arg-type]
    return found[0], found[1]


def _of_pair(form: requests.PairForm) -> dict[str, Any]:
    return {"a": form.a_item or "upload", "b": form.b_item or "upload"}


def _said(form: requests.Filters) -> dict[str, Any]:
    """The filters that were set."""
    filters = form.model_dump(include=set(requests.Filters.model_fields))
    return {name: value for name, value in filters.items() if value}
