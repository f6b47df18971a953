"""Servers that run for as long as they are compared."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.bench.campaign import Subject
from app.bench.server_process import ServerPlan, ServerProcess


@contextlib.contextmanager
def running_servers(
    plans: Iterable[ServerPlan], model: str, folder: Path
) -> Iterator[dict[str, tuple[Subject, ServerProcess]]]:
    """By name. Started one after the other; their logs are in `folder`."""
    with contextlib.ExitStack() as running:
        servers = {}
        for plan in plans:
            print(f"starting {plan.name}", file=sys.stderr)  # noqa: T201
            server = running.enter_context(ServerProcess(plan, folder / f"{plan.name}.log"))
            target = server.wait_until_ready()
            servers[plan.name] = Subject(target, model, server.api_pids), server
        yield servers
