"""Profiles for the cards people have, as the planner writes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.gpus import CARDS, LLAMA_PROFILE, Card
from app.core.memory.advice import MEAN_TOKENS, MIN_PROFILE_SEQUENCES, Wanted, advise
from app.core.memory.knobs import Device
from app.core.memory.plan import Plan, make_plan
from app.core.memory.shape import ModelShape
from app.core.memory.units import readable
from app.plan.checkpoint_source import read_shape

MODELS = Path(__file__).parents[2] / "config" / "models"
SERVED_NAME = "llama-3.1-8b-instruct"
FP8_PROFILE = LLAMA_PROFILE.replace("w8a8", "fp8")
REVISION_NOTE = (
    "The branch, not a commit: the hub was out of reach when this was written, so none could be",
    "checked. Pin the one that you have tested: `model.revision: <40 hex digits>`.",
)


@dataclass(frozen=True, slots=True)
class Model:
    """A published checkpoint and the config.json here that describes it."""

    profile: str
    path: str
    shape: ModelShape

    @property
    def scheme(self) -> str:
        return str(self.shape.scheme.name)


def published_models() -> tuple[Model, Model]:
    """Llama-3.1-8B-Instruct in INT8 W8A8, and its FP8 twin."""
    author = "JongYeop/Llama-3.1-8B-Instruct"
    names = (
        (LLAMA_PROFILE, f"{author}-INT8-W8A8-Dynamic-Per-Token", f"{SERVED_NAME}-w8a8"),
        (FP8_PROFILE, f"{author}-FP8-W8A8-Dynamic-Per-Token", f"{SERVED_NAME}-fp8"),
    )
    int8, fp8 = (
        Model(name, path, read_shape(str(MODELS / folder))) for name, path, folder in names
    )
    return int8, fp8


@dataclass(frozen=True, slots=True)
class CardPlan:
    card: Card
    model: Model
    plan: Plan

    @property
    def has_profile(self) -> bool:
        return self.plan.fits and self.plan.full_sequences >= MIN_PROFILE_SEQUENCES

    @property
    def file_name(self) -> str:
        return f"{self.model.profile}-{self.card.key}.yaml"


def plan_card(card: Card, model: Model) -> CardPlan:
    device = Device.of(card.gpu)
    knobs = advise(model.shape, device, Wanted(), MEAN_TOKENS)
    return CardPlan(card, model, make_plan(model.shape, device, knobs))


def plan_cards() -> list[CardPlan]:
    """Every known card with the INT8 model, and with the FP8 one where the card has FP8."""
    int8, fp8 = published_models()
    plans = []
    for card in CARDS:
        plans.append(plan_card(card, int8))
        if card.gpu.has_fp8:
            plans.append(plan_card(card, fp8))
    return plans


def write_profiles(folder: Path) -> list[Path]:
    """Write a profile for each card that can serve the model; returns their paths."""
    paths = []
    for card_plan in plan_cards():
        if card_plan.has_profile:
            path = folder / card_plan.file_name
            path.write_text(profile_text(card_plan))
            paths.append(path)
    return paths


def profile_text(card_plan: CardPlan) -> str:
    card, model, plan = card_plan.card, card_plan.model, card_plan.plan
    title = f"{plan.shape.scheme.name} Llama-3.1-8B-Instruct on {card.title} ({card.sold_gib} GB)."
    lines = [f"# {title} Written by `make profiles`.", *gives(plan), *fp8_note(card_plan)]
    lines += ["model:", f"  path: {model.path}"]
    lines += [f"  # {line}" for line in REVISION_NOTE]
    lines += ["  revision: main", f"  served_name: {SERVED_NAME}", f"  scheme: {model.scheme}"]
    return "\n".join([*lines, *engine_lines(plan), "  tool_call_parser: llama3_json"]) + "\n"


def gives(plan: Plan) -> Iterator[str]:
    """What the settings give, as comments: estimates until they are measured on the card."""
    now = plan.settings
    headroom = plan.device.total_bytes - plan.budget_bytes - plan.context_bytes
    yield f"# Planned for {plan.device.name}, estimates that nobody has measured:"
    yield (
        f"# {plan.full_sequences} sequences of {now.max_model_len:,} tokens at once, or "
        f"{plan.sequences_at(MEAN_TOKENS)} of {MEAN_TOKENS:,} (max_num_seqs lets "
        f"{now.max_num_seqs} run);"
    )
    yield f"# {plan.kv_tokens:,} KV tokens; headroom {readable(headroom)}."


def fp8_note(card_plan: CardPlan) -> Iterator[str]:
    card, model = card_plan.card, card_plan.model
    if card.gpu.has_fp8 and model.scheme != "fp8":
        twin = f"{FP8_PROFILE}-{card.key}"
        yield f"# FP8 is the better choice on this card, at the same size: {twin}."


def engine_lines(plan: Plan) -> Iterator[str]:
    """Every setting of `engine:` that the planner decides."""
    now = plan.settings
    yield "engine:"
    if plan.device.is_cpu:
        yield f"  cpu_kv_cache_gib: {now.cpu_kv_cache_bytes >> 30}"
    else:
        yield f"  gpu_memory_utilization: {now.gpu_memory_utilization}"
    yield f"  max_model_len: {now.max_model_len}"
    yield f"  max_num_seqs: {now.max_num_seqs}"
    yield f"  max_num_batched_tokens: {now.max_num_batched_tokens}"
    if now.dtype == "float16":
        yield "  dtype: float16  # Turing has no bfloat16"
    if now.kv_cache_dtype != "auto":
        yield f"  kv_cache_dtype: {now.kv_cache_dtype}"
    if now.tensor_parallel_size > 1:
        yield f"  tensor_parallel_size: {now.tensor_parallel_size}"
    if now.enforce_eager:
        yield "  enforce_eager: true"


def cards_table() -> Iterator[str]:
    """A Markdown table of every known card, with the reason where there is no profile."""
    yield "| card | GiB | scheme | context | at once | of 1,024 | KV tokens | share | profile |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for card_plan in plan_cards():
        card, plan, now = card_plan.card, card_plan.plan, card_plan.plan.settings
        total = card.gpu.total_bytes / 2**30
        yield (
            f"| {card.title} | {total:.1f} | {card_plan.model.scheme} | {now.max_model_len:,} | "
            f"{plan.full_sequences} | {plan.sequences_at(MEAN_TOKENS)} | {plan.kv_tokens:,} | "
            f"{now.gpu_memory_utilization} | {profile_cell(card_plan)} |"
        )


def profile_cell(card_plan: CardPlan) -> str:
    if card_plan.has_profile:
        return f"`{card_plan.file_name.removesuffix('.yaml')}`"
    plan = card_plan.plan
    taken, left = readable(plan.budget_bytes - plan.kv_bytes), readable(max(plan.kv_bytes, 0))
    return (
        f"none: {taken} are taken before the KV cache, {left} are left, "
        f"too little for {MIN_PROFILE_SEQUENCES} sequences of {plan.settings.max_model_len:,}"
    )
