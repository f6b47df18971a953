"""The results of `bench-gpu` as Markdown."""

from collections.abc import Iterator, Sequence
from typing import Any

from app.bench.gpu.results import (
    Measured,
    ceilings_in,
    decode_share,
    middle,
    modes_in,
    prefill_share,
)
from app.bench.table import number, table_row
from app.core.roofline import Ceilings

GIB = 2**30
BASE, CANDIDATE = "bf16", "int8"
SAME = ("compile_mode", "graph_mode", "step_tokens", "settings")


def page_lines(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Everything that was measured, and nothing else."""
    modes, ceilings = list(modes_in(lines)), ceilings_in(lines)
    if not modes:
        yield "Not yet measured."
        return
    yield from about_lines(modes)
    yield from loaded_lines(modes)
    yield from decode_lines(modes, ceilings)
    yield from prefill_lines(modes, ceilings)
    yield from ceiling_lines(ceilings)
    yield from failure_lines(lines)


def about_lines(modes: Sequence[Measured]) -> Iterator[str]:
    """Where and how; and a warning where the modes do not compare."""
    loaded = modes[0].loaded
    driver = f", driver {loaded['driver']}" if loaded["driver"] else ""
    yield (
        f"{loaded['date'][:10]}, {loaded['device']}{driver}, vLLM {loaded['vllm']}, torch "
        f"{loaded['torch']}; shape {loaded['shape']}, random weights and tokens; compilation "
        f"{loaded['compile_mode']}, graphs {loaded['graph_mode']}, {loaded['step_tokens']} tokens "
        f"per step."
    )
    for name in SAME:
        if len({str(mode.loaded[name]) for mode in modes}) > 1:
            yield f"**The modes do not compare: they differ in {name}.**"
    yield ""


def loaded_lines(modes: Sequence[Measured]) -> Iterator[str]:
    yield table_row("mode", "kernel", "weights GiB", "KV tokens", "start s")
    yield table_row(*["---"] * 5)
    for mode in modes:
        loaded = mode.loaded
        kernels = ", ".join(f"{name} x {count}" for name, count in loaded["layers"].items())
        weights = f"{loaded['parameter_bytes'] / GIB:.2f}"
        start = f"{loaded['start_s']:.0f}"
        yield table_row(mode.name, kernels, weights, f"{loaded['kv_tokens']:,}", start)
    yield ""


def decode_lines(modes: Sequence[Measured], ceilings: Ceilings | None) -> Iterator[str]:
    sizes = {case.num_seqs for mode in modes for case in mode.runs if not case.is_prefill}
    if not sizes:
        return
    headings = (
        "decode tokens/s",
        "output tokens/s",
        "between tokens ms",
        "p99 ms",
        "of the roofline",
    )
    yield table_row("sequences", "mode", *headings)
    yield table_row(*["---"] * (2 + len(headings)))
    for size in sorted(sizes):
        for mode in modes:
            if cells := decode_cells(mode, size, ceilings):
                yield table_row(str(size), mode.name, *cells)
    yield ""
    yield from ratio_lines(modes, sorted(sizes))


def decode_cells(mode: Measured, size: int, ceilings: Ceilings | None) -> list[str] | None:
    found = mode.decode(size)
    if found is None:
        return None
    case, runs = found
    return [
        number(middle(runs, "decoded_per_s")),
        number(output_rate(mode, size)),
        milliseconds(middle(runs, "step_s")),
        milliseconds(middle(runs, "step_p99_s")),
        percent(decode_share(mode, case, ceilings)),
    ]


def output_rate(mode: Measured, size: int) -> float | None:
    """Tokens of all answers over the whole time, the prompts' included."""
    found = mode.decode(size)
    wall_s = middle(found[1], "wall_s") if found else None
    return found[0].num_seqs * found[0].output_tokens / wall_s if found and wall_s else None


def ratio_lines(modes: Sequence[Measured], sizes: Sequence[int]) -> Iterator[str]:
    """What W8A8 is worth, whichever way it falls."""
    by_name = {mode.name: mode for mode in modes}
    if not {BASE, CANDIDATE} <= set(by_name):
        return
    for size in sizes:
        rates = [output_rate(by_name[name], size) for name in (CANDIDATE, BASE)]
        if rates[0] and rates[1]:
            yield f"- {size} sequences: INT8 W8A8 gives {rates[0] / rates[1]:.2f} x BF16's output."
    yield ""


def prefill_lines(modes: Sequence[Measured], ceilings: Ceilings | None) -> Iterator[str]:
    lengths = {case.prompt_tokens for mode in modes for case in mode.runs if case.is_prefill}
    if not lengths:
        return
    yield table_row("prompt", "mode", "prompts", "prefill tokens/s", "of the roofline")
    yield table_row(*["---"] * 5)
    for length in sorted(lengths):
        for mode in modes:
            if found := mode.prefill(length):
                case, runs = found
                wall_s = middle(runs, "wall_s")
                rate = case.num_seqs * length / wall_s if wall_s else None
                share = percent(prefill_share(mode, case, ceilings))
                yield table_row(str(length), mode.name, str(case.num_seqs), number(rate), share)
    yield ""


def ceiling_lines(ceilings: Ceilings | None) -> Iterator[str]:
    if ceilings is None:
        yield "The ceilings of the device were not measured: no share of a roofline."
        return
    rates = ", ".join(
        f"{kind} {rate / 1e12:.1f}" for kind, rate in ceilings.operations_per_s.items()
    )
    memory = f"memory {ceilings.bytes_per_s / 1e9:.0f} GB/s (read and written)"
    yield f"Ceilings, measured on the same device: {memory}, matrix products {rates} TOP/s."
    yield ""


def failure_lines(lines: list[dict[str, Any]]) -> Iterator[str]:
    """What the newest start of each mode did not come to."""
    reasons: dict[str, str] = {}
    for line in lines:
        if line["kind"] == "loaded":
            reasons.pop(line["mode"], None)
        elif line["kind"] == "failed":
            reasons[line["mode"]] = line["reason"]
    for mode, reason in reasons.items():
        yield f"- {mode}: {reason}"


def milliseconds(seconds: float | None) -> str:
    return number(None) if seconds is None else f"{seconds * 1e3:.2f}"


def percent(share: float | None) -> str:
    return number(None) if share is None else f"{share:.0%}"
