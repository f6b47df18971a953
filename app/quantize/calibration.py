"""Calibration text: conversations or plain text, as the model's own tokens."""

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import AppError
from app.core.json_lines import read_json_lines
from app.quantize.job import Calibration


@dataclass(frozen=True, slots=True)
class Samples:
    token_ids: list[list[int]]
    digest: str  # of the token ids: what the model really saw

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.token_ids))


def load_samples(calibration: Calibration, tokenizer: Any, seed: int) -> Samples:
    """`num_samples` rows, drawn by `seed` from those that are not empty, cut to the length."""
    chosen: list[list[int]] = []
    for row in shuffled_rows(calibration, seed):
        token_ids = tokenize(row, tokenizer)[: calibration.max_seq_length]
        if token_ids:
            chosen.append(token_ids)
        if len(chosen) == calibration.num_samples:
            break
    if not chosen:
        raise AppError(f"{calibration.source} has no row with `messages` or `text` in it.")
    digest = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()
    return Samples(chosen, digest)


def shuffled_rows(calibration: Calibration, seed: int) -> Iterable[dict[str, Any]]:
    path = calibration.local_path
    if path is None:
        return read_hub(calibration.source, seed)
    if path.suffix == ".jsonl":
        rows = [row for _, row in read_json_lines(path)]
    else:
        rows = read_parquet(path)
    random.Random(seed).shuffle(rows)  # noqa: S311 (a sample, not a secret)
    return rows


def read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise AppError(f"{path} is not a Parquet file that can be read.") from error
    return rows


def read_hub(source: str, seed: int) -> Iterable[dict[str, Any]]:
    """`NAME` or `NAME:SPLIT` of the Hugging Face hub; the split is `train` unless named."""
    from datasets import load_dataset

    name, _, split = source.partition(":")
    try:
        rows: Iterable[dict[str, Any]] = load_dataset(name, split=split or "train").shuffle(seed)
    except (OSError, ValueError) as error:
        raise AppError(f"The data set {source} could not be loaded: {error}.") from error
    return rows


def tokenize(row: dict[str, Any], tokenizer: Any) -> list[int]:
    """A row's tokens; none where it has neither a conversation nor text."""
    if row.get("messages"):
        text = tokenizer.apply_chat_template(
            row["messages"], tools=row.get("tools"), tokenize=False
        )
    else:
        text = row.get("text") or ""
    if not isinstance(text, str) or not text.strip():
        return []
    # A chat template writes the special tokens itself.
    token_ids: list[int] = tokenizer(text, add_special_tokens=not row.get("messages"))["input_ids"]
    return token_ids
