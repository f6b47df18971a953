import warnings

import pytest

from app.core.meter import MAX_WHOLE_LOGPROBS, Meter

with warnings.catch_warnings(action="ignore"):  # torch's own, while it is imported
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    from app.engine.metered import refuse_whole_logprobs


def test_a_whole_answer_with_too_many_log_probabilities_is_refused_and_a_stream_is_not() -> None:
    whole = SamplingParams(logprobs=20, output_kind=RequestOutputKind.FINAL_ONLY)
    refuse_whole_logprobs(Meter(), whole, 4096)
    with pytest.raises(VLLMValidationError, match="without stream") as refused:
        refuse_whole_logprobs(Meter(), whole, 4097)
    assert refused.value.parameter == "logprobs"
    without = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY)
    refuse_whole_logprobs(Meter(), without, MAX_WHOLE_LOGPROBS + 1)
    stream = SamplingParams(logprobs=20, output_kind=RequestOutputKind.DELTA)
    refuse_whole_logprobs(Meter(), stream, MAX_WHOLE_LOGPROBS)


def test_those_of_several_prompts_count_together() -> None:
    whole = SamplingParams(logprobs=20, output_kind=RequestOutputKind.FINAL_ONLY)
    meter = Meter()
    refuse_whole_logprobs(meter, whole, 4096)
    with pytest.raises(VLLMValidationError, match=str(MAX_WHOLE_LOGPROBS)):
        refuse_whole_logprobs(meter, whole, 1)
