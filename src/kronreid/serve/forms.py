"""Forms, read in memory: an upload never touches the disk, and its text is UTF-8.

The framework's own parser writes larger uploads into the folder for temporary files, and decodes fields by
whatever the client calls their encoding, some of which take minutes. It also takes its time for each byte on
the thread that answers everybody; this one finds the parts by searching the whole body in another thread.
"""

import io
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException

#: The most fields of a form, the most bytes of a field that is no upload, and of the head of a field.
FIELDS, FIELD_BYTES, HEAD_BYTES = 400, 65_536, 4_096
#: The longest mark between fields.
BOUNDARY = 200


class MemoryRoute(APIRoute):
    """A route whose forms are read in memory."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """See `APIRoute`."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_MemoryRequest(request.scope, request.receive))

        return handle


class _MemoryRequest(Request):
    async def _get_form(self, **limits: Any) -> FormData:
        if self._form is None:
            body = bytearray()
            async for piece in self.stream():
                body += piece
            self._form = await run_in_threadpool(parse_form, self.headers.get("content-type", ""), body)
        return self._form


class _Memory(io.BytesIO):
    """An upload in memory; `_rolled` tells the framework that reading it does not wait for a disk."""

    _rolled = False


def parse_form(kind: str, body: bytearray) -> FormData:
    """The fields of a form.

    Args:
        kind: Its ``Content-Type``.
        body: Its content; it is emptied.

    Raises:
        HTTPException: It is no form, damaged, or has more or larger fields than allowed.
    """
    name, options = header(kind)
    utf8_only(options)
    if name == "multipart/form-data":
        boundary = options.get("boundary", "")
        if not 1 <= len(boundary) <= BOUNDARY or not boundary.isascii():
            raise HTTPException(400, "the form's Content-Type has no boundary")
        try:
            return FormData(_parts(body, boundary.encode()))
        finally:
            body.clear()
    if not body:
        return FormData()
    if name != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send a form as multipart/form-data")
    if len(body) > FIELD_BYTES:
        raise HTTPException(413, "send large forms as multipart/form-data")
    fields: list[tuple[str, UploadFile | str]] = []
    try:
        fields += parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
    except ValueError as error:  # it may also be no UTF-8
        raise HTTPException(400, f"the form is damaged, or has more than {FIELDS} fields") from error
    return FormData(fields)


def _parts(body: bytearray, boundary: bytes) -> list[tuple[str, UploadFile | str]]:
    mark = b"\r\n--" + boundary
    body[:0] = b"\r\n"  # so that the first mark is like all others
    fields: list[tuple[str, UploadFile | str]] = []
    place = body.find(mark)
    while place >= 0:
        start = place + len(mark)
        if body[start : start + 2] == b"--":
            return fields
        stop = body.find(mark, start)
        head = body.find(b"\r\n\r\n", start, start + HEAD_BYTES)
        if body[start : start + 2] != b"\r\n" or stop < 0 or not 0 <= head < stop:
            break
        if len(fields) == FIELDS:
            raise HTTPException(413, f"the form has more than {FIELDS} fields")
        with memoryview(body) as view:
            fields.append(_field(bytes(view[start + 2 : head]), bytes(view[head + 4 : stop])))
        place = stop
    raise HTTPException(400, "the form is damaged, or ends too early")


def _field(head: bytes, content: bytes) -> tuple[str, UploadFile | str]:
    """A field's name and its value: text, or an upload if it has a file name."""
    lines = [line.partition(b":") for line in head.split(b"\r\n")]
    raw = [(key.strip().lower(), value.strip()) for key, _, value in lines]
    told = dict(reversed(raw))  # the first counts
    _, options = header(told.get(b"content-disposition", b"").decode("utf-8", "replace"))
    _, of_content = header(told.get(b"content-type", b"").decode("utf-8", "replace"))
    utf8_only(of_content)
    if "name" not in options:
        raise HTTPException(400, "a field of the form has no name")
    if "filename" in options:
        upload = UploadFile(
            _Memory(content), size=len(content), filename=options["filename"], headers=Headers(raw=raw)
        )
        return options["name"], upload
    if len(content) > FIELD_BYTES:
        raise HTTPException(413, f"a field of the form has more than {FIELD_BYTES:,} bytes")
    try:
        return options["name"], content.decode()
    except UnicodeDecodeError:
        raise HTTPException(400, "a field of the form is not valid UTF-8") from None


def header(text: str) -> tuple[str, dict[str, str]]:
    """A header like ``text/plain; charset=utf-8``: its value in lower case, and its options."""
    value, *rest = _split(text)
    options: dict[str, str] = {}
    for part in rest:
        key, equals, given = part.partition("=")
        if equals:
            given = given.strip()
            if len(given) >= 2 and given[0] == given[-1] == '"':
                given = given[1:-1].replace('\\"', '"')
            options.setdefault(key.strip().lower(), given)
    return value.strip().lower(), options


def _split(text: str) -> list[str]:
    """The parts of a header between semicolons, except those in quotes."""
    parts, quoted, start = [], False, 0
    for place, sign in enumerate(text):
        if sign == '"' and text[place - 1 : place] != "\\":
            quoted = not quoted
        elif sign == ";" and not quoted:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def utf8_only(options: dict[str, str]) -> None:
    """
    Raises:
        HTTPException: The options of a ``Content-Type`` name another encoding.
    """
    if options.get("charset", "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise HTTPException(415, "send text as UTF-8")
