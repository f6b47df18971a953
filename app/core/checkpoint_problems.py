"""What is wrong with a checkpoint, as far as its config and headers can tell."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from app.core.checkpoint import Checkpoint
from app.core.checkpoint_layers import SCALE_NAMES, Layer, is_ignored, is_simple, list_layers
from app.core.checkpoint_scheme import SchemeName

SHOWN = 3  # names in a sentence; a checkpoint that is wrong is often wrong in every layer
FLOATS = {"BF16", "F16", "F32", "F8_E8M0"}
OUTPUT_LAYER = "lm_head"
# Families whose embeddings are not tied where config.json is silent (transformers' defaults).
UNTIED = {"llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi3"}


class Severity(StrEnum):
    ERROR = "error"  # it will not load, or it will answer wrongly
    WARNING = "warning"  # it works, worse than it could


@dataclass(frozen=True, slots=True)
class Problem:
    severity: Severity
    sentence: str


def find_problems(checkpoint: Checkpoint) -> list[Problem]:
    layers = list_layers(checkpoint)
    checks = [check_layer_numbers(checkpoint, layers), check_scheme(checkpoint)]
    if checkpoint.scheme.name in (SchemeName.W8A8_INT8, SchemeName.FP8):
        checks += [check_layers(checkpoint, layers), check_orphans(checkpoint, layers)]
    elif checkpoint.scheme.name is SchemeName.UNQUANTIZED:
        checks += [check_unquantized(layers)]
    return [problem for check in checks for problem in check]


def error(what: str, names: Iterable[str] = ()) -> Iterator[Problem]:
    yield Problem(Severity.ERROR, sentence(what, list(names)))


def warning(what: str, names: Iterable[str] = ()) -> Iterator[Problem]:
    yield Problem(Severity.WARNING, sentence(what, list(names)))


def sentence(what: str, names: list[str]) -> str:
    if not names:
        return f"{what}."
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{what}: {', '.join(names[:SHOWN])}{more}."


def check_scheme(checkpoint: Checkpoint) -> Iterator[Problem]:
    scheme = checkpoint.scheme
    if scheme.weights is not None and not scheme.weights.symmetric:
        yield from error("The weights are asymmetric, which vLLM refuses for eight bits")
    if scheme.activations is not None:
        if not scheme.activations.symmetric:
            yield from warning(
                "The activations are asymmetric: each matrix product needs a correction by the "
                "zero point, and FP8 has none"
            )
        if not scheme.activations.dynamic:
            yield from warning(
                "The activations are static: one scale, fixed at calibration, for every token"
            )
    if scheme.kv_cache is not None and scheme.kv_cache.type != "float":
        yield from error("The KV cache is to be quantized to integers, which vLLM does not do")
    complex_patterns = [
        pattern
        for pattern in scheme.ignore
        if pattern.startswith("re:") and not is_simple(pattern.removeprefix("re:"))
    ]
    if complex_patterns:
        yield from warning(
            "Patterns of the ignore list are too complex to be checked",
            (repr(pattern[:60]) for pattern in complex_patterns),
        )


def check_layer_numbers(checkpoint: Checkpoint, layers: list[Layer]) -> Iterator[Problem]:
    found = {layer.number for layer in layers} - {None}
    expected = set(range(checkpoint.architecture.num_layers))
    lacking = sorted(expected - found)
    if lacking:
        count = f"{len(lacking)} of {len(expected)}"
        yield from error(f"{count} layers have no weights", (str(number) for number in lacking))
    tied = checkpoint.architecture.tied_embeddings
    if not tied and not any(layer.name.endswith(OUTPUT_LAYER) for layer in layers):
        if checkpoint.architecture.model_type in UNTIED:
            yield from error("There is no lm_head, and the embeddings are not tied")
        else:
            yield from warning("There is no lm_head, and config.json does not say that it is tied")


def check_layers(checkpoint: Checkpoint, layers: list[Layer]) -> Iterator[Problem]:
    scheme = checkpoint.scheme
    quantized = [layer for layer in layers if layer.is_quantized]
    heads = [layer.name for layer in quantized if layer.name.endswith(OUTPUT_LAYER)]
    if heads:
        yield from error("The output layer is quantized; it has to stay 16 bit", heads)
    ignored = {layer.name for layer in layers if is_ignored(layer.name, scheme.ignore)}
    if both := [layer.name for layer in quantized if layer.name in ignored - {*heads}]:
        yield from error("Quantized, though the ignore list says they are not", both)
    plain = [
        layer.name
        for layer in layers
        if not layer.is_quantized and not layer.is_embedding and layer.number is not None
    ]
    everything = "Linear" in scheme.targets  # others are lists of what is quantized
    if unexpected := [name for name in plain if everything and name not in ignored]:
        yield from error("Not quantized, and not on the ignore list", unexpected)
    yield from check_scales(checkpoint, quantized)


def check_scales(checkpoint: Checkpoint, quantized: list[Layer]) -> Iterator[Problem]:
    if lacking := [layer.name for layer in quantized if layer.scale is None]:
        yield from error("A quantized weight has no scale", lacking)
    if wrong := [
        describe_scale(layer) for layer in quantized if has_wrong_scale(checkpoint, layer)
    ]:
        yield from error("A scale has the wrong shape", wrong)
    activations = checkpoint.scheme.activations
    if activations is not None and not activations.dynamic:
        lacking = [layer.name for layer in quantized if layer.input_scale is None]
        if lacking:
            yield from error("Activations are static, and their scale is missing", lacking)
    odd = [layer.name for layer in quantized if layer.scale and layer.scale.dtype not in FLOATS]
    if odd:
        yield from error("A scale is not a floating-point number", odd)
    if shifted := [layer.name for layer in quantized if layer.zero_point is not None]:
        yield from error("A weight has a zero point, which the int8 kernels do not know", shifted)


def has_wrong_scale(checkpoint: Checkpoint, layer: Layer) -> bool:
    """One scale for each output channel, `(N, 1)`; or one for the tensor, `()` or `(1,)`."""
    weights = checkpoint.scheme.weights
    if layer.scale is None or weights is None:
        return False
    allowed = {
        "channel": {(*layer.weight.shape[:-1], 1)},
        "tensor": {(), (1,)},
    }.get(weights.strategy)
    return allowed is not None and layer.scale.shape not in allowed


def describe_scale(layer: Layer) -> str:
    shape = layer.scale.shape if layer.scale else None
    return f"{layer.name} has {shape} for a weight of {layer.weight.shape}"


def check_orphans(checkpoint: Checkpoint, layers: list[Layer]) -> Iterator[Problem]:
    quantized = {layer.name for layer in layers if layer.is_quantized}
    scales = [name.name for name in checkpoint.tensors if name.name.endswith(SCALE_NAMES)]
    if orphans := [name for name in scales if name.rpartition(".")[0] not in quantized]:
        yield from error("A scale belongs to no quantized weight", orphans)


def check_unquantized(layers: list[Layer]) -> Iterator[Problem]:
    if hidden := [layer.name for layer in layers if layer.is_quantized]:
        yield from error("Quantized, though config.json has no quantization_config", hidden)
