from pathlib import Path

import pytest

from tests.fuzz.campaign import attack_with
from tests.integration.gateway_process import running_gateway
from tests.integration.socket_log.place import watching


@pytest.mark.timeout(7200)
def test_twenty_thousand_generated_requests_find_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_gateway(tmp_path, variables=watching(tmp_path)) as gateway:
        gateway.wait_ready()
        said = attack_with(gateway, 20_000, number=2)
    with capsys.disabled():
        print(f"\nfuzz: {said}")
