"""`python -m app smoke`: four requests that say whether a running server does its job."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from app.bench.target import DEFAULT_KEY_FILE, DEFAULT_URL, Target, first_model, read_key
from app.core.errors import AppError

QUESTION = {"messages": [{"role": "user", "content": "What is 37 + 5?"}], "max_tokens": 16}


class SmokeError(AppError):
    """A check that the server did not pass."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=DEFAULT_URL, help="of the server (default: %(default)s)")
    parser.add_argument("--key-file", type=Path, help=f"default: {DEFAULT_KEY_FILE}")
    parser.add_argument("--api-key", help="the key itself, instead of a file")


def run(arguments: argparse.Namespace) -> int:
    key = arguments.api_key or read_key(arguments.key_file)
    target = Target("server", arguments.url.rstrip("/"), key)
    num_failed = sum(not passes(name, check, target) for name, check in CHECKS.items())
    print(f"{len(CHECKS) - num_failed} of {len(CHECKS)} checks passed at {target.url}")
    return 1 if num_failed else 0


def passes(name: str, check: Callable[[Target], str], target: Target) -> bool:
    started = time.monotonic()
    try:
        seen = check(target)
    except (AppError, httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        print(f"FAILED  {name}: {error}")
        return False
    print(f"ok      {name}: {seen} ({time.monotonic() - started:.2f} s)")
    return True


def check_models(target: Target) -> str:
    return first_model(target)


def check_chat(target: Target) -> str:
    response = ask(target, target.headers, stream=False)
    expect_status(response, 200)
    answer = response.json()
    text = answer["choices"][0]["message"]["content"]
    if not text:
        raise SmokeError("the answer is empty")
    return f"{text!r}, {answer['usage']['completion_tokens']} tokens"


def check_stream(target: Target) -> str:
    response = ask(target, target.headers, stream=True)
    expect_status(response, 200)
    events = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        raise SmokeError("the stream did not end with [DONE]")
    text = "".join(
        choice["delta"].get("content") or ""
        for event in events[:-1]
        for choice in json.loads(event)["choices"]
    )
    if not text:
        raise SmokeError("the stream carried no text")
    return f"{text!r} in {len(events)} events"


def check_refusal(target: Target) -> str:
    response = ask(target, {"Authorization": "Bearer not-a-key"}, stream=False)
    expect_status(response, 401)
    return f"an unknown key is refused with {response.status_code}"


def ask(target: Target, headers: dict[str, str], *, stream: bool) -> httpx.Response:
    body = {**QUESTION, "stream": stream, "model": first_model(target)}
    return httpx.post(f"{target.url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def expect_status(response: httpx.Response, status: int) -> None:
    if response.status_code != status:
        raise SmokeError(f"answered {response.status_code}, not {status}")


CHECKS: dict[str, Callable[[Target], str]] = {
    "models": check_models,
    "chat": check_chat,
    "stream": check_stream,
    "refused": check_refusal,
}
