"""The requests of a client of the server's HTTP API."""

import io
import json
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from os import PathLike
from pathlib import Path
from re import fullmatch
from secrets import token_hex
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from pydantic import BaseModel, ValidationError

from kronreid.data.images import ImageLike, open_rgb
from kronreid.errors import InputError, one_line
from kronreid.serve.schemas import Problem
from kronreid.text import visible

Answer = TypeVar("Answer", bound=BaseModel)
#: A field of a form: text, or a file's name and content.
Value: TypeAlias = str | tuple[str, bytes]


class Connection:
    """Asks a server and reads its answers. Each request has a connection of its own.

    Args:
        url: The server's address.
        token: The server's token.
        timeout: Seconds to wait for an answer.

    Raises:
        InputError: The address or the token cannot be one.
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
        if token is not None and not fullmatch("[ -~]+", token):
            raise InputError(
                "token", "has characters that no token has; give the one that the server printed"
            )
        self._token = token
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.timeout = timeout

    def _get(
        self, kind: type[Answer], path: str, query: dict[str, Any] | None = None, also: int = 200
    ) -> Answer:
        return self._read(kind, self._ask("GET", path, fields(query or {}), also=also))

    def _send(self, kind: type[Answer], path: str, form: list[tuple[str, Value]]) -> Answer:
        return self._read(kind, self._ask("POST", path, form=form))

    def _tell(self, kind: type[Answer], path: str, values: dict[str, Any]) -> Answer:
        return self._read(kind, self._ask("POST", path, json=values))

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


def multipart(form: Iterable[tuple[str, Value]]) -> tuple[str, bytes]:
    """A form as multipart/form-data: its ``Content-Type`` and its content."""
    boundary = token_hex(16)
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


def upload(picture: ImageLike) -> tuple[str, bytes]:
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


def fields(values: dict[str, Any]) -> list[tuple[str, Value]]:
    """Options as fields: one for each value of a list, none for None."""
    found: list[tuple[str, Value]] = []
    for name, value in values.items():
        several = value if isinstance(value, list | tuple) else [] if value is None else [value]
        found += [(name, str(one)) for one in several]
    return found


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _reason(content: bytes) -> str:
    """What a server says that refuses a request, on one line."""
    try:
        return visible(Problem.model_validate_json(content).message)
    except ValidationError:
        return "refuses the request without a reason; is it a kronreid server?"
