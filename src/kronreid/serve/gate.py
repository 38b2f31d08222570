"""The checks that every request passes before its body is read: its host, origin, token and size.

It is a plain ASGI wrapper, because the framework reads a whole upload before it calls its dependencies.
"""

import asyncio
import hmac
import ipaddress
import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kronreid.serve.batching import TooLate
from kronreid.serve.lanes import Busy, Lane
from kronreid.serve.metrics import Metrics
from kronreid.serve.opened import OutOfOrder
from kronreid.serve.problems import busy_answer, problem
from kronreid.serve.sessions import Sessions, cookie_name, cookies
from kronreid.serve.settings import EVERYWHERE, Settings
from kronreid.serve.trust import Trust, group, host_name
from kronreid.turns import whose

log = logging.getLogger(__name__)

#: The most bytes of a request without pictures.
SMALL_BODY = 65_536
#: An upload must be complete after this many seconds, or earlier if it comes more slowly than this.
UPLOAD_SECONDS, UPLOAD_START_SECONDS, UPLOAD_BYTES_PER_SECOND = 60.0, 10.0, 16_000
#: The most bytes of all uploads that are on their way; at least two of the largest are allowed.
UPLOADING_BYTES = 128_000_000

#: Addresses that never need the token: the page, which asks for it, and the health checks.
PUBLIC = frozenset({"/", "/api/login", "/api/logout", "/api/health", "/api/ready", "/api/openapi.json"})
#: Addresses that take pictures. The number of these requests at a time is limited.
UPLOADS = frozenset({"/api/search", "/api/match", "/api/explain", "/api/gallery"})
#: Methods that change nothing.
HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Addresses whose POST changes nothing: they use it only because a request does not fit in an address.
LOOKING = frozenset({"/api/search", "/api/match", "/api/explain"})

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; frame-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
#: Reports contain their styles and pictures, and need no scripts.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)


class Access:
    """Who may do what.

    Args:
        settings: The token, and whether everything needs it.

    Attributes:
        sessions: The browsers that have shown the token.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token.encode()
        self._guarded = settings.guarded
        self.sessions = Sessions()
        self._names = {"localhost", settings.host.lower(), *settings.names}
        if settings.host in EVERYWHERE:  # the printed address has this name then
            self._names.add(socket.gethostname().lower())

    def right(self, token: str) -> bool:
        """Whether that is the token. The time it takes tells nothing about the token."""
        return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token)

    def who(self, headers: Headers, port: int, secure: bool) -> str | None:
        """Who sent a request: ``token``, or the name of a session; None for somebody unknown."""
        if (token := bearer(headers)) is not None and self.right(token):
            return "token"
        for secret in sent_cookies(headers, port, secure):
            if (name := self.sessions.name(secret)) is not None:
                return name
        return None

    def needed(self, method: str, path: str, direct: bool) -> bool:
        """Whether a request needs the token.

        Args:
            method: Its method.
            path: Its address.
            direct: Whether it comes from this machine without a proxy between.
        """
        if path in PUBLIC or path.startswith("/static/"):
            return False
        return self.everything(direct) or not (method in HARMLESS or path in LOOKING)

    def everything(self, direct: bool) -> bool:
        """Whether everything needs the token, or only changes."""
        return self._guarded or not direct

    def known_host(self, host: str) -> bool:
        """Whether requests may use that host name.

        Another site can make its own name point to this server (DNS rebinding); its page would then have the
        same origin as ours. It cannot do that with an IP address or with one of the server's names.
        """
        name = host_name(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def bearer(headers: Headers) -> str | None:
    """The token that a request carries in its ``Authorization``; None if it has none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def sent_cookies(headers: Headers, port: int, secure: bool) -> list[str]:
    """The values of the server's cookie that a request carries."""
    return cookies("; ".join(headers.getlist("cookie")), cookie_name(port, secure))


def port_of(scope: Scope) -> int:
    """The port that the server listens on."""
    return int((scope.get("server") or ("", 0))[1] or 0)


def from_elsewhere(headers: Headers) -> bool:
    """Whether a page of another origin sent the request, as far as the browser says."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()


class Uploads:
    """The uploads that are on their way. They are in memory, so their number and their size are limited.

    Args:
        room: The most uploads at a time; one address may have three quarters of them.
        most: The most bytes of all of them.
    """

    def __init__(self, room: int, most: int) -> None:
        self.room, self.most = room, most
        self._bytes = 0
        self._of: Counter[str] = Counter()

    @contextmanager
    def one(self, client: str) -> Iterator[Callable[[int], None]]:
        """One upload.

        Yields:
            To be called with the number of bytes that have come.

        Raises:
            Busy: There are too many, or they have too many bytes.
        """
        place, got = group(client), 0
        if self._of.total() >= self.room or self._of[place] >= math.ceil(0.75 * self.room):
            raise Busy(1)
        self._of[place] += 1

        def come(size: int) -> None:
            nonlocal got
            if self._bytes + size > self.most:
                raise Busy(1)
            self._bytes += size
            got += size

        try:
            yield come
        finally:
            self._bytes -= got
            self._of[place] -= 1
            if not self._of[place]:
                del self._of[place]


class Gate:
    """Checks requests before the application sees them.

    It tells the application who sent a request: ``kronreid.who`` in the scope is what `Access.who` returns,
    ``kronreid.everything`` whether everything needs the token, and the client's address and the scheme are
    those that `Trust.origin` believes. Requests of one address and session are one client's, which takes
    turns with the others (`kronreid.turns`).

    Args:
        app: The application.
        settings: Limits.
        access: Who may do what.
        lane: The queue of searches; uploads are refused while it is full.
        metrics: Counts every request.
        wrong_token: Called with the address of whoever sends a wrong token; it may wait, or raise `Busy`.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        access: Access,
        lane: Lane,
        metrics: Metrics,
        wrong_token: Callable[[str], Awaitable[None]],
    ) -> None:
        self.app = app
        self.settings = settings
        self.access = access
        self.trust = Trust(settings)
        self.lane = lane
        self.metrics = metrics
        self.wrong_token = wrong_token
        self.uploads = Uploads(lane.room, max(UPLOADING_BYTES, 2 * settings.upload_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500
        head = scope["method"] == "HEAD"

        async def safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                protect(headers)
                if status in (408, 413, 429):
                    headers["Connection"] = "close"  # or the server would still read the body
            elif head:
                message = {**message, "body": b""}
            await send(message)

        scope["client"], scope["scheme"] = self._origin(scope)
        if head:  # the same answer as to GET, without its body
            scope["method"] = "GET"
        try:
            try:
                refusal = await self._refusal(scope)
                if refusal is not None:
                    await refusal(scope, receive, safely)
                elif is_upload(scope):
                    self.lane.check()
                    with self.uploads.one(scope["client"][0]) as come:
                        limited = self._limited(receive, self.settings.upload_bytes, come)
                        await self.app(scope, limited, safely)
                else:
                    await self.app(scope, self._limited(receive, SMALL_BODY), safely)
            except Busy as busy:
                await busy_answer(busy)(scope, receive, safely)
            except (OutOfOrder, TooLate) as error:  # a wrong token that cannot be logged
                message = str(error) or "this took too long; try again later"
                await problem(503, message)(scope, receive, safely)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def _origin(self, scope: Scope) -> tuple[tuple[str, int], str]:
        """The client's address, with no port, and the scheme."""
        client, scheme = self.trust.origin(scope, Headers(scope=scope))
        return (client, 0), scheme

    async def _refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that is refused; None lets it pass.

        Raises:
            Busy: It may be sent again later.
        """
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if not self.access.known_host(headers.get("host", "")):
            return problem(403, "the server does not answer to this host name; allow it with --allow-host")
        if (method not in HARMLESS or path.startswith("/api/")) and from_elsewhere(headers):
            return problem(403, "requests from pages of other sites are refused")
        who = self.access.who(headers, port_of(scope), scope["scheme"] == "https")
        direct = self.trust.direct(scope, headers)
        scope["kronreid.who"], scope["kronreid.everything"] = who, self.access.everything(direct)
        whose.set(f"{group(scope['client'][0])} {who or ''}")
        if who is None and bearer(headers) is not None:
            await self.wrong_token(scope["client"][0])
        if who is None and self.access.needed(method, path, direct):
            answer = problem(401, "this needs the token: sign in, or send it as 'Authorization: Bearer'")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        most = self.settings.upload_bytes if is_upload(scope) else SMALL_BODY
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > most:
            return problem(413, too_large(most))
        return None

    def _limited(
        self, receive: Receive, most: int, come: Callable[[int], None] = lambda size: None
    ) -> Receive:
        """The same stream of a body. It raises an error when it is too long, or comes too slowly."""
        got, started = 0, time.monotonic()
        ended = False

        async def limited() -> Message:
            nonlocal got, ended
            if ended:  # what remains is the message that the client has gone
                return await receive()
            until = started + min(UPLOAD_SECONDS, UPLOAD_START_SECONDS + got / UPLOAD_BYTES_PER_SECOND)
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except (TimeoutError, asyncio.TimeoutError):
                raise HTTPException(408, "the upload did not arrive in time") from None
            size = len(message.get("body", b""))
            got += size
            if got > most:
                raise HTTPException(413, too_large(most))
            try:
                come(size)
            except Busy as busy:  # the framework would take any other error for a damaged body
                raise HTTPException(429, str(busy), {"Retry-After": str(busy.retry_after)}) from None
            ended = not message.get("more_body", False)
            return message

        return limited


def is_upload(scope: Scope) -> bool:
    """Whether the request brings pictures."""
    return scope["method"] == "POST" and scope["path"] in UPLOADS


def too_large(most: int) -> str:
    """The message to a client that sends too much."""
    size = f"{most / 1e6:,.0f} MB" if most >= 1e6 else f"{math.ceil(most / 1024)} kB"
    return f"the request is larger than the {size} allowed; send fewer or smaller pictures"


def protect(headers: MutableHeaders) -> None:
    """Add the headers that tell a browser to be careful, except those that a route has set."""
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
