"""The command line: `python -m app COMMAND`. A command's code is imported only when it is run."""

import argparse
import importlib
import os
import sys

from app.core.errors import AppError

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("app.main", "serve a model over HTTP"),
    "keys": ("app.settings.command", "make, list, rotate, revoke and limit API keys"),
    "usage": ("app.usage.command", "verify and sum the usage records"),
    "quantize": ("app.quantize.command", "make an 8-bit checkpoint of a 16-bit one"),
    "inspect": ("app.quantize.inspection.command", "say what a checkpoint is, and what is wrong"),
    "plan": ("app.plan.command", "plan the memory of a model on a GPU"),
    "doctor": ("app.plan.doctor_command", "say what this machine can serve, and what to mend"),
    "evaluate": ("app.evaluate.command", "compare a quantized model with its original"),
    "compare-recipes": ("app.evaluate.comparison.command", "quantize one model in every way"),
    "bench-memory": ("app.plan.bench_command", "hold the memory plan against real engines"),
    "smoke": ("app.bench.smoke_command", "ask a running server four questions"),
    "bench": ("app.bench.command", "measure running servers under load"),
    "bench-engine": ("app.bench.engine_command", "measure the bundled model, W8A8 and 16 bits"),
    "bench-isolation": (
        "app.bench.isolation_command",
        "measure a stream beside long prompts and bad schemas",
    ),
    "bench-gateway": ("app.bench.gateway_command", "measure the gateway beside its peers"),
    "bench-gpu": ("app.bench.gpu.command", "measure the engine alone on a GPU, W8A8 and others"),
    "bench-served": ("app.bench.gpu.served_command", "measure the gateway on a real model"),
    "profile-gpu": ("app.bench.gpu.profile_command", "say where a GPU's time goes, by kernels"),
    "check-int8": ("app.engine.int8_command", "hold the int8 matrix product against integers"),
    "bench-start": ("app.bench.start_command", "measure where the time of a start goes"),
    "soak": ("app.soak.command", "ask a gateway everything for a while, and look for leaks"),
    "bench-fairness": ("app.bench.fairness_command", "measure a light tenant beside a flood"),
    "bench-overload": ("app.bench.overload_command", "measure what is answered in time overloaded"),
    "score": ("app.bundled.command", "score a running server on the bundled questions"),
}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "--help"
    if name not in COMMANDS:
        return print_overview(name)
    module = importlib.import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(prog=f"python -m app {name}", description=COMMANDS[name][1])
    module.add_arguments(parser)
    try:
        status: int = module.run(parser.parse_args(arguments[1:]))
    except AppError as error:
        print(f"error: {error.sentence}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has read enough; the interpreter's last flush must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def print_overview(name: str) -> int:
    asked = name in ("-h", "--help", "help")
    out = sys.stdout if asked else sys.stderr
    if not asked:
        print(f"error: there is no command {name[:40]!r}", file=out)
    print("usage: python -m app COMMAND [options]\n\ncommands:", file=out)
    width = max(map(len, COMMANDS))
    for command, (_, summary) in COMMANDS.items():
        print(f"  {command:<{width}}  {summary}", file=out)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
