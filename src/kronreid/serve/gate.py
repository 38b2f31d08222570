"""What every request passes before anything of it is read: who asks, from where, and how much.

A plain ASGI wrapper, because the framework reads a whole upload before it asks its own dependencies.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import math
import socket
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kronreid.serve.lanes import Busy, Lane
from kronreid.serve.metrics import Metrics
from kronreid.serve.settings import EVERYWHERE, Settings

log = logging.getLogger(__name__)

#: A request without pictures has no more bytes than this.
SMALL_BODY = 65_536
#: Seconds in which an upload must have come.
UPLOAD_SECONDS = 60.0

#: Addresses that carry nothing worth guarding: the page asks for the token, and a supervisor for the health.
PUBLIC = frozenset({"/", "/api/login", "/api/logout", "/api/health", "/api/ready", "/api/openapi.json"})
#: Addresses that take pictures, and for whose work there is only so much room.
UPLOADS = frozenset({"/api/search", "/api/match", "/api/explain", "/api/gallery"})
#: Methods that change nothing.
HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Addresses whose POST changes nothing either: it only has more to say than fits an address.
LOOKING = frozenset({"/api/search", "/api/match", "/api/explain"})

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; frame-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
#: Reports bring their style and pictures within them, and have no business with scripts.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)


class Access:
    """Who may do what.

    Args:
        settings: The token, and whether everything needs it.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token.encode()
        self._guarded = settings.guarded
        # The cookie does not hold the token itself: whoever reads it cannot use it elsewhere.
        self.cookie = hmac.new(self._token, b"kronreid cookie", hashlib.sha256).hexdigest()
        self._names = {"localhost", settings.host.lower(), *settings.names}
        if settings.host in EVERYWHERE:  # then this is what the printed address says
            self._names.add(socket.gethostname().lower())

    def right(self, token: str) -> bool:
        """Whether that is the token; takes the same time for every wrong one."""
        return hmac.compare_digest(token.encode(), self._token)

    def signed_in(self, headers: Headers, port: int) -> bool:
        """Whether the request carries the token, or the cookie that was given for it."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.right(token.strip()):
            return True
        try:
            sent = SimpleCookie(headers.get("cookie", "")).get(cookie_name(port))
        except CookieError:
            return False
        return sent is not None and hmac.compare_digest(sent.value.encode(), self.cookie.encode())

    def needed(self, method: str, path: str) -> bool:
        """Whether a request needs the token."""
        if path in PUBLIC or path.startswith("/static/"):
            return False
        return self._guarded or not (method in HARMLESS or path in LOOKING)

    def known_host(self, host: str) -> bool:
        """Whether the server may be asked for under that name.

        A page of another site can have its own name point here (DNS rebinding) and would then be of the same
        origin; it cannot do that with an IP address, nor with a name that is not its own.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # half an IPv6 address
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def cookie_name(port: int) -> str:
    """Cookies do not know ports: several servers of one machine need several names."""
    return f"kronreid-{port}"


def port_of(scope: Scope) -> int:
    """The port that the server listens on."""
    return int((scope.get("server") or ("", 0))[1] or 0)


def from_elsewhere(headers: Headers) -> bool:
    """Whether a page of another origin sent the request, as far as the browser tells."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()


class Gate:
    """Wraps the application.

    Args:
        app: What answers.
        settings: Limits.
        access: Who may do what.
        lane: The room that there is for searches.
        metrics: Counts every request.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, access: Access, lane: Lane, metrics: Metrics
    ) -> None:
        self.app = app
        self.settings = settings
        self.access = access
        self.lane = lane
        self.metrics = metrics
        self._uploading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                protect(headers)
                if status in (408, 413):
                    headers["Connection"] = "close"  # or the server would read on what it has refused
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, safely)
            elif is_upload(scope):
                self._uploading += 1
                try:
                    await self.app(scope, self._limited(receive, self.settings.upload_bytes), safely)
                finally:
                    self._uploading -= 1
            else:
                await self.app(scope, self._limited(receive, SMALL_BODY), safely)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that goes no further; None lets it pass."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if not self.access.known_host(headers.get("host", "")):
            return problem(
                403, "this server is not known under that name; start it with --allow-host to make it so"
            )
        if (method not in HARMLESS or path.startswith("/api/")) and from_elsewhere(headers):
            return problem(403, "requests from pages of other sites are not answered")
        signed_in = self.access.signed_in(headers, port_of(scope))
        scope["kronreid.signed_in"] = signed_in
        if self.access.needed(method, path) and not signed_in:
            answer = problem(
                401, "the token is needed for this: sign in, or send it as 'Authorization: Bearer'"
            )
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        most = self.settings.upload_bytes if is_upload(scope) else SMALL_BODY
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > most:
            return problem(413, too_large(most))
        if is_upload(scope):
            try:
                self.lane.check()
                if self._uploading >= self.lane.room:
                    raise Busy(1)
            except Busy as busy:
                return busy_answer(busy)
        return None

    def _limited(self, receive: Receive, most: int) -> Receive:
        """The same stream of a body, which ends in an error when it is too long or takes too long."""
        got, until = 0, time.monotonic() + UPLOAD_SECONDS
        ended = False

        async def limited() -> Message:
            nonlocal got, ended
            if ended:  # now it is only waited for the client to go
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except (TimeoutError, asyncio.TimeoutError):
                raise HTTPException(408, "the upload did not come in time") from None
            got += len(message.get("body", b""))
            if got > most:
                raise HTTPException(413, too_large(most))
            ended = not message.get("more_body", False)
            return message

        return limited


def is_upload(scope: Scope) -> bool:
    """Whether the request brings pictures."""
    return scope["method"] == "POST" and scope["path"] in UPLOADS


def too_large(most: int) -> str:
    """What a client is told that sends too much."""
    size = f"{most / 1e6:,.0f} MB" if most >= 1e6 else f"{math.ceil(most / 1024)} kB"
    return f"the request is larger than the {size} allowed; send fewer or smaller pictures"


def problem(status: int, message: str) -> JSONResponse:
    """An error as `schemas.Problem`."""
    return JSONResponse({"message": message}, status)


def busy_answer(busy: Busy) -> JSONResponse:
    """Come back later."""
    answer = problem(429, f"the server is busy; try again in {busy.retry_after} s")
    answer.headers["Retry-After"] = str(busy.retry_after)
    return answer


def protect(headers: MutableHeaders) -> None:
    """Add what tells a browser to be careful; what a route has set itself stays."""
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
