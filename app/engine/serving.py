"""A running engine with vLLM's serving objects and routers, as the rest of the service sees it."""

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import vllm
from vllm.entrypoints.anthropic.api_router import router as anthropic_router
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.openai.chat_completion.api_router import router as chat_router
from vllm.entrypoints.openai.completion.api_router import router as completion_router
from vllm.entrypoints.openai.responses.api_router import router as responses_router
from vllm.entrypoints.serve.tokenize.api_router import router as tokenize_router
from vllm.envs import enable_envs_cache
from vllm.utils.gc_utils import freeze_gc_heap

from app.core.constraints import Constraint
from app.core.engine_options import EngineOptions
from app.core.errors import RequestError
from app.core.loaded_model import LoadedModel, refuse_other_scheme
from app.engine.crashes import end_at_once_on_crash
from app.engine.errors import bound_messages, translate
from app.engine.fast_path.asgi import App
from app.engine.fast_path.direct_chats import make_direct_chats
from app.engine.fast_path.direct_streams import DirectStreams
from app.engine.fast_path.fast_route import FastRoute, can_serve_chat, plain_apis
from app.engine.fast_path.plain_chats import PlainChats
from app.engine.fast_path.short_prompts import install_short_prompts
from app.engine.fast_path.whole_answers import WholeAnswers, WholeApi, whole_apis
from app.engine.grammar_trials import GrammarTrials, trial_job
from app.engine.loading import build_engine, read_loaded_model
from app.engine.output_socket import OutputSocket, read_directly
from app.engine.processes import kill_children
from app.engine.refusal_filter import filter_refusals
from app.engine.renderer_turns import take_turns
from app.engine.warm_up import warm_up

# Hardly anything is garbage that only the collector finds; Python's own 700 cost a request 5 %.
GC_THRESHOLDS = 20_000, 20, 20
ROUTERS: tuple[Any, ...] = (
    chat_router,
    completion_router,
    responses_router,
    anthropic_router,
    tokenize_router,
)


class Engine:
    """A running engine. Made by `start`, in a thread; `connect` then ties it to the event loop."""

    def __init__(
        self, options: EngineOptions, wanted_scheme: str | None, compile_timeout_s: float
    ) -> None:
        """Blocks until the model is loaded. Raises StartError or SettingsError.

        `wanted_scheme`: what checkpoint and kernels have to be; None takes any.
        """
        self._wanted_scheme = wanted_scheme
        self._built = build_engine(options, wanted_scheme)
        self._trials = GrammarTrials(trial_job(self._built.client, compile_timeout_s))
        self._state: Any = None
        self._socket: OutputSocket | None = None
        self._tasks: Sequence[str] = ()
        self.loaded: LoadedModel

    async def connect(self, state: Any) -> None:
        """Start handling outputs, check what was loaded, and set up vLLM's serving objects.

        Built in a thread, AsyncLLM has no output handler yet: a failure of the executor would go
        unseen until the first request. Raises StartError where the model does not run as
        it should.
        """
        filter_refusals()
        bound_messages()
        client = self._built.client
        take_turns(client.renderer)
        end_at_once_on_crash()
        client._run_output_handler()
        await client.collective_rpc("end_worker_at_once_on_crash")
        self.loaded = await read_loaded_model(client)
        if self._wanted_scheme is not None:
            refuse_other_scheme(self.loaded, self._wanted_scheme)
        await client.reset_mm_cache()
        await asyncio.gather(warm_up(client), self._trials.start())
        tasks = await client.get_supported_tasks()
        await init_app_state(client, state, self._built.arguments, tasks)
        self._state, self._tasks = state, tasks
        freeze_gc_heap()  # what was loaded stays: a full collection over it stops all streams
        gc.set_threshold(*GC_THRESHOLDS)
        enable_envs_cache()  # vLLM asks the environment for each token: 4 % of its time

    def open_fast_path(self) -> Mapping[str, Callable[[App], App]]:
        """By path: what to put before vLLM's route. From now on the engine's outputs are read for
        it, and prompts and plain chats are prepared for it; call it once."""
        client = self._built.client
        self._socket = read_directly(client)
        streams, prompts = DirectStreams(client), install_short_prompts(client.renderer)
        served = chat, _ = self._state.openai_serving_chat, self._state.openai_serving_completion
        direct = None
        if can_serve_chat(chat):
            chats = PlainChats(chat)
            chats.install()
            direct = make_direct_chats(client, chats, prompts, streams, self._tasks)
        routes = {api.path: partial(FastRoute, api, streams) for api in plain_apis(*served, direct)}
        return {path: before(routes.get(path), api) for path, api in whole_apis(*served, direct)}

    @property
    def routers(self) -> Sequence[Any]:
        """vLLM's routers; the caller takes from them what its route table has."""
        return ROUTERS

    def watch_kv_cache(self, observe: Callable[[float], None]) -> None:
        """Call `observe` with the share of the KV cache in use, whenever the engine tells."""
        self._built.kv_cache_watch.observe = observe

    @property
    def version(self) -> str:
        return str(vllm.__version__)

    @property
    def is_dead(self) -> bool:
        return bool(self._built.client.errored)

    @property
    def num_unfinished(self) -> int:
        """Requests that are waiting or running in the engine."""
        return int(self._built.client.get_num_unfinished_requests())

    async def answer_heartbeat(self) -> None:
        """Returns when the engine's main loop has answered, which it does between two steps; at
        once where it has sent something since the last call."""
        ask = self._built.client.is_paused
        await (ask() if self._socket is None else self._socket.hear(ask))

    async def list_models(self) -> list[dict[str, Any]]:
        """The models as OpenAI lists them; without the path that vLLM calls `root`."""
        models = await self._state.openai_serving_models.show_available_models()
        return [card.model_dump() | {"root": card.id} for card in models.data]

    async def check_constraints(
        self, constraints: Sequence[Constraint], tenant: str | None
    ) -> None:
        """Raises InvalidRequest for what does not compile within the deadline, and Unavailable
        where too many are waiting."""
        await self._trials.check(constraints, tenant)

    def translate(self, error: Exception) -> RequestError:
        return translate(error)

    def stop(self, timeout_s: float) -> None:
        """Stop the engine's processes; blocks for `timeout_s` at most before they are killed."""
        self._built.client.shutdown(timeout=timeout_s)

    def kill(self) -> None:
        """End the engine's processes now, also one that is stopped or stuck."""
        kill_children()


def before(streams: Callable[[App], App] | None, api: WholeApi) -> Callable[[App], App]:
    """What is put before a route: whole answers, then `streams`, then vLLM's own."""
    return lambda stock: WholeAnswers(api, streams(stock) if streams else stock)
