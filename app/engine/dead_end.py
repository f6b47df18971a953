"""Answers that cannot go on: the constraint asks for tokens that another field forbids or ends at.

vLLM's sampler then takes a token that the grammar rejects, and the request ends with an error that
looks like ours.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams

from app.core.errors import InvalidRequest
from app.core.meter import Meter

_FORBIDDING = ("bad_words", "allowed_token_ids", "stop_token_ids")


def forbidding_field(params: SamplingParams) -> str:
    """The field that can be at odds with the constraint; empty without either."""
    if params.structured_outputs is None:
        return ""
    return next((name for name in _FORBIDDING if getattr(params, name)), "")


async def refuse_dead_ends(
    outputs: AsyncGenerator[RequestOutput, None], field: str, meter: Meter
) -> AsyncGenerator[RequestOutput, None]:
    """`outputs`; raises InvalidRequest naming `field` where they end in an error."""
    async with aclosing(outputs):
        async for output in outputs:
            if any(sequence.finish_reason == "error" for sequence in output.outputs):
                error = InvalidRequest(
                    f"{field} leaves nothing that the constraint on the answer allows.",
                    param=field,
                    code="constraint_unsatisfiable",
                )
                if meter.ticket:
                    meter.ticket.refusal = error
                raise error
            yield output
