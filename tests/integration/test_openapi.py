"""The service's own OpenAPI document: it is true, and what schemathesis makes of it is answered as
it says."""

import json
from itertools import product
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.core.request_fields import TABLES
from app.core.routes import ROUTES
from tests.fuzz.campaign import HEADERS, what_is_wrong
from tests.integration.gateway_process import GatewayProcess

EXAMPLES = 15


@pytest.fixture(scope="session")
def document(gateway: GatewayProcess) -> Any:
    with gateway.client() as client:
        return client.get("/openapi.json").json()


def is_no_failure(_: Any, answer: Any, case: Any) -> None:
    if case.operation.path.startswith("/v1/responses/"):
        assert answer.status_code == 501
        return
    found = httpx.Response(answer.status_code, headers=dict(plain(answer)), content=answer.content)
    assert not what_is_wrong(found)


def plain(answer: Any) -> Any:
    return ((name, values[0]) for name, values in answer.headers.items())


CHECKS = (
    is_no_failure,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


def test_what_the_document_allows_or_forbids_is_answered_as_it_says(
    gateway: GatewayProcess, document: Any
) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.base_url = gateway.url
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) == len(ROUTES) - 1
    for operation, mode in product(operations, GenerationMode):
        if mode is GenerationMode.NEGATIVE and operation.path not in TABLES:
            continue  # nothing in it can be wrong

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            answer = case.call(headers=HEADERS, timeout=60)
            case.validate_response(answer, checks=list(CHECKS))

        ask()


def test_the_document_has_every_route_and_no_other(document: Any) -> None:
    described = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert described == {(each.method, each.template) for each in ROUTES} - {
        ("GET", "/openapi.json")
    }


@pytest.mark.parametrize("path", TABLES)
def test_the_document_has_the_fields_that_are_taken_with_their_bounds(
    document: Any, path: str
) -> None:
    schemas = document["components"]["schemas"]
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    models = [schemas[each["$ref"].rpartition("/")[2]] for each in body.get("anyOf", [body])]
    assert {name for model in models for name in model["properties"]} == TABLES[path].taken
    assert not any(model["additionalProperties"] for model in models)
    if "n" in TABLES[path].taken:
        assert models[0]["properties"]["n"]["maximum"] == 16


def test_the_document_has_no_media_and_no_tools_that_the_server_would_call(document: Any) -> None:
    text = json.dumps(document["components"]["schemas"])
    for name in ("image_url", "input_audio", "input_file", "web_search", "code_interpreter"):
        assert f'"const": "{name}"' not in text


def test_the_document_asks_for_a_key(gateway: GatewayProcess, document: Any) -> None:
    assert document["paths"]["/v1/models"]["get"]["security"]
    with gateway.client(None) as client:
        assert client.get("/openapi.json").status_code == 401
