"""quality.json: what the comparison of a candidate with its baseline found."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from app.bundled.scoring import wilson_interval
from app.bundled.skills import Question
from app.core.errors import AppError
from app.core.quality import FILE, VERSION
from app.evaluate.measures import (
    RESAMPLES,
    Estimate,
    agreement,
    bootstrap_recovery,
    divergences,
    perplexity,
)
from app.evaluate.observation import Observation, Task

HISTOGRAM_EDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # nats


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that was evaluated."""

    name: str
    digest: str
    num_bytes: int
    scheme: str


def compare(
    task: Task,
    baseline: tuple[Subject, Observation],
    candidate: tuple[Subject, Observation],
    engine: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """The report. Raises AppError where nothing can be said: the baseline answers no question."""
    (subject_a, seen_a), (subject_b, seen_b) = baseline, candidate
    pairs = list(zip(seen_a.exact, seen_b.exact, strict=True))
    whole = bootstrap_recovery(pairs, seed)
    if whole is None:
        raise AppError(f"{subject_a.name} answers none of the questions: there is no recovery.")
    lost = sum(a and not b for a, b in pairs)
    return {
        "version": VERSION,
        "baseline": asdict(subject_a),
        "candidate": asdict(subject_b),
        "recovery": {
            **as_percent(whole),
            "method": f"paired bootstrap over questions, {RESAMPLES} resamples, seed {seed}",
            "lost": lost,
            # What the bootstrap cannot tell where nothing was lost: how much may be.
            "lost_share_interval": wilson_interval(lost, sum(seen_a.exact)),
            "gained": sum(b and not a for a, b in pairs),
        },
        "accuracy": accuracy(pairs),
        "skills": skills(task.questions, pairs, seed),
        "text": text_measures(seen_a, seen_b, task),
        "json_validity": {
            "baseline": share(seen_a.valid_json),
            "candidate": share(seen_b.valid_json),
        },
        "questions": {"count": len(task.questions), "sha256": digest_of(task)},
        "engine": engine,
    }


def as_percent(estimate: Estimate) -> dict[str, Any]:
    return {
        "percent": round(estimate.value, 3),
        "interval": [round(estimate.low, 3), round(estimate.high, 3)],
    }


def accuracy(pairs: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    """Of both, with Wilson's 95 % interval."""
    return {
        name: {
            "share": sum(pair[index] for pair in pairs) / len(pairs),
            "interval": wilson_interval(sum(pair[index] for pair in pairs), len(pairs)),
        }
        for index, name in enumerate(("baseline", "candidate"))
    }


def skills(
    questions: Sequence[Question], pairs: Sequence[tuple[bool, bool]], seed: int
) -> dict[str, Any]:
    by_skill: dict[str, list[tuple[bool, bool]]] = {}
    for question, pair in zip(questions, pairs, strict=True):
        by_skill.setdefault(question.skill, []).append(pair)
    report = {}
    for skill, answered in by_skill.items():
        estimate = bootstrap_recovery(answered, seed)
        report[skill] = {
            "count": len(answered),
            **accuracy(answered),
            "recovery": estimate and as_percent(estimate),
        }
    return report


def text_measures(baseline: Observation, candidate: Observation, task: Task) -> dict[str, Any]:
    if not baseline.positions:
        raise AppError("The held-out text has no token to score.")
    if len(baseline.positions) != len(candidate.positions):
        raise AppError(
            "Baseline and candidate cut the held-out text into different tokens: give the "
            "candidate the baseline's tokenizer and chat template."
        )
    kl = divergences(baseline.positions, candidate.positions)
    counts = [sum(low <= value < high for value in kl) for low, high in bins()]
    over = (
        "the whole vocabulary"
        if task.num_logprobs == -1
        else f"the top {task.num_logprobs} and one outcome for all others (a lower bound)"
    )
    return {
        "texts": len(task.texts),
        "tokens": len(kl),
        "perplexity": {
            "baseline": perplexity(baseline.positions),
            "candidate": perplexity(candidate.positions),
        },
        "greedy_agreement": agreement(baseline.positions, candidate.positions),
        "kl_nats": {
            "mean": sum(kl) / len(kl),
            "max": max(kl),
            "over": over,
            "histogram": {"edges": list(HISTOGRAM_EDGES), "counts": counts},
        },
    }


def bins() -> list[tuple[float, float]]:
    edges = (0.0, *HISTOGRAM_EDGES, float("inf"))
    return list(pairwise(edges))


def share(outcomes: Sequence[bool | None]) -> float | None:
    asked = [outcome for outcome in outcomes if outcome is not None]
    return sum(asked) / len(asked) if asked else None


def digest_of(task: Task) -> str:
    """Of questions and texts, so that two reports can be told to be about the same."""
    rows = [asdict(question) for question in task.questions], list(task.texts)
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def write_report(report: dict[str, Any], directory: Path) -> Path:
    path = directory / FILE
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    return path
