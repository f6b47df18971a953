"""The documented command for public benchmarks, on a task of our own that needs no download."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.bundled.skills import held_out_questions
from tests.integration.gateway_process import ROOT, SECRET, environment, running_gateway

NUM_QUESTIONS = 100
TASK = """
task: bundled_arithmetic
dataset_path: json
dataset_kwargs:
  data_files: {{test: {questions}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: [], max_gen_toks: 16, temperature: 0}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture(scope="module")
def task_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tasks")
    rows = [
        {"question": question.messages[-1]["content"], "answer": question.expected}
        for question in held_out_questions("arithmetic", NUM_QUESTIONS)
    ]
    questions = directory / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "bundled_arithmetic.yaml").write_text(TASK.format(questions=questions))
    return directory


def test_lm_evaluation_harness_scores_the_served_model(
    task_directory: Path, tmp_path: Path
) -> None:
    setup = [sys.executable, str(ROOT / "requirements" / "environment.py"), "lm-eval"]
    assert subprocess.run(setup, check=False).returncode == 0
    with running_gateway(tmp_path) as gateway:
        gateway.wait_ready()
        finished = make_lm_eval(gateway.url, task_directory, tmp_path / "results")
    assert finished.returncode == 0, finished.stderr[-3000:]
    result = next((tmp_path / "results").rglob("results_*.json"))
    scores: dict[str, Any] = json.loads(result.read_text())["results"]["bundled_arithmetic"]
    assert scores["exact_match,none"] >= 0.9


def make_lm_eval(url: str, tasks: Path, results: Path) -> "subprocess.CompletedProcess[str]":
    options = f"--include_path {tasks} --output_path {results}"
    variables = environment(OPENAI_API_KEY=SECRET, HF_DATASETS_CACHE=str(results / "cache"))
    words = ["make", "lm-eval", f"URL={url}", "TASKS=bundled_arithmetic", f"ARGS={options}"]
    return subprocess.run(
        [*words, f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
