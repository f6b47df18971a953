import json
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import AppError
from app.quantize.calibration import load_samples
from app.quantize.job import Calibration


class Letters:
    """A tokenizer of one token for each character; token 0 stands for a special token."""

    def apply_chat_template(self, messages: Any, tools: Any, tokenize: bool) -> str:
        assert tokenize is False
        return "".join(message["content"] for message in messages) + ("+" if tools else "")

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [0] * add_special_tokens + [ord(letter) for letter in text]}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path: Path, samples: int = 8, length: int = 64, seed: int = 0) -> list[list[int]]:
    return load_samples(Calibration(str(path), samples, length), Letters(), seed).token_ids


def test_conversations_and_text_are_read_and_empty_rows_dropped(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "ab"}]},
        {"messages": [{"role": "user", "content": "c"}], "tools": [{}]},
        {"text": "d"},
        {"text": "   "},
        {"messages": []},
        {"other": 1},
    ]
    found = load(write_rows(tmp_path / "rows.jsonl", rows))
    assert sorted(found) == [[0, ord("d")], [ord("a"), ord("b")], [ord("c"), ord("+")]]


def test_samples_are_cut_counted_and_drawn_by_the_seed(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"text": letter * 9} for letter in "abcdefgh"])
    assert all(len(tokens) == 4 for tokens in load(path, samples=3, length=4))
    assert len(load(path, samples=3)) == 3
    assert load(path, samples=3, seed=1) == load(path, samples=3, seed=1)
    assert load(path, samples=8, seed=1) != load(path, samples=8, seed=2)


def test_the_digest_tells_what_was_calibrated_on(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"text": "ab"}, {"text": "cd"}])
    calibration = Calibration(str(path), 8, 64)
    first, second = (load_samples(calibration, Letters(), seed) for seed in (0, 0))
    assert first.digest == second.digest
    assert first.num_tokens == 6
    write_rows(path, [{"text": "ab"}, {"text": "ce"}])
    assert load_samples(calibration, Letters(), 0).digest != first.digest


@pytest.mark.parametrize(
    ("content", "says"),
    [("{}\nnot json\n", "Line 2"), ("[1]\n", "not an object"), ('{"text": ""}\n', "no row")],
)
def test_a_file_that_cannot_be_calibrated_on_is_refused(
    tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(AppError, match=says):
        load(path)
