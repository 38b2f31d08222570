"""Whatever the OpenAPI document allows, and much that it does not, is answered as it describes."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .conftest import Server

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
OPERATIONS = [
    "DELETE /api/gallery/{id}",
    "GET /api/cameras",
    "GET /api/feedback.csv",
    "GET /api/gallery",
    "GET /api/gallery/stats",
    "GET /api/health",
    "GET /api/info",
    "GET /api/moments/{id}",
    "GET /api/moments/{id}/frames/{number}",
    "GET /api/people",
    "GET /api/people/{number}",
    "GET /api/pictures/{id}",
    "GET /api/ready",
    "GET /api/reports",
    "POST /api/explain",
    "POST /api/feedback",
    "POST /api/gallery",
    "POST /api/login",
    "POST /api/logout",
    "POST /api/match",
    "POST /api/people/merge",
    "POST /api/people/split",
    "POST /api/people/undo",
    "POST /api/people/{number}/name",
    "POST /api/search",
]


#: Each example of these costs a pass of a network or a change of the gallery.
COSTLY = {"DELETE /api/gallery/{id}", "POST /api/gallery", "POST /api/search"}
COSTLY |= {"POST /api/explain", "POST /api/match"}
#: With nothing to get wrong.
PLAIN = {"GET /api/health", "GET /api/ready", "GET /api/info", "GET /api/reports", "GET /api/feedback.csv"}
PLAIN |= {"POST /api/logout", "GET /api/cameras"}


@pytest.fixture(scope="module")
def operations(server: Server):
    """What the server says that it can do, by method and path."""

    async def lasting(scope, receive, send) -> None:
        """The application, which does not end with every client."""
        if scope["type"] == "http":
            await server.application.asgi(scope, receive, send)
        else:
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})

    schema = schemathesis.openapi.from_asgi("/api/openapi.json", lasting, headers={"Host": "127.0.0.1"})
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: operation for operation in found}


def test_every_operation_is_tried(operations) -> None:
    assert sorted(operations) == OPERATIONS


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_as_described(operations, server: Server, label: str, mode: GenerationMode) -> None:
    if mode.is_negative and label in PLAIN:
        return
    headers = server.signed_in() | {"Host": "127.0.0.1"}

    @settings(
        max_examples=8 if label in COSTLY else 15,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operations[label].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    ask()


def test_the_document_is_complete(server: Server) -> None:
    document = server.client.get("/api/openapi.json").json()
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["description"], operation["operationId"]
            for status in ("401", "422", "429"):
                problem = operation["responses"][status]["content"]["application/json"]["schema"]
                assert problem == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in json.dumps(document)
