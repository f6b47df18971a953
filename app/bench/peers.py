"""The servers that are compared, all on the simulated executor: how each is had and started."""

import json
import secrets
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.bench.server_process import QUIET_VLLM, ServerPlan, free_port, python_path
from app.core.errors import AppError

VLLM_VERSION = "0.32.0"
LITELLM = "litellm[proxy]==1.106.2"
EXECUTOR = "app.engine.simulated.SimulatedExecutor"
MODEL_NAME = "bench"
MAX_STREAMS = 256


class PeerError(AppError):
    """A peer that cannot be had here."""


@dataclass(frozen=True)
class Bench:
    """What all peers have in common. `folder` is theirs to write in and outlives the run, so that
    a download is made once; `step_ms` is what a step of the simulated device lasts, and `streams`
    how many it runs at once.
    """

    model: Path
    folder: Path
    step_ms: float
    streams: int = MAX_STREAMS

    @property
    def environment(self) -> dict[str, str]:
        device = {"step_ms": self.step_ms, "token_us": 0, "answer_tokens": None}
        return {
            "SIMULATED_DEVICE": json.dumps(device),
            "PYTHONPATH": python_path(),
            **QUIET_VLLM,
        }


@dataclass(frozen=True)
class GatewayModel:
    """What a gateway serves: a profile, and settings by name that win over it."""

    name: str
    profile: str
    settings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def plan_gateway(model: GatewayModel, folder: Path) -> ServerPlan:
    """The shipped command, with keys of its own."""
    state, port = folder / model.name, free_port()
    settings = (
        f"server.port={port}",
        f"auth.keys_file={state / 'keys.yaml'}",
        *model.settings,
    )
    return ServerPlan(
        model.name,
        [
            *(sys.executable, "-m", "app", "serve", "--profile", model.profile),
            *("--local-key", str(state / "key")),
            *(part for setting in settings for part in ("--set", setting)),
        ],
        port,
        {"PYTHONPATH": python_path(), **model.environment},
        key_file=state / "key",
    )


def plan_simulated_gateway(
    bench: Bench, name: str, fast_path: str, more: tuple[str, ...] = ()
) -> ServerPlan:
    settings = (
        f"model.path={bench.model}",
        f"model.served_name={MODEL_NAME}",
        "model.allow_unquantized=true",
        f"engine.max_num_seqs={bench.streams}",
        f"engine.extra_args=--distributed-executor-backend {EXECUTOR}",
        f"server.fast_path={fast_path}",
        *more,
    )
    return plan_gateway(GatewayModel(name, "none", settings, bench.environment), bench.folder)


def engine_arguments(bench: Bench, port: int) -> list[str]:
    return [
        *("--served-model-name", MODEL_NAME, "--host", "127.0.0.1", "--port", str(port)),
        *("--distributed-executor-backend", EXECUTOR, "--max-num-seqs", str(bench.streams)),
    ]


def plan_stock(bench: Bench) -> ServerPlan:
    port = free_port()
    arguments = engine_arguments(bench, port)
    return ServerPlan("stock", stock_command(bench.model, arguments), port, bench.environment)


def stock_command(model: Path, arguments: Sequence[str]) -> list[str]:
    """vLLM's own server, as its `serve` starts it."""
    module = "vllm.entrypoints.openai.api_server"
    return [sys.executable, "-m", module, "--model", str(model), *arguments]


def plan_rust(bench: Bench) -> ServerPlan:
    """vLLM's Rust front end: its binary comes with the CUDA wheel alone, and its command asks for
    the metadata of a distribution named `vllm`, which the CPU build does not have.
    """
    binary = fetch_rust_binary(bench.folder)
    metadata = bench.folder / "metadata" / f"vllm-{VLLM_VERSION}+cpu.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True, exist_ok=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}+cpu\n")
    port = free_port()
    environment = {
        **bench.environment,
        "PYTHONPATH": f"{python_path()}:{metadata.parent.parent}",
        "VLLM_USE_RUST_FRONTEND": "1",
        "VLLM_RUST_FRONTEND_PATH": str(binary),
    }
    arguments = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(bench.model)]
    return ServerPlan(
        "rust", [*arguments, *engine_arguments(bench, port)], port, environment, binary.name
    )


def fetch_rust_binary(folder: Path) -> Path:
    binary = folder / "vllm-rs"
    if binary.exists():
        return binary
    wheels = folder / "wheels"
    download = ["download", "--quiet", "--no-deps", "--dest", str(wheels), f"vllm=={VLLM_VERSION}"]
    run_quietly([sys.executable, "-m", "pip", *download], f"the CUDA wheel of vLLM {VLLM_VERSION}")
    with zipfile.ZipFile(next(wheels.glob("vllm-*.whl"))) as wheel:
        binary.write_bytes(wheel.read("vllm/vllm-rs"))
    binary.chmod(0o755)
    return binary


def plan_litellm(bench: Bench, behind: ServerPlan) -> ServerPlan:
    """LiteLLM's proxy, as installed, one worker, in front of `behind`."""
    program = fetch_litellm(bench.folder).parent / "litellm"
    config, key_file = bench.folder / "litellm.json", bench.folder / "litellm.key"
    upstream = {"model": f"hosted_vllm/{MODEL_NAME}", "api_base": f"{behind.url}/v1"}
    models = [{"model_name": MODEL_NAME, "litellm_params": upstream}]
    config.write_text(json.dumps({"model_list": models}))
    key = f"sk-{secrets.token_hex(32)}"
    key_file.touch(mode=0o600)
    key_file.write_text(key)
    port = free_port()
    return ServerPlan(
        "litellm",
        [
            *(str(program), "--config", str(config), "--telemetry", "False"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        port,
        {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        key_file=key_file,
    )


def fetch_litellm(folder: Path) -> Path:
    """LiteLLM's versions of our dependencies are not ours: it gets an environment of its own."""
    environment = folder / "litellm"
    python = environment / "bin" / "python"
    done = environment / "installed"
    if not done.exists():
        run_quietly([sys.executable, "-m", "venv", str(environment)], "an environment")
        run_quietly([str(python), "-m", "pip", "install", "--quiet", LITELLM], LITELLM)
        done.touch()
    return python


def run_quietly(arguments: Sequence[str], what: str) -> None:
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PeerError(f"{what} cannot be installed: {reason}")
