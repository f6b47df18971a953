"""The service as composed, with an engine that is for ever loading: what becomes of its start."""

import asyncio
import logging
import os
import signal
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app import main, service
from app.core.errors import StartError
from app.settings.loading import EffectiveSettings, Sources, load_settings
from tests.integration.gateway_process import free_port, write_keys
from tests.shared_limits.redis_server import RedisServer


@pytest.fixture(autouse=True)
def loading_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REGISTRY", CollectorRegistry())
    monkeypatch.setattr(service, "REDIS_PATIENCE_S", 0.3)
    monkeypatch.setattr(service.Service, "load", lambda self: threading.Event().wait())


def settings_with(folder: Path, *assignments: str) -> EffectiveSettings:
    keys = write_keys(folder / "keys.yaml")
    given = ["profile=none", "server.port=0", f"auth.keys_file={keys}", *assignments]
    return load_settings(Sources({}, given), lambda: ("none", ""))


def test_a_start_without_its_redis_ends_with_a_sentence(tmp_path: Path) -> None:
    nowhere = f"limits.redis_url=redis://127.0.0.1:{free_port()}"
    with pytest.raises(StartError, match=r"limits\.redis_url.*fail_closed"):
        asyncio.run(main.serve(settings_with(tmp_path, nowhere), None))


@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
def test_a_start_goes_on_with_redis_or_where_it_may_be_away(
    tmp_path: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    """Until it is told to stop; what it says of Redis is in the log."""
    nowhere = f"redis://127.0.0.1:{free_port()}"
    url = redis_server.url if policy == "fail_closed" else nowhere
    chosen = (f"limits.redis_url={url}", f"limits.when_redis_fails={policy}")
    logging.getLogger("gateway").addHandler(caplog.handler)

    async def use() -> int:
        serving = asyncio.create_task(main.serve(settings_with(tmp_path, *chosen), None))
        await asyncio.wait({serving}, timeout=1)
        for _ in range(200):
            if policy == "fail_open" and "Redis is away" not in caplog.text:
                await asyncio.sleep(0.1)
        assert not serving.done()
        os.kill(os.getpid(), signal.SIGTERM)
        return await serving

    try:
        assert asyncio.run(use()) == 0
    finally:
        logging.getLogger("gateway").removeHandler(caplog.handler)
    assert ("Redis is away" in caplog.text) == (policy == "fail_open")
