"""vLLM's engine client, counting what each request uses as its tokens come out."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from app.core.meter import Meter, current_meter


class MeteredAsyncLLM(AsyncLLM):  # type: ignore[misc]
    """AsyncLLM that writes into the current request's meter. Adds nothing else."""

    async def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        outputs = super().generate(prompt, sampling_params, request_id, **options)
        meter = current_meter.get()
        if meter is None:
            async with aclosing(outputs):
                async for output in outputs:
                    yield output
            return
        cumulative = sampling_params.output_kind is RequestOutputKind.CUMULATIVE
        seen: dict[int, int] = {}
        is_first = True
        async with aclosing(outputs):
            async for output in outputs:
                if is_first:
                    is_first = False
                    meter.prompt_tokens += len(output.prompt_token_ids or ())
                    meter.cached_tokens += output.num_cached_tokens or 0
                count_completion(meter, output, seen if cumulative else None)
                yield output


def count_completion(meter: Meter, output: RequestOutput, seen: dict[int, int] | None) -> None:
    """Add the new tokens of `output`. `seen`: tokens counted so far, where output repeats them."""
    for sequence in output.outputs:
        num_tokens = len(sequence.token_ids)
        if seen is not None:
            num_tokens, seen[sequence.index] = (
                num_tokens - seen.get(sequence.index, 0),
                num_tokens,
            )
        meter.completion_tokens += num_tokens
        if sequence.finish_reason is not None:
            meter.finish_reason = sequence.finish_reason
