"""The loop around the engine, on a scripted one; and what is said of its steps."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from app.bench.gpu.command import Measuring
from app.bench.gpu.modes import Loads, Mode
from app.bench.gpu.results import Journal
from app.bench.gpu.served import Served
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


def test_vllm_has_every_argument_that_the_measurements_give(tmp_path: Path) -> None:
    """Spelled wrong, one would fail on a GPU alone, where time is short."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    bench = Served(
        model=Path("models/bundled/w8a8"),
        folder=tmp_path,
        num_seqs=512,
        max_model_len=4096,
        step_tokens=8192,
        gpu_share=0.28,
        is_eager=True,
    )
    parser = make_arg_parser(FlexibleArgumentParser(allow_abbrev=False))
    stock = parser.parse_args(list(bench.stock().arguments)[3:])
    assert {name: getattr(stock, name) for name in bench.settings} == bench.settings
    loads = Loads((64, 256), 128, 256, (4096,), 65536, 3)
    journal = Journal(tmp_path / "results.jsonl")
    measuring = Measuring("tiny", loads, {}, tmp_path, journal, 0.0, 0.0)
    names = {field.name for field in dataclasses.fields(EngineArgs)}
    profiled = {"profiler_config"}
    assert {*measuring.engine_settings(Mode("int8")), *bench.offline().settings} | profiled <= names
    # What docs/gpu.md names as remedies.
    assert {"async_scheduling", "compilation_config", "stream_interval"} <= names
