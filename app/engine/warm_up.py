"""The first request of a kind pays for what is built lazily; it should not be a user's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.sampling_params import SamplingParams, StructuredOutputsParams

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}


async def warm_up(client: Any) -> None:
    """A few tokens plain, with logprobs (13 s the first time, once seen), and under a schema."""
    kinds = (
        SamplingParams(max_tokens=2, ignore_eos=True),
        SamplingParams(max_tokens=2, ignore_eos=True, logprobs=1, prompt_logprobs=1),
        SamplingParams(max_tokens=2, structured_outputs=StructuredOutputsParams(json=SCHEMA)),
    )
    with unrecorded(client):
        for number, params in enumerate(kinds):
            prompt = {"type": "token", "prompt_token_ids": [number + 1, number + 2]}
            async for _ in client.generate(prompt, params, f"warm-up-{number}"):
                pass


@contextmanager
def unrecorded(client: Any) -> Iterator[None]:
    """Keep what runs meanwhile out of vLLM's own series: a warm-up is no user's latency."""
    kept, client._logger_ref[0] = client._logger_ref[0], None
    try:
        yield
    finally:
        client._logger_ref[0] = kept
