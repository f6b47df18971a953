"""A run's figures as text."""

from app.bench.statistics import QUANTILES, Distribution, Summary


def summary_lines(summary: Summary) -> list[str]:
    lines = [
        f"requests       {summary.num_requests}, {sum(summary.errors.values())} failed, "
        f"{summary.requests_per_s:.1f} per second",
        f"output tokens  {summary.num_output_tokens}, {summary.tokens_per_s:.1f} per second",
        distribution_line("latency", summary.latency_s),
        distribution_line("first token", summary.first_token_s),
        distribution_line("per token", summary.per_token_s),
    ]
    return lines + [f"error          {kind}: {count}" for kind, count in summary.errors.items()]


def distribution_line(name: str, values: Distribution | None) -> str:
    if values is None:
        return f"{name:<14} not measured"
    figures = ", ".join(f"p{q * 100:.0f} {values.quantiles[q] * 1000:.1f}" for q in QUANTILES)
    return f"{name:<14} {figures} ms"
