"""The loop around the engine, on a scripted one; and what is said of its steps."""

from typing import Any

import pytest

from app.engine import offline
from app.engine.offline import describe_run, generate, run_case

# vLLM and torch raise deprecation warnings of their own when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")


class ScriptedEngine:
    """Each step gives every request a token."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}
        self.prompts: list[list[int]] = []
        self.model_config = self

    def get_vocab_size(self) -> int:
        return 50

    def add_request(self, name: str, prompt: Any, parameters: Any) -> None:
        assert parameters.ignore_eos
        assert not parameters.detokenize
        self.prompts.append(prompt["prompt_token_ids"])
        self.left[name] = parameters.max_tokens

    def has_unfinished_requests(self) -> bool:
        return bool(self.left)

    def step(self) -> None:
        self.left = {name: left - 1 for name, left in self.left.items() if left > 1}


def test_all_sequences_go_in_before_the_first_step() -> None:
    engine = ScriptedEngine()
    ends = generate(engine, [[1, 2], [3, 4]], num_tokens=5)
    assert engine.prompts == [[1, 2], [3, 4]]
    assert len(ends) == 5
    assert ends == sorted(ends)


def test_a_case_is_repeated_on_other_random_tokens_after_a_warm_up() -> None:
    engine = ScriptedEngine()
    runs = run_case(engine, num_seqs=3, prompt_tokens=7, output_tokens=16, repeat=2)
    assert [run["num_steps"] for run in runs] == [16, 16]
    assert len(engine.prompts) == 9
    assert {len(prompt) for prompt in engine.prompts} == {7}
    assert len({tuple(prompt) for prompt in engine.prompts}) == 9
    assert {token for prompt in engine.prompts for token in prompt} <= set(range(50))


def test_only_the_middle_half_of_the_steps_counts() -> None:
    """Slow steps at both ends, as prompts and stragglers make them, and some of 10 ms."""
    ends = [1.0, 2.0, 2.01, 2.02, 2.03, 2.04, 3.0, 4.0]
    run = describe_run(5, ends)
    assert run["wall_s"] == 4.0
    assert run["num_steps"] == 8
    assert run["step_s"] == pytest.approx(0.01)
    assert run["decoded_per_s"] == pytest.approx(4 * 5 / (3.0 - 2.01))
    assert run["step_p99_s"] == pytest.approx(0.96)


def test_a_run_of_few_steps_says_only_how_long_it_took() -> None:
    assert describe_run(5, [0.5]) == {"wall_s": 0.5, "num_steps": 1}


def test_answers_can_be_told_from_vllms_log(capsys: pytest.CaptureFixture[str]) -> None:
    offline.answer({"runs": []})
    assert capsys.readouterr().out == '\noffline-engine {"runs": []}\n'
