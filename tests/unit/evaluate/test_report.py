from pathlib import Path
from xml.etree import ElementTree

import pytest

from app.core.errors import AppError, StartError
from app.core.quality import find_recovery, refuse_unproved
from app.evaluate.page import render
from app.evaluate.report import compare, write_report
from tests.unit.evaluate.reports import (
    BASELINE,
    CANDIDATE,
    make_observation,
    make_report,
    make_task,
)


def test_the_report_opens_the_gate_for_its_checkpoint_alone(tmp_path: Path) -> None:
    write_report(make_report(), tmp_path)
    refuse_unproved(tmp_path, CANDIDATE.digest, 95.0)
    recovery = find_recovery(tmp_path, CANDIDATE.digest)
    assert recovery is not None
    assert recovery.percent == 95.0
    with pytest.raises(StartError, match="another checkpoint"):
        refuse_unproved(tmp_path, BASELINE.digest, 95.0)
    with pytest.raises(StartError, match="less than"):
        refuse_unproved(tmp_path, CANDIDATE.digest, 99.0)


def test_the_report_tells_every_measure_apart() -> None:
    report = make_report(lost=2)
    assert report["recovery"]["lost"] == 2
    assert report["recovery"]["gained"] == 0
    assert report["skills"]["arithmetic"]["candidate"]["share"] == 0.8
    assert report["skills"]["json"]["candidate"]["share"] == 1.0
    assert report["text"]["tokens"] == 10
    assert report["text"]["greedy_agreement"] == 1.0
    assert report["text"]["perplexity"]["candidate"] > report["text"]["perplexity"]["baseline"]
    assert 0 < report["text"]["kl_nats"]["mean"] < 0.001
    assert sum(report["text"]["kl_nats"]["histogram"]["counts"]) == 10
    assert "top 20" in report["text"]["kl_nats"]["over"]
    assert report["json_validity"] == {"baseline": 1.0, "candidate": 1.0}


def test_nothing_lost_in_twenty_answers_does_not_mean_that_nothing_can_be() -> None:
    recovery = make_report(lost=0)["recovery"]
    assert recovery["interval"] == [100.0, 100.0]
    low, high = recovery["lost_share_interval"]
    assert low == 0
    assert 0.1 < high < 0.2


def test_two_reports_about_the_same_questions_say_so() -> None:
    assert make_report()["questions"] == make_report(lost=2)["questions"]


def test_a_baseline_that_answers_nothing_is_no_baseline() -> None:
    seen = make_observation([False] * 20)
    with pytest.raises(AppError, match="answers none of the questions"):
        compare(make_task(), (BASELINE, seen), (CANDIDATE, seen), {}, 0)


def test_models_that_cut_the_text_differently_cannot_be_compared() -> None:
    baseline, candidate = make_observation([True] * 20), make_observation([True] * 20)
    candidate.positions.pop()
    with pytest.raises(AppError, match="the baseline's tokenizer"):
        compare(make_task(), (BASELINE, baseline), (CANDIDATE, candidate), {}, 0)


def test_the_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    page = render(make_report())
    assert "95.00 %" in page
    assert "models/&lt;w8a8&gt;" in page
    assert "src=" not in page
    assert "http" not in page
    for plot in page.split("<svg")[1:]:
        whole = ElementTree.fromstring("<svg" + plot.partition("</svg>")[0] + "</svg>")
        lengths = [float(mark.attrib["width"]) for mark in whole.iter("rect")]
        assert lengths
        assert max(lengths) <= 420
