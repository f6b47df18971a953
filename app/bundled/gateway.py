"""A gateway of our own around a profile, for as long as it is asked things."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from app.bench.peers import GatewayModel, plan_gateway
from app.bench.server_process import ServerProcess
from app.bench.target import Target


@contextlib.contextmanager
def serving(profile: str) -> Iterator[Target]:
    with tempfile.TemporaryDirectory() as name:
        plan = plan_gateway(GatewayModel(profile, profile), Path(name))
        with ServerProcess(plan, Path(name) / "log") as server:
            yield server.wait_until_ready()
