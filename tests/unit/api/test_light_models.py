"""A request model stops at the first wrong entry of a list, however deep it lies, and tries entries
against no kind that is refused."""

import asyncio
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.api.light_models import lighten


class Item(BaseModel):
    parts: list[int | list[int]] = []


class Text(BaseModel):
    type: Literal["text"]
    text: str


class Image(BaseModel):
    type: Literal["image"]
    url: str


class Video(BaseModel):
    type: Literal["video"]
    url: str


class Sound(BaseModel):
    type: Literal["sound"]


class Noise(BaseModel):
    type: Literal["noise"]


class Body(BaseModel):
    items: list[Item]
    contents: list[Text | Image | Video | None] = []
    media: list[Sound | Noise] = []


def make_app() -> FastAPI:
    app = FastAPI()

    @app.post("/")
    async def take(body: Body) -> Body:
        return body

    @app.exception_handler(RequestValidationError)
    async def count(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse([each["loc"] for each in error.errors()], status_code=400)

    for route in app.routes:
        if isinstance(route, APIRoute):
            lighten(route)
    return app


def ask(items: Any, **more: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=make_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/", json={"items": items, **more})

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("items", "where"),
    [
        ([7] * 1000, ["body", "items", 0]),
        ([{}] * 10 + [None] * 1000, ["body", "items", 10]),
        ([{"parts": ["x"] * 1000}] * 10, ["body", "items", 0, "parts", 0]),
        ([{"parts": [1, ["x"] * 1000]}] * 10, ["body", "items", 0, "parts", 1]),
    ],
)
def test_only_the_first_wrong_entry_is_described(items: Any, where: list[Any]) -> None:
    answer = ask(items)
    assert answer.status_code == 400
    assert {tuple(place[: len(where)]) for place in answer.json()} == {tuple(where)}


def test_an_entry_is_tried_against_no_kind_that_is_refused() -> None:
    places = ask([], contents=[{"type": "text"}]).json()
    assert places == [["body", "contents", 0, "text"]]
    assert ask([], contents=[{"type": "image", "url": "x"}]).status_code == 400


def test_a_good_body_is_what_it_was() -> None:
    body: dict[str, Any] = {
        "items": [{"parts": [1, [2, 3]]}, {"parts": []}],
        "contents": [{"type": "text", "text": "x"}, None],
        "media": [{"type": "sound"}],  # nothing of it is served: it is left alone
    }
    assert ask(**body).json() == body
