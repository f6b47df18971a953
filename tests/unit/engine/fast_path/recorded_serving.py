"""vLLM's serving objects on a recorded engine: vLLM's own from where the engine is asked."""

from typing import Any

from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.parser import ParserManager
from vllm.utils.async_utils import merge_async_iterators

from tests.unit.engine.fast_path.recorded_engine import PROMPT, RecordedEngine

MODEL = "a \"model\": {'content'}"
CREATED = 1_700_000_000
MOST_TOKENS = 1000


class StubTokenizer:
    """What the tool parser asks of a tokenizer when it is made."""

    def get_vocab(self) -> dict[str, int]:
        return {"<|python_tag|>": 5}

    def encode(self, text: str, **_: Any) -> list[int]:
        return [5]


class RecordedChat(OpenAIServingChat):  # type: ignore[misc]
    system_fingerprint: str | None = "fingerprint"
    model_config = None

    def __init__(self, engine: RecordedEngine, tool_parser: str | None = None) -> None:
        self.engine = engine
        self.parser_cls = ParserManager.get_parser(
            tool_parser_name=tool_parser,
            reasoning_parser_name="",
            enable_auto_tools=tool_parser is not None,
            model_name="m",
            tokenizer=StubTokenizer(),
        )
        self.response_role = "assistant"
        self.request_logger = None
        self.enable_force_include_usage = self.enable_log_outputs = False
        self.enable_per_request_metrics = self.enable_prompt_tokens_details = False
        self._include_reasoning_tokens_details = False

    async def create_chat_completion(self, request: ChatCompletionRequest, raw: Any = None) -> Any:
        name = id_of(raw)
        params = request.to_sampling_params(MOST_TOKENS, {})
        return self.chat_completion_stream_generator(
            request,
            self.engine.generate({"prompt_token_ids": PROMPT}, params, name),
            f"chatcmpl-{name}",
            MODEL,
            [],
            StubTokenizer(),
            RequestResponseMetadata(request_id=name),
        )


class RecordedCompletion(OpenAIServingCompletion):  # type: ignore[misc]
    system_fingerprint = "fingerprint"

    def __init__(self, engine: RecordedEngine) -> None:
        self.engine = engine
        self.enable_force_include_usage = False
        self.enable_per_request_metrics = self.enable_prompt_tokens_details = False

    async def create_completion(self, request: CompletionRequest, raw: Any = None) -> Any:
        name = id_of(raw)
        params = request.to_sampling_params(MOST_TOKENS, {})
        outputs = self.engine.generate({"prompt_token_ids": PROMPT}, params, name)
        return self.completion_stream_generator(
            request,
            [{"type": "token", "prompt_token_ids": PROMPT, "prompt": "x"}],
            merge_async_iterators(outputs),
            f"cmpl-{name}",
            CREATED,
            MODEL,
            num_prompts=1,
            tokenizer=StubTokenizer(),
            request_metadata=RequestResponseMetadata(request_id=name),
        )


def id_of(raw: Any) -> str:
    return str(raw.headers.get("x-request-id", "1")) if raw is not None else "1"
