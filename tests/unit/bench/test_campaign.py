from app.bench.campaign import Measurement, Subject, rotated
from app.bench.figures import figures_of, grouped
from app.bench.generator import GeneratorLoad, Run
from app.bench.outcome import Outcome
from app.bench.statistics import Objectives, summarize
from app.bench.table import complaint_lines, measurement_table
from app.bench.target import Target


def measurement(target: str, load: str, latency_s: float, *, late: bool = False) -> Measurement:
    outcomes = [Outcome(due_s=0, ended_s=latency_s, num_output_tokens=10)]
    run = Run(outcomes, GeneratorLoad(cpu_s=0.1, wall_s=1, lag_s=1.0 if late else 0.0))
    return Measurement(target, load, 0, run, summarize(outcomes), server_cpu_s=0.001)


def test_figures_are_medians_over_repetitions() -> None:
    figures = figures_of([measurement("a", "x", latency_s) for latency_s in (1.0, 9.0, 2.0)])
    assert figures["latency_p50_ms"] == 2000
    assert figures["server_cpu_us_per_token"] == 100
    assert figures["first_token_p50_ms"] is None


def test_repetitions_of_the_same_load_and_target_belong_together() -> None:
    order = [("a", "x"), ("b", "x"), ("b", "x"), ("a", "x"), ("a", "y")]
    groups = grouped([measurement(target, load, 1.0) for target, load in order])
    assert [(key, len(group)) for key, group in groups.items()] == [
        (("x", "a"), 2),
        (("x", "b"), 2),
        (("y", "a"), 1),
    ]


def test_every_target_comes_first_in_turn() -> None:
    subjects = [Subject(Target(name, ""), "m") for name in "abc"]
    firsts = [rotated(subjects, repetition)[0].target.name for repetition in range(4)]
    assert firsts == ["a", "b", "c", "a"]


def test_a_column_that_nothing_fills_is_left_out() -> None:
    head, _, row = measurement_table([measurement("a", "x", 2.0)])
    assert "first token" not in head
    assert "good/s" not in head
    assert "| 2000 |" in row


def test_a_generator_at_its_limit_is_told() -> None:
    assert complaint_lines([measurement("a", "x", 1.0)]) == []
    (line,) = complaint_lines([measurement("a", "x", 1.0, late=True)])
    assert "the generator was the limit" in line


def test_goodput_counts_the_answers_that_keep_every_objective() -> None:
    fast = Outcome(due_s=0, ended_s=1, chunk_times=[0.1, 1.0], num_output_tokens=10)
    slow_start = Outcome(due_s=0, ended_s=1, chunk_times=[0.9, 1.0], num_output_tokens=10)
    failed = Outcome(due_s=0, ended_s=0.01, error="status 429")
    asked = Objectives(latency_s=2, first_token_s=0.5, per_token_s=0.2)
    assert summarize([fast, slow_start, failed], asked).good_per_s == 1
    assert summarize([fast, slow_start, failed]).good_per_s is None
