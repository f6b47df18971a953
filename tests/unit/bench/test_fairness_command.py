import math

import pytest

from app.bench.crowds import Scene
from app.bench.fairness_command import Seen, judge, shares, table
from app.bench.outcome import Outcome


def scene(light_s: float, *, heavy: int = 1, light: int = 1, failed: int = 0) -> Scene:
    """`light` requests of the light tenant, each with its first token after `light_s`."""

    def outcome(after_s: float, error: str | None = None) -> Outcome:
        return Outcome(10.0, 10.0, 20.0, [10.0 + after_s], 10, 10, error)

    return Scene(
        {
            "a": [outcome(1)] * heavy + [outcome(1, "status 503")] * failed,
            "b": [outcome(light_s)] * light,
        },
        begun_s=0,
        ended_s=60,
    )


def test_every_promise_is_judged_by_its_figure() -> None:
    quiet, equal = scene(0.1), scene(1, heavy=10, light=10)
    stock = Seen(quiet, scene(1.0), equal)
    good = Seen(quiet, scene(0.2), equal, scene(1, heavy=30, light=10))
    assert [is_met for _, is_met in judge(good, stock)] == [True] * 5
    bad = Seen(quiet, scene(0.31, failed=1), scene(1, heavy=12, light=10), equal)
    assert [is_met for _, is_met in judge(bad, stock)] == [False] * 5


def test_a_tenant_that_was_never_served_is_no_success() -> None:
    nobody = scene(1, light=0)
    seen = Seen(nobody, nobody, nobody, nobody)
    assert shares(nobody) > 10
    assert not any(is_met for _, is_met in judge(seen, Seen(nobody, scene(1), nobody))[:4])


def test_a_server_without_weights_has_none_in_the_table() -> None:
    quiet = scene(0.1)
    lines = table({"gateway": Seen(quiet, quiet, quiet, quiet), "stock": Seen(quiet, quiet, quiet)})
    assert len({line.count("|") for line in lines}) == 1
    assert "100 / 100 (1 requests)" in lines[2]
    assert math.isfinite(shares(quiet))


@pytest.mark.parametrize(("heavy", "is_met"), [(10, True), (11, True), (12, False), (8, False)])
def test_equal_means_within_ten_percent(heavy: int, is_met: bool) -> None:
    quiet = scene(0.1)
    seen = Seen(quiet, quiet, scene(1, heavy=heavy, light=10), quiet)
    assert judge(seen, seen)[2][1] is is_met
