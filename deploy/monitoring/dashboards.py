# ruff: noqa: T201 (a command, run by hand)
"""The Grafana dashboards: what they show is said here once, and written as Grafana's JSON.

python -m deploy.monitoring.dashboards           rewrite the chart's files/dashboards
python -m deploy.monitoring.dashboards --check   exit 1 when one is stale
"""

import json
import sys
from pathlib import Path

from deploy.monitoring.grafana_json import Dashboard, Panel, render

FOLDER = Path(__file__).parents[1] / "helm" / "w8a8-gateway" / "files" / "dashboards"
TOKENS_PER_S = "suffix: tok/s"
COMPLETION_TOKENS = "gateway_completion_tokens_total"


def quantiles(series: str) -> dict[str, str]:
    """The usual three of a histogram."""
    rate = f"sum by (le) (rate({series}_bucket{{SELECT}}[$__rate_interval]))"
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: f"histogram_quantile({share}, {rate})" for name, share in shares.items()}


def p95(series: str, by: str) -> str:
    rate = f"sum by (le, {by}) (rate({series}_bucket{{SELECT}}[$__rate_interval]))"
    return f"histogram_quantile(0.95, {rate})"


def rate(series: str, labels: str = "", by: str = "") -> str:
    matchers = f"SELECT,{labels}" if labels else "SELECT"
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({series}{{{matchers}}}[$__rate_interval]))"


OVERVIEW = Dashboard(
    "w8a8-overview",
    "W8A8 gateway: service",
    (
        Panel(
            "Failed answers, 1 h",
            {"": "gateway:error_ratio:rate1h{SELECT}"},
            "percentunit",
            "stat",
            6,
            "The objective is 0.5 %: requests to /v1 answered with 5xx.",
            {0: "green", 0.005: "orange", 0.072: "red"},
        ),
        Panel(
            "Slow first tokens, 1 h",
            {"": "gateway:slow_first_token_ratio:rate1h{SELECT}"},
            "percentunit",
            "stat",
            6,
            "The objective is 5 %: streams that wait more than 2 s for their first token.",
            {0: "green", 0.05: "orange", 0.72: "red"},
        ),
        Panel(
            "Ready replicas",
            {"": 'sum(gateway_state{SELECT,state=~"ready|saturated"})'},
            kind="stat",
            width=6,
            thresholds={0: "red", 1: "green"},
        ),
        Panel(
            "Completion tokens",
            {"": "sum(gateway:completion_tokens:rate5m{SELECT})"},
            TOKENS_PER_S,
            "stat",
            6,
        ),
        Panel(
            "Requests by status",
            {"{{status}}": rate("gateway_requests_total", by="status")},
            "reqps",
        ),
        Panel("Time to first token", quantiles("gateway_time_to_first_token_seconds"), "s"),
        Panel("Between tokens", quantiles("gateway_inter_token_latency_seconds"), "s"),
        Panel("Whole answers", quantiles("gateway_request_duration_seconds"), "s"),
        Panel(
            "Requests in hand",
            {
                "gateway": "sum(gateway_requests_in_flight{SELECT})",
                "waiting in the gateway": "sum(gateway_queue_depth{SELECT})",
                "running in vLLM": "sum(vllm:num_requests_running{SELECT})",
                "waiting in vLLM": "sum(vllm:num_requests_waiting{SELECT})",
            },
        ),
        Panel(
            "State of each replica",
            {"{{instance}} {{state}}": "gateway_state{SELECT} == 1"},
            kind="state-timeline",
        ),
    ),
)

TENANTS = Dashboard(
    "w8a8-tenants",
    "W8A8 gateway: tenants",
    (
        Panel("Requests", {"{{key}}": rate("gateway_requests_total", by="key")}, "reqps", width=12),
        Panel(
            "Refused or failed requests",
            {
                "{{key}} {{status}}": rate(
                    "gateway_requests_total", 'status=~"[45].."', "key, status"
                )
            },
            "reqps",
            width=12,
        ),
        Panel(
            "Prompt tokens",
            {"{{key}}": rate("gateway_prompt_tokens_total", by="key")},
            TOKENS_PER_S,
            width=12,
        ),
        Panel(
            "Completion tokens",
            {"{{key}}": rate(COMPLETION_TOKENS, by="key")},
            TOKENS_PER_S,
            width=12,
        ),
        Panel(
            "Tokens in the chosen time",
            {"{{key}}": f"sum by (key) (increase({COMPLETION_TOKENS}{{SELECT}}[$__range]))"},
            kind="table",
            width=12,
        ),
        Panel(
            "Running requests",
            {"{{tenant}}": "sum by (tenant) (gateway_tenant_requests{SELECT})"},
            width=12,
        ),
        Panel(
            "Waiting in the gateway",
            {"{{tenant}}": "sum by (tenant) (gateway_queue_waiting{SELECT})"},
            width=12,
            meaning="Prompts that wait for a place in the engine.",
        ),
        Panel(
            "Wait in the gateway, p95",
            {"{{tenant}}": p95("gateway_queue_wait_seconds", "tenant")},
            "s",
            width=12,
        ),
        Panel(
            "First token, p95",
            {"{{tenant}}": p95("gateway_tenant_first_token_seconds", "tenant")},
            "s",
            width=12,
        ),
        Panel(
            "Tokens by tenant",
            {"{{tenant}} {{kind}}": rate("gateway_tenant_tokens_total", by="tenant, kind")},
            TOKENS_PER_S,
            width=12,
            meaning="Cached tokens are those of the prompt that the prefix cache had.",
        ),
        Panel(
            "Tokens reserved",
            {"{{tenant}}": "sum by (tenant) (gateway_tenant_reserved_tokens{SELECT})"},
            width=12,
            meaning="What the running requests of a tenant may still use.",
        ),
        Panel(
            "Refused by a limit",
            {"{{tenant}} {{limit}}": rate("gateway_refusals_total", by="tenant, limit")},
            "reqps",
            width=12,
        ),
        Panel(
            "Redis, p95",
            {"{{operation}}": p95("gateway_redis_duration_seconds", "operation")},
            "s",
            width=12,
            meaning="Steps of the shared limits; empty where there are none.",
        ),
        Panel(
            "Redis fails",
            {"{{operation}}": rate("gateway_redis_failures_total", by="operation")},
            "ops",
            width=12,
        ),
        Panel(
            "Key file in force",
            {"{{instance}}": "gateway_key_file_valid{SELECT}"},
            kind="stat",
            width=12,
            meaning="0: its newest content cannot be used, and older keys are in force.",
            thresholds={0: "red", 1: "green"},
        ),
        Panel(
            "Refused keys",
            {"{{reason}}": rate("gateway_auth_failures_total", by="reason")},
            "reqps",
            width=12,
        ),
    ),
)

ENGINE = Dashboard(
    "w8a8-engine",
    "W8A8 gateway: engine and memory",
    (
        Panel(
            "KV cache in use",
            {"{{instance}}": "vllm:kv_cache_usage_perc{SELECT}"},
            "percentunit",
            meaning="Full is well used; full with preemptions is too small.",
        ),
        Panel("Preemptions", {"{{instance}}": rate("vllm:num_preemptions_total", by="instance")}),
        Panel(
            "Prefix cache hits",
            {
                "share of prompt tokens": rate("vllm:prefix_cache_hits_total")
                + " / "
                + rate("vllm:prefix_cache_queries_total")
            },
            "percentunit",
        ),
        Panel("Wait in vLLM", quantiles("vllm:request_queue_time_seconds"), "s"),
        Panel("Prefill", quantiles("vllm:request_prefill_time_seconds"), "s"),
        Panel("Decode", quantiles("vllm:request_decode_time_seconds"), "s"),
        Panel(
            "Tokens computed",
            {
                "prompt": rate("vllm:prompt_tokens_total"),
                "generation": rate("vllm:generation_tokens_total"),
            },
            TOKENS_PER_S,
        ),
        Panel("Tokens per engine step", quantiles("vllm:iteration_tokens_total")),
        Panel(
            "Ends of answers",
            {"{{finished_reason}}": rate("vllm:request_success_total", by="finished_reason")},
            "reqps",
        ),
        Panel(
            "Waiting, by reason",
            {"{{reason}}": "sum by (reason) (vllm:num_requests_waiting_by_reason{SELECT})"},
        ),
        Panel(
            "Silence of the engine",
            {"{{instance}}": "gateway_engine_silence_seconds{SELECT}"},
            "s",
            meaning="A heartbeat is sent every second.",
        ),
        Panel(
            "Memory of the API process",
            {"{{instance}}": "process_resident_memory_bytes{SELECT}"},
            "bytes",
        ),
        Panel(
            "CPU of the API process",
            {"{{instance}}": "rate(process_cpu_seconds_total{SELECT}[$__rate_interval])"},
            meaning="One core is the most that one Python process can use.",
        ),
    ),
)

MODEL = Dashboard(
    "w8a8-model",
    "W8A8 gateway: what is served",
    (
        Panel(
            "Scheme and kernel",
            {"{{scheme}} by {{kernel}}": "gateway_quantization_info{SELECT}"},
            kind="table",
            width=12,
            meaning="What vLLM really loaded, not what was asked for.",
        ),
        Panel(
            "Versions",
            {"{{version}} on vLLM {{vllm}}": "gateway_build_info{SELECT}"},
            kind="table",
            width=12,
        ),
        Panel(
            "KV cache as vLLM sized it",
            {"{{num_gpu_blocks}} blocks of {{block_size}}": "vllm:cache_config_info{SELECT}"},
            kind="table",
            width=24,
        ),
        Panel(
            "Recovery",
            {"{{bound}}": "min by (bound) (gateway_recovery_ratio{SELECT})"},
            "percentunit",
            "stat",
            8,
            "Accuracy kept of the 16-bit model, with its 95 % interval, by the quality report "
            "beside the checkpoint. Empty: nothing is proved of what is served.",
        ),
        Panel(
            "Memory, planned and actual",
            {"{{part}} {{kind}}": "max by (part, kind) (gateway_memory_bytes{SELECT})"},
            "bytes",
        ),
        Panel(
            "Planned to actual",
            {"{{part}}": "max by (part) (gateway_memory_planned_ratio{SELECT})"},
            "percentunit",
            meaning="Above 1: more was planned than is held. An alert tells of 10 % either way.",
        ),
        Panel(
            "Replicas by kernel",
            {"{{kernel}}": "count by (kernel) (gateway_quantization_info{SELECT})"},
            width=12,
        ),
        Panel(
            "Decode time per output token",
            quantiles("vllm:request_time_per_output_token_seconds"),
            "s",
            width=12,
        ),
    ),
)

DASHBOARDS = (OVERVIEW, TENANTS, ENGINE, MODEL)


def main(arguments: list[str]) -> int:
    texts = {FOLDER / f"{d.uid}.json": json.dumps(render(d), indent=1) + "\n" for d in DASHBOARDS}
    if arguments == ["--check"]:
        present = {path: path.read_text() for path in FOLDER.glob("*.json")}
        return int(present != texts)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text)
        print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
