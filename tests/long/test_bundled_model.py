"""The bundled model keeps its skills through quantization, asked through the gateway."""

import json

import pytest

from app.__main__ import main
from app.bundled.skills import SKILLS

QUESTIONS = 1200
NEEDED = 0.95


@pytest.mark.parametrize("profile", ["bundled-16bit", "bundled"])
def test_each_skill_is_at_least_95_percent_exact_on_held_out_questions(
    profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "--profile", profile, "--questions", str(QUESTIONS), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert set(scores) == {*SKILLS, "total"}
    assert scores["total"]["asked"] == QUESTIONS
    for skill, result in scores.items():
        assert result["share"] >= NEEDED, (skill, result)
