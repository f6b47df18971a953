"""`python -m app doctor`: one screen on the machine, each line ok, a warning, or a fix."""

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import yaml

from app.core.gpus import choose_profile
from app.plan import doctor
from app.plan.doctor import Finding, Status
from app.plan.gpu_detection import detect_gpus
from app.plan.machine import cpu_device, installed_build
from app.plan.profile_choice import PROFILES, cache_folder, is_hub_reachable

NEEDS_FIXING = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="the address to serve on")
    parser.add_argument("--port", type=int, default=8000, help="the port to serve on")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(args: argparse.Namespace) -> int:
    """Exits with 1 where something has to be fixed before this machine can serve."""
    findings = list(examine(args.host, args.port))
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(*doctor.render(findings), sep="\n")
    return NEEDS_FIXING if any(each.status is Status.FIX for each in findings) else 0


def examine(host: str, port: int) -> Iterator[Finding]:
    machine = detect_gpus()
    yield doctor.judge_build(installed_build(), machine)
    yield doctor.judge_driver(machine)
    for index, gpu in enumerate(machine.gpus):
        yield doctor.judge_gpu(index, gpu)
    available = {path.stem for path in PROFILES.glob("*.yaml")}
    choice = choose_profile(machine.gpus, available)
    yield doctor.judge_choice(choice, available)
    yield doctor.judge_memory(cpu_device())
    model = model_of(choice.profile)
    is_needed = not Path(model).is_dir() and not cache_folder(model).is_dir()
    folder = existing_parent(cache_folder(model))
    yield doctor.judge_disk(str(folder), shutil.disk_usage(folder).free, is_needed)
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    yield doctor.judge_hub(endpoint, is_hub_reachable(), is_needed)
    yield doctor.judge_port(host, port)


def model_of(profile: str) -> str:
    settings = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text(encoding="utf-8"))
    path: str = settings["model"]["path"]
    return path


def existing_parent(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())
