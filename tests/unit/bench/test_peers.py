import json
import os
from pathlib import Path

import pytest

from app.bench.gateway_command import FORMS, chosen, plans
from app.bench.peers import Bench, GatewayModel, PeerError, plan_gateway, plan_stock
from app.bench.process_cpu import ProcessError, cpu_seconds, resident_bytes


def test_a_gateway_is_started_with_keys_of_its_own(tmp_path: Path) -> None:
    plan = plan_gateway(GatewayModel("a", "bundled", ("server.fast_path=off",)), tmp_path)
    words = list(plan.arguments)
    assert words[1:6] == ["-m", "app", "serve", "--profile", "bundled"]
    assert plan.key_file == tmp_path / "a" / "key"
    assert f"auth.keys_file={tmp_path / 'a' / 'keys.yaml'}" in words
    assert f"server.port={plan.port}" in words
    assert words[-2:] == ["--set", "server.fast_path=off"]


def test_all_peers_run_the_same_simulated_device(tmp_path: Path) -> None:
    bench = Bench(Path("models/bundled/w8a8"), tmp_path, step_ms=8)
    started = list(plans(bench, ["gateway", "gateway-slow"]))
    assert [plan.name for plan in started] == ["gateway", "gateway-slow", "stock"]
    for plan in started:
        device = json.loads(plan.environment["SIMULATED_DEVICE"])
        assert device == {"step_ms": 8, "token_us": 0, "answer_tokens": None}
        assert "app.engine.simulated.SimulatedExecutor" in " ".join(plan.arguments)


def test_two_servers_do_not_share_a_port(tmp_path: Path) -> None:
    bench = Bench(Path("m"), tmp_path, step_ms=8)
    assert plan_stock(bench).port != plan_stock(bench).port


def test_a_name_that_is_not_known_is_refused() -> None:
    assert chosen("a, b", ["a", "b", "c"], "--peers") == ["a", "b"]
    assert chosen(None, ["a", "b"], "--peers") == ["a", "b"]
    with pytest.raises(PeerError, match="--peers: 'd' is none of a, b"):
        chosen("d", ["a", "b"], "--peers")


def test_every_load_can_be_made() -> None:
    for form in FORMS:
        load = form.load()
        assert len(load.workload.asks) == form.streams * form.requests
        assert {ask.output_tokens for ask in load.workload.asks} == {form.tokens}


def test_memory_and_time_of_a_process_are_read() -> None:
    assert resident_bytes([os.getpid()]) > 2**20
    assert cpu_seconds([os.getpid()]) > 0
    with pytest.raises(ProcessError, match="999999999"):
        cpu_seconds([999999999])
