"""One real engine for all integration tests: the bundled W8A8 model behind the shipped command."""

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.gateway_process import GatewayProcess, running_gateway


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(folder, "server.sse_keep_alive_s=1") as running:
        running.wait_ready()
        yield running


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client
