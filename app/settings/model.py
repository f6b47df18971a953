"""The settings as types. Values and meanings: config/default.yaml, which has every one of them."""

from dataclasses import fields
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from app.core.limits import RequestLimits, parse_open_fields

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0, le=1 << 31)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


def off_as_written(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


def leave_time_to_answer(value: float) -> float:
    """The engine is asked once a second."""
    if 0 < value < 3:
        raise ValueError("has to be 0 or at least 3")
    return value


def name_a_host(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("has to be an address like http://collector:4317")
    return value


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(Section):
    host: Text
    port: Port
    management_host: Text
    management_port: Port | None
    tls_certificate: Text | None
    tls_key: Text | None
    sse_keep_alive_s: Seconds
    body_timeout_s: Annotated[float, Field(gt=0, le=86_400)]
    drain_delay_s: Seconds
    drain_timeout_s: Seconds
    hung_after_s: Annotated[Seconds, AfterValidator(leave_time_to_answer)]
    ready_when_saturated: bool
    keep_alive_s: Annotated[int, Field(ge=1, le=86_400)]
    header_timeout_s: Annotated[float, Field(gt=0, le=86_400)]
    max_header_bytes: Annotated[int, Field(ge=1024, le=1 << 24)]
    max_headers: Positive
    max_connections: Positive
    send_timeout_s: Annotated[float, Field(gt=0, le=86_400)]
    fast_path: Annotated[Literal["auto", "off"], BeforeValidator(off_as_written)]


class ModelSettings(Section):
    path: Text
    revision: Text | None
    served_name: Text | None
    scheme: Literal["w8a8-int8", "fp8", "unquantized"]
    allow_unquantized: bool
    hf_token: SecretStr | None

    @property
    def name(self) -> str:
        return self.served_name or self.path.rstrip("/").rpartition("/")[2]


class QualitySettings(Section):
    min_recovery: Annotated[float, Field(ge=0, le=1000)] | None


class EngineSettings(Section):
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)]
    max_model_len: Positive | None
    max_num_batched_tokens: Positive | None
    max_num_seqs: Positive | None
    dtype: Literal["auto", "bfloat16", "float16", "float32"]
    kv_cache_dtype: Text
    tensor_parallel_size: Positive
    enforce_eager: bool
    cpu_kv_cache_gib: Positive
    tool_call_parser: Text | None
    extra_args: Annotated[str, Field(max_length=4096)]


class AuthSettings(Section):
    keys_file: Text


class LimitsSettings(Section):
    default_max_tokens: Positive
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)]
    unknown_fields: Literal["refuse", "ignore"]
    open_fields: Annotated[str, Field(max_length=4096)]
    allow_token_ids: bool
    max_n: Positive
    max_prompts: Positive
    max_sequences: Positive
    max_stop: Count
    max_bad_words: Count
    max_word_chars: Positive
    max_token_ids: Count
    max_logit_bias: Count
    max_logprobs: Count
    max_prompt_logprobs: Count
    max_output_tokens: Positive | None
    max_chars: Positive
    max_messages: Positive
    max_content_parts: Positive
    max_tools: Count
    max_schema_bytes: Positive
    max_schema_depth: Positive
    max_schema_alternatives: Positive
    max_regex_chars: Positive
    max_repetition: Positive
    compile_timeout_s: Annotated[float, Field(gt=0, le=60)]
    redis_url: SecretStr | None
    redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
    redis_timeout_s: Annotated[float, Field(ge=0.01, le=60)]
    redis_lease_s: Annotated[float, Field(ge=1, le=3600)]
    when_redis_fails: Literal["fail_closed", "fail_open"]
    max_timeout_s: Annotated[float, Field(ge=0.001, le=86_400)]

    @property
    def of_request(self) -> RequestLimits:
        """What the rules about requests need. Raises SettingsError for a wrong open_fields."""
        shared = {field.name for field in fields(RequestLimits)} - {"open_fields"}
        return RequestLimits(
            ignores_unknown_fields=self.unknown_fields == "ignore",
            open_fields=parse_open_fields(self.open_fields),
            **{name: value for name, value in self if name in shared},
        )


class QueueSettings(Section):
    max_waiting: Positive
    max_wait_s: Annotated[float, Field(gt=0, le=86_400)]
    lookahead: Annotated[int, Field(ge=0)] | None
    kv_cache_high: Annotated[float, Field(gt=0, le=1)]


class UsageSettings(Section):
    directory: Text | None
    replica: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$")] | None
    max_file_bytes: Annotated[int, Field(ge=1024)]


class TracingSettings(Section):
    otlp_endpoint: Annotated[Text, AfterValidator(name_a_host)] | None


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"]
    format: Literal["auto", "json", "text"]


class Settings(Section):
    profile: Text
    server: ServerSettings
    model: ModelSettings
    quality: QualitySettings
    engine: EngineSettings
    auth: AuthSettings
    limits: LimitsSettings
    queue: QueueSettings
    usage: UsageSettings
    tracing: TracingSettings
    log: LogSettings
