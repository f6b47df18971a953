import pytest

from tests.fuzz.campaign import attack_with
from tests.integration.gateway_process import GatewayProcess


def test_two_thousand_generated_requests_find_no_failure(
    gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    said = attack_with(gateway, 2000, number=1)
    with capsys.disabled():
        print(f"\nfuzz: {said}")
