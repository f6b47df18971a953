"""`python -m app serve`: settings, engine and API put together."""

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import uvloop

from app.core.engine_options import split_extra
from app.core.errors import AppError, StartError
from app.core.logs import configure_logging
from app.core.preflight import check_model
from app.engine.processes import kill_children
from app.lifecycle import Farewell, Lifecycle, Steps
from app.server import on_termination
from app.service import Service, redis_address, wanted_scheme
from app.settings.loading import EffectiveSettings, Sources, load_settings
from app.settings.local_key import ensure_local_key, show_local_key

logger = logging.getLogger("gateway")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="a YAML file of settings")
    parser.add_argument("--profile", help="a profile's name or file, auto, or none")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, by its full name",
    )
    parser.add_argument("--check", action="store_true", help="check the settings and end")
    parser.add_argument(
        "--print-config", action="store_true", help="print every setting and its source, and end"
    )
    parser.add_argument(
        "--local-key",
        type=Path,
        metavar="FILE",
        help="make a key for this machine if FILE has none yet, and print it when ready",
    )


def run(arguments: argparse.Namespace) -> int:
    effective = load_effective(arguments)
    settings = effective.settings
    split_extra(settings.engine.extra_args)
    _ = settings.limits.of_request  # said at once where a name in it cannot be used
    _ = redis_address(settings.limits)
    if arguments.print_config:
        print("\n".join(effective.lines()))  # noqa: T201
        return 0
    if arguments.check:
        print("The settings can be used.")  # noqa: T201
        return 0
    configure_logging(settings.log.level, settings.log.format)
    check_model(settings.model.path, wanted_scheme(settings))
    local_key = arguments.local_key and ensure_local_key(
        arguments.local_key, Path(settings.auth.keys_file)
    )
    try:
        code = uvloop.run(serve(effective, local_key))
    except AppError as error:
        print(f"error: {error.sentence}", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    return leave(code)


def load_effective(arguments: argparse.Namespace) -> EffectiveSettings:
    assignments = list(arguments.set)
    if arguments.profile:
        assignments.append(f"profile={arguments.profile}")
    sources = Sources(
        environ=os.environ,
        assignments=assignments,
        config_file=arguments.config,
        dotenv_file=Path(".env"),
    )
    return load_settings(sources, choose_profile)


def choose_profile() -> tuple[str, str]:
    from app.plan.profile_choice import choose_for_machine

    return choose_for_machine()


async def serve(effective: EffectiveSettings, local_key: str | None) -> int:
    """Run the service to its end; returns the exit code."""
    service, server = Service(effective.settings), effective.settings.server
    lifecycle = Lifecycle(
        service.state,
        Steps(service.load, service.connect, service.is_dead, service.is_full, service.kill),
        service.heartbeat,
        Farewell(server.drain_delay_s, server.drain_timeout_s),
    )
    on_termination(lifecycle.terminate)
    if effective.note:
        logger.warning(effective.note)
    address = service.listeners[0].address
    logger.info("listening", extra={"address": address})
    if local_key:
        model = service.resources.model_name
        service.state.once_ready(lambda: show_local_key(address, local_key, model))
    listening = [asyncio.create_task(each.run_until_stopped()) for each in service.listeners]
    watching = asyncio.create_task(service.key_watch.run())
    sharing = asyncio.create_task(service.share_limits())
    running = asyncio.create_task(lifecycle.run())
    try:
        needed = {running, sharing, *listening}
        ended, _ = await asyncio.wait(needed, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
            for task in ended:
                task.result()  # raises where it knows why
            raise StartError("A listener ended by itself; the service cannot be reached any more.")
        running.result()
    finally:
        watching.cancel()
        await service.stop(listening)
        sharing.cancel()
        if service.journal is not None:
            await asyncio.to_thread(service.journal.close)
    return lifecycle.exit_code


def leave(code: int) -> NoReturn:
    """End the process now: a load given up, or a dead engine's threads, would hold it."""
    kill_children()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a full disk does not change the code
            stream.flush()
    os._exit(code)
