"""vLLM's engine client, with an eye on what each request asks for and uses."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from app.core.meter import Meter, current_meter


class MeteredAsyncLLM(AsyncLLM):  # type: ignore[misc]
    """AsyncLLM that checks a request against the context and writes into its meter."""

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """As vLLM's; but not a generator function itself: what it refuses, it refuses when it is
        called, between rendering and the first header of a stream.

        Raises VLLMValidationError where prompt and wanted completion exceed the context: vLLM
        would cut the completion short without a word.
        """
        outputs: AsyncGenerator[RequestOutput, None] = super().generate(
            prompt, sampling_params, request_id, **options
        )
        meter = current_meter.get()
        if meter is None:
            return outputs
        if sentence := meter.overflow(length_of(prompt), self.model_config.max_model_len):
            raise VLLMValidationError(sentence, parameter=meter.asked_in or None)
        is_cumulative = sampling_params.output_kind is RequestOutputKind.CUMULATIVE
        return metered(outputs, meter, is_cumulative)


def length_of(prompt: Any) -> int:
    """Tokens of a rendered prompt; 0 for one that is not rendered yet (none of ours)."""
    tokens = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
    return len(tokens or ())


async def metered(
    outputs: AsyncGenerator[RequestOutput, None], meter: Meter, is_cumulative: bool
) -> AsyncGenerator[RequestOutput, None]:
    """`outputs` unchanged; closing this closes them, which aborts the request in the engine."""
    seen: dict[int, int] | None = {} if is_cumulative else None
    is_first = True
    async with aclosing(outputs):
        async for output in outputs:
            if is_first:
                is_first = False
                meter.prompt_tokens += len(output.prompt_token_ids or ())
                meter.cached_tokens += output.num_cached_tokens or 0
            count_completion(meter, output, seen)
            yield output


def count_completion(meter: Meter, output: RequestOutput, seen: dict[int, int] | None) -> None:
    """Add the new tokens of `output`. `seen`: tokens counted so far, where outputs repeat them."""
    for sequence in output.outputs:
        num_tokens = len(sequence.token_ids)
        if seen is not None:
            total = num_tokens
            num_tokens -= seen.get(sequence.index, 0)
            seen[sequence.index] = total
        meter.completion_tokens += num_tokens
        if sequence.finish_reason is not None:
            meter.finish_reason = sequence.finish_reason
