"""What we refuse of a request before vLLM sees it, by name, whatever vLLM would do with it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from app.core import request_content
from app.core.constraints import CONSTRAINING, Constraint, find_constraints
from app.core.errors import InvalidRequest
from app.core.key_limits import Limits
from app.core.limits import RequestLimits
from app.core.request_bounds import check_bounds, check_prompts, check_token_ids, count_chars
from app.core.request_fields import TABLES, FieldTable

Body = dict[str, Any]

# Headers through which a client would reach into the engine (scheduling, placement, sessions),
# the id that we set ourselves, and secrets, which end at the door. Lower case, as ASGI has them.
STRIPPED_HEADERS = frozenset(
    {
        b"x-vllm-priority",
        b"x-session-id",
        b"x-data-parallel-rank",
        b"x-request-id",
        b"x-kv-transfer-params",
        b"endpoint-load-metrics-format",
        b"authorization",
        b"x-api-key",
        b"cookie",
    }
)
# Told to the engine by the gateway alone, where it traces.
TRACE_HEADERS = frozenset({b"traceparent", b"tracestate"})
_ENDING = STRIPPED_HEADERS | TRACE_HEADERS


def strip_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """`headers` without those of STRIPPED_HEADERS and TRACE_HEADERS, and without any of vLLM's own
    prefix."""
    return [
        (name, value)
        for name, value in headers
        if name not in _ENDING and not name.startswith(b"x-vllm-")
    ]


def check_completions(body: Body, limits: RequestLimits) -> None:
    check_prompts(body, limits)
    if body.get("best_of") not in (None, 1, body.get("n")):
        raise InvalidRequest(
            "best_of is not served: ask for n and choose yourself.",
            param="best_of",
            code="unsupported_parameter",
        )


def check_detokenize(body: Body, limits: RequestLimits) -> None:
    check_token_ids(body.get("tokens"), "tokens", limits.max_chars)


_CONTENT: Mapping[str, Callable[[Body, RequestLimits], None]] = {
    "/v1/chat/completions": request_content.check_chat,
    "/v1/completions": check_completions,
    "/v1/responses": request_content.check_responses,
    "/v1/messages": request_content.check_messages,
    "/v1/messages/count_tokens": request_content.check_messages,
    "/tokenize": request_content.check_chat,
    "/detokenize": check_detokenize,
}
# Where a client that says nothing would get all that the context has left.
_OUTPUT_LENGTH = {
    "/v1/chat/completions": ("max_completion_tokens", "max_tokens"),
    "/v1/responses": ("max_output_tokens",),
}


class RequestRules:
    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits

    def of(self, owners: Iterable[Limits]) -> "RequestRules":
        """These rules with the bounds of a key and its tenant."""
        limits = self.limits.of(owners)
        return self if limits is self.limits else RequestRules(limits)

    def check(self, template: str, body: Body, num_bytes: int) -> Body:
        """What vLLM may see of `body`: itself, or a copy without what has no effect.

        `num_bytes`: its length as JSON, which bounds its characters. Raises InvalidRequest that
        names the field.
        """
        table = TABLES.get(template)
        if table is None:
            return body
        if num_bytes > self.limits.max_chars:
            self.check_length(body)
        removed = {name for name in body.keys() - table.taken if self.is_removed(name, table, body)}
        check_bounds(body, self.limits)
        _CONTENT[template](body, self.limits)
        if removed:
            body = {name: value for name, value in body.items() if name not in removed}
        return self.with_length(template, body)

    def constraints_of(self, body: Body) -> tuple[Constraint, ...]:
        """The constraints on the answer, each within its budget; raises InvalidRequest."""
        return find_constraints(body, self.limits) if body.keys() & CONSTRAINING else ()

    def check_length(self, body: Body) -> None:
        num_chars = count_chars(body)
        if num_chars > self.limits.max_chars:
            raise InvalidRequest(
                f"The request has {num_chars} characters; it may have {self.limits.max_chars}.",
                code="limit_exceeded",
            )

    def is_removed(self, name: str, table: FieldTable, body: Body) -> bool:
        """Whether a field that is not taken is left out. Raises InvalidRequest where it would
        have an effect that is not served."""
        if name in table.dropped:
            return True
        value = body[name]
        if reason := table.unserved.get(name):
            if value is None or value is False:
                return True
            raise InvalidRequest(
                f"{name} is not served: {reason}.", param=name, code="unsupported_parameter"
            )
        if name in table.guarded:
            if name in self.limits.open_fields:
                refuse_template(name, value)
                return False
            if value is None or value is False:
                return True
            raise InvalidRequest(
                f"{name} is not taken here; limits.open_fields of the service opens it.",
                param=name,
                code="unsupported_parameter",
            )
        if self.limits.ignores_unknown_fields:
            return True
        raise InvalidRequest(
            f"There is no field {name[:60]!r}.", param=name[:60], code="unknown_parameter"
        )

    def with_length(self, template: str, body: Body) -> Body:
        """`body`, with the configured length of an answer where the client names none."""
        most = self.limits.max_output_tokens
        fields = _OUTPUT_LENGTH.get(template)
        if most is None or not fields or any(body.get(name) is not None for name in fields):
            return body
        return body | {fields[0]: most}


def refuse_template(name: str, value: Any) -> None:
    """A template by the back door of its own arguments."""
    if name == "chat_template_kwargs" and isinstance(value, dict) and "chat_template" in value:
        raise InvalidRequest(
            "chat_template_kwargs.chat_template is not served: a request's template is code that "
            "runs in the server.",
            param="chat_template_kwargs.chat_template",
            code="unsupported_parameter",
        )
