import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI

from app.core.keys import Key, KeyRing, digest_of, make_key
from tests.unit.api.conftest import SECRET

CHAT = "/v1/chat/completions"


def adopt(app: FastAPI, key: Key) -> None:
    """What the watch does when the key file has changed."""
    app.state.resources.keys.adopt(KeyRing([key]))


def ask(client: httpx.AsyncClient, model: str | None = "bundled") -> httpx.Response:
    body = {} if model is None else {"model": model}
    return asyncio.run(client.post(CHAT, json=body))


def test_a_revoked_key_is_refused_at_the_next_request(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    assert ask(client).status_code == 200
    adopt(app, make_key("other", digest_of("sk-other"), ["infer"]))
    assert ask(client).status_code == 401


def test_expiry_is_looked_at_when_the_key_is_used(app: FastAPI, client: httpx.AsyncClient) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    adopt(app, make_key("unit", digest_of(SECRET), ["infer"], expires=soon))
    assert ask(client).status_code == 200

    async def later() -> httpx.Response:
        await asyncio.sleep(1.05)
        return await client.post(CHAT, json={"model": "bundled"})

    answer = asyncio.run(later())
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "expired_api_key"


@pytest.mark.parametrize("model", ["other", None])
def test_a_model_outside_the_keys_list_is_not_there(
    app: FastAPI, client: httpx.AsyncClient, model: str | None
) -> None:
    adopt(app, make_key("unit", digest_of(SECRET), ["infer"], models=["bundled"]))
    assert ask(client).status_code == 200
    answer = ask(client, model)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["param"] == "model"


def test_the_list_of_models_has_those_of_the_key(app: FastAPI, client: httpx.AsyncClient) -> None:
    adopt(app, make_key("unit", digest_of(SECRET), ["infer"], models=["bundled"]))
    assert asyncio.run(client.get("/v1/models")).json()["data"] == []
    adopt(app, make_key("unit", digest_of(SECRET), ["infer"], models=["org/bundled"]))
    assert asyncio.run(client.get("/v1/models/org/bundled")).status_code == 200
