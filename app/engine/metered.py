"""vLLM's engine client, with an eye on what each request asks for and uses."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from app.core.admission import Ticket
from app.core.fair_queue import Place
from app.core.meter import Meter, current_meter
from app.engine.dead_end import forbidding_field, refuse_dead_ends
from app.engine.fast_path.stream_middle import current_middle


class MeteredAsyncLLM(AsyncLLM):  # type: ignore[misc]
    """AsyncLLM that checks a request against the context and writes into its meter."""

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncIterator[RequestOutput]:
        """As vLLM's; but not a generator function itself: what no waiting can mend is refused when
        it is called, between rendering and the first header of a stream.

        Raises VLLMValidationError where prompt and wanted completion exceed the context (vLLM would
        cut the completion short without a word), and InvalidRequest where the key may not ask for
        so much.
        """
        outputs = self._metered(prompt, sampling_params, request_id, options)
        middle = current_middle.get()
        return middle.take(outputs) if middle is not None else outputs

    def _metered(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, options: dict[str, Any]
    ) -> AsyncGenerator[RequestOutput, None]:
        meter = current_meter.get()
        if meter is None:
            return self._generate(prompt, sampling_params, request_id, options)
        num_prompt = length_of(prompt)
        longest = self.model_config.max_model_len
        if sentence := meter.overflow(num_prompt, longest):
            raise VLLMValidationError(sentence, parameter=meter.asked_in or None)
        need = foresee(meter, sampling_params, num_prompt, longest - num_prompt)
        refuse_whole_logprobs(meter, sampling_params, need[1])
        if ticket := meter.ticket:
            prompt = salted(prompt, ticket)
        outputs = self._generate(prompt, sampling_params, request_id, options)
        if field := forbidding_field(sampling_params):
            outputs = refuse_dead_ends(outputs, field, meter)
        is_cumulative = sampling_params.output_kind is RequestOutputKind.CUMULATIVE
        answer = metered(outputs, meter, is_cumulative, need)
        meter.answers.append(answer)
        return answer

    def _generate(
        self, prompt: Any, params: SamplingParams, request_id: str, options: dict[str, Any]
    ) -> AsyncGenerator[RequestOutput, None]:
        outputs: AsyncGenerator[RequestOutput, None] = super().generate(
            prompt, params, request_id, **options
        )
        return outputs

    async def abort(self, request_id: str | Iterable[str], internal: bool = False) -> None:
        """As vLLM's. Who leaves before an answer comes whole has had its tokens computed."""
        meter = current_meter.get()
        if meter is not None and internal and isinstance(request_id, str):
            meter.count(num_unseen(self.output_processor, request_id))
        await super().abort(request_id, internal)


def refuse_whole_logprobs(meter: Meter, params: SamplingParams, num_completion: int) -> None:
    """Raises VLLMValidationError where those of an answer that comes whole may be too many: it is
    made on the event loop."""
    num_each = params.logprobs
    if num_each is None or params.output_kind is not RequestOutputKind.FINAL_ONLY:
        return
    if sentence := meter.whole_logprobs_excess(num_completion, num_each):
        raise VLLMValidationError(sentence, parameter="logprobs")


def num_unseen(processor: Any, request_id: str) -> int:
    """Tokens of what runs for a request that would only be told at its end."""
    parent = processor.parent_requests.get(request_id)
    ids = (request_id,) if parent is None else parent.child_requests
    states = [state for each in ids if (state := processor.request_states.get(each)) is not None]
    return sum(
        state.detokenizer.num_output_tokens()
        for state in states
        if state.output_kind is RequestOutputKind.FINAL_ONLY
    )


def foresee(
    meter: Meter, params: SamplingParams, num_prompt: int, room: int
) -> tuple[int, int, int]:
    """What a prompt will need: its tokens, those of its completions, and sequences. Cuts the
    completion to what the key may have. Raises InvalidRequest as `Ticket.bound` and `foresee`."""
    num_completion = 0
    if ticket := meter.ticket:
        num_completion = bound_completion(meter, ticket, params, room)
        ticket.foresee(num_prompt + num_completion)
    return num_prompt, num_completion, params.n


def bound_completion(meter: Meter, ticket: Ticket, params: SamplingParams, room: int) -> int:
    """Cut the completion to what the key may have. Returns the tokens that all its sequences may
    come to. Raises InvalidRequest as `Ticket.bound`."""
    possible: int = room if params.max_tokens is None else params.max_tokens
    num_tokens = ticket.bound(meter.asked_tokens, possible, params.n)
    params.max_tokens = num_tokens
    return num_tokens * int(params.n)


def salted(prompt: Any, ticket: Ticket) -> Any:
    """The prompt with its tenant's salt, so that the prefix cache keeps tenants apart."""
    salt = ticket.tenant.cache_salt(prompt.get("cache_salt"))
    return prompt if salt is None else {**prompt, "cache_salt": salt}


def length_of(prompt: Any) -> int:
    """Tokens of a rendered prompt; 0 for one that is not rendered yet (none of ours)."""
    tokens = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
    return len(tokens or ())


async def metered(
    outputs: AsyncGenerator[RequestOutput, None],
    meter: Meter,
    is_cumulative: bool,
    need: tuple[int, int, int],
) -> AsyncGenerator[RequestOutput, None]:
    """`outputs` unchanged, once there is quota and a place for `need` (tokens of the prompt and of
    the completions, sequences); until then the engine knows nothing of them. Closing this closes
    them, which aborts the request in the engine."""
    seen: dict[int, int] | None = {} if is_cumulative else None
    is_first = True
    place = await enter(meter, need)
    try:
        async with aclosing(outputs):
            async for output in outputs:
                if is_first:
                    is_first = False
                    note_first(meter, output, place)
                count_completion(meter, output, seen)
                yield output
    finally:
        leave(meter, place)


async def enter(meter: Meter, need: tuple[int, int, int]) -> Place | None:
    """Waits for quota and a place. Raises a RequestError where there is none."""
    place = meter.place = await meter.ticket.enter(*need) if meter.ticket else None
    meter.prompt_tokens += need[0]
    return place


def leave(meter: Meter, place: Place | None) -> None:
    """The engine has done with what had the place."""
    if meter.ticket and place:
        meter.ticket.leave(place)


def note_first(meter: Meter, output: RequestOutput, place: Place | None) -> None:
    """The engine has given the first token of a prompt."""
    meter.has_begun = True
    meter.cached_tokens += output.num_cached_tokens or 0
    if meter.ticket and place:
        meter.ticket.note_first_token(place)


def count_completion(meter: Meter, output: RequestOutput, seen: dict[int, int] | None) -> None:
    """Add the new tokens of `output`. `seen`: tokens counted so far, where outputs repeat them."""
    num_new = 0
    for sequence in output.outputs:
        num_tokens = len(sequence.token_ids)
        if seen is not None:
            total = num_tokens
            num_tokens -= seen.get(sequence.index, 0)
            seen[sequence.index] = total
        num_new += num_tokens
        if sequence.finish_reason is not None:
            meter.finish_reason = sequence.finish_reason
    meter.count(num_new)
