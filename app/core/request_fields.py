"""Every field of a request's body, per API: taken, guarded, unserved, or dropped.

A field that none of the tables has is unknown. `tests/unit/engine/test_request_fields.py` holds the
tables against vLLM's own request models, so that a field of a new version is a decision, not a
surprise.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldTable:
    """`taken`: always. `guarded`: refused unless limits.open_fields names it. `unserved`: refused,
    with the reason. `dropped`: of the official API, without effect here, and vLLM lacks it."""

    taken: frozenset[str]
    guarded: frozenset[str]
    unserved: Mapping[str, str]
    dropped: frozenset[str] = frozenset()


def names(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


_SAMPLING = """
    model stream temperature top_p top_k seed stop stop_token_ids presence_penalty frequency_penalty
    repetition_penalty logit_bias ignore_eos include_stop_str_in_output skip_special_tokens user
    min_p structured_outputs
"""
_COMPLETING = """
    n max_tokens stream_options response_format length_penalty min_tokens prompt_logprobs bad_words
    spaces_between_special_tokens add_special_tokens thinking_token_budget logprobs
"""
# They reach into the engine's scheduling, caches and transfers, or change what is answered in ways
# that a client of the official APIs never asks for.
_ENGINE = """
    cache_salt kv_transfer_params ec_transfer_params vllm_xargs priority session_id watermarking
"""
_TOKENS = """
    allowed_token_ids logprob_token_ids return_token_ids return_tokens_as_token_ids
    return_token_offsets routed_experts_prompt_start repetition_detection stream_interval
    truncate_prompt_tokens truncation_side
"""

_TEXT_ONLY = "this service takes text only"
_MEDIA = dict.fromkeys(
    ("media_io_kwargs", "mm_processor_kwargs", "mm_payload", "return_mm_kwargs"), _TEXT_ONLY
)
_OWN_ID = "send the header x-request-id to have an id of yours recorded"
_BEAMS = "beam search keeps many sequences of one request alive at once"
_STORED = "nothing is stored between requests"
_REMOTE = "the server opens no connections of its own"
_TEMPLATE = "a request's template is code that runs in the server"
_FUNCTIONS = "use tools and tool_choice"

CHAT = FieldTable(
    taken=names(
        _SAMPLING,
        _COMPLETING,
        "messages max_completion_tokens tools tool_choice parallel_tool_calls top_logprobs",
        "reasoning_effort include_reasoning add_generation_prompt continue_final_message",
    ),
    guarded=names(_ENGINE, _TOKENS, "echo documents chat_template_kwargs return_prompt_text"),
    unserved=_MEDIA
    | {
        "request_id": _OWN_ID,
        "use_beam_search": _BEAMS,
        "chat_template": _TEMPLATE,
        "audio": _TEXT_ONLY,
        "modalities": _TEXT_ONLY,
        "web_search_options": _REMOTE,
        "functions": _FUNCTIONS,
        "function_call": _FUNCTIONS,
    },
    dropped=names(
        "store metadata service_tier prediction verbosity safety_identifier prompt_cache_key",
        "prompt_cache_retention",
    ),
)
COMPLETIONS = FieldTable(
    taken=names(_SAMPLING, _COMPLETING, "prompt echo suffix"),
    guarded=names(_ENGINE, _TOKENS),
    unserved=dict.fromkeys(("mm_payload", "return_mm_kwargs"), _TEXT_ONLY)
    | {
        "request_id": _OWN_ID,
        "use_beam_search": _BEAMS,
        "prompt_embeds": "prompts are text",
    },
    dropped=names("best_of"),
)
RESPONSES = FieldTable(
    taken=names(
        _SAMPLING,
        "include input instructions max_output_tokens max_tool_calls metadata parallel_tool_calls",
        "reasoning include_reasoning service_tier store text tool_choice tools top_logprobs",
        "truncation prompt_cache_key",
    ),
    guarded=names(_ENGINE, "chat_template_kwargs enable_response_messages previous_input_messages"),
    unserved=_MEDIA
    | {
        "request_id": _OWN_ID,
        "background": _STORED,
        "previous_response_id": f"{_STORED}; send the earlier turns as input",
        "conversation": f"{_STORED}; send the earlier turns as input",
        "prompt": f"{_STORED}; send instructions and input",
    },
    dropped=names("safety_identifier prompt_cache_retention stream_options"),
)
COUNT_TOKENS = FieldTable(
    taken=names("model messages output_config system thinking tool_choice tools"),
    guarded=names("chat_template_kwargs"),
    unserved={"mcp_servers": _REMOTE, "container": _STORED},
    dropped=names("cache_control context_management betas"),
)
MESSAGES = FieldTable(
    taken=COUNT_TOKENS.taken
    | names("max_tokens metadata stop_sequences stream temperature top_k top_p"),
    guarded=names(
        "cache_salt watermarking kv_transfer_params ec_transfer_params vllm_xargs",
        "chat_template_kwargs",
    ),
    unserved=dict(COUNT_TOKENS.unserved)
    | dict.fromkeys(("mm_payload", "return_mm_kwargs"), _TEXT_ONLY),
    dropped=COUNT_TOKENS.dropped | names("service_tier"),
)
TOKENIZE = FieldTable(
    taken=names(
        "model prompt messages tools add_special_tokens return_token_strs",
        "add_generation_prompt continue_final_message",
    ),
    guarded=names("chat_template_kwargs"),
    unserved=dict.fromkeys(("media_io_kwargs", "mm_processor_kwargs"), _TEXT_ONLY)
    | {"chat_template": _TEMPLATE},
)
DETOKENIZE = FieldTable(taken=names("model tokens"), guarded=frozenset(), unserved={})

# By the route's template; a route without a table takes no body.
TABLES: Mapping[str, FieldTable] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": COUNT_TOKENS,
    "/tokenize": TOKENIZE,
    "/detokenize": DETOKENIZE,
}
# What limits.open_fields may name. `structural_tag` is no field of a body but a kind of constraint.
STRUCTURAL_TAG = "structural_tag"
OPENABLE = frozenset[str]().union(*(table.guarded for table in TABLES.values())) | {STRUCTURAL_TAG}
