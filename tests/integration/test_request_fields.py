"""Our tables of fields against vLLM's own request models: a field that comes or goes is noticed."""

import warnings
from typing import Any

import pytest

from app.core.request_fields import TABLES


def models() -> dict[str, tuple[Any, ...]]:
    with warnings.catch_warnings(action="ignore"):  # torch's own, while it is imported
        from vllm.entrypoints.anthropic import protocol as anthropic
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.entrypoints.openai.completion.protocol import CompletionRequest
        from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
        from vllm.entrypoints.serve.tokenize import protocol as tokenize

    return {
        "/v1/chat/completions": (ChatCompletionRequest,),
        "/v1/completions": (CompletionRequest,),
        "/v1/responses": (ResponsesRequest,),
        "/v1/messages": (anthropic.AnthropicMessagesRequest,),
        "/v1/messages/count_tokens": (anthropic.AnthropicCountTokensRequest,),
        "/tokenize": (tokenize.TokenizeChatRequest, tokenize.TokenizeCompletionRequest),
        "/detokenize": (tokenize.DetokenizeRequest,),
    }


@pytest.mark.parametrize("template", TABLES)
def test_every_field_of_vllms_is_known_and_none_is_invented(template: str) -> None:
    table = TABLES[template]
    of_vllm = {name for model in models()[template] for name in model.model_fields}
    assert of_vllm - table.taken - table.guarded - set(table.unserved) == set()
    assert table.taken | table.guarded <= of_vllm
    assert not table.dropped & of_vllm
    assert not table.taken & table.guarded
