"""Build the engine and vLLM's serving objects, off the event loop."""

import argparse
import contextlib
import io
import logging
from dataclasses import dataclass
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser

from app.core.checkpoint_scheme import parse_scheme
from app.core.engine_options import EngineOptions
from app.core.errors import SettingsError, StartError
from app.core.loaded_model import LoadedModel
from app.core.preflight import refuse_other_checkpoint
from app.engine.kv_cache_watch import KvCacheWatch
from app.engine.metered import MeteredAsyncLLM
from app.engine.processes import watched_engine_processes

WORKER_EXTENSION = "app.engine.worker_extension.WorkerExtension"
logger = logging.getLogger("gateway.engine")


@dataclass(frozen=True)
class BuiltEngine:
    """The running engine and the parsed arguments that vLLM's serving objects ask for."""

    client: MeteredAsyncLLM
    kv_cache_watch: KvCacheWatch
    arguments: argparse.Namespace


def parse_arguments(options: EngineOptions) -> argparse.Namespace:
    """vLLM's own parser over our settings. Raises SettingsError for what it refuses."""
    parser = make_arg_parser(FlexibleArgumentParser(allow_abbrev=False, add_help=False))
    words = [*options.arguments(), f"--worker-extension-cls={WORKER_EXTENSION}"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments: argparse.Namespace = parser.parse_args(words)
        validate_parsed_serve_args(arguments)
    except SystemExit:
        reason = said.getvalue().strip().rpartition("error: ")[2] or "vLLM refuses them"
        raise SettingsError(f"engine.extra_args (EXTRA_ARGS): {reason}.") from None
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(f"engine: vLLM refuses the settings: {first_line(error)}.") from error
    if arguments.served_model_name is None:
        arguments.served_model_name = [options.served_name]
    return arguments


def build_engine(options: EngineOptions, wanted_scheme: str | None) -> BuiltEngine:
    """Start the engine and load the model; blocks until it is loaded.

    Raises StartError with vLLM's reason in one sentence where it cannot be.
    """
    arguments = parse_arguments(options)
    engine_arguments = AsyncEngineArgs.from_cli_args(arguments)
    try:
        config = engine_arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)
    except (ValueError, TypeError, OSError) as error:
        raise StartError(
            f"The engine cannot be configured for {options.model}: {first_line(error)}"
        ) from error
    scheme = parse_scheme(config.model_config.hf_config.to_dict(), options.model)
    refuse_other_checkpoint(scheme, wanted_scheme, options.model)
    watch = KvCacheWatch()
    try:
        with watched_engine_processes():
            client = MeteredAsyncLLM.from_vllm_config(
                config,
                usage_context=UsageContext.OPENAI_API_SERVER,
                stat_loggers=[lambda *_: watch],
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise StartError(
            f"The engine did not start ({first_line(error)}); its own words are above, on standard "
            f"error."
        ) from error
    return BuiltEngine(client, watch, arguments)


def first_line(error: BaseException) -> str:
    """The telling line of an exception; pydantic's first line only says that there is one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "validation error" in lines[0] and len(lines) > 1:
        return lines[1].removeprefix("Value error, ").partition(" [type=")[0]
    return lines[0]


async def read_loaded_model(client: MeteredAsyncLLM) -> LoadedModel:
    """What the workers say they loaded; they all load the same kinds of layers."""
    reports: list[dict[str, Any]] = await client.collective_rpc("report_loaded_model")
    layers: dict[str, int] = reports[0]["layers"]
    return LoadedModel(
        layers=layers,
        head=reports[0]["head"],
        parameter_bytes=sum(report["parameter_bytes"] for report in reports),
        num_workers=len(reports),
        max_model_len=client.model_config.max_model_len,
        max_num_seqs=client.vllm_config.scheduler_config.max_num_seqs,
        num_kv_blocks=client.vllm_config.cache_config.num_gpu_blocks or 0,
        kv_block_tokens=client.vllm_config.cache_config.block_size,
        gpu_memory=reports[0]["gpu_memory"],
    )
