import pytest

from app.core.report_line import find_report, read_report, tell


def test_a_report_is_found_between_other_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print("INFO: loading ", end="")
    tell({"kv_tokens": 5, "nested": {"a": [1]}})
    print('{"not": "a report"}')
    assert find_report(capsys.readouterr().out) == {"kv_tokens": 5, "nested": {"a": [1]}}


def test_other_lines_are_no_report() -> None:
    assert read_report('{"kv_tokens": 5}\n') is None
    assert find_report('INFO\n{"kv_tokens": 5}\n') is None
