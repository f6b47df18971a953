"""The settings as types. Values and meanings: config/default.yaml, which has every one of them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


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
    drain_timeout_s: Seconds
    keep_alive_s: Annotated[int, Field(ge=1, le=86_400)]


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
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)]


class UsageSettings(Section):
    directory: Text | None
    replica: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$")] | None
    max_file_bytes: Annotated[int, Field(ge=1024)]


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
    usage: UsageSettings
    log: LogSettings
