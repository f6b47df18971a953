"""Our own routes: health, readiness, metrics, status, the list of models."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.api.context import context_of
from app.api.resources import Resources, resources_of
from app.core.engine_view import EngineView
from app.core.errors import NotFound, RequestError, Unavailable
from app.core.keys import Key

probes = APIRouter(tags=["service"])
service = APIRouter(tags=["service"])
models = APIRouter(tags=["models"])


@probes.get("/health", summary="Whether the process and its engine live")
async def show_health(request: Request) -> Response:
    state = resources_of(request).state
    if state.is_alive:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "failed", "reason": state.reason}, status_code=503)


@probes.get("/ready", summary="Whether it can take work; the reason when it cannot")
async def show_readiness(request: Request) -> Response:
    state = resources_of(request).state
    if state.is_ready:
        return JSONResponse({"status": "ready", "state": state.phase, "reason": state.reason})
    body = {"status": "not ready", "state": state.phase, "reason": state.reason}
    return JSONResponse(body, status_code=503, headers={"retry-after": "5"})


@probes.get("/metrics", summary="Prometheus metrics: vLLM's and the gateway's")
def show_metrics(request: Request) -> Response:
    text = generate_latest(resources_of(request).metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@service.get("/admin/status", summary="State, model, kernel, queue, and keys by name")
async def show_status(request: Request) -> dict[str, Any]:
    return describe(resources_of(request))


def describe(resources: Resources) -> dict[str, Any]:
    state, engine = resources.state, resources.engine
    status: dict[str, Any] = {
        "state": state.phase,
        "reason": state.reason,
        "version": resources.version,
        "model": resources.model_name,
        "keys": [describe_key(key) for key in resources.keys.keys],
        "limits": dict(resources.describe_limits()),
        "plan": dict(resources.plan),
    }
    loaded = getattr(engine, "loaded", None)  # not yet while it connects
    if engine is not None and loaded is not None:
        status |= {
            "quantization": {
                "scheme": loaded.scheme,
                "kernel": loaded.kernel,
                "layers": dict(loaded.layers),
                "lm_head": loaded.head,
                "parameter_bytes": loaded.parameter_bytes,
            },
            "kv_cache": {
                "blocks": loaded.num_kv_blocks,
                "tokens": loaded.num_kv_tokens,
            },
            "max_model_len": loaded.max_model_len,
            "max_num_seqs": loaded.max_num_seqs,
            "queue": {"in_hand": state.num_running, "unfinished": engine.num_unfinished},
        }
    return status


def describe_key(key: Key) -> dict[str, Any]:
    return {
        "name": key.name,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "models": None if key.models is None else sorted(key.models),
        "expires": key.expires and key.expires.isoformat(),
    }


@models.get("/v1/models", summary="The models that are served")
async def list_models(request: Request) -> dict[str, Any]:
    return {"object": "list", "data": await describe_models(request)}


@models.get("/v1/models/{model_id:path}", summary="One model")
async def show_model(request: Request, model_id: str) -> dict[str, Any]:
    for model in await describe_models(request):
        if model["id"] == model_id:
            return model
    raise NotFound(
        f"The model {model_id[:80]!r} is not served here.", code="model_not_found", param="model"
    )


async def describe_models(request: Request) -> list[dict[str, Any]]:
    """What the engine lists and the key may ask for, and what is proved of it where a report
    proves something."""
    key = context_of(request.scope).key
    recovery = resources_of(request).recovery
    quality = {"quality": recovery.as_json()} if recovery else {}
    return [
        model | quality
        for model in await engine_of(request).list_models()
        if key is None or key.allows_model(model["id"])
    ]


def engine_of(request: Request) -> EngineView:
    engine = resources_of(request).engine
    if engine is None:
        raise Unavailable("The model is loading.", code="loading", retry_after_s=10)
    return engine


stateless = APIRouter(tags=["responses"])


@stateless.get("/v1/responses/{response_id}", summary="Not served: nothing is stored")
@stateless.post("/v1/responses/{response_id}/cancel", summary="Not served: nothing is stored")
async def refuse_stored_response(response_id: str) -> None:
    raise RequestError(
        f"Responses are not stored, so {response_id[:80]!r} can be neither fetched nor cancelled.",
        status=501,
        code="not_supported",
        param="response_id",
    )
