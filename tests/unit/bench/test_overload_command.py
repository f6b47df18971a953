import pytest

from app.bench.outcome import Outcome
from app.bench.overload_command import GOAL_S, Stretch, table, verdict


def outcome(after_s: float, error: str | None = None) -> Outcome:
    return Outcome(0.0, 0.0, 9.0, [after_s], 1, 1, error)


STRETCH = Stretch(
    [outcome(GOAL_S), outcome(GOAL_S + 0.1), outcome(0.1), outcome(0.1, "status 503")], 2.0
)


def test_only_whole_answers_within_the_goal_are_in_time() -> None:
    assert STRETCH.good_per_s == 1.0
    assert STRETCH.refused == 0.25
    assert STRETCH.first_token_s(0.5) == GOAL_S


def test_the_table_and_the_verdict_are_against_the_capacity() -> None:
    lines = table({(2.0, "stock"): STRETCH, (2.0, "gateway"): STRETCH}, capacity=2.0)
    assert lines[2].startswith("| 2 x capacity | gateway | 1 | 50% | 25% | 2000 |")
    assert len(lines) == 4
    assert verdict(4, 0.9).endswith("met.")
    assert verdict(4, 0.89).endswith("MISSED.")


def test_where_nothing_was_answered_nothing_was_timed() -> None:
    nothing = Stretch([outcome(0.1, "timeout")], 1.0)
    assert nothing.good_per_s == 0
    assert nothing.first_token_s(0.5) is None
    assert "–" in table({(4.0, "stock"): nothing}, capacity=1.0)[2]  # noqa: RUF001 - the table's


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_share_is_shown(share: float) -> None:
    assert f"{share:.0%}" in verdict(2, share)
