"""Bounds on the numbers and lists of a request, before vLLM makes work of them.

A value of a wrong type is left to vLLM's request model, which names the field; but what that model
would turn into a number ("7", 7.0, true) is judged as one.
"""

from collections.abc import Mapping, Sequence, Sized
from math import inf
from typing import Any

from app.core.errors import InvalidRequest
from app.core.limits import INT32, RequestLimits

Body = Mapping[str, Any]

_MAX_BIAS = 100.0
_MAX_NUMBER_CHARS = 400  # the greatest float has 309 digits
MAX_MODEL_CHARS = 256  # a hub id has at most 193
MAX_METADATA = 16  # OpenAI's own bound


def check_bounds(body: Body, limits: RequestLimits) -> None:
    """Raises InvalidRequest for the first knob that is turned too far."""
    check_labels(body)
    for name, (least, most) in limits.ranges.items():
        if name in body:  # of two dozen, a request names two or three
            check_number(body, name, least, most)
    if body.get("echo"):  # the prompt's own log probabilities are asked for
        for name in ("logprobs", "top_logprobs"):
            check_number(body, name, 0, limits.max_prompt_logprobs)
    for name in ("stop", "stop_sequences"):
        check_words(body, name, limits.max_stop, limits.max_word_chars)
    check_words(body, "bad_words", limits.max_bad_words, limits.max_word_chars)
    for name in ("stop_token_ids", "allowed_token_ids", "logprob_token_ids"):
        check_token_ids(body.get(name), name, limits.max_token_ids)
    check_bias(body.get("logit_bias"), limits.max_logit_bias)


def check_labels(body: Body) -> None:
    if isinstance(model := body.get("model"), str) and len(model) > MAX_MODEL_CHARS:
        raise InvalidRequest(
            f"model may have {MAX_MODEL_CHARS} characters.", param="model", code="invalid_value"
        )
    if isinstance(metadata := body.get("metadata"), dict):
        check_count(metadata, "metadata", MAX_METADATA)


def check_number(body: Body, name: str, least: float, most: float) -> None:
    value = as_number(body.get(name))
    if value is None or isinstance(body[name], bool):
        return
    if not least <= value <= most:
        raise InvalidRequest(
            f"{name} has to be from {least:.12g} to {most:.12g}.", param=name, code="invalid_value"
        )


def as_number(value: Any) -> float | None:
    """What a lenient model would read as a number; None for anything else. A text that is longer
    than any number is beyond every bound."""
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        if len(value) > _MAX_NUMBER_CHARS:  # zeros in front count for nothing, but are read
            return inf
        try:
            return float(value)
        except ValueError:
            return None
    return None


def check_words(body: Body, name: str, max_words: int, max_chars: int) -> None:
    words = body.get(name)
    if isinstance(words, str):
        words = [words]
    if not isinstance(words, list):
        return
    check_count(words, name, max_words)
    for number, word in enumerate(words):
        if isinstance(word, str) and not 0 < len(word) <= max_chars:
            raise InvalidRequest(
                f"{name}.{number} has to be of 1 to {max_chars} characters.",
                param=f"{name}.{number}",
                code="invalid_value",
            )


def check_token_ids(ids: Any, name: str, max_ids: int) -> None:
    if not isinstance(ids, list):
        return
    check_count(ids, name, max_ids)
    for number, each in enumerate(ids):
        value = as_number(each)
        if value is not None and not 0 <= value <= INT32:
            raise InvalidRequest(
                f"{name}.{number} is no token's id.", param=f"{name}.{number}", code="invalid_value"
            )


def check_bias(bias: Any, max_entries: int) -> None:
    if not isinstance(bias, dict):
        return
    check_count(bias, "logit_bias", max_entries)
    for token, value in bias.items():
        if not (token.isascii() and token.isdigit() and int(token.lstrip("0")[:12] or 0) <= INT32):
            raise InvalidRequest(
                f"logit_bias names {token[:40]!r}, which is no token's id.",
                param="logit_bias",
                code="invalid_value",
            )
        number = as_number(value)
        if number is not None and not -_MAX_BIAS <= number <= _MAX_BIAS:
            raise InvalidRequest(
                f"logit_bias.{token} has to be from {-_MAX_BIAS:g} to {_MAX_BIAS:g}.",
                param=f"logit_bias.{token}",
                code="invalid_value",
            )


def check_prompts(body: Body, limits: RequestLimits) -> None:
    """Completions: how many prompts, and how many sequences they start together."""
    prompt = body.get("prompt")
    if not isinstance(prompt, list):
        return
    if not limits.allow_token_ids and any(not isinstance(each, str) for each in prompt):
        raise InvalidRequest(
            "prompt has to be a text or a list of texts; token ids are not taken here "
            "(limits.allow_token_ids).",
            param="prompt",
            code="unsupported_parameter",
        )
    is_one = all(isinstance(each, int) for each in prompt)
    num_prompts = 1 if is_one else len(prompt)
    if not prompt or num_prompts > limits.max_prompts:
        raise out_of_bounds("prompt", len(prompt), limits.max_prompts, least=1)
    for ids in [prompt] if is_one else prompt:
        check_token_ids(ids, "prompt", limits.max_chars)
    num_each = int(as_number(body.get("n")) or 1)
    num_sequences = num_prompts * num_each
    if num_sequences > limits.max_sequences:
        raise InvalidRequest(
            f"{num_prompts} prompts with n={num_each} are {num_sequences} sequences; one request "
            f"may start {limits.max_sequences}.",
            param="n" if num_each > 1 else "prompt",
            code="limit_exceeded",
        )


def check_count(values: Sized, name: str, most: int) -> None:
    if len(values) > most:
        raise out_of_bounds(name, len(values), most)


def out_of_bounds(name: str, count: int, most: int, least: int = 0) -> InvalidRequest:
    return InvalidRequest(
        f"{name} has {count} entries; it may have {least} to {most}.",
        param=name,
        code="limit_exceeded",
    )


def count_chars(value: Any) -> int:
    """The characters of all texts in a JSON value, names of fields included."""
    total = 0
    pending: list[Any] = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            total += len(each)
        elif isinstance(each, dict):
            total += sum(map(len, each))
            pending.extend(each.values())
        elif isinstance(each, Sequence):
            pending.extend(each)
    return total
