from pathlib import Path

import pytest

from app.__main__ import main
from app.usage.files import find_chains
from tests.unit.usage.records import journal, record, written

Captured = pytest.CaptureFixture[str]


def usage(directory: Path, action: str, *words: str) -> int:
    return main(["usage", action, "--directory", str(directory), *words])


def lines_of(directory: Path) -> tuple[Path, list[bytes]]:
    path = find_chains(directory)["r"][0]
    return path, path.read_bytes().splitlines(keepends=True)


def test_whole_chains_are_whole_and_show_their_heads(tmp_path: Path, capsys: Captured) -> None:
    written(tmp_path, 1, 2, 3)
    made, heard = journal(tmp_path, "other")
    made.append(record(1))
    made.close()
    assert usage(tmp_path, "verify") == 0
    said = capsys.readouterr().out
    assert "r: whole, 3 records, last number 3" in said
    assert f"head {heard[-1].head.hash}, as the metric {heard[-1].head.fingerprint}" in said


def test_an_edited_record_shows(tmp_path: Path, capsys: Captured) -> None:
    written(tmp_path, 1, 2, 3)
    path, lines = lines_of(tmp_path)
    lines[1] = lines[1].replace(b'"completion_tokens":2', b'"completion_tokens":1')
    path.write_bytes(b"".join(lines))
    assert usage(tmp_path, "verify") == 1
    assert "record 3 does not fit the one before it" in capsys.readouterr().out


def test_a_line_without_its_fields_is_a_fault_and_the_rest_is_summed(
    tmp_path: Path, capsys: Captured
) -> None:
    written(tmp_path, 1, 2)
    path, lines = lines_of(tmp_path)
    path.write_bytes(lines[0] + lines[1].replace(b'"completion_tokens"', b'"tokens"'))
    assert usage(tmp_path, "report") == 1
    said = capsys.readouterr()
    assert "broken: r" in said.err
    assert len(said.out.splitlines()) == 2
    assert usage(tmp_path, "verify") == 1
    assert "line 2: not a usage record" in capsys.readouterr().out


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_record_shows(tmp_path: Path, capsys: Captured, missing: int) -> None:
    written(tmp_path, 1, 2, 3)
    path, lines = lines_of(tmp_path)
    del lines[missing]
    path.write_bytes(b"".join(lines))
    assert usage(tmp_path, "verify") == 1
    assert f"record {missing + 2} stands after record {missing}" in capsys.readouterr().out


def test_a_cut_tail_shows_against_the_head(tmp_path: Path, capsys: Captured) -> None:
    written(tmp_path, 1, 2, 3)
    usage(tmp_path, "verify")
    before = capsys.readouterr().out
    path, lines = lines_of(tmp_path)
    path.write_bytes(b"".join(lines[:-1]))
    assert usage(tmp_path, "verify") == 0
    assert capsys.readouterr().out != before


def test_a_line_that_is_no_record_shows(tmp_path: Path, capsys: Captured) -> None:
    written(tmp_path, 1, 2)
    path, lines = lines_of(tmp_path)
    path.write_bytes(b"".join([lines[0], b"[]\n", lines[1]]))
    assert usage(tmp_path, "verify") == 1
    assert "line 2: not a usage record" in capsys.readouterr().out


def test_archived_files_are_vouched_for_by_their_head(tmp_path: Path, capsys: Captured) -> None:
    written(tmp_path, 1, 2, max_file_bytes=10)
    first, *_ = find_chains(tmp_path)["r"]
    archive = tmp_path / "archive"
    archive.mkdir()
    first.rename(archive / first.name)
    assert usage(archive, "verify") == 0
    head = capsys.readouterr().out.partition("head ")[2][:64]
    assert usage(tmp_path, "verify") == 1
    assert usage(tmp_path, "verify", "--replica", "r", "--after", head) == 0
    assert usage(tmp_path, "verify", "--replica", "r", "--after", "f" * 64) == 1
    assert usage(tmp_path, "verify", "--after", head) == 2


def test_usage_is_summed_by_what_is_asked(tmp_path: Path, capsys: Captured) -> None:
    made, _ = journal(tmp_path)
    for number, tenant, day in (
        (1, "a", "2027-01-30"),
        (2, "b", "2027-01-31"),
        (4, "a", "2027-01-31"),
    ):
        made.append(record(number, tenant, day))
    made.close()
    assert usage(tmp_path, "report", "--csv") == 0
    assert capsys.readouterr().out == (
        "tenant,requests,prompt_tokens,cached_tokens,completion_tokens\na,2,20,8,5\nb,1,10,4,2\n"
    )
    assert usage(tmp_path, "report", "--csv", "--by", "day,tenant", "--since", "2027-01-31") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "2027-01-31,a,1,10,4,4",
        "2027-01-31,b,1,10,4,2",
    ]
    assert usage(tmp_path, "report", "--until", "2027-01-31") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[1].split() == ["a", "1", "10", "4", "1"]
    assert len({len(line) for line in table}) == 1


def test_a_report_over_a_broken_chain_says_so(tmp_path: Path, capsys: Captured) -> None:
    written(tmp_path, 1, 2, 3)
    path, lines = lines_of(tmp_path)
    path.write_bytes(lines[0] + lines[2])
    assert usage(tmp_path, "report") == 1
    assert "broken: r" in capsys.readouterr().err


def test_nothing_to_read_is_said(tmp_path: Path, capsys: Captured) -> None:
    assert usage(tmp_path, "verify") == 2
    assert usage(tmp_path / "none", "report") == 2
    assert usage(tmp_path, "report", "--replica", "x") == 2
