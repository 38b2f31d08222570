"""The checks that every request passes before its body is read: its host, origin, token and size.

It is a plain ASGI wrapper, because the framework reads a whole upload before it calls its dependencies.
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
from kronreid.serve.problems import busy_answer, problem
from kronreid.serve.settings import EVERYWHERE, Settings

log = logging.getLogger(__name__)

#: The most bytes of a request without pictures.
SMALL_BODY = 65_536
#: An upload must be complete after this many seconds.
UPLOAD_SECONDS = 60.0

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
    """

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token.encode()
        self._guarded = settings.guarded
        # The cookie does not hold the token itself, so whoever reads it cannot sign in elsewhere.
        self.cookie = hmac.new(self._token, b"kronreid cookie", hashlib.sha256).hexdigest()
        self._names = {"localhost", settings.host.lower(), *settings.names}
        if settings.host in EVERYWHERE:  # the printed address has this name then
            self._names.add(socket.gethostname().lower())

    def right(self, token: str) -> bool:
        """Whether that is the token. The time it takes tells nothing about the token."""
        return hmac.compare_digest(token.encode(), self._token)

    def signed_in(self, headers: Headers, port: int) -> bool:
        """Whether the request carries the token, or the cookie that the server gave for it."""
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
        """Whether requests may use that host name.

        Another site can make its own name point to this server (DNS rebinding); its page would then have the
        same origin as ours. It cannot do that with an IP address or with one of the server's names.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # an incomplete IPv6 address
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def cookie_name(port: int) -> str:
    """The cookie's name. All ports of a host share their cookies, so each server needs a name of its own."""
    return f"kronreid-{port}"


def port_of(scope: Scope) -> int:
    """The port that the server listens on."""
    return int((scope.get("server") or ("", 0))[1] or 0)


def from_elsewhere(headers: Headers) -> bool:
    """Whether a page of another origin sent the request, as far as the browser says."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()


class Gate:
    """Checks requests before the application sees them.

    Args:
        app: The application.
        settings: Limits.
        access: Who may do what.
        lane: The queue of searches; uploads are refused while it is full.
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
                    headers["Connection"] = "close"  # or the server would still read the body
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
        """The answer to a request that is refused; None lets it pass."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if not self.access.known_host(headers.get("host", "")):
            return problem(403, "the server does not answer to this host name; allow it with --allow-host")
        if (method not in HARMLESS or path.startswith("/api/")) and from_elsewhere(headers):
            return problem(403, "requests from pages of other sites are refused")
        signed_in = self.access.signed_in(headers, port_of(scope))
        scope["kronreid.signed_in"] = signed_in
        if self.access.needed(method, path) and not signed_in:
            answer = problem(401, "this needs the token: sign in, or send it as 'Authorization: Bearer'")
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
        """The same stream of a body. It raises an error when it is too long or takes too long."""
        got, until = 0, time.monotonic() + UPLOAD_SECONDS
        ended = False

        async def limited() -> Message:
            nonlocal got, ended
            if ended:  # what remains is the message that the client has gone
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except (TimeoutError, asyncio.TimeoutError):
                raise HTTPException(408, "the upload did not arrive in time") from None
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
