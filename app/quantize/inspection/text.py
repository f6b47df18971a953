"""A report for people. Layers that are alike share a row, so a row of its own is an exception."""

import re
from collections.abc import Iterator

from app.core.checkpoint_layers import Layer
from app.quantize.inspection.report import Report

MIB = 2**20
Row = tuple[str, ...]
NUMBER = re.compile(r"\.layers\.\d+")


def render(report: Report) -> str:
    blocks = (head(report), layer_table(report), kernel_table(report), problem_list(report))
    return printable("\n\n".join("\n".join(block) for block in blocks))


def printable(text: str) -> str:
    """Without a stranger's control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def head(report: Report) -> Iterator[str]:
    checkpoint, network = report.checkpoint, report.checkpoint.architecture
    yield f"{checkpoint.where}: {network.name}, {checkpoint.scheme}"
    yield (
        f"  {network.num_layers} layers, hidden size {network.hidden_size}, "
        f"{network.num_heads} heads, {network.num_kv_heads} KV heads of {network.head_dim}, "
        f"vocabulary {network.vocab_size}"
    )
    kinds = ", ".join(f"{kind} {size / MIB:.1f}" for kind, size in report.bytes_by_kind.items())
    files = "1 file" if len(checkpoint.shards) == 1 else f"{len(checkpoint.shards)} files"
    yield f"  {checkpoint.num_bytes / MIB:.1f} MiB in {files}: {kinds}"
    if report.compression is not None:
        yield f"  {report.compression:.2f} times smaller than in 16 bit"
    yield f"  left unquantized: {', '.join(checkpoint.scheme.ignore) or 'nothing'}"
    yield f"  KV cache: {checkpoint.scheme.kv_cache or 'in 16 bit'}"


def layer_table(report: Report) -> list[str]:
    rows: list[Row] = [("layer", "weight", "shape", "scale", "numbers")]
    for (name, *facts), numbers in group_layers(report.layers).items():
        rows.append((name, *map(str, facts), ranges(numbers)))
    return align(rows)


def group_layers(layers: tuple[Layer, ...]) -> dict[tuple[str, str, str, str], list[int]]:
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for layer in layers:
        name = NUMBER.sub(".layers.*", f".{layer.name}")[1:]
        scale = f"{layer.scale.dtype} {layer.scale.shape}" if layer.scale else "none"
        group = groups.setdefault((name, layer.kind, str(layer.weight.shape), scale), [])
        if layer.number is not None:
            group.append(layer.number)
    return groups


def ranges(numbers: list[int]) -> str:
    """`0-3, 5` of [0, 1, 2, 3, 5]."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def kernel_table(report: Report) -> list[str]:
    rows: list[Row] = [("GPU", "capability", "kernel of vLLM", "")]
    for verdict in report.verdicts:
        capability = ".".join(map(str, verdict.capability)) if verdict.capability else "-"
        rows.append((verdict.platform, capability, verdict.kernel or "none", verdict.note))
    return align(rows)


def problem_list(report: Report) -> list[str]:
    if not report.problems:
        return ["No problems found."]
    return [f"{problem.severity}: {problem.sentence}" for problem in report.problems]


def align(rows: list[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
