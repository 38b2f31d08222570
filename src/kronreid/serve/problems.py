"""Every way to fail, as `schemas.Problem` with a status."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kronreid.errors import InputError
from kronreid.gallery.indexing import Changed
from kronreid.gallery.people import NoSuch, Overtaken
from kronreid.serve import schemas
from kronreid.serve.answers import printable
from kronreid.serve.batching import TooLate
from kronreid.serve.lanes import Busy
from kronreid.serve.opened import NotFound, OutOfOrder

_PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

#: The statuses above 399, for the OpenAPI document. Only one of them names the model, which adds its schema
#: to the document. FastAPI builds a validator for each model that a route names: to name all would be slow.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text} | ({"model": schemas.Problem} if status == 422 else {"content": _PROBLEM})
    for status, text in {
        400: "Not a valid request",
        401: "The token is needed",
        403: "Not allowed",
        404: "No such picture, person or tracklet",
        408: "The upload did not arrive in time",
        409: "The picture's file is gone or has changed; or somebody has made another change since",
        413: "Too large",
        415: "Not a form in UTF-8",
        422: "Bad input",
        429: "Too busy; see Retry-After",
        503: "Out of order",
        504: "Took too long",
    }.items()
}


def problem(status: int, message: str) -> JSONResponse:
    """An error as `schemas.Problem`, whatever characters are in it."""
    return JSONResponse({"message": printable(message)}, status)


def busy_answer(busy: Busy) -> JSONResponse:
    """Tells the client when to try again."""
    answer = problem(429, str(busy))
    answer.headers["Retry-After"] = str(busy.retry_after)
    return answer


def add_handlers(app: FastAPI) -> None:
    """Turn whatever a route raises into a `schemas.Problem`."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, "; ".join(_in_words(one) for one in error.errors()[:3]))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        return busy_answer(error)

    @app.exception_handler(TooLate)
    async def late(request: Request, error: TooLate) -> JSONResponse:
        return problem(504, "this took too long and was stopped; ask for less, or try again later")

    @app.exception_handler(InputError)
    async def bad(request: Request, error: InputError) -> JSONResponse:
        kinds = {NotFound: 404, NoSuch: 404, Changed: 409, Overtaken: 409, OutOfOrder: 503}
        return problem(kinds.get(type(error), 422), str(error))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return problem(500, "the server failed; its log says why")


def _in_words(error: Any) -> str:
    """One of pydantic's errors: where, and what."""
    place = ".".join(str(part) for part in error["loc"][1:]) or "the request"
    kind = error["type"]
    words = {
        "missing": "is missing",
        "extra_forbidden": "is not a known field",
        "json_invalid": "is not valid JSON",
        "string_pattern_mismatch": "is not an identifier (64 hexadecimal digits)",
    }.get(kind)
    if kind == "value_error" and "UploadFile" in error["msg"]:
        words = "must be an uploaded file"
    return f"{place}: {words or error['msg']}"
