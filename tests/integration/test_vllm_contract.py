"""What we use of vLLM, listed: a new version fails here and not in production (docs/upgrading.md).

It starts no engine. That the listed parts also do what we need of them is what every other
integration test shows.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import jinja2
import pytest

from app.core.engine_options import OWNED, REFUSED
from app.core.routes import ROUTES
from app.engine.environment import FORCED

ROOT = Path(__file__).parents[2]
ASYNC_LLM = "vllm.v1.engine.async_llm:AsyncLLM"
CORE = "vllm.v1.engine.core:EngineCoreProc"
EXECUTOR = "vllm.v1.executor.abstract:Executor"
STATE = "vllm.entrypoints.launchers.api_server.app_state:init_app_state"
ARGUMENTS_OF_ENGINE = "vllm.engine.arg_utils:AsyncEngineArgs"
PARSER = "vllm.entrypoints.launchers.cli_args:make_arg_parser"

# vLLM and torch raise deprecation warnings of their own when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")


def source_of(name: str) -> str:
    return inspect.getsource(resolve_name(name))


def imports_of_vllm() -> Iterator[tuple[str, str]]:
    """Every `from vllm... import name` of the service."""
    for file in sorted((ROOT / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vllm"):
                for alias in node.names:
                    yield str(node.module), alias.name


def test_the_version_is_the_one_that_is_locked() -> None:
    locks = [(ROOT / "requirements" / name).read_text() for name in ("cpu.lock", "cuda.lock")]
    version = resolve_name("vllm:__version__")
    for lock in locks:
        found = re.search(r"^vllm(?:-cpu)?==([\d.]+)", lock, re.MULTILINE)
        assert found
        assert version.startswith(found[1])


@pytest.mark.parametrize(("module", "name"), sorted(set(imports_of_vllm())))
def test_every_name_that_we_import_is_there(module: str, name: str) -> None:
    is_there = hasattr(importlib.import_module(module), name)
    assert is_there or find_spec(f"{module}.{name}")  # a module that nobody has imported yet


# What we call, and the arguments that we give: how many by position (`self` too), the rest by name.
CALLS: list[tuple[str, int, tuple[str, ...]]] = [
    (f"{ASYNC_LLM}.from_vllm_config", 1, ("usage_context",)),
    (f"{ASYNC_LLM}.generate", 4, ()),
    (f"{ASYNC_LLM}.collective_rpc", 2, ()),
    (f"{ASYNC_LLM}.is_paused", 1, ()),
    (f"{ASYNC_LLM}.reset_mm_cache", 1, ()),
    (f"{ASYNC_LLM}.get_supported_tasks", 1, ()),
    (f"{ASYNC_LLM}.get_num_unfinished_requests", 1, ()),
    (f"{ASYNC_LLM}.shutdown", 1, ("timeout",)),
    (f"{ASYNC_LLM}._run_output_handler", 1, ()),
    (f"{ARGUMENTS_OF_ENGINE}.from_cli_args", 1, ()),
    (f"{ARGUMENTS_OF_ENGINE}.create_engine_config", 2, ()),
    (PARSER, 1, ()),
    ("vllm.entrypoints.launchers.cli_args:validate_parsed_serve_args", 1, ()),
    (STATE, 4, ()),
]
# What we override or stand in for: vLLM has to call it with these names.
OVERRIDDEN: list[tuple[str, tuple[str, ...]]] = [
    (f"{ASYNC_LLM}.generate", ("self", "prompt", "sampling_params", "request_id")),
    (f"{EXECUTOR}.collective_rpc", ("self", "method", "timeout", "args", "kwargs", "non_block")),
    (f"{EXECUTOR}.execute_model", ("self", "scheduler_output", "non_block")),
    (f"{EXECUTOR}.sample_tokens", ("self", "grammar_output", "non_block")),
]
COROUTINES = [
    *(f"{ASYNC_LLM}.{name}" for name in ("collective_rpc", "is_paused", "reset_mm_cache")),
    f"{ASYNC_LLM}.get_supported_tasks",
    STATE,
]


@pytest.mark.parametrize(("called", "positions", "keywords"), CALLS)
def test_what_we_call_takes_what_we_give(
    called: str, positions: int, keywords: tuple[str, ...]
) -> None:
    signature = inspect.signature(resolve_name(called))
    signature.bind(*[...] * positions, **dict.fromkeys(keywords, ...))


@pytest.mark.parametrize(("method", "names"), OVERRIDDEN)
def test_what_we_override_is_called_as_we_expect(method: str, names: tuple[str, ...]) -> None:
    assert tuple(inspect.signature(resolve_name(method)).parameters)[: len(names)] == names


@pytest.mark.parametrize("called", COROUTINES)
def test_what_we_await_can_be_awaited(called: str) -> None:
    assert inspect.iscoroutinefunction(resolve_name(called))


def test_generate_is_a_generator_function_which_ours_wraps() -> None:
    assert inspect.isasyncgenfunction(resolve_name(f"{ASYNC_LLM}.generate"))


def test_what_we_touch_inside_vllm_is_where_we_touch_it() -> None:
    """No promise of vLLM's; the comments say who relies on it."""
    handler = source_of(f"{ASYNC_LLM}._run_output_handler")  # engine/warm_up.py
    assert "self._logger_ref = [self.logger_manager]" in handler
    assert "logger_ref[0]" in handler
    errored = inspect.getattr_static(resolve_name(ASYNC_LLM), "errored")  # engine/serving.py
    assert isinstance(errored, property)
    run = inspect.getattr_static(resolve_name(CORE), "run_engine_core")  # engine/processes.py
    assert isinstance(run, staticmethod)
    manager = source_of("vllm.v1.engine.utils:CoreEngineProcManager.__init__")
    assert "target=EngineCoreProc.run_engine_core" in manager


PROCESSOR = "vllm.v1.engine.output_processor:OutputProcessor"
STATE_OF_REQUEST = "vllm.v1.engine.output_processor:RequestState"


def test_the_output_handler_gives_each_step_to_a_method_that_we_can_stand_before() -> None:
    """engine/fast_path/direct_streams.py"""
    handler = source_of(f"{ASYNC_LLM}._run_output_handler")
    calls = handler.partition("output_processor.process_outputs(")[2].partition(")")[0]
    given = [line.strip() for line in calls.split(",") if line.strip()]
    assert given == [
        *("outputs_slice", "outputs.timestamp", "iteration_stats"),
        "weight_version=outputs.weight_version",
    ]
    names = tuple(inspect.signature(resolve_name(f"{PROCESSOR}.process_outputs")).parameters)
    assert names[1:3] == ("engine_core_outputs", "engine_core_timestamp")
    assert names[3:] == ("iteration_stats", "weight_version")


def test_what_a_direct_stream_does_is_all_that_vllm_does_for_a_token() -> None:
    """A step that vLLM added between an output and its text would be missing in ours."""
    process = source_of(f"{PROCESSOR}.process_outputs")
    done = set(re.findall(r"req_state\.([a-z_.]+)\(", process))
    ours = {"detokenizer.update", "detokenizer.num_output_tokens"}
    ours |= {"make_request_output", "queue.put"}
    elsewhere = {
        "track_weight_version",  # for an API that we do not serve
        "logprobs_processor.update_from_output",  # nothing without logprobs
        "sampling_mask_chunks.append",  # such outputs are the processor's
        "routed_experts_chunks.append",
        *("input_chunk_queue.popleft", "apply_streaming_update"),
    }
    assert done == ours | elsewhere
    update = source_of("vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.update")
    assert "self.token_ids.append(new_token_id)" in update
    assert "self.output_text += self.decode_next(new_token_id)" in update
    making = source_of(f"{STATE_OF_REQUEST}.make_request_output")
    assert "self.sent_tokens_offset = self.detokenizer.num_output_tokens()" in making
    assert "finished, delta" in source_of(f"{STATE_OF_REQUEST}._new_completion_output")


def test_an_abort_names_a_request_or_the_parent_of_its_sequences() -> None:
    generate = source_of("vllm.v1.engine.async_llm:AsyncLLM.generate")
    assert "await self.abort(q.request_id, internal=True)" in generate
    abort = source_of("vllm.v1.engine.output_processor:OutputProcessor.abort_requests")
    assert "self.request_states.pop(request_id, None)" in abort
    assert "self.parent_requests.get(request_id)" in abort
    assert "list(parent.child_requests)" in abort


def test_an_engines_output_has_the_fields_that_tell_whether_it_is_text_alone() -> None:
    """A new field has to be looked at: may it come in the middle of a plain stream?"""
    fields = set(resolve_name("vllm.v1.engine:EngineCoreOutput").__struct_fields__)
    looked_at = {
        *("finish_reason", "events", "new_logprobs", "new_sampling_mask", "routed_experts"),
        *("pooling_output", "num_nans_in_logits"),
    }
    only_for_others = {
        *("new_prompt_logprobs_tensors", "prompt_token_id_logprobs"),  # asked for
        *("stop_reason", "kv_transfer_params", "ec_transfer_params", "spec_decode_metrics"),  # end
        *("prefill_stats", "mm_cache_miss_hashes"),  # first; pictures
        "trace_headers",  # of the end's span
    }
    assert fields == {"request_id", "new_token_ids"} | looked_at | only_for_others


def test_vllms_task_awaits_the_sockets_own_method_for_each_message() -> None:
    """engine/output_socket.py"""
    client = source_of("vllm.v1.engine.core_client:AsyncMPClient._ensure_output_queue_task")
    assert "output_socket = resources.output_socket" in client
    assert "frames = await output_socket.recv_multipart(copy=False)" in client


CLIENT = "vllm.v1.engine.core_client:AsyncMPClient"


def test_a_request_gets_to_the_engine_as_we_send_it() -> None:
    """engine/fast_path/engine_inlet.py"""
    adding = source_of(f"{ASYNC_LLM}._add_request")
    assert re.findall(r"self\.([a-z_.]+)\(", adding) == [
        *("output_processor.has_request", "check_admission"),
        *("output_processor.add_request", "engine_core.add_request_async"),
    ]
    assert "add_request(request, prompt, parent_req, index, queue)" in adding
    sending = source_of(f"{CLIENT}.add_request_async")
    assert "request.client_index = self.client_index" in sending
    assert "self._send_input(EngineCoreRequestType.ADD, request)" in sending
    assert "(request_type.value, *self.encoder.encode(request))" in source_of(
        f"{CLIENT}._send_input"
    )
    message = source_of(f"{CLIENT}._send_input_message")
    assert "self.ensure_alive()" in message
    assert "self.input_socket.send_multipart((engine,) + message, copy=False)" in message
    assert "socket.setsockopt(zmq.SNDHWM, 0)" in source_of(
        "vllm.utils.network_utils:make_zmq_socket"
    )


def test_a_plain_chats_request_says_what_ours_does() -> None:
    """engine/fast_path/direct_chats.py: a new header, check or field has to be looked at."""
    handler = source_of(
        "vllm.entrypoints.openai.chat_completion.serving:OpenAIServingChat._create_chat_completion"
    )
    assert set(re.findall(r"self\._get_([a-z_]+)\(", handler)) == {
        *("data_parallel_rank", "trace_headers", "session_id", "priority")
    }
    fields = set(resolve_name("vllm.v1.engine:EngineCoreRequest").__struct_fields__)
    ours = {
        *("request_id", "prompt_token_ids", "sampling_params", "arrival_time", "cache_salt"),
        *("client_index", "external_req_id"),
    }
    others = {
        *("mm_features", "pooling_params", "lora_request", "prompt_embeds", "prompt_is_token_ids"),
        *("data_parallel_rank", "current_wave", "priority", "trace_headers", "session_id"),
        *("resumable", "reasoning_ended", "reasoning_parser_kwargs", "abort_immediately"),
        "kv_hints",
    }
    assert fields == ours | others
    folder = Path(resolve_name("vllm.platforms:__file__")).parent
    for method in ("validate_request", "get_max_output_tokens"):  # no platform does more
        having = [file.name for file in folder.glob("*.py") if f"def {method}(" in file.read_text()]
        assert having == ["interface.py"]


def test_what_fails_in_the_engine_is_raised_as_we_raise_it() -> None:
    """engine/fast_path/direct_answer.py"""
    generate = source_of(f"{ASYNC_LLM}.generate")
    assert "out = q.get_nowait() or await q.get()" in generate
    assert "raise EngineGenerateError() from e" in generate
    dead = generate.partition("except EngineDeadError:")[2].partition("except")[0]
    assert "abort" not in dead.replace("Do not abort", "")


def test_a_waiting_output_and_an_error_are_where_the_fast_path_looks() -> None:
    collector = resolve_name("vllm.v1.engine.output_processor:RequestOutputCollector")
    assert "self.output" in inspect.getsource(collector.put)
    assert "isinstance(output, Exception)" in inspect.getsource(collector.get)
    logger = source_of("vllm.v1.metrics.loggers:PrometheusStatLogger.record")
    assert "self.histogram_inter_token_latency[engine_idx].observe(itl)" in logger
    assert logger.count("inter_token_latencies_iter") == 1


def test_the_heartbeat_is_answered_by_the_engines_main_loop_between_two_steps() -> None:
    assert "is_scheduler_paused_async" in source_of(f"{ASYNC_LLM}.is_paused")
    client = "vllm.v1.engine.core_client:AsyncMPClient"
    assert "call_utility" in source_of(f"{client}.is_scheduler_paused_async")
    loop = source_of(CORE).partition("def run_busy_loop")[2]
    assert loop.index("_process_input_queue") < loop.index("_process_engine_step")
    taking = source_of(f"{CORE}._process_input_queue")
    assert taking.count("self._handle_client_request") == 2  # when it waits, and when it works


def test_every_route_that_we_serve_from_vllm_is_in_its_routers() -> None:
    theirs = {
        (method, route.path)
        for router in resolve_name("app.engine.serving:ROUTERS")
        for route in router.routes
        for method in getattr(route, "methods", None) or ()
    }
    ours = {(r.method, r.template) for r in ROUTES if r.needs_engine and "models" not in r.template}
    assert ours <= theirs


def test_every_argument_that_we_own_or_refuse_is_one_of_vllms() -> None:
    """A renamed argument would slip through the refusal."""
    parser_class = resolve_name("vllm.utils.argparse_utils:FlexibleArgumentParser")
    parser = resolve_name(PARSER)(parser_class(add_help=False))
    known = {word.lstrip("-") for action in parser._actions for word in action.option_strings}
    known |= {"model"}  # positional too
    assert {*OWNED, *REFUSED} <= known


@pytest.mark.parametrize("name", [*FORCED, "VLLM_LOGGING_LEVEL", "VLLM_CPU_KVCACHE_SPACE"])
def test_every_variable_that_we_force_is_read(name: str) -> None:
    assert name in resolve_name("vllm.envs:environment_variables")


# Every error class of vLLM's, and the answer that a client gets for it: status and code.
ANSWERS: dict[str, tuple[int, str]] = {
    "VLLMError": (500, "internal_error"),
    "VLLMClientError": (400, "invalid_request"),
    "VLLMServerError": (500, "internal_error"),
    "VLLMValidationError": (400, "invalid_request"),
    "HTTPResponseSizeExceededError": (400, "invalid_request"),
    "VLLMNotFoundError": (404, "not_found"),
    "LoRAAdapterNotFoundError": (404, "not_found"),
    "VLLMUnprocessableEntityError": (422, "invalid_request"),
    "GenerationError": (500, "internal_error"),
    "RetryableRequestError": (503, "overloaded"),
    "GracefulHTTPError": (503, "overloaded"),
    "QueueOverflowError": (503, "overloaded"),
    "MaxQueuedTokensError": (503, "overloaded"),
    "ProfilerAlreadyActiveError": (409, "invalid_request"),
    "EngineGenerateError": (500, "engine_error"),
    "EngineDeadError": (503, "engine_dead"),
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "LoRAAdapterNotFoundError": ("name", "path"),
    "GracefulHTTPError": ("busy", HTTPStatus.SERVICE_UNAVAILABLE),
    **dict.fromkeys(("QueueOverflowError", "MaxQueuedTokensError"), ()),
    **dict.fromkeys(("ProfilerAlreadyActiveError", "EngineDeadError"), ()),
    "HTTPResponseSizeExceededError": (1, 2),
}


def family_of(base: type[Exception]) -> Iterator[type[Exception]]:
    yield base
    for child in base.__subclasses__():
        yield from family_of(child)


def make(error_class: type[Exception]) -> Exception:
    return error_class(*ARGUMENTS.get(error_class.__name__, ("said",)))


def test_every_error_class_of_vllm_has_its_answer() -> None:
    resolve_name("vllm.connections")  # has classes of its own
    translate = resolve_name("app.engine.errors:translate")
    base = resolve_name("vllm.exceptions:VLLMError")
    found = {error.__name__: error for error in family_of(base)}
    assert set(found) == set(ANSWERS)
    for name, error_class in found.items():
        answer = translate(make(error_class))
        assert (answer.status, answer.code) == ANSWERS[name], name


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bad"), 400),
        (TypeError("bad"), 400),
        (OverflowError("bad"), 400),
        (NotImplementedError("no"), 501),  # vLLM's for a parameter that this model cannot have
        (jinja2.TemplateError("bad"), 400),
        (RuntimeError("inside"), 500),
        (KeyError("inside"), 500),
    ],
)
def test_what_vllm_raises_of_pythons_own_has_its_answer(error: Exception, status: int) -> None:
    answer = resolve_name("app.engine.errors:translate")(error)
    assert answer.status == status
    assert "inside" not in answer.sentence


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__['x'] }}",
    ],
)
def test_a_models_own_template_runs_in_a_sandbox(template: str) -> None:
    """It is a stranger's code, which came with the checkpoint."""
    compiled = "transformers.utils.chat_template_utils:_compile_jinja_template"
    with pytest.raises(jinja2.exceptions.SecurityError):
        resolve_name(compiled)(template).render(messages=[])
    for user in (compiled.replace("_compile", "render"), "app.engine.fast_path.plain_template"):
        assert "_compile_jinja_template" in source_of(user)
