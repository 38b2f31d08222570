"""A client of the server's HTTP API. It needs no extra."""

import csv
import io
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from pydantic import BaseModel, ValidationError

from kronreid.data.images import ImageLike, as_list, open_rgb
from kronreid.errors import InputError, one_line
from kronreid.serve import people_schemas, schemas
from kronreid.serve.marks import Mark
from kronreid.text import plain_cell, visible

Answer = TypeVar("Answer", bound=BaseModel)
#: A field of a form: text, or a file's name and content.
Value: TypeAlias = str | tuple[str, bytes]
Words: TypeAlias = str | Sequence[str]

_ID = re.compile("[0-9a-f]{64}")


class Client:
    """Asks a running `kronreid serve`. Every route of its API is a method.

    A picture is a path, a PIL image, a uint8 array (H, W, 3) in RGB, or the identifier of a picture that the
    server knows (`Item.id`, `QueryPicture.id`). Answers are the models of `kronreid.serve.schemas`
    and `kronreid.serve.people_schemas`. An option
    that is None takes the server's default.

    Every method raises an `InputError` with the server's reason if the server refuses a request, and one that
    names its address if it cannot be reached.

    Args:
        url: The server's address. The address that the server prints, with its ``?token=``, is accepted.
        token: The server's token. Without it the server allows what docs/serve.md lists.
        timeout: Seconds to wait for an answer.

    Raises:
        InputError: The address or the token cannot be one.

    Example:
        >>> client = kronreid.Client("http://127.0.0.1:8000", token)
        >>> for hit in client.search("who.jpg", top=20).hits:
        ...     print(hit.rank, hit.name, hit.similarity)
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0) -> None:
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError as error:
            raise InputError(url, f"is no address ({one_line(error)})") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise InputError(url, "is no address of a server; give one like http://127.0.0.1:8000")
        self._secure, self._host = parts.scheme == "https", parts.hostname
        self._root = quote(parts.path.rstrip("/"), safe="/%")
        token = token or next(iter(parse_qs(parts.query).get("token", [])), None)
        if token is not None and not re.fullmatch("[ -~]+", token):
            raise InputError(
                "token", "has characters that no token has; give the one that the server printed"
            )
        self._token = token
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.timeout = timeout

    # ── the server ──────────────────────────────────────────────────────────────────────────────────────

    def health(self) -> schemas.Health:
        """Whether the server runs."""
        return self._get(schemas.Health, "/api/health")

    def ready(self) -> schemas.Health:
        """Whether the server runs and its gallery answers; if not, `status` is ``unavailable``."""
        return self._get(schemas.Health, "/api/ready", also=503)

    def info(self) -> schemas.Info:
        """What the server can do, and which gallery it has."""
        return self._get(schemas.Info, "/api/info")

    def reports(self) -> schemas.Reports:
        """The reports that the server shows."""
        return self._get(schemas.Reports, "/api/reports")

    def login(self) -> None:
        """Check that the token is the server's; an `InputError` says that it is not."""
        if self._token is None:
            raise InputError("token", "is not set; give the one that the server printed")
        self._ask("POST", "/api/login", json={"token": self._token})

    def logout(self, everywhere: bool = False) -> None:
        """End sessions of browsers. The token stays valid.

        Args:
            everywhere: End all sessions. Without it, nothing ends: a client has a token and no session.
        """
        self._ask("POST", "/api/logout", [("everywhere", str(everywhere).lower())])

    # ── searching and comparing ─────────────────────────────────────────────────────────────────────────

    def search(
        self,
        query: ImageLike | Sequence[ImageLike],
        *,
        box: Words = (),
        top: int | None = None,
        offset: int | None = None,
        limit: int | None = None,
        rerank_top: int | None = None,
        matcher_weight: float | None = None,
        group_by: str | None = None,
        camera: Words = (),
        identity: Words = (),
        source: Words = (),
        since: str | None = None,
        until: str | None = None,
        where: Words = (),
    ) -> schemas.SearchAnswer:
        """Find a person in the gallery.

        Args:
            query: One or several pictures of the person.
            box: The part of each uploaded picture that shows the person, ``x,y,width,height``.
            top: Hits to rank; groups, with `group_by`.
            offset: Hits to skip.
            limit: Hits in the answer.
            rerank_top: How many hits are re-scored.
            matcher_weight: The weight of the second score, 0 to 1.
            group_by: ``identity``, ``camera``, ``source`` or the name of an attribute.
            camera: Only these cameras; an empty text stands for an unknown one.
            identity: Only these people.
            source: Only these sources.
            since: Taken at this time or later, like ``2026-03-01T12:00``.
            until: Taken at this time or earlier.
            where: ``key=value`` or ``key>=number`` each; all must hold.
        """
        uploads = [self._picture(picture, "pictures", "item") for picture in as_list(query)]
        options = {
            "top": top,
            "offset": offset,
            "limit": limit,
            "rerank_top": rerank_top,
            "matcher_weight": matcher_weight,
            "group_by": group_by,
            **_filters(camera, identity, source, since, until, where),
            "box": box,
        }
        return self._send(schemas.SearchAnswer, "/api/search", [*uploads, *_fields(options)])

    def match(self, a: ImageLike, b: ImageLike, *, a_box: str = "", b_box: str = "") -> schemas.MatchAnswer:
        """How similar two pictures are.

        Args:
            a: The first picture.
            b: The second picture.
            a_box: The part of an uploaded `a` that shows the person, ``x,y,width,height``.
            b_box: The same of `b`.
        """
        return self._send(schemas.MatchAnswer, "/api/match", self._pair(a, b, a_box, b_box))

    def explain(
        self, a: ImageLike, b: ImageLike, *, a_box: str = "", b_box: str = ""
    ) -> schemas.ExplainAnswer:
        """Why two pictures match, or do not. The arguments are those of `match`."""
        return self._send(schemas.ExplainAnswer, "/api/explain", self._pair(a, b, a_box, b_box))

    def picture(self, id: str, size: Literal["thumb", "full"] | None = None) -> bytes:
        """A picture of the gallery, cut to its box, as the bytes of a JPEG."""
        return self._ask("GET", f"/api/pictures/{_id(id)}", _fields({"size": size}))

    # ── the gallery ─────────────────────────────────────────────────────────────────────────────────────

    def browse(
        self,
        *,
        offset: int | None = None,
        limit: int | None = None,
        camera: Words = (),
        identity: Words = (),
        source: Words = (),
        since: str | None = None,
        until: str | None = None,
        where: Words = (),
    ) -> schemas.GalleryPage:
        """List pictures of the gallery.

        Args:
            offset: Pictures to skip.
            limit: Pictures in the answer.
            camera: See `search`, as all that follow.
            identity: Only these people.
            source: Only these sources.
            since: Taken at this time or later.
            until: Taken at this time or earlier.
            where: Further conditions.
        """
        filters = _filters(camera, identity, source, since, until, where)
        return self._get(schemas.GalleryPage, "/api/gallery", {"offset": offset, "limit": limit, **filters})

    def stats(
        self,
        *,
        camera: Words = (),
        identity: Words = (),
        source: Words = (),
        since: str | None = None,
        until: str | None = None,
        where: Words = (),
    ) -> schemas.GalleryStats:
        """Count the pictures of the gallery by camera and by hour. The arguments are those of `browse`."""
        filters = _filters(camera, identity, source, since, until, where)
        return self._get(schemas.GalleryStats, "/api/gallery/stats", filters)

    def add(
        self,
        pictures: ImageLike | Sequence[ImageLike],
        *,
        box: Words = (),
        camera: str | None = None,
        time: str | None = None,
        identity: str | None = None,
        source: str | None = None,
        attribute: Words = (),
    ) -> schemas.AddAnswer:
        """Add pictures to the gallery. The server must have been started with ``--allow-add``.

        Args:
            pictures: One or several pictures.
            box: The part of each that shows the person, ``x,y,width,height``, in their order.
            camera: Which camera took them.
            time: When they were taken.
            identity: Who they show.
            source: Where they come from.
            attribute: ``key=value`` each.
        """
        uploads = [("pictures", _upload(picture)) for picture in as_list(pictures)]
        options = {
            "box": box,
            "camera": camera,
            "time": time,
            "identity": identity,
            "source": source,
            "attribute": attribute,
        }
        return self._send(schemas.AddAnswer, "/api/gallery", [*uploads, *_fields(options)])

    def delete(self, id: str) -> None:
        """Remove a picture from the gallery."""
        self._ask("DELETE", f"/api/gallery/{_id(id)}")

    def feedback(self, query: str, item: str, same: bool | None) -> None:
        """Mark whether a picture of the gallery shows the person of a query.

        Args:
            query: `QueryPicture.id` of a search, or a picture of the gallery.
            item: The identifier of a picture of the gallery.
            same: Whether it does; None removes an earlier mark.
        """
        self._ask("POST", "/api/feedback", json={"query": query, "item": item, "same": same})

    def marks(self) -> list[Mark]:
        """All marks that count, the last one of each pair."""
        text = self._ask("GET", "/api/feedback.csv").decode("utf-8", "replace")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        try:
            return [
                Mark(**{key: plain_cell(value) for key, value in row.items()} | {"same": row["same"] == "1"})  # type: ignore[arg-type]
                for row in rows
            ]
        except (KeyError, TypeError, csv.Error):
            raise self._strange() from None

    # ── people ──────────────────────────────────────────────────────────────────────────────────────────

    def people(
        self,
        *,
        camera: Words = (),
        since: str | None = None,
        until: str | None = None,
        order: Literal["last", "first", "tracklets", "number"] | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> people_schemas.PeoplePage:
        """List the people that tracklets were grouped into.

        Args:
            camera: Only people whom one of these cameras saw.
            since: Seen at this time or later.
            until: Seen at this time or earlier.
            order: By the time when they were last or first seen, by their tracklets, or by number.
            offset: People to skip.
            limit: People in the answer.
        """
        options = {"camera": camera, "since": since, "until": until, "order": order}
        query = {**options, "offset": offset, "limit": limit}
        return self._get(people_schemas.PeoplePage, "/api/people", query)

    def person(self, number: int) -> people_schemas.PersonDetail:
        """One person with all tracklets, their pictures, and the people who look alike."""
        return self._get(people_schemas.PersonDetail, f"/api/people/{int(number)}")

    def merge(self, into: int, others: Sequence[int]) -> people_schemas.Done:
        """Say that several people are one. The number and the name of `into` stay."""
        return self._decide("merge", {"into": into, "others": list(others)})

    def split(self, tracklets: Sequence[str], to: int | None = None) -> people_schemas.Done:
        """Say that some tracklets of a person show somebody else.

        Args:
            tracklets: Their identifiers.
            to: The number of the person that they show; None for a new one.
        """
        return self._decide("split", {"tracklets": list(tracklets), "to": to})

    def name(self, number: int, name: str) -> people_schemas.Done:
        """Give a person a name; "" removes it."""
        return self._decide(f"{int(number)}/name", {"name": name})

    def undo(self, change: int | None = None) -> people_schemas.Done:
        """Take back the last merge, split, name or grouping.

        Args:
            change: The number of that change (`Undoable.change`), if no other one must be taken back.
        """
        return self._decide("undo", {"change": change})

    def _decide(self, path: str, what: dict[str, Any]) -> people_schemas.Done:
        return self._read(people_schemas.Done, self._ask("POST", f"/api/people/{path}", json=what))

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────

    def _get(
        self, kind: type[Answer], path: str, query: dict[str, Any] | None = None, also: int = 200
    ) -> Answer:
        return self._read(kind, self._ask("GET", path, _fields(query or {}), also=also))

    def _send(self, kind: type[Answer], path: str, form: list[tuple[str, Value]]) -> Answer:
        return self._read(kind, self._ask("POST", path, form=form))

    def _read(self, kind: type[Answer], content: bytes) -> Answer:
        try:
            return kind.model_validate_json(content)
        except ValidationError:
            raise self._strange() from None

    def _strange(self) -> InputError:
        return InputError(self.url, "answers, but not as a kronreid server of this version does")

    def _ask(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, Value]] = (),
        form: list[tuple[str, Value]] | None = None,
        json: Any = None,
        also: int = 200,
    ) -> bytes:
        """The content of the server's answer.

        Args:
            method: Of the request.
            path: Of the route.
            query: Behind the path.
            form: Fields to send.
            json: A value to send instead.
            also: A status that is no error.

        Raises:
            InputError: The server cannot be reached, or refuses the request.
        """
        headers = {"Accept": "*/*"} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        body = None
        if form is not None:
            headers["Content-Type"], body = multipart(form)
        elif json is not None:
            headers["Content-Type"], body = "application/json", _json(json)
        asked = urlencode(list(query))
        address = f"{self._root}{path}?{asked}" if asked else f"{self._root}{path}"
        status, content = self._exchange(method, address, body, headers)
        if status != also and not 200 <= status < 300:
            raise InputError(self.url, f"{_reason(content)} (status {status})")
        return content

    def _exchange(
        self, method: str, address: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        """The status and the content of an answer. Each request has a connection of its own."""
        kind = HTTPSConnection if self._secure else HTTPConnection
        connection = kind(self._host, self._port, timeout=self.timeout)
        try:
            # A server that refuses the rest of an upload says why in its answer.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, address, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException, UnicodeError) as error:
            reason = one_line(error) or type(error).__name__
            raise InputError(self.url, f"cannot be reached, or does not answer ({reason})") from None
        finally:
            connection.close()

    def _picture(self, picture: ImageLike, upload: str, known: str) -> tuple[str, Value]:
        """The field of a picture: an upload, or the identifier of a picture that the server knows."""
        if isinstance(picture, str) and _ID.fullmatch(picture):
            return known, picture
        return upload, _upload(picture)

    def _pair(self, a: ImageLike, b: ImageLike, a_box: str, b_box: str) -> list[tuple[str, Value]]:
        pictures = [self._picture(a, "a", "a_item"), self._picture(b, "b", "b_item")]
        return [*pictures, *_fields({"a_box": a_box or None, "b_box": b_box or None})]


def multipart(form: Iterable[tuple[str, Value]]) -> tuple[str, bytes]:
    """A form as multipart/form-data: its ``Content-Type`` and its content."""
    boundary = secrets.token_hex(16)
    parts = []
    for name, value in form:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        if isinstance(value, tuple):
            file = visible(value[0]).replace('"', "%22")
            head, content = f'{head}; filename="{file}"\r\nContent-Type: application/octet-stream', value[1]
        else:
            content = value.encode("utf-8", "backslashreplace")
        parts.append(f"{head}\r\n\r\n".encode() + content + b"\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _upload(picture: ImageLike) -> tuple[str, bytes]:
    """A picture as a file: its name without folders, and its content."""
    if isinstance(picture, str | PathLike):
        path = Path(picture)
        try:
            return path.name, path.read_bytes()
        except OSError as error:
            raise InputError(picture, f"cannot be read ({error.strerror or error})") from None
    buffer = io.BytesIO()
    open_rgb(picture).save(buffer, "PNG")
    return "picture.png", buffer.getvalue()


def _filters(
    camera: Words, identity: Words, source: Words, since: str | None, until: str | None, where: Words
) -> dict[str, Any]:
    values = (camera, identity, source, since, until, where)
    return dict(zip(("camera", "identity", "source", "since", "until", "where"), values))


def _fields(values: dict[str, Any]) -> list[tuple[str, Value]]:
    """Options as fields: one for each value of a list, none for None."""
    fields: list[tuple[str, Value]] = []
    for name, value in values.items():
        several = value if isinstance(value, list | tuple) else [] if value is None else [value]
        fields += [(name, str(one)) for one in several]
    return fields


def _id(id: str) -> str:
    if not _ID.fullmatch(id):
        raise InputError(id, "is no identifier of a picture; it has 64 hexadecimal digits")
    return id


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _reason(content: bytes) -> str:
    """What a server says that refuses a request, on one line."""
    try:
        return visible(schemas.Problem.model_validate_json(content).message)
    except ValidationError:
        return "refuses the request without a reason; is it a kronreid server?"
