import asyncio
from typing import Any

import httpx
from fastapi import FastAPI

from app.core.quality import Recovery


def listed(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    async def ask() -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = (await client.get("/v1/models")).json()["data"]
        return [*models, (await client.get("/v1/models/org/bundled")).json()]

    return asyncio.run(ask())


def test_the_models_show_what_is_proved_of_them(app: FastAPI, client: httpx.AsyncClient) -> None:
    app.state.resources.recovery = Recovery(99.5, 99.0, 100.0)
    proved = {"recovery_percent": 99.5, "interval_95": [99.0, 100.0]}
    assert [model["quality"] for model in listed(client)] == [proved, proved]


def test_of_an_unproved_model_nothing_is_claimed(client: httpx.AsyncClient) -> None:
    assert all("quality" not in model for model in listed(client))
