"""The named figures of a measurement: the same in the table, the JSON report and the plots."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from app.bench.campaign import Measurement, median_of
from app.bench.statistics import QUANTILES, Distribution

Figure = Callable[[Measurement], float | None]


def milliseconds(distribution: Distribution | None, q: float) -> float | None:
    return None if distribution is None else distribution.quantiles[q] * 1e3


def quantile_figure(name: str, q: float) -> Figure:
    return lambda measurement: milliseconds(getattr(measurement.summary, name), q)


def quantile_figures(name: str) -> dict[str, Figure]:
    """Of the summary's distribution `name`, which ends in `_s`."""
    short = name.removesuffix("_s")
    return {f"{short}_p{q * 100:.0f}_ms": quantile_figure(name, q) for q in QUANTILES}


FIGURES: dict[str, Figure] = {
    "requests_per_s": lambda each: each.summary.requests_per_s,
    "good_requests_per_s": lambda each: each.summary.good_per_s,
    "output_tokens_per_s": lambda each: each.summary.tokens_per_s,
    "prompt_tokens": lambda each: each.summary.num_prompt_tokens,
    "output_tokens": lambda each: each.summary.num_output_tokens,
    "failed_requests": lambda each: each.summary.num_failed,
    **quantile_figures("first_token_s"),
    **quantile_figures("per_token_s"),
    **quantile_figures("gap_s"),
    **quantile_figures("latency_s"),
    "server_cpu_us_per_token": lambda each: each.cpu_us_per_token,
    "server_cpu_ms_per_request": lambda each: each.cpu_ms_per_request,
    "server_cpu_s": lambda each: each.server_cpu_s,
    "generator_cpu_s": lambda each: each.run.generator.cpu_s,
    "generator_lag_p99_ms": lambda each: each.run.generator.lag_s * 1e3,
    "wall_s": lambda each: each.summary.wall_s,
}


def figures_of(measurements: Iterable[Measurement]) -> dict[str, float | None]:
    """Medians over repetitions."""
    several = list(measurements)
    return {name: median_of(several, figure) for name, figure in FIGURES.items()}


def grouped(measurements: Sequence[Measurement]) -> dict[tuple[str, str], list[Measurement]]:
    """By load and target, in the order in which they first came."""
    order = {(each.load, each.target): None for each in measurements}
    place = {key: index for index, key in enumerate(order)}
    ordered = sorted(measurements, key=lambda each: place[each.load, each.target])
    groups = groupby(ordered, key=lambda each: (each.load, each.target))
    return {key: list(group) for key, group in groups}
