"""The engines that integration tests share, behind the shipped command: the bundled W8A8 model, and
a simulated device of eight sequences at once, whose steps take 10 ms each."""

import json
from collections.abc import Iterator

import httpx
import pytest

from app.core.keys import digest_of, make_key
from app.core.tenants import make_tenant
from app.settings.key_file import write_keys
from tests.integration.gateway_process import GatewayProcess, running_gateway
from tests.integration.socket_log.place import watching

DEVICE = json.dumps({"simulated_device": {"step_ms": 10}})
EXECUTOR = "app.engine.simulated.SimulatedExecutor"
NUM_SEQS = 8
# Each is its own tenant, by the key `sk-NAME`; the last two share the prefix cache.
TENANTS = ("heavy", "light", "open", "open-too")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    keep_alive = "server.sse_keep_alive_s=1"
    with running_gateway(folder, keep_alive, variables=watching(folder)) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("simulated")
    extra = f"--distributed-executor-backend {EXECUTOR} --additional-config '{DEVICE}'"
    settings = (
        f"engine.max_num_seqs={NUM_SEQS}",
        f"engine.extra_args={extra}",
        "model.allow_unquantized=true",
        "queue.max_wait_s=120",  # on a slow machine too, floods wait and are not refused
    )
    with running_gateway(folder, *settings) as running:
        keys = [make_key(name, digest_of(f"sk-{name}"), ["infer"]) for name in TENANTS]
        keys.append(make_key("scraper", digest_of("sk-scraper"), ["metrics", "admin"]))
        sharing = [make_tenant(name, {}, True) for name in TENANTS[2:]]
        write_keys(folder / "keys.yaml", keys, sharing)  # taken over while the model loads
        running.wait_ready()
        yield running
