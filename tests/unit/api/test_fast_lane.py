"""What the engine puts before its routes stands behind every check of ours."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from app.api.application import join_engine
from app.core.errors import InvalidRequest
from app.core.parsed_body import parsed_body

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "bundled", "store": True}


class Lane:
    """Answers what is addressed to it with what it was handed, and passes the rest on."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def wrap(self, stock: Any) -> Any:
        async def route(scope: Any, receive: Any, send: Any) -> None:
            self.seen.append(parsed_body(scope))
            user = (parsed_body(scope) or {}).get("user")
            if user == "bad":
                raise InvalidRequest("Not so.", param="user")
            answer = stock if user == "stock" else JSONResponse("fast")
            await answer(scope, receive, send)

        return route


@pytest.fixture
def lane(app: FastAPI) -> Lane:
    lane = Lane()
    join_engine(app, [], {PATH: lane.wrap})
    return lane


def ask(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    return asyncio.run(client.post(PATH, json=body, headers=headers))


def test_it_is_handed_the_checked_body_and_its_answer_has_our_id(
    client: httpx.AsyncClient, lane: Lane
) -> None:
    answer = ask(client, BODY)
    assert (answer.status_code, answer.json()) == (200, "fast")
    assert len(answer.headers["x-request-id"]) == 32
    assert lane.seen == [{"model": "bundled"}]  # what has no effect is left out


def test_what_it_does_not_serve_reaches_the_engines_route(
    client: httpx.AsyncClient, lane: Lane
) -> None:
    assert ask(client, BODY | {"user": "stock"}).json()["ok"] is True


def test_its_errors_are_worded_in_the_envelope(client: httpx.AsyncClient, lane: Lane) -> None:
    answer = ask(client, BODY | {"user": "bad"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "user")


def test_nothing_reaches_it_without_a_key_or_past_the_rules(
    client: httpx.AsyncClient, lane: Lane
) -> None:
    assert ask(client, BODY, authorization="Bearer nobody").status_code == 401
    assert ask(client, BODY | {"temperature": 1000}).status_code == 400
    assert lane.seen == []


def test_other_routes_are_not_its_own(client: httpx.AsyncClient, lane: Lane) -> None:
    assert asyncio.run(client.get("/v1/models")).status_code == 200
    assert lane.seen == []
